"""Texts of the data sets become rows to finetune a captioner on."""

import json
import shutil

import pytest
from PIL import Image

from lskd_nb.records import write_parquet
from lskd_nb.regions import LocatedImage, Region
from lskd_nb.run_folder import find_root
from lskd_nb.sources.localized_narratives import Narrative
from lskd_nb.sources.refcoco import Referring
from lskd_nb.sources.sherlock import read_sherlock
from lskd_nb.sources.visual_genome import read_visual_genome
from lskd_nb.verbalization.caption_rows import (
    CAPTIONS,
    narrative_rows,
    refcoco_rows,
    sherlock_rows,
    visual_genome_rows,
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
    rows, rejects, clamped = visual_genome_rows(tmp_path, images, below="vg")
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
