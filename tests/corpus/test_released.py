"""The released corpus format: real fragments, and everything the release may contain."""

import json
import math
import re

import pytest

from lskd_nb.corpus import released
from lskd_nb.run_folder import find_root

SAMPLES = find_root().parent / "shared" / "samples" / "lck"


def test_a_row_as_it_is_printed_in_the_releases_readme(convert, released_row, tmp_path):
    counts, (row,), _, rejects = convert(tmp_path, released_row)
    assert counts == (1, 0, 0) and not rejects
    assert (
        row["question"] == "What does the lion on [4] mean?"
        and row["rationale"] == "[4] stands beside [0, 2]."
    )
    assert row["regions"] == [4] and row["regions_offered"] == [0, 2, 4] and row["width"] is None
    assert [r["id"] for r in row["references"]] == [0, 2, 4]
    assert row["references"][0]["box"] == [1.5, 2.5, 30.0, 40.0]


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
                "references": lambda its_own: [
                    *its_own,
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
def test_what_the_release_may_contain_is_read(convert, released_row, tmp_path, change, found):
    change = {k: v(released_row[k]) if callable(v) else v for k, v in change.items()}
    counts, (row,), _, _ = convert(tmp_path, released_row | change)
    assert counts == (1, 0, 0) and {k: row[k] for k in found} == found


def test_the_earlier_schema_is_read(convert, tmp_path):
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


def test_the_row_that_the_releases_readme_prints(convert, tmp_path):
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


def test_rows_that_point_at_nothing_are_kept_apart(convert, released_row, tmp_path):
    stray = released_row | {"index": "stray", "question": ["Who", "is", [7], "?"]}
    counts, kept, (apart,), rejects = convert(tmp_path, released_row, stray)
    assert (
        counts == (1, 1, 0)
        and not rejects
        and apart["triple_id"] == "stray"
        and apart["question"] == "Who is [7]?"
    )
    assert released.unboxed_mentions(apart) == [7] and len(kept) == 1


@pytest.mark.parametrize("boxes", [None, [], "missing"])
def test_a_region_without_box_is_no_fault_until_it_is_mentioned(
    convert, released_row, tmp_path, boxes
):
    bare = [
        {"name": str(r["name"])} | ({} if boxes == "missing" else {"boxes": boxes})
        for r in released_row["references"][:2]
    ]
    row = released_row | {"references": [*bare, released_row["references"][2]]}
    counts, (kept,), (apart,), rejects = convert(
        tmp_path, row | {"rationale": [[4], "stands", "."]}, row
    )
    assert counts == (1, 1, 0) and not rejects and released.unboxed_mentions(apart) == [0, 2]
    assert kept["regions_offered"] == [0, 2, 4] and [r["id"] for r in kept["references"]] == [4]


@pytest.mark.parametrize("box", [[5, 2, 5, 9], [1, 2, 3], [0, 0, math.inf, 4]])
def test_a_bad_box_loses_its_row_only_where_the_region_is_mentioned(
    convert, released_row, tmp_path, box
):
    row = released_row | {
        "references": [*released_row["references"], {"name": "7", "boxes": [box]}],
        "region_all": None,
    }
    mentioning = row | {"answer": ["On", [7], "."]}
    counts, (kept,), _, (bad, lost) = convert(tmp_path, row, mentioning)
    assert counts == (1, 0, 2) and [r["id"] for r in kept["references"]] == [0, 2, 4]
    assert kept["regions_offered"] == [0, 2, 4, 7]
    assert (bad["record"], lost["record"]) == ("c.jsonl, line 1", "c.jsonl, line 2")
    assert "region '7'" in bad["reason"] and "region '7'" in lost["reason"]


def test_a_byte_order_mark_is_no_part_of_the_first_row(convert, released_row, tmp_path):
    counts, rows, _, rejects = convert(tmp_path, "\ufeff" + json.dumps(released_row), released_row)
    assert counts == (2, 0, 0) and not rejects and rows[0] == rows[1]


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
def test_bad_rows_are_rejected_by_field(convert, released_row, tmp_path, change, word):
    counts, kept, _, (reject,) = convert(
        tmp_path, released_row, released_row | change, released_row
    )
    assert (
        counts == (2, 0, 1)
        and len(kept) == 2
        and reject["record"] == "c.jsonl, line 2"
        and re.search(rf"\b{word}\b", reject["reason"])
    )


def test_bad_lines_are_rejected_by_name(convert, released_row, tmp_path):
    bad = ["{not json", "[" * 5000, "1" * 5000, [], "null", '"x"', json.dumps(released_row)[:-9]]
    counts, _, _, rejects = convert(tmp_path, released_row, *bad)
    assert counts == (1, 0, len(bad)) and [r["record"] for r in rejects] == [
        f"c.jsonl, line {n}" for n in range(2, 2 + len(bad))
    ]
    assert all("JSON" in r["reason"] or "a row is an object" in r["reason"] for r in rejects)
    with pytest.raises(FileNotFoundError, match="none.jsonl"):
        released.convert_released(tmp_path / "none.jsonl", tmp_path / "none.parquet")
    assert not list(tmp_path.glob("*none*"))


@pytest.mark.parametrize(
    ("family", "prompt", "source"),
    [
        ("id", "id-1a2b3c4d", "w_id"),
        ("description", "description_people-1a2b3c4d", "w_description_people"),
        ("words", "words_any-1a2b3c4d", "w_words_any"),
    ],
)
def test_the_source_tells_family_and_offer(convert, tmp_path, family, prompt, source):
    row = dict.fromkeys(released.CORPUS.names) | dict(
        triple_id="1-a-0", image_id="1", image="VG_100K/1.jpg", width=9, height=9, split="train",
        source="visual_genome", question="Who is near?", answer="A man.", rationale="He is.",
        regions=[], regions_offered=[0], references=[], model="w", score=0.5, request="r",
        family=family, prompt=prompt,
    )  # fmt: skip
    told = released.released_row(row)
    assert told["source"] == source
    del told["family"], told["prompt"]  # as the authors' own rows are
    _, (kept,), *_ = convert(tmp_path, told)
    assert kept["family"] == family
