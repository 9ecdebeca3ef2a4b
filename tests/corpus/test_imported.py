"""A published corpus becomes a run: whatever its rows say, no picture is missing, no box is another
row's, and what was left out is on record.
"""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from lskd_nb.corpus import imported, shared_boxes
from lskd_nb.corpus.build import build, load_stage
from lskd_nb.corpus.index import CorpusIndex, Filter
from lskd_nb.corpus.provenance import trainable
from lskd_nb.corpus.released import write_released
from lskd_nb.records import CORPUS, REGIONS, REJECTS, SCORES, read_parquet
from lskd_nb.regions import mentions
from lskd_nb.run_folder import RunError, RunFolder, find_root, imported_from

SAMPLES = find_root().parent / Path("shared/samples/lck")


def lines(run: Path, name: str, schema=CORPUS) -> list[dict]:
    return read_parquet(run / f"{name}.parquet", schema).to_pylist()


def of(run: Path, triple_id: str) -> dict:
    (found,) = [row for row in lines(run, "corpus") if row["triple_id"] == triple_id]
    return found


@pytest.fixture
def brought(published, tmp_path):
    """Import rows beside the forty good ones: the run's folder and its record."""

    def bring(*more: dict, keep: bool = True) -> tuple[Path, dict]:
        file = published(tmp_path, more)
        record, done = imported.import_corpus(file, tmp_path / "images", tmp_path / "run")
        assert done
        return tmp_path / "run", record

    return bring


def box(*xyxy: float, name: int = 0) -> dict:
    return dict(name=name, boxes=[list(xyxy)], obj_guess="", tag="region")


def test_rows_of_one_image_make_one_image_of_all_their_regions(brought):
    run, record = brought()
    images = RunFolder(run)
    assert record["triples"] == 40 and record["rejects"] == {} and len(images.image_ids()) == 8
    for image_id in images.image_ids():
        image = images.image(image_id)
        with Image.open(images.image_root / image.path) as picture:
            assert (image.width, image.height) == picture.size
        assert [r.id for r in image.regions] == [0, 1, 2, 3]
        assert [r.label for r in image.regions] == [f"thing_{i}" for i in range(4)]
    for row in lines(run, "corpus"):
        own = {r["id"]: r["box"] for r in row["references"]}
        shown = {r.id: list(r.box) for r in images.image(row["image_id"]).regions}
        assert own and all(shown[i] == b for i, b in own.items())
    triples, scores = load_stage(run)
    regions = read_parquet(run / "regions.parquet", REGIONS)
    joined, rows = build(triples, scores, regions).to_pylist(), lines(run, "corpus")
    for row in (*joined, *rows):
        row["references"].sort(key=lambda r: r["id"])
    assert joined == rows, "as 04 joins them"


def test_a_box_that_another_row_gives_the_same_id_is_shown_with_neither(brought):
    moved = [box(90, 50, 120, 110), box(5.4, 8, 38, 100, name=1)]
    run, record = brought(dict(index="moved", references=moved))
    index, row = CorpusIndex.of_run(run), of(run, "moved")
    assert row["image_id"] == "VG_100K/0.jpg#2" and row["image"] == "VG_100K/0.jpg"
    assert record["told_apart"] == dict(images=1, rows=1) and record["images"] == 8
    (shown,) = index.rows(index.places(Filter(triple_id="moved")))
    assert [r["box"] for r in shown["references"]] == [r["box"] for r in row["references"]]
    assert row["references"][0]["box"] == [90, 50, 120, 110]
    assert all(r.box[0] == 5.5 for r in RunFolder(run).image("VG_100K/0.jpg").regions[:1])


