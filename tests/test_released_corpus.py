"""The released corpus format: real fragments, everything the release may contain, a stream, rows changed at random."""

import copy
import json
import math
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lskd_nb import released
from lskd_nb.records import CORPUS, REJECTS, read_parquet
from lskd_nb.regions import mentions
from lskd_nb.run import find_root

SAMPLES = find_root().parent / "shared" / "samples" / "lck"
ROW = {
    "image": "VG_100K/2348412.jpg", "source": "chatgpt_region_any_v4_people", "split": "train", "index": "chatgpt_region_any_v4_people-858297",
    "region": ["4"], "region_all": [0, "2", 4], "prediction": 0.940065,
    "references": [{"name": n, "boxes": [[1.5, 2.5, 30.0, 40.0, 0.9][: 4 + n % 2]], "segms": None, "obj_guess": "machine_gun", "tag": "region"} for n in (0, 2, 4)],
    "question": ["What", "does", "the", "lion", "on", [4], "mean", "?"], "answer": ["Courage", "."], "rationale": [[4], "stands", "beside", [0, 2], "."],
}


def convert(folder: Path, *rows: object) -> tuple[tuple[int, int, int], list[dict], list[dict], list[dict]]:
    lines = [r if isinstance(r, str) else json.dumps(r) for r in rows]
    (folder / "c.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    counts = released.convert_released(folder / "c.jsonl", folder / "c.parquet")
    kept, apart = (read_parquet(folder / name, CORPUS).to_pylist() for name in ("c.parquet", "c.unboxed.parquet"))
    return counts, kept, apart, read_parquet(folder / "c.rejects.parquet", REJECTS).to_pylist()


def test_a_row_as_it_is_printed_in_the_releases_readme(tmp_path):
    counts, (row,), _, rejects = convert(tmp_path, ROW)
    assert counts == (1, 0, 0) and not rejects
    assert row["question"] == "What does the lion on [4] mean?" and row["rationale"] == "[4] stands beside [0, 2]."
    assert row["regions"] == [4] and row["regions_offered"] == [0, 2, 4] and row["width"] is None
    assert [r["id"] for r in row["references"]] == [0, 2, 4] and row["references"][0]["box"] == [1.5, 2.5, 30.0, 40.0]


@pytest.mark.parametrize("change, found", [
    ({"region": "4"}, dict(regions=[4])), ({"region": [4]}, dict(regions=[4])), ({"region": 4}, dict(regions=[4])), ({"region": "12"}, dict(regions=[12])),
    ({"region": None}, dict(regions=[4, 0, 2])), ({"region_all": None}, dict(regions_offered=[0, 2, 4])),
    ({"references": {"4": {"boxes": [[0, 1, 2, 3, 0.5]]}, "0": {"boxes": [[0, 1, 2, 3]]}, "2": {"boxes": [[0, 1, 2, 3]], "obj_guess": None}}}, dict(regions=[4])),
    ({"image": "lsmdc_3005/a.jpg"}, dict(image="vcr1images/lsmdc_3005/a.jpg")), ({"image": "vcr1images/lsmdc_3005/a.jpg"}, dict(image="vcr1images/lsmdc_3005/a.jpg")),
    ({"answer": "It is [0]."}, dict(answer="It is [0].")), ({"prediction": 1}, dict(score=1.0)), ({"prediction": None}, dict(score=None)),
    ({"full_text_input": "x", "text_input": [], "text_output": "y", "width": 640, "height": 480}, dict(width=640, height=480)),
])
def test_what_the_release_may_contain_is_read(tmp_path, change, found):
    counts, (row,), _, _ = convert(tmp_path, ROW | change)
    assert counts == (1, 0, 0) and {k: row[k] for k in found} == found


def test_the_earlier_schema_is_read(tmp_path):
    path = SAMPLES / "pre_release_docstring_record.jsonl"
    if not path.exists():
        pytest.skip("no sample of the release beside the project")
    counts, (row,), _, rejects = convert(tmp_path, path.read_text().strip())
    assert counts == (1, 0, 0) and not rejects
    assert row["question"].startswith("What is the engine of the plane") and row["regions"] == [0] and row["rationale"] == "rationale"
    assert [r["label"] for r in row["references"]] == ["propeller", "motor", "tank_(storage_vessel)", "machine_gun"]


def test_rows_that_point_at_nothing_are_kept_apart(tmp_path):
    stray = ROW | {"index": "stray", "question": ["Who", "is", [7], "?"]}
    counts, kept, (apart,), rejects = convert(tmp_path, ROW, stray)
    assert counts == (1, 1, 0) and not rejects and apart["triple_id"] == "stray" and apart["question"] == "Who is [7]?"
    assert released.unboxed_mentions(apart) == [7] and len(kept) == 1


def test_bad_lines_are_rejected_by_name(tmp_path):
    bad = ["{not json", {k: v for k, v in ROW.items() if k != "answer"}, [], ROW | {"image": "../x.jpg"}, ROW | {"references": [{"name": "0", "boxes": []}]},
           ROW | {"question": ["Who", [], "?"]}, ROW | {"index": ""}, ROW | {"region": ["x"]}, "[" * 5000]
    counts, kept, _, rejects = convert(tmp_path, ROW, *bad)
    assert counts == (1, 0, len(bad)) and [r["record"] for r in rejects] == [f"c.jsonl, line {n}" for n in range(2, 2 + len(bad))]
    for reject, word in zip(rejects[1:8], ("answer", "object", "image", "references", "question", "index", "region"), strict=True):
        assert word in reject["reason"]


def test_a_round_trip_changes_nothing(tmp_path):
    _, (row,), _, _ = convert(tmp_path, ROW)
    (tmp_path / "again").mkdir()
    _, (again,), _, _ = convert(tmp_path / "again", released.released_row(row))
    same = set(CORPUS.names) - {"model", "source", "references"}  # a release's rows say their source, which names model and family
    assert {k: row[k] for k in same} == {k: again[k] for k in same}
    assert [r["box"] for r in row["references"]] == [r["box"] for r in again["references"]]


def test_a_large_file_is_read_in_a_stream(tmp_path, monkeypatch):
    monkeypatch.setattr(released, "ROWS_AT_ONCE", 100)
    line = json.dumps(ROW | {"answer": ["x" * 5000]})
    (tmp_path / "c.jsonl").write_text((line + "\n") * 3000)
    tracemalloc.start()
    assert released.convert_released(tmp_path / "c.jsonl", tmp_path / "c.parquet")[0] == 3000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 0.5 * (tmp_path / "c.jsonl").stat().st_size


WORDS = st.lists(st.one_of(st.text("abcé", min_size=1, max_size=5), st.lists(st.sampled_from([0, 2, 4]), min_size=1, max_size=3)), min_size=1, max_size=8)
VALUES = st.one_of(st.none(), st.booleans(), st.integers(-5, 5), st.sampled_from([10**400, 10**12, -1.5, math.nan, math.inf]), st.text(max_size=3),
                   st.sampled_from(["../x", "\ud800", "9" * 30]), st.just([]), st.just({}), st.just([[]]), st.just(["", 2]))


@settings(max_examples=100, deadline=None)
@given(question=WORDS, answer=WORDS, score=st.one_of(st.none(), st.floats(0, 1, width=32)))
def test_any_tokens_come_back(question, answer, score):
    row = released.corpus_row(ROW | {"question": question, "answer": answer, "prediction": score})
    again = released.corpus_row(json.loads(json.dumps(released.released_row(row))))
    assert again["score"] == score and mentions(again["question"]) == mentions(row["question"]) == list(dict.fromkeys(i for t in question if isinstance(t, list) for i in t))
    assert again["question"].split() == row["question"].split() and again["answer"].split() == row["answer"].split()


@settings(max_examples=250, deadline=None)
@given(data=st.data())
def test_a_changed_row_is_read_or_rejected(tmp_path_factory, data):
    row = copy.deepcopy(ROW)
    place = row
    while True:
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
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
    assert all(r["record"] == "c.jsonl, line 2" and r["reason"] for r in rejects)
