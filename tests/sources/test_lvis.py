"""LVIS: real excerpts, its two versions, records changed at random."""

import copy
import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lskd_nb.sources.lvis import frequency_of, read_categories, read_lvis

CATEGORIES = [
    dict(id=3, name="tank_(storage_vessel)", synonyms=["tank"], frequency="c"),
    dict(id=4, name="cup", synonyms=["cup"], frequency="f"),
    dict(id=9, name="zebra", synonyms=["zebra"], frequency="r"),
]
V1 = dict(
    categories=CATEGORIES,
    images=[
        dict(
            id=7,
            width=100,
            height=80,
            neg_category_ids=[9],
            not_exhaustive_category_ids=[4],
            coco_url="http://images.cocodataset.org/train2017/000000000007.jpg",
        ),
        dict(
            id=8,
            width=100,
            height=80,
            neg_category_ids=[],
            not_exhaustive_category_ids=[],
            coco_url="http://images.cocodataset.org/val2017/000000000008.jpg",
        ),
    ],
    annotations=[
        dict(id=1, image_id=7, category_id=4, bbox=[10.5, 20, 30, 40]),
        dict(id=2, image_id=7, category_id=3, bbox=[90, 70, 30, 30]),
    ],
)


def lvis_file(folder: Path, content: object, name: str = "lvis_v1_val.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(content))
    return path


def test_lvis_v1_names_its_images_by_their_url_and_is_federated(tmp_path):
    (one, other), rejects, clamped = read_lvis(lvis_file(tmp_path, V1), check_images=False)
    assert not rejects and clamped == 1
    assert (
        one.image.path == "train2017/000000000007.jpg"
        and other.image.path == "val2017/000000000008.jpg"
        and one.image.split == "val"
    )
    assert [(r.id, r.label, r.box) for r in one.image.regions] == [
        (0, "cup", (10.5, 20, 40.5, 60)),
        (1, "tank_(storage_vessel)", (90, 70, 100, 80)),
    ]
    assert one.judged() == {3, 4, 9} and one.exhaustive() == {3, 9} and other.judged() == set()
    assert {c.frequency for c in read_categories(lvis_file(tmp_path, CATEGORIES, "c.json"))} == {
        "r",
        "c",
        "f",
    }


def test_lvis_v0_5_has_names_of_2014_for_images_of_2017(tmp_path):
    old = copy.deepcopy(V1)
    for image in old["images"]:
        image["file_name"] = f"COCO_val2014_{image['id']:012}.jpg"
    images, rejects, _ = read_lvis(lvis_file(tmp_path, old), check_images=False)
    assert not rejects and [i.image.path for i in images] == [
        "train2017/000000000007.jpg",
        "val2017/000000000008.jpg",
    ]
    for image in old["images"]:
        del image["coco_url"]
    assert (
        read_lvis(lvis_file(tmp_path, old), check_images=False)[0][0].image.path
        == "COCO_val2014_000000000007.jpg"
    )


def test_how_frequent_a_category_is(sample_file):
    assert [frequency_of(n) for n in (0, 10, 11, 100, 101)] == ["r", "r", "c", "c", "f"]
    entries = json.loads(sample_file("lvis/lvis_v1_categories.json").read_text())
    assert [frequency_of(e["image_count"]) for e in entries] == [
        c.frequency for c in read_categories(sample_file("lvis/lvis_v1_categories.json"))
    ]


def test_a_category_that_is_damaged_is_named(tmp_path):
    for change, message in (
        (dict(frequency="often"), "categories 1: bad frequency"),
        (dict(id="4"), "categories 1: bad number"),
        (dict(id=3), "two categories"),
    ):
        content = copy.deepcopy(V1)
        content["categories"][1] |= change
        with pytest.raises(ValueError, match=f"lvis_v1_val.json.*{message}"):
            read_lvis(lvis_file(tmp_path, content), check_images=False)


@pytest.mark.parametrize(
    "where, change, reason",
    [
        ("annotations", dict(category_id=77), "unknown category"),
        ("annotations", dict(image_id=77), "unknown image"),
        ("annotations", dict(bbox=[0, 0, 0, 5]), "box of no area"),
        ("annotations", dict(bbox=[1, 2, 3]), "bad number"),
        ("images", dict(neg_category_ids=7), "bad list"),
        ("images", dict(width=0), "bad number"),
        ("images", dict(coco_url="http://x/../y.jpg"), "bad path"),
        ("images", dict(coco_url=None, file_name="../../etc/passwd"), "bad path"),
    ],
)
def test_bad_lvis_records_are_rejected(tmp_path, where, change, reason):
    content = copy.deepcopy(V1)
    content[where][0] |= change
    images, rejects, _ = read_lvis(lvis_file(tmp_path, content), check_images=False)
    assert [r.reason for r in rejects] == [reason] and rejects[
        0
    ].record == f"lvis_v1_val.json, {where} 0"
    assert len(images) == (1 if where == "images" else 2)


def test_an_unknown_category_of_an_image_does_not_lose_the_image(tmp_path):
    content = copy.deepcopy(V1)
    content["images"][0] |= dict(
        neg_category_ids=[77, 9, None], not_exhaustive_category_ids=[4, 78]
    )
    (one, _), rejects, _ = read_lvis(lvis_file(tmp_path, content), check_images=False)
    assert one.negative == {9} and one.not_exhaustive == {4} and len(one.image.regions) == 2
    assert [(r.record, r.reason, r.detail) for r in rejects] == [
        ("lvis_v1_val.json, images 0", "unknown category", "neg_category_ids has 77, None"),
        ("lvis_v1_val.json, images 0", "unknown category", "not_exhaustive_category_ids has 78"),
    ]


@pytest.mark.parametrize("change", [{}, dict(id=9), dict(category_id=3, bbox=[0, 0, 5, 5])])
def test_an_annotation_that_is_there_twice_counts_once(tmp_path, change):
    content = copy.deepcopy(V1)
    content["annotations"].append(V1["annotations"][0] | change)  # the same, or one of its ids
    (one, _), rejects, _ = read_lvis(lvis_file(tmp_path, content), check_images=False)
    assert [r.label for r in one.image.regions] == ["cup", "tank_(storage_vessel)"]
    assert [(r.record, r.reason) for r in rejects] == [
        ("lvis_v1_val.json, annotations 2", "repeated annotation")
    ]


def test_boxes_of_a_scaled_lvis_picture_are_scaled(tmp_path):
    for folder, name, size in (("train2017", 7, (200, 160)), ("val2017", 8, (80, 100))):
        (tmp_path / folder).mkdir()
        Image.new("RGB", size).save(tmp_path / folder / f"{name:012}.jpg")
    images, rejects, clamped = read_lvis(lvis_file(tmp_path, V1), counts=(counts := Counter()))
    (one,) = images
    assert (one.image.width, one.image.height, clamped, counts["scaled"]) == (200, 160, 1, 1)
    assert [r.box for r in one.image.regions] == [(21, 40, 81, 120), (180, 140, 200, 160)]
    assert [r.reason for r in rejects] == ["image size differs"]  # a turned picture is no copy


def test_lvis_images_are_looked_at(tmp_path):
    (tmp_path / "train2017").mkdir()
    Image.new("RGB", (100, 80)).save(tmp_path / "train2017" / "000000000007.jpg")
    images, rejects, _ = read_lvis(lvis_file(tmp_path, V1))
    assert [i.image.image_id for i in images] == ["7"] and [r.reason for r in rejects] == [
        "missing image"
    ]


def test_real_lvis_subset(sample_file):
    path = sample_file("lvis/lvis_v0.5_val_100.json")
    images, rejects, clamped = read_lvis(path, check_images=False)
    told = json.loads(path.read_text())
    assert len(images) == len(told["images"]) == 100 and not rejects and clamped <= 2
    assert sum(len(i.image.regions) for i in images) == len(told["annotations"]) and {
        i.image.path.split("/")[0] for i in images
    } == {"val2017"}
    assert all(not i.negative & set(i.categories) for i in images), (
        "what was looked for in vain is not there"
    )
    assert (
        len(read_categories(path)) == 1230
        and len(read_categories(sample_file("lvis/lvis_v1_categories.json"))) == 1203
    )


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_changed_lvis_file_is_read_right_or_named(changed_content, cut, tmp_path_factory, data):
    content, way = data.draw(changed_content(V1))
    try:
        images, rejects, _ = read_lvis(
            lvis_file(tmp_path_factory.mktemp("l"), content), check_images=False
        )
    except ValueError as error:
        assert "lvis_v1_val.json" in str(error) and way[0] in str(error)
        return
    assert all(r.record.startswith("lvis_v1_val.json, ") and r.detail for r in rejects)
    categories = {c["id"] for c in content["categories"]}
    kept = {r.record.split(", ")[1] for r in rejects if "_category_ids has " not in r.detail}
    assert sum(f"images {n}" not in kept for n in range(len(content["images"]))) == len(images)
    for found in images:
        raw = next(
            i
            for i in content["images"]
            if isinstance(i, dict) and i.get("id") == int(found.image.image_id)
        )
        assert (found.image.width, found.image.height) == (int(raw["width"]), int(raw["height"]))
        assert found.negative == {
            i for i in raw["neg_category_ids"] if type(i) is int and i in {3, 4, 9} & categories
        }
        told = [
            a
            for n, a in enumerate(content["annotations"])
            if f"annotations {n}" not in kept and a["image_id"] == raw["id"]
        ]
        assert [r.box for r in found.image.regions] == [
            cut(a["bbox"], found.image.width, found.image.height) for a in told
        ]
        assert list(found.categories) == [a["category_id"] for a in told]
        if way[0] == "images" and len(way) > 1 and raw in V1["images"]:
            assert len(found.image.regions) == (2 if raw["id"] == 7 else 0), (
                "what was not touched is read"
            )
