"""Exports: COCO's JSON read by pycocotools, FiftyOne's layout by its documented keys."""

import json
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
from pycocotools.coco import COCO

from lskd_nb.publishing import exports
from lskd_nb.records import CORPUS, read_parquet, write_parquet


@pytest.fixture
def rows(finished_run) -> list[dict]:
    return read_parquet(finished_run / "corpus.parquet", CORPUS).to_pylist()


@pytest.fixture
def corpus(rows, tmp_path) -> Path:
    """Two images: of one two triples, which were offered different regions; the other's region 1
    is another box than the first's.
    """
    same = dict(image_id=rows[0]["image_id"], image=rows[0]["image"])
    third = rows[0]["references"][0] | {
        "id": 7,
        "box": [1.0, 1.0, 5.0, 9.0],
        "label": "<b>\u201cpug\u201d</b>",
    }
    rows[1] |= same | {
        "references": [rows[0]["references"][1], third],
        "regions": [7],
        "regions_offered": [1, 7],
    }
    write_parquet(rows[:3], tmp_path / "c.parquet", CORPUS)
    return tmp_path / "c.parquet"


def test_coco_s_own_reader_finds_boxes_and_triples(corpus, rows, tmp_path, capsys):
    coco = COCO(str(exports.export_coco(corpus, tmp_path / "coco")))
    assert (
        sorted(coco.imgs) == [1, 2]
        and len(coco.anns) == 5
        and coco.imgs[1]["file_name"] == rows[0]["image"]
        and coco.imgs[1]["width"] == 40
    )
    assert {c["name"] for c in coco.loadCats(coco.getCatIds())} == {
        "dog",
        "region",
        "<b>\u201cpug\u201d</b>",
    }
    assert [a["bbox"] for a in coco.loadAnns(coco.getAnnIds(imgIds=[1]))] == [
        [0, 3, 20, 25],
        [2, 3, 19, 25],
        [1, 1, 4, 8],
    ]
    assert all(
        a["area"] == a["bbox"][2] * a["bbox"][3] and a["iscrowd"] == 0 for a in coco.anns.values()
    )
    assert len(coco.getAnnIds(catIds=coco.getCatIds(["region"]))) == 2
    told = coco.dataset["triples"]
    assert [t["triple_id"] for t in told] == [r["triple_id"] for r in rows[:3]] and told[0][
        "question"
    ] == rows[0]["question"]
    for triple, row in zip(told, rows, strict=False):
        pointed = {a["region"]: a for a in coco.loadAnns(list(triple["annotations"].values()))}
        assert {int(i) for i in triple["annotations"]} == {
            r["id"] for r in row["references"]
        } and set(triple["regions"]) <= set(pointed)
        for region in row["references"]:
            x0, y0, x1, y1 = region["box"]
            assert (
                pointed[region["id"]]["bbox"] == [x0, y0, x1 - x0, y1 - y0]
                and pointed[region["id"]]["image_id"] == triple["image_id"]
            )
    assert told[0]["annotations"]["1"] == told[1]["annotations"]["1"]  # one region, one annotation


def test_coco_s_own_reader_shows_regions_and_makes_masks(corpus, tmp_path, monkeypatch):
    figure, axes = plt.subplots()
    monkeypatch.setattr(plt, "gca", lambda: axes)
    coco = COCO(str(exports.export_coco(corpus, tmp_path / "coco")))
    coco.showAnns(coco.loadAnns(coco.getAnnIds(imgIds=[1])))
    (drawn, outlines) = axes.collections
    for shown in (drawn, outlines):
        assert [tuple(p.get_extents().bounds) for p in shown.get_paths()] == [
            (0, 3, 20, 25),
            (2, 3, 19, 25),
            (1, 1, 4, 8),
        ]
    plt.close(figure)
    for annotation in coco.anns.values():
        mask = coco.annToMask(annotation)
        x, y, w, h = map(int, annotation["bbox"])
        assert mask.shape == (30, 40) and mask.sum() == annotation["area"] == w * h
        assert mask[y : y + h, x : x + w].all()


