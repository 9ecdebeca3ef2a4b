"""The released corpus format: real fragments, everything the release may contain, a stream, rows
changed at random.
"""

import copy
import json
import math
import re
import subprocess
import sys
import tracemalloc
from pathlib import Path

import psutil
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lskd_nb.corpus import released
from lskd_nb.records import CORPUS, REJECTS, read_parquet
from lskd_nb.regions import mentions
from lskd_nb.run_folder import find_root

SAMPLES = find_root().parent / "shared" / "samples" / "lck"
ROW = {
    "image": "VG_100K/2348412.jpg",
    "source": "chatgpt_region_any_v4_people",
    "split": "train",
    "index": "chatgpt_region_any_v4_people-858297",
    "region": ["4"],
    "region_all": [0, "2", 4],
    "prediction": 0.940065,
    "references": [
        {
            "name": n,
            "boxes": [[1.5, 2.5, 30.0, 40.0, 0.9][: 4 + n % 2]],
            "segms": None,
            "obj_guess": "machine_gun",
            "tag": "region",
        }
        for n in (0, 2, 4)
    ],
    "question": ["What", "does", "the", "lion", "on", [4], "mean", "?"],
    "answer": ["Courage", "."],
    "rationale": [[4], "stands", "beside", [0, 2], "."],
}


