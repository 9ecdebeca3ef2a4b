"""The corpus on disk: our Parquet, the released JSONL, and what neither may hold."""

import numpy as np
import pyarrow as pa
import pytest

from lskd_nb.corpus import build as lck
from lskd_nb.corpus import index
from lskd_nb.corpus.index import CorpusIndex, Filter
from lskd_nb.records import CORPUS, REGIONS, SCORES, TRIPLES, read_parquet, write_parquet


def triple(number: int, text: str = "What is [1] about to do?") -> dict:
    return dict(
        triple_id=f"t{number}",
        image_id="m",
        family="id",
        question=text,
        answer="Throw [0, 1] a ball.",
        rationale="[0]'s hands are empty.",
        regions=[1, 0],
        regions_offered=[0, 1],
        model="m",
        prompt="p",
        request="r",
    )


def tables(number: int = 3) -> tuple[pa.Table, pa.Table, pa.Table]:
    regions = [dict(id=i, box=[i, 1, 20 + i, 30], label="person", score=None) for i in range(3)]
    image = dict(
        image_id="m",
        image="VG_100K/m.jpg",
        width=40,
        height=30,
        source="visual_genome",
        split="train",
        regions=regions,
    )
    scores = [
        dict(triple_id=f"t{i}", score=i / 10, qa_score=0.5, rationale_score=0.5)
        for i in range(number)
    ]
    return (
        pa.Table.from_pylist([triple(i) for i in range(number)], TRIPLES),
        pa.Table.from_pylist(scores, SCORES),
        pa.Table.from_pylist([image], REGIONS),
    )


def test_build_joins_and_keeps_only_offered_regions():
    built = lck.build(*tables(), ["t2", "t0"])
    assert built.schema == CORPUS and built["triple_id"].to_pylist() == ["t0", "t2"]
    assert [r["id"] for r in built["references"].to_pylist()[0]] == [0, 1]
    with pytest.raises(ValueError, match="'t9' the first"):
        lck.build(*tables(), ["t9"])


def test_a_triple_in_words_about_some_regions_keeps_their_boxes(tmp_path):
    triples, scores, regions = tables(2)
    words = dict(question="Why is the man here?", answer="To play.", rationale="He has a ball.")
    told = triple(1) | words | dict(family="words", regions=[], regions_offered=[2])
    triples = pa.Table.from_pylist([triple(0), told], TRIPLES)
    built = lck.build(triples, scores, regions)
    assert [[r["id"] for r in row] for row in built["references"].to_pylist()] == [[0, 1], [2]]
    write_parquet(built, tmp_path / "c.parquet", CORPUS)
    found, (row,) = lck.find(tmp_path / "c.parquet", family="words")
    assert found == 1 and row["regions"] == [] and row["question"] == words["question"]
    assert CorpusIndex(tmp_path / "c.parquet").choices("family") == ["id", "words"]


def test_search_filters_sorts_and_pages(tmp_path):
    write_parquet(lck.build(*tables(5)), tmp_path / "c.parquet", CORPUS)
    total, page = lck.find(tmp_path / "c.parquet", low=0.15, limit=2)
    assert total == 3 and [r["triple_id"] for r in page] == ["t4", "t3"]
    assert lck.find(tmp_path / "c.parquet", low=0.15, limit=2, offset=2)[1][0]["triple_id"] == "t2"
    assert (
        lck.find(tmp_path / "c.parquet", text="BALL")[0] == 5
        and lck.find(tmp_path / "c.parquet", text="%")[0] == 0
    )
    assert lck.find(tmp_path / "c.parquet", family="description")[0] == 0
    with pytest.raises(ValueError, match="no order"):
        lck.find(tmp_path / "c.parquet", order="score; DROP TABLE")


@pytest.fixture(scope="module")
def varied(tmp_path_factory):
    """Sixty triples of all kinds, and the index over them."""
    rng = np.random.default_rng(0)
    texts = ("a 50% chance", "it's_here", "[a-z]+ or C:\\x", "100 dogs", 'he says "no"')
    rows = [
        dict(
            triple_id=f"t{n:02}",
            image_id=f"m{n % 7}",
            family=("id", "description")[n % 2],
            question=f"{('What', 'Why', 'what', 'Where')[n % 4]}{' ' * (n % 3 + 1)}is [0] DOING?",
            answer=texts[n % 5],
            rationale="Because.",
            regions=list(range(1 + n % 3)),
            regions_offered=[0, 1, 2],
            model=f"w{n % 2}",
            prompt="p",
            request="r",
            score=None if n % 11 == 0 else float(rng.integers(5)) / 4,
            image=f"m{n % 7}.png",
            width=40,
            height=30,
            source=("vcr", "visual_genome", "vcr")[n % 3],
            split="train",
            references=[dict(id=0, box=[1, 1, 9, 9], label="dog", score=None)],
        )
        for n in range(60)
    ]
    path = tmp_path_factory.mktemp("varied") / "c.parquet"
    write_parquet(rows, path, CORPUS)
    return rows, CorpusIndex(path)