def test_pictures_are_looked_for_through_links_and_not_outside(rows, finished_run, tmp_path):
    root = tmp_path / "images"
    root.mkdir()
    (root / "VG_100K").symlink_to(finished_run / "world" / "VG_100K")
    nameless = [r | dict(width=None, height=None) for r in rows]
    write_parquet(nameless, tmp_path / "c.parquet", CORPUS)
    exports.export_coco(tmp_path / "c.parquet", tmp_path / "out", root)
    write_parquet(
        [r | dict(image="../" + r["image"]) for r in nameless], tmp_path / "c.parquet", CORPUS
    )
    with pytest.raises(ValueError, match="bad path: .*leaves the image root"):
        exports.export_coco(tmp_path / "c.parquet", tmp_path / "other", root)


def test_an_id_with_two_boxes_is_two_regions(rows, tmp_path):
    rows[1] |= dict(
        image_id=rows[0]["image_id"],
        references=[r | {"box": [0.0, 0.0, 9.0, 9.0]} for r in rows[1]["references"]],
    )
    write_parquet(rows[:2], tmp_path / "c.parquet", CORPUS)
    (image,) = exports.images_of(tmp_path / "c.parquet")
    assert [r.id for r in image.regions] == [0, 1, 0, 1] and image.places == (
        {0: 0, 1: 1},
        {0: 2, 1: 3},
    )


def test_sizes_that_the_corpus_does_not_tell_are_the_files(rows, finished_run, tmp_path):
    write_parquet([r | dict(width=None, height=None) for r in rows], tmp_path / "c.parquet", CORPUS)
    path = exports.export_coco(tmp_path / "c.parquet", tmp_path / "out", finished_run / "world")
    assert {(i["width"], i["height"]) for i in json.loads(path.read_text())["images"]} == {(40, 30)}
    with pytest.raises(
        ValueError,
        match="image 'VG_100K/2.jpg': the corpus does not tell its size; name the image root",
    ):
        exports.export_coco(tmp_path / "c.parquet", tmp_path / "other")
    with pytest.raises(ValueError, match="missing image: .*nowhere/VG_100K/2.jpg is not there"):
        exports.export_fiftyone(tmp_path / "c.parquet", tmp_path / "other", tmp_path / "nowhere")
    assert not list((tmp_path / "other").glob("*"))


def test_fiftyone_s_layout(corpus, rows, tmp_path):
    """The keys are those that FiftyOne 1.22 writes itself; it is not among this project's
    packages.
    """
    folder = exports.export_fiftyone(corpus, tmp_path / "fo")
    assert sorted(p.name for p in folder.iterdir()) == ["metadata.json", "samples.json"]
    samples = json.loads((folder / "samples.json").read_text())["samples"]
    first = samples[0]
    assert (
        first["filepath"] == rows[0]["image"]
        and first["_media_type"] == "image"
        and first["metadata"] == dict(_cls="ImageMetadata", width=40, height=30)
    )
    detection = first["regions"]["detections"][1]
    assert (
        first["regions"]["_cls"] == "Detections"
        and detection["_cls"] == "Detection"
        and detection["label"] == "region"
        and detection["region"] == 1
    )
    assert (
        detection["bounding_box"] == pytest.approx([2 / 40, 3 / 30, 19 / 40, 25 / 30])
        and detection["confidence"] == 0.5
    )
    assert [t["triple_id"] for t in first["triples"]] == [
        rows[0]["triple_id"],
        rows[1]["triple_id"],
    ]
    for triple in first["triples"]:
        assert all(
            first["regions"]["detections"][place]["region"] == int(i)
            for i, place in triple["detections"].items()
        )
    ids = [s["_id"]["$oid"] for s in samples] + [
        d["_id"]["$oid"] for s in samples for d in s["regions"]["detections"]
    ]
    assert len(set(ids)) == len(ids) == 7 and all(len(bytes.fromhex(i)) == 12 for i in ids)
    told = json.loads((folder / "metadata.json").read_text())
    declared = {f["db_field"]: f for f in told["sample_fields"]}
    assert (
        set(first) <= set(declared)
        and declared["regions"]["embedded_doc_type"] == "fiftyone.core.labels.Detections"
        and told["media_type"] == "image"
    )
    assert set(detection) - {"_cls"} <= {
        f["db_field"] for f in declared["regions"]["fields"][0]["fields"]
    }
    assert (folder / "samples.json").read_bytes() == (
        exports.export_fiftyone(corpus, tmp_path / "again") / "samples.json"
    ).read_bytes()


