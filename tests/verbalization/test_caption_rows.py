"""Texts of the data sets become rows to finetune a captioner on."""

import json
import pickle
import shutil

import pytest
from PIL import Image

from lskd_nb.records import read_parquet, write_parquet
from lskd_nb.regions import LocatedImage, Region
from lskd_nb.run_folder import find_root
from lskd_nb.sources import Rejected
from lskd_nb.sources.localized_narratives import Narrative
from lskd_nb.sources.refcoco import Referring
from lskd_nb.sources.sherlock import read_sherlock
from lskd_nb.sources.visual_genome import read_visual_genome
from lskd_nb.verbalization.caption_rows import (
    CAPTIONS,
    CaptionSet,
    caption_row,
    coco_ids,
    first_row,
    narrative_rows,
    refcoco_rows,
    refcoco_set,
    sherlock_rows,
    split_images,
    visual_genome_rows,
    visual_genome_set,
    write_rows,
)


def test_visual_genome_descriptions_keep_their_own_boxes(tmp_path):
    (tmp_path / "VG_100K").mkdir()
    Image.new("RGB", (60, 40)).save(tmp_path / "VG_100K" / "7.jpg")
    (tmp_path / "image_data.json").write_text(
        json.dumps([dict(image_id=7, width=60, height=40, url="https://x/VG_100K/7.jpg")])
    )
    (tmp_path / "objects.json").write_text(
        json.dumps(
            [dict(image_id=7, objects=[dict(object_id=1, x=0, y=0, w=30, h=30, names=["dog"])])]
        )
    )
    regions = [
        dict(region_id=1, image_id=7, phrase=" a wet  nose", x=3, y=4, width=5, height=6),
        dict(region_id=2, image_id=7, phrase="grass", x=50, y=30, width=20, height=20),
        dict(region_id=3, image_id=7, phrase="far away", x=90, y=4, width=5, height=6),
        dict(region_id=4, image_id=7, phrase="", x=3, y=4, width=5, height=6),
        "no region",
    ]
    (tmp_path / "region_descriptions.json").write_text(
        json.dumps([dict(id=7, regions=regions), dict(id=8, regions="elsewhere"), dict(regions=[])])
    )
    images, _ = read_visual_genome(tmp_path)
    told = CaptionSet("visual_genome")
    rows = list(visual_genome_rows(tmp_path, images, told, below="vg"))
    rejects, clamped = told.rejected, told.clamped
    assert [(r["image"], r["boxes"], r["text"]) for r in rows] == [
        ("vg/VG_100K/7.jpg", [[3, 4, 8, 10]], "a wet nose"),
        ("vg/VG_100K/7.jpg", [[50, 30, 60, 40]], "grass"),
    ]
    assert clamped == 1 and [r.reason for r in rejects] == [
        "box of no area",
        "bad text",
        "bad record",
        "missing field",
    ]
    assert rejects[0].record == "region_descriptions.json, element 0, region 2"
    assert write_parquet(rows, tmp_path / "rows.parquet", CAPTIONS).num_rows == 2


SHERLOCK = find_root().parent / "shared" / "samples" / "sherlock"


@pytest.mark.skipif(not SHERLOCK.exists(), reason="no sample of Sherlock beside the project")
def test_sherlock_clues_have_all_their_boxes(tmp_path):
    shutil.copy(SHERLOCK / "sherlock_val_subset160.json", tmp_path / "sherlock_val_v1_1.json")
    clues, _, _ = read_sherlock(tmp_path, "val", check_images=False)
    rows = sherlock_rows(clues, below="pictures/")
    assert len(rows) == len(clues) == 160 and max(len(r["boxes"]) for r in rows) > 1
    assert all(
        r["text"] == k.clue and r["image"] == f"pictures/{k.image.path}"
        for r, k in zip(rows, clues, strict=True)
    )
    table = write_parquet(rows, tmp_path / "rows.parquet", CAPTIONS)
    assert all(
        0 <= x0 < x1 <= r["width"] and 0 <= y0 < y1 <= r["height"]
        for r in table.to_pylist()
        for x0, y0, x1, y1 in r["boxes"]
    )


def test_referring_expressions_and_narratives_become_rows(tmp_path):
    one = Referring(
        1,
        LocatedImage(
            "5",
            "train2014/a.jpg",
            100,
            80,
            (Region(0, (1.0, 2.0, 30.0, 40.0)),),
            "refcoco+",
            "train",
        ),
        ("left cup", "the cup"),
    )
    rows = refcoco_rows([one], below="coco")
    assert [r["text"] for r in rows] == ["left cup", "the cup"] and {r["origin"] for r in rows} == {
        "refcoco+"
    }
    assert (
        rows[0]["boxes"] == [[1.0, 2.0, 30.0, 40.0]] and rows[0]["image"] == "coco/train2014/a.jpg"
    )
    (tmp_path / "coco").mkdir()
    Image.new("RGB", (64, 48)).save(tmp_path / "coco" / "a.jpg")
    told = [
        Narrative(str(n), "mscoco_val2017", path, 3, "In this image there are cows.", (), ())
        for n, path in enumerate(("a.jpg", "gone.jpg", "a.jpg"))
    ]
    rows, rejects = narrative_rows(told, tmp_path, "coco")
    assert [(r["width"], r["height"], r["boxes"], r["image"]) for r in rows] == [
        (64, 48, [], "coco/a.jpg")
    ] * 2
    assert [r.reason for r in rejects] == ["missing image"]
    assert len(write_parquet(rows + refcoco_rows([one]), tmp_path / "c.parquet", CAPTIONS)) == 4