@pytest.mark.parametrize(
    "wanted, fits",
    [
        (Filter(), lambda r: True),
        (Filter(family="id"), lambda r: r["family"] == "id"),
        (Filter(source="vcr"), lambda r: r["source"] == "vcr"),
        (Filter(model="w1"), lambda r: r["model"] == "w1"),
        (Filter(opening="what"), lambda r: r["question"].lower().startswith("what")),
        (Filter(regions=(2, 3)), lambda r: len(r["regions"]) >= 2),
        (
            Filter(score=(0.25, 0.75)),
            lambda r: r["score"] is not None and 0.25 <= r["score"] <= 0.75,
        ),
        (Filter(text="doing"), lambda r: True),
        (Filter(text="0%"), lambda r: "0%" in r["answer"]),
        (Filter(text="'s_"), lambda r: "'s_" in r["answer"]),
        (Filter(text="[A-Z]+"), lambda r: "[a-z]+" in r["answer"]),
        (Filter(text='"No"'), lambda r: '"no"' in r["answer"]),
        (Filter(text="\\x"), lambda r: "\\x" in r["answer"]),
        (Filter(text="nobody says this"), lambda r: False),
        (Filter(text="doing?\na"), lambda r: r["answer"].startswith("a")),
        (
            Filter(family="id", source="vcr", opening="what", score=(0.5, 1.0), text="DOING"),
            lambda r: (
                r["family"] == "id"
                and r["source"] == "vcr"
                and r["question"].lower().startswith("what")
                and (r["score"] or 0) >= 0.5
            ),
        ),
    ],
    ids=lambda value: "" if callable(value) else str(value),  # the same in each process
)
@pytest.mark.parametrize("order", index.ORDERS)
def test_what_fits_is_found_in_order(varied, wanted, fits, order):
    rows, index = varied
    numbered = [(n, r) for n, r in enumerate(rows) if fits(r)]
    last = float("inf")
    key = {
        "score DESC": lambda p: last if p[1]["score"] is None else -p[1]["score"],
        "score ASC": lambda p: last if p[1]["score"] is None else p[1]["score"],
        "triple_id": lambda p: p[1]["triple_id"],
        "as written": lambda p: p[0],
        "image": lambda p: (p[1]["image_id"], last if p[1]["score"] is None else -p[1]["score"]),
    }[order]
    expected = [n for n, _ in sorted(numbered, key=key)]  # stable: rows of equal score as written
    assert index.places(wanted, order).tolist() == expected and index.count(wanted) == len(expected)
    assert [r["triple_id"] for r in index.rows(expected[:3])] == [
        rows[n]["triple_id"] for n in expected[:3]
    ]


def test_finding_again_sees_a_changed_file(tmp_path):
    write_parquet(lck.build(*tables(5)), tmp_path / "c.parquet", CORPUS)
    assert lck.find(tmp_path / "c.parquet")[0] == lck.find(tmp_path / "c.parquet")[0] == 5
    write_parquet(lck.build(*tables(3)), tmp_path / "c.parquet", CORPUS)
    assert lck.find(tmp_path / "c.parquet")[0] == 3


def test_an_index_knows_its_choices_and_its_file(varied, tmp_path):
    _, index = varied
    assert (
        index.choices("source") == ["vcr", "visual_genome"]
        and index.choices("opening") == ["what", "where", "why"]
        and index.most_regions() == 3
    )
    assert index.rows([5, 2])[0]["triple_id"] == "t05" and index.rows([]) == []
    write_parquet([], tmp_path / "c.parquet", CORPUS)
    empty = CorpusIndex(tmp_path / "c.parquet")
    assert (
        empty.total == 0
        and empty.places(Filter(text="x")).tolist() == []
        and empty.most_regions() == 0
        and empty.choices("family") == []
    )
    (tmp_path / "c.parquet").write_bytes(b"another")
    with pytest.raises(ValueError, match="c.parquet has changed since it was opened"):
        empty.rows([0])
    with pytest.raises(ValueError, match="c.parquet is no corpus"):
        CorpusIndex(tmp_path / "c.parquet")
    with pytest.raises(FileNotFoundError, match="run notebook 04 first"):
        CorpusIndex(tmp_path / "none.parquet")


def test_truncated_parquet_and_misfits_are_named(tmp_path):
    path = tmp_path / "c.parquet"
    write_parquet(lck.build(*tables()), path, CORPUS)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match="c.parquet is not a readable Parquet file"):
        read_parquet(path, CORPUS)
    with pytest.raises(FileNotFoundError, match="run the notebook that writes it first"):
        read_parquet(tmp_path / "none.parquet", CORPUS)
    with pytest.raises(ValueError, match="row 1, field 'regions'"):
        write_parquet([triple(0), triple(1) | {"regions": ["x"]}], tmp_path / "t.parquet", TRIPLES)
    assert not (tmp_path / "t.parquet").exists()


def test_paths_are_taken_by_the_letter(tmp_path):
    """Neither a folder called model=x nor one called mini[1] changes what is read."""
    for number, name in enumerate(("model=gpt-4/mini[1]", "model=gpt-4/mini1", "a'b *?")):
        table = lck.build(*tables(number + 1))
        write_parquet(table, tmp_path / name / "c.parquet", CORPUS)
    assert [
        CorpusIndex(tmp_path / name / "c.parquet").total
        for name in ("model=gpt-4/mini[1]", "model=gpt-4/mini1", "a'b *?")
    ] == [1, 2, 3]
    assert CorpusIndex(tmp_path / "model=gpt-4/mini[1]/c.parquet").rows([0])[0]["model"] == "m"