def convert(
    folder: Path, *rows: object
) -> tuple[tuple[int, int, int], list[dict], list[dict], list[dict]]:
    lines = [r if isinstance(r, str) else json.dumps(r) for r in rows]
    (folder / "c.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    counts = released.convert_released(folder / "c.jsonl", folder / "c.parquet")
    kept, apart = (
        read_parquet(folder / name, CORPUS).to_pylist()
        for name in ("c.parquet", "c.unboxed.parquet")
    )
    return counts, kept, apart, read_parquet(folder / "c.rejects.parquet", REJECTS).to_pylist()


def test_a_row_as_it_is_printed_in_the_releases_readme(tmp_path):
    counts, (row,), _, rejects = convert(tmp_path, ROW)
    assert counts == (1, 0, 0) and not rejects
    assert (
        row["question"] == "What does the lion on [4] mean?"
        and row["rationale"] == "[4] stands beside [0, 2]."
    )
    assert row["regions"] == [4] and row["regions_offered"] == [0, 2, 4] and row["width"] is None
    assert [r["id"] for r in row["references"]] == [0, 2, 4] and row["references"][0]["box"] == [
        1.5,
        2.5,
        30.0,
        40.0,
    ]


@pytest.mark.parametrize(
    "change, found",
    [
        ({"region": "4"}, dict(regions=[4])),
        ({"region": [4]}, dict(regions=[4])),
        ({"region": 4}, dict(regions=[4])),
        ({"region": "12"}, dict(regions=[12])),
        ({"region": None}, dict(regions=[4, 0, 2])),
        ({"region_all": None}, dict(regions_offered=[0, 2, 4])),
        (
            {"region": None, "question": ["Who", "is", ["4"], "?"], "rationale": []},
            dict(question="Who is [4]?", rationale="", regions=[4]),
        ),
        (
            {
                "region_all": None,
                "references": [
                    *ROW["references"],
                    {"name": "9", "boxes": None},
                    {"name": 7, "boxes": []},
                ],
            },
            dict(regions_offered=[0, 2, 4, 7, 9]),
        ),
        (
            {},
            dict(
                source="visual_genome",
                model="chatgpt_region_any_v4_people",
                image_id="VG_100K/2348412.jpg",
                family="id",
            ),
        ),
        ({"image": "lsmdc_3005/a.jpg"}, dict(source="vcr", image_id="vcr1images/lsmdc_3005/a.jpg")),
        (
            {
                "references": {
                    "4": {"boxes": [[0, 1, 2, 3, 0.5]]},
                    "0": {"boxes": [[0, 1, 2, 3]]},
                    "2": {"boxes": [[0, 1, 2, 3]], "obj_guess": None},
                }
            },
            dict(regions=[4]),
        ),
        ({"image": "lsmdc_3005/a.jpg"}, dict(image="vcr1images/lsmdc_3005/a.jpg")),
        ({"image": "vcr1images/lsmdc_3005/a.jpg"}, dict(image="vcr1images/lsmdc_3005/a.jpg")),
        ({"answer": "It is [0]."}, dict(answer="It is [0].")),
        ({"prediction": 1}, dict(score=1.0)),
        ({"prediction": None}, dict(score=None)),
        (
            {
                "full_text_input": "x",
                "text_input": [],
                "text_output": "y",
                "width": 640,
                "height": 480,
            },
            dict(width=640, height=480),
        ),
    ],
)
def test_what_the_release_may_contain_is_read(tmp_path, change, found):
    counts, (row,), _, _ = convert(tmp_path, ROW | change)
    assert counts == (1, 0, 0) and {k: row[k] for k in found} == found


def test_the_earlier_schema_is_read(tmp_path):
    path = SAMPLES / "pre_release_docstring_record.jsonl"
    if not path.exists():
        pytest.skip("no sample of the release beside the project")
    counts, (row,), _, rejects = convert(tmp_path, path.read_text().strip())
    assert counts == (1, 0, 0) and not rejects
    assert (
        row["question"].startswith("What is the engine of the plane")
        and row["regions"] == [0]
        and row["rationale"] == "rationale"
    )
    assert [r["label"] for r in row["references"]] == [
        "propeller",
        "motor",
        "tank_(storage_vessel)",
        "machine_gun",
    ]


def printed(lines: list[str]) -> dict:
    """A row as pandas prints it: what is whole of it, and the one box that is cut off,
    completed.
    """
    cells = dict(re.split(r"\s{2,}", line, maxsplit=1) for line in lines)
    row = {k: cells[k] for k in ("image", "source", "split", "index")} | {
        "prediction": float(cells["prediction"])
    }
    row |= {k: json.loads(cells[k]) for k in ("region", "region_all")}
    row |= {k: cells[k].strip("[").split(", ")[:-1] for k in ("question", "answer", "rationale")}
    name, x0, y0 = re.match(
        r"\[{'name': '(\d+)', 'boxes': \[\[([\d.]+), ([\d.]+?)\.*$", cells["references"]
    ).groups()
    return row | {"references": [{"name": name, "boxes": [[float(x0), float(y0), 500, 400]]}]}


def test_the_row_that_the_releases_readme_prints(tmp_path):
    path = SAMPLES / "readme_row_fragment.txt"
    if not path.exists():
        pytest.skip("no sample of the release beside the project")
    counts, (row,), _, _ = convert(tmp_path, printed(path.read_text().strip().splitlines()))
    assert (
        counts == (1, 0, 0)
        and row["triple_id"] == "chatgpt_region_any_v4_people-858297"
        and row["score"] == pytest.approx(0.940065)
    )
    assert row["question"] == "What is the significance of the gold" and row["answer"].startswith(
        "The gold lion on the woman's shirt"
    )
    assert (
        row["regions"] == [4]
        and row["regions_offered"] == [0, 2, 4]
        and row["references"][0]["box"][0] == pytest.approx(379.6391601562)
    )


def test_rows_that_point_at_nothing_are_kept_apart(tmp_path):
    stray = ROW | {"index": "stray", "question": ["Who", "is", [7], "?"]}
    counts, kept, (apart,), rejects = convert(tmp_path, ROW, stray)
    assert (
        counts == (1, 1, 0)
        and not rejects
        and apart["triple_id"] == "stray"
        and apart["question"] == "Who is [7]?"
    )
    assert released.unboxed_mentions(apart) == [7] and len(kept) == 1


@pytest.mark.parametrize("boxes", [None, [], "missing"])
def test_a_region_without_box_is_no_fault_until_it_is_mentioned(tmp_path, boxes):
    bare = [
        {"name": str(r["name"])} | ({} if boxes == "missing" else {"boxes": boxes})
        for r in ROW["references"][:2]
    ]
    row = ROW | {"references": [*bare, ROW["references"][2]]}
    counts, (kept,), (apart,), rejects = convert(
        tmp_path, row | {"rationale": [[4], "stands", "."]}, row
    )
    assert counts == (1, 1, 0) and not rejects and released.unboxed_mentions(apart) == [0, 2]
    assert kept["regions_offered"] == [0, 2, 4] and [r["id"] for r in kept["references"]] == [4]


def reference(**change: object) -> dict:
    return {"references": [{"name": "4", "boxes": [[1, 2, 3, 4]]} | change]}


@pytest.mark.parametrize(
    "change, word",
    [
        ({"image": "../x.jpg"}, "image"),
        ({"image": None}, "image"),
        ({"index": ""}, "index"),
        ({"index": "\ud800"}, "index"),
        ({"question": ["Who", [], "?"]}, "question"),
        ({"answer": None}, "answer"),
        ({"rationale": [4]}, "rationale"),
        ({"question": ["\udc80"]}, "question"),
        ({"region": ["x"]}, "region"),
        ({"region": [10**12]}, "region"),
        ({"region": [-1]}, "region"),
        ({"region_all": [True]}, "region_all"),
        ({"prediction": math.nan}, "prediction"),
        ({"prediction": 7}, "prediction"),
        ({"prediction": "0.9"}, "prediction"),
        ({"width": math.inf}, "width"),
        ({"height": -4}, "height"),
        ({"height": 4.5}, "height"),
        ({"split": 1}, "split"),
        ({"references": None}, "references"),
        ({"references": {"4": []}}, "references"),
        (reference(boxes=[[1, 2, 3]]), "references"),
        (reference(boxes=[[1, 2, 1, 4]]), "references"),
        (reference(boxes=[[math.nan, 2, 3, 4]]), "references"),
        (reference(boxes=[[0, 2, 1e300, 4]]), "references"),
        (reference(boxes=[1, 2, 3, 4]), "references"),
        (reference(name=None), "references"),
        (reference(obj_guess=5), "obj_guess"),
        (
            {"references": [*reference()["references"], {"name": 4, "boxes": [[9, 9, 10, 10]]}]},
            "references",
        ),
    ],
)
def test_bad_rows_are_rejected_by_field(tmp_path, change, word):
    counts, kept, _, (reject,) = convert(tmp_path, ROW, ROW | change, ROW)
    assert (
        counts == (2, 0, 1)
        and len(kept) == 2
        and reject["record"] == "c.jsonl, line 2"
        and re.search(rf"\b{word}\b", reject["reason"])
    )


def test_bad_lines_are_rejected_by_name(tmp_path):
    bad = ["{not json", "[" * 5000, "1" * 5000, [], "null", '"x"', json.dumps(ROW)[:-9]]
    counts, _, _, rejects = convert(tmp_path, ROW, *bad)
    assert counts == (1, 0, len(bad)) and [r["record"] for r in rejects] == [
        f"c.jsonl, line {n}" for n in range(2, 2 + len(bad))
    ]
    assert all("JSON" in r["reason"] or "a row is an object" in r["reason"] for r in rejects)
    with pytest.raises(FileNotFoundError, match="none.jsonl"):
        released.convert_released(tmp_path / "none.jsonl", tmp_path / "none.parquet")
    assert not list(tmp_path.glob("*none*"))


@pytest.mark.parametrize("good", [True, False])
def test_a_large_file_is_read_in_a_stream(tmp_path, good):
    line = json.dumps(
        ROW | ({"answer": ["x" * 5000]} if good else {"image": 1, "answer": ["x" * 5000]})
    )
    (tmp_path / "c.jsonl").write_text((line + "\n") * 3000)
    tracemalloc.start()
    counts = released.convert_released(
        tmp_path / "c.jsonl", tmp_path / "c.parquet", workers=0, block=500_000
    )
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (
        counts == ((3000, 0, 0) if good else (0, 0, 3000))
        and peak < 0.3 * (tmp_path / "c.jsonl").stat().st_size
    )


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """Rows of all kinds, empty lines, a last line without end; their tables and counts,
    converted in one piece.
    """
    folder, odd = (
        tmp_path_factory.mktemp("mixed"),
        [
            "",
            "  ",
            "{not json",
            json.dumps(ROW | {"image": 3}),
            json.dumps(ROW | {"answer": [[9], "é 的"]}),
            "\r",
        ],
    )
    lines = [
        (
            odd[n // 7 % len(odd)]
            if n % 7 == 6
            else json.dumps(
                ROW | {"index": f"t-{n}", "prediction": n / 400}, ensure_ascii=n % 2 == 0
            )
        )
        for n in range(400)
    ]
    (folder / "c.jsonl").write_bytes("\n".join(lines).encode())
    counts = released.convert_released(folder / "c.jsonl", folder / "whole.parquet", workers=0)
    return folder, counts, tables(folder, "whole")


def tables(folder: Path, name: str) -> list[pa.Table]:
    return [
        read_parquet(folder / f"{name}{kind}.parquet", schema)
        for kind, schema in (("", CORPUS), (".unboxed", CORPUS), (".rejects", REJECTS))
    ]


@pytest.mark.parametrize("block, workers", [(1, 0), (997, 0), (5000, 0), (20_000, 2)])
def test_blocks_and_processes_change_nothing(mixed, block, workers):
    folder, counts, whole = mixed
    assert (
        released.convert_released(folder / "c.jsonl", folder / "parts.parquet", workers, block)
        == counts
        == (343, 9, 19)
    )
    for a, b in zip(whole, tables(folder, "parts"), strict=True):
        assert a.equals(b)
    assert whole[2]["record"][0].as_py() == "c.jsonl, line 21"


def test_a_killed_conversion_leaves_nothing_that_could_be_taken_for_whole(mixed, tmp_path):
    line = (mixed[0] / "c.jsonl").read_text().splitlines()[0]
    (tmp_path / "c.jsonl").write_text((line + "\n") * 60_000)
    call = (
        "from lskd_nb.corpus.released import convert_released as c;"
        f" c({str(tmp_path / 'c.jsonl')!r}, {str(tmp_path / 'c.parquet')!r}, 0, 100_000)"
    )
    process = subprocess.Popen([sys.executable, "-c", call])
    while not any(f.stat().st_size > 1000 for f in tmp_path.glob(".c.parquet.*")):
        assert process.poll() is None, "it ended before it could be killed"
    process.kill()
    process.wait()
    assert not list(tmp_path.glob("c.*parquet"))
    assert released.convert_released(tmp_path / "c.jsonl", tmp_path / "c.parquet") == (60_000, 0, 0)


def test_workers_end_with_a_conversion_that_is_killed(mixed, tmp_path):
    line = (mixed[0] / "c.jsonl").read_text().splitlines()[0]
    (tmp_path / "c.jsonl").write_text((line + "\n") * 200_000)
    (tmp_path / "convert.py").write_text(
        "from lskd_nb.corpus.released import convert_released\nif __name__ == '__main__':\n   "
        f" convert_released({str(tmp_path / 'c.jsonl')!r}, {str(tmp_path / 'c.parquet')!r}, 2,"
        " 100_000)\n"
    )
    process = subprocess.Popen([sys.executable, str(tmp_path / "convert.py")])
    while not any(f.stat().st_size > 1000 for f in tmp_path.glob(".c.parquet.*")):
        assert process.poll() is None, "it ended before it could be killed"
    workers = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    assert len(workers) >= 2 and not psutil.wait_procs(workers, timeout=20)[1]
    assert not list(tmp_path.glob("c.*parquet"))


WORDS = st.lists(
    st.one_of(
        st.text("abcé", min_size=1, max_size=5),
        st.lists(st.sampled_from([0, 2, 4]), min_size=1, max_size=3),
    ),
    min_size=1,
    max_size=8,
)
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5),
    st.sampled_from([10**400, 10**12, -1.5, math.nan, math.inf]),
    st.text(max_size=3),
    st.sampled_from(["../x", "\ud800", "9" * 30]),
    st.just([]),
    st.just({}),
    st.just([[]]),
    st.just(["", 2]),
)