def test_what_cannot_be_drawn_is_left_out_and_said(brought, tmp_path):
    far = box(900, 900, 950, 950, name=7)
    good = [box(5.5, 8, 38.25, 100), box(150, 90, 900, 900, name=1)]
    (tmp_path / "images/VG_100K").mkdir(parents=True)
    Image.new("I", (200, 120)).save(tmp_path / "images/VG_100K/depth.jpg", format="TIFF")
    run, record = brought(
        dict(index="gone", image="VG_100K/404.jpg"),
        dict(index="depth", image="VG_100K/depth.jpg"),
        dict(index="twice"),
        dict(index="twice", answer=["Another", "."]),
        dict(index="far", references=[*good, far], question=["Why", [7], "?"]),
        dict(index="beside", references=[*good, far], region_all=["0", "1", "7"], image_id="a\n"),
        dict(index="unboxed", question=["Why", [8], "?"]),
        dict(index="unscored", prediction=None),
        dict(index="unoffered", region_all=[0]),
        dict(index="small", references=good, width=400, height=240),
        dict(index="stretched", width=400, height=120),
        dict(index=["no text"]),
    )
    rejects = {r["record"]: r for r in lines(run, "rejects_import", REJECTS)}
    reasons = {key: r["reason"] for key, r in rejects.items() if "line" not in key}
    assert reasons == {
        "gone": "missing image",
        "depth": "corrupt image",
        "twice": "index occurs twice",
        "far": "box of no area",
        "beside": "box of no area",
        "stretched": "image size differs",
    }
    assert rejects["gone"]["detail"].startswith("VG_100K/404.jpg: ")
    assert "corpus_1M.jsonl, line 52" in rejects and record["apart"] == 1
    there = {row["triple_id"] for row in lines(run, "corpus")}
    assert {"twice", "beside", "unscored", "unoffered", "small"} <= there and len(there) == 45
    assert of(run, "twice")["answer"] != "Another."
    assert [r["id"] for r in of(run, "beside")["references"]] == [0, 1]
    assert of(run, "beside")["image_id"] == "a\n" and record["images"] == 9
    assert of(run, "beside")["references"][1]["box"] == [150, 90, 200, 120], "cut"
    assert of(run, "small")["references"][0]["box"] == [2.75, 4, 19.125, 50], "of a larger copy"
    assert of(run, "unoffered")["regions_offered"] == [0, 1], "it is mentioned"
    scores = {row["triple_id"]: row["score"] for row in lines(run, "scores", SCORES)}
    assert scores["unscored"] is None and 0.79 < scores["beside"] <= 1 and record["unscored"] == 1
    for row in lines(run, "corpus"):
        texts = " ".join(row[t] for t in ("question", "answer", "rationale"))
        assert set(mentions(texts)) <= {r["id"] for r in row["references"]}
    told = "\n".join(imported.told(record, tmp_path / "images"))
    assert "9 of the file's 10" in told and "VG_100K/404.jpg" in told
    assert trainable(run, ["truth", "thresholds", "sizes"], 0.2).studies == ["sizes"]