PICTURE = LocatedImage("1", "a.jpg", 100, 80, (), "s", "train")


def test_rows_of_all_sets_are_written_as_they_are_made(tmp_path):
    made = []

    def many(number: int):
        for n in range(number):
            made.append(n)
            yield caption_row(PICTURE, [(1, 2, 30, 40)] if n else [], f"cup {n}", "s")

    few = CaptionSet("few", many(3))
    counts = write_rows([few, CaptionSet("more", many(20_001))], tmp_path / "rows.parquet")
    assert counts == {"few": 3, "more": 20_001} and len(made) == 20_004
    table = read_parquet(tmp_path / "rows.parquet", CAPTIONS)
    assert table["text"].to_pylist()[:5] == ["cup 0", "cup 1", "cup 2", "cup 0", "cup 1"]
    assert first_row(tmp_path / "rows.parquet")["text"] == "cup 1"  # the first with a box
    assert first_row(tmp_path / "rows.parquet", words=9)["text"] == "cup 0"  # none is so long


def test_a_set_without_rows_is_told_with_its_reasons_and_nothing_is_written(tmp_path):
    lost = [Rejected(f"element {n}", "missing image", f"{n}.jpg is not there") for n in range(3)]
    good = CaptionSet("good", [caption_row(PICTURE, [], "a cup", "s")])
    with pytest.raises(ValueError, match=r"bad gives no row: .* \{'missing image': 3\}.*0.jpg"):
        write_rows([good, CaptionSet("bad", [], lost)], tmp_path / "rows.parquet")
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="empty gives no row: left out {}"):
        write_rows([CaptionSet("empty")], tmp_path / "rows.parquet")


def test_images_are_left_to_learn_from_and_to_be_tested_on():
    images = [LocatedImage(str(n), f"{n}.jpg", 9, 9, (), "s", "train") for n in range(5)]
    taught, tested = split_images(images, 2)
    assert [i.image_id for i in taught] == ["0", "1", "2"] and len(tested) == 2
    for wrong in (5, 2000, 0, -1):  # images[:-2000] is nothing, images[:-0] too
        with pytest.raises(ValueError, match=f"held_out is {wrong} of 5 images: expected 1 to 4"):
            split_images(images, wrong)


def test_what_refcoco_says_of_held_out_images_is_passed_over(tmp_path):
    """Half of Visual Genome's images are COCO's."""
    (tmp_path / "train2014").mkdir()
    for number in (5, 6):
        Image.new("RGB", (64, 48)).save(tmp_path / "train2014" / f"{number}.jpg")
    folder = tmp_path / "refcoco"
    folder.mkdir()
    (folder / "instances.json").write_text(
        json.dumps(
            dict(
                images=[dict(id=n, file_name=f"{n}.jpg", width=64, height=48) for n in (5, 6)],
                annotations=[dict(id=n, image_id=n, bbox=[1, 2, 30, 40]) for n in (5, 6)],
            )
        )
    )
    refs = [
        dict(ref_id=n, ann_id=n, image_id=n, split="train", sentences=[dict(sent=f"cup {n}")])
        for n in (5, 6)
    ]
    (folder / "refs(unc).p").write_bytes(pickle.dumps(refs, protocol=2))
    (tmp_path / "image_data.json").write_text(
        json.dumps([dict(image_id=1, coco_id=6), dict(image_id=2, coco_id=None)])
    )
    held_out = coco_ids(tmp_path, [PICTURE])
    assert held_out == {"6"}
    texts = [r["text"] for r in refcoco_set(tmp_path, "refcoco", "unc", held_out).rows]
    assert texts == ["cup 5"]
    assert len(list(refcoco_set(tmp_path, "refcoco", "unc").rows)) == 2
    assert len(list(refcoco_set(tmp_path, "refcoco", "unc", limit=1).rows)) == 1
    (tmp_path / "train2014" / "5.jpg").unlink()  # its row is counted before anything is trained
    left = refcoco_set(tmp_path, "refcoco", "unc")
    assert [r["text"] for r in left.rows] == ["cup 6"]
    assert [r.reason for r in left.rejected] == ["missing image"]


def test_a_whole_set_tells_what_it_left_out_once_it_is_read(tmp_path):
    (tmp_path / "vg").mkdir()
    regions = [dict(phrase="a cup", x=1, y=2, width=5, height=6), dict(phrase="no box")]
    (tmp_path / "vg" / "region_descriptions.json").write_text(
        json.dumps([dict(id=1, regions=regions)])
    )
    (tmp_path / "vg" / "image_data.json").write_text(
        json.dumps([dict(image_id=1, width=100, height=80, url="https://x/VG_100K/a.jpg")])
    )
    told = visual_genome_set(tmp_path, "vg", [PICTURE])
    assert told.rejected == [] and len(list(told.rows)) == 1
    assert [r.reason for r in told.rejected] == ["missing field"]