@settings(max_examples=100, deadline=None)
@given(question=WORDS, answer=WORDS, score=st.one_of(st.none(), st.floats(0, 1, width=32)))
def test_any_tokens_come_back(question, answer, score):
    row = released.corpus_row(ROW | {"question": question, "answer": answer, "prediction": score})
    again = released.corpus_row(json.loads(json.dumps(released.released_row(row))))
    assert again["score"] == score and mentions(again["question"]) == mentions(
        row["question"]
    ) == list(dict.fromkeys(i for t in question if isinstance(t, list) for i in t))
    assert (
        again["question"].split() == row["question"].split()
        and again["answer"].split() == row["answer"].split()
    )


NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
FLOATS = st.floats(0, 1, width=32)
REGIONS = st.lists(
    st.tuples(
        st.integers(0, 99),
        st.tuples(*[st.integers(0, 500)] * 2, *[st.integers(1, 500)] * 2, FLOATS),
        st.text("ab_()", max_size=4),
        st.none() | FLOATS,
    ),
    unique_by=lambda r: r[0],
    max_size=4,
).map(
    lambda regions: [
        dict(id=i, box=[x + f, float(y), x + f + w, float(y + h)], label=label, score=score)
        for i, (x, y, w, h, f), label, score in regions
    ]
)
TEXTS = st.text("ab é'.,?!()-[]12\n\"", max_size=40)
CORPUS_ROWS = st.fixed_dictionaries(
    dict(
        triple_id=NAMES,
        image_id=NAMES,
        family=st.sampled_from(["id", "description"]),
        question=TEXTS,
        answer=TEXTS,
        rationale=TEXTS,
        regions=st.lists(st.integers(0, 99), max_size=3),
        regions_offered=st.lists(st.integers(0, 99), max_size=3),
        model=NAMES,
        prompt=NAMES,
        request=NAMES,
        score=st.none() | FLOATS,
        image=st.sampled_from(["VG_100K/1.jpg", "vcr1images/m/a.jpg", "val2017/1.jpg", "m/a.jpg"]),
        width=st.none() | st.integers(1, 9999),
        height=st.none() | st.integers(1, 9999),
        source=NAMES,
        split=NAMES,
        references=REGIONS,
    )
)