def test_a_picture_that_comes_later_is_taken_and_nothing_else_is_done_twice(published, tmp_path):
    file, root, run = published(tmp_path), tmp_path / "images", tmp_path / "run"
    late = root / "VG_100K" / "2.jpg"
    whole = late.read_bytes()
    late.write_bytes(whole[: len(whole) // 2])
    record, _ = imported.import_corpus(file, root, run)
    assert record["rejects"] == {"corrupt image": 5} and record["triples"] == 35
    stamps = {p.name: p.stat().st_mtime_ns for p in run.iterdir()}
    again, done = imported.import_corpus(file, root, run)
    assert not done and again == record
    assert {p.name: p.stat().st_mtime_ns for p in run.iterdir()} == stamps
    late.write_bytes(whole)
    record, done = imported.import_corpus(file, root, run)
    assert done and record["triples"] == 40 and not (run / ".import").exists()


def test_a_folder_that_holds_something_else_is_left_alone(published, tmp_path):
    file, root, run = published(tmp_path), tmp_path / "images", tmp_path / "run"
    run.mkdir()
    (run / "triples.parquet").write_text("mine")
    with pytest.raises(RunError, match="is not empty .triples.parquet"):
        imported.import_corpus(file, root, run)
    assert (run / "triples.parquet").read_text() == "mine"
    imported.import_corpus(file, root, tmp_path / "other")
    file.write_text(file.read_text() + "\n")
    with pytest.raises(RunError, match="holds the import of corpus_1M.jsonl .* is another file"):
        imported.import_corpus(file, root, tmp_path / "other")


def test_an_import_that_was_killed_is_seen_and_done_again(published, tmp_path):
    file, root, run = published(tmp_path), tmp_path / "images", tmp_path / "run"
    record, _ = imported.import_corpus(file, root, run)
    path = run / "imported.json"
    path.write_text(json.dumps(dict(record) | {"status": "running"}))
    (run / "scores.parquet").unlink()
    with pytest.raises(ValueError, match="has not ended"):
        imported_from(run)
    assert imported.import_corpus(file, root, run) == (record, True)


def test_without_any_picture_it_says_what_was_looked_for(published, tmp_path):
    file, root = published(tmp_path), tmp_path / "images"
    with pytest.raises(RunError, match=rf"none of the 8 pictures .* {root}/VG_100K/VG_100K/0.jpg"):
        imported.import_corpus(file, root / "VG_100K", tmp_path / "run")
    assert not any((tmp_path / "run").iterdir())
    with pytest.raises(FileNotFoundError, match="is no folder"):
        imported.import_corpus(file, tmp_path / "nowhere", tmp_path / "run")


def test_a_corpus_that_was_written_here_comes_back_as_it_was(brought, tmp_path):
    run, _ = brought(
        dict(index="moved", references=[box(90, 50, 120, 110), box(1, 1, 9, 9, name=1)])
    )
    write_released(read_parquet(run / "corpus.parquet", CORPUS), tmp_path / "back.jsonl")
    imported.import_corpus(tmp_path / "back.jsonl", tmp_path / "images", tmp_path / "again")
    assert lines(tmp_path / "again", "corpus") == lines(run, "corpus")
    here, there = (
        {row["image_id"]: row for row in lines(folder, "regions", REGIONS)}
        for folder in (run, tmp_path / "again")
    )
    assert here == there and "VG_100K/0.jpg#2" in here


@pytest.mark.skipif(not SAMPLES.exists(), reason="the release's own records are not at hand")
def test_a_record_of_the_release_itself(tmp_path):
    record = json.loads((SAMPLES / "pre_release_docstring_record.jsonl").read_text())
    (tmp_path / "images/VG_100K").mkdir(parents=True)
    shutil.copy(SAMPLES / "pre_release_docstring_record.jsonl", tmp_path / "c.jsonl")
    Image.new("RGB", (300, 250)).save(tmp_path / "images/VG_100K/2378381.jpg")
    imported.import_corpus(tmp_path / "c.jsonl", tmp_path / "images", tmp_path / "run")
    (row,) = lines(tmp_path / "run", "corpus")
    assert row["image"] == "VG_100K_2/2378381.jpg" and row["score"] is None
    assert [r["label"] for r in row["references"]] == [r["obj_guess"] for r in record["references"]]


def test_many_rows_that_disagree_are_parted_into_as_few_layouts_as_they_come(tmp_path):
    import numpy as np
    import pyarrow as pa

    rng = np.random.default_rng(0)
    kinds = rng.integers(0, 3, 600)  # of each row: where its picture has its boxes
    image = rng.integers(0, 40, 600).astype(np.int32)
    rows = [rng.choice(6, rng.integers(0, 5), replace=False) for _ in range(600)]
    references = [
        [dict(id=int(i), box=[10.0 * i, 5.0 * k, 90, 90], label="", score=None) for i in ids]
        for ids, k in zip(rows, kinds, strict=True)
    ]
    boxes = shared_boxes.boxes_of(pa.array(references, CORPUS.field("references").type))
    layout = shared_boxes.layouts(boxes, image)
    seen: dict[tuple, set] = {}
    for row in range(600):
        for i in rows[row]:
            seen.setdefault((image[row], layout[row], int(i)), set()).add(int(kinds[row]))
    assert all(len(found) == 1 for found in seen.values()) and 0 < layout.max() <= 5
    assert (shared_boxes.layouts(boxes.take(kinds[boxes.row] == 1), image) == 0).all()