def test_boxes_are_cut_to_their_image_and_empty_ones_left_out(rows, tmp_path, capsys):
    rows[0]["references"][0]["box"], rows[0]["references"][1]["box"] = (
        [-5.0, 20.0, 50.0, 90.0],
        [50.0, 5.0, 60.0, 9.0],
    )
    write_parquet(rows[:1], tmp_path / "c.parquet", CORPUS)
    coco = COCO(str(exports.export_coco(tmp_path / "c.parquet", tmp_path / "coco")))
    assert [(a["region"], a["bbox"]) for a in coco.anns.values()] == [
        (0, [0, 20, 40, 10])
    ] and coco.dataset["triples"][0]["annotations"] == {"0": 1}
    (image,) = exports.images_of(tmp_path / "c.parquet")
    assert [r.id for r in image.left_out] == [1]
    folder = exports.export_fiftyone(tmp_path / "c.parquet", tmp_path / "fo")
    (detection,) = json.loads((folder / "samples.json").read_text())["samples"][0]["regions"][
        "detections"
    ]
    assert detection["bounding_box"] == pytest.approx([0, 2 / 3, 1, 1 / 3])


@pytest.mark.parametrize(
    "change",
    [
        lambda r: r["references"][1].update(box=[float("nan"), 0, 1, 1]),
        lambda r: r["references"][1].update(score=float("inf")),
        lambda r: r.update(score=float("nan")),
    ],
)
def test_what_is_no_number_is_named(rows, tmp_path, change):
    change(rows[1])
    write_parquet(rows, tmp_path / "c.parquet", CORPUS)
    for export in (exports.export_coco, exports.export_fiftyone):
        with pytest.raises(
            ValueError,
            match=r"triple 't3': (region \[1\]|score) is .*(nan|inf).*, expected numbers",
        ):
            export(tmp_path / "c.parquet", tmp_path / "out")
    assert not list((tmp_path / "out").glob("*"))


@pytest.mark.parametrize("name", ["instances.json", "samples.json", "metadata.json"])
def test_files_of_others_are_not_replaced(corpus, tmp_path, name):
    out, export = (
        tmp_path / "out",
        (exports.export_coco if name == "instances.json" else exports.export_fiftyone),
    )
    export(corpus, out)
    export(corpus, out)
    (out / name).write_text('{"info": {}, "images": []}')
    with pytest.raises(ValueError, match=f"{name} is there and was not written by lskd export"):
        export(corpus, out)
    assert (out / name).read_text() == '{"info": {}, "images": []}'


def test_what_is_no_corpus_is_named(tmp_path, finished_run):
    with pytest.raises(FileNotFoundError, match="none.parquet is not there: run notebook 04 first"):
        exports.export_coco(tmp_path / "none.parquet", tmp_path)
    with pytest.raises(ValueError, match="triples.parquet lacks the columns"):
        exports.export_fiftyone(finished_run / "triples.parquet", tmp_path)
    write_parquet([], tmp_path / "c.parquet", CORPUS)
    assert (
        json.loads(exports.export_coco(tmp_path / "c.parquet", tmp_path / "coco").read_text())[
            "triples"
        ]
        == []
    )


def test_the_command(lskd, root, finished_run, rows, tmp_path):
    rows[0]["references"][1]["box"] = [50.0, 5.0, 60.0, 9.0]
    write_parquet(rows, finished_run / "corpus.parquet", CORPUS)
    (finished_run / "image_root.txt").write_text(f"{finished_run / 'world'}\n")
    done = lskd(
        root,
        "export",
        "tiny",
        "--run",
        str(finished_run),
        "--format",
        "coco",
        "--out",
        str(tmp_path / "x"),
    )
    assert (
        done.returncode == 0
        and str(tmp_path / "x/instances.json") in done.stdout
        and len(COCO(str(tmp_path / "x/instances.json")).imgs) == 4
    )
    assert f"below {finished_run / 'world'}\n1 regions were left out" in done.stdout
    done = lskd(
        root,
        "export",
        "tiny",
        "--run",
        str(tmp_path / "nowhere"),
        "--format",
        "fiftyone",
        "--out",
        str(tmp_path / "x"),
    )
    assert done.returncode == 1 and "nothing has run in" in done.stderr