@settings(max_examples=100, deadline=None)
@given(rows=st.lists(CORPUS_ROWS, min_size=1, max_size=3))
def test_a_corpus_comes_back_as_it_was_written(tmp_path_factory, rows):
    folder, corpus = tmp_path_factory.mktemp("b"), pa.Table.from_pylist(rows, CORPUS)
    released.write_released(corpus, folder / "c.jsonl")
    released.convert_released(folder / "c.jsonl", folder / "d.parquet")
    again = [
        r
        for name in ("d.parquet", "d.unboxed.parquet")
        for r in read_parquet(folder / name, CORPUS).to_pylist()
    ]
    rows = sorted(corpus.to_pylist(), key=lambda r: bool(released.unboxed_mentions(r)))
    assert len(again) == len(rows)
    for old, new in zip(rows, again, strict=True):
        for text in ("question", "answer", "rationale"):
            before, after = old.pop(text), new.pop(text)
            assert "".join(before.split()) == "".join(after.split()) and mentions(
                before
            ) == mentions(after), "the same up to white space"
        assert old == new


@settings(max_examples=250, deadline=None)
@given(data=st.data())
def test_a_changed_row_is_read_or_rejected(tmp_path_factory, data):
    row = copy.deepcopy(ROW)
    place = row
    while True:
        key = data.draw(
            st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place)))
        )
        if isinstance(place[key], dict | list) and place[key] and data.draw(st.booleans()):
            place = place[key]
            continue
        if data.draw(st.booleans()):
            del place[key]
        else:
            place[key] = data.draw(VALUES)
        break
    counts, kept, apart, rejects = convert(tmp_path_factory.mktemp("c"), ROW, row, ROW)
    assert sum(counts) == 3 and len(kept) >= 2 and len(kept) + len(apart) + len(rejects) == 3
    assert all(
        r["record"] == "c.jsonl, line 2" and re.search("|".join([*ROW, "obj_guess"]), r["reason"])
        for r in rejects
    )
    for found in (*kept, *apart):
        assert found["score"] is None or 0 <= found["score"] <= 1
        assert all(
            x0 < x1 and y0 < y1 and math.isfinite(x1 - x0 + y1 - y0)
            for x0, y0, x1, y1 in (r["box"] for r in found["references"])
        )
