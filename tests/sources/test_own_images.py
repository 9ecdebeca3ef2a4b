"""Somebody's own photographs, as telephones and annotation tools leave them: sub-folders, spaces,
links, EXIF tags, greys, CMYK, damaged files, and boxes as COCO JSON of several tools.
"""

import json
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lskd_nb.sources import count_reasons
from lskd_nb.sources.coco import read_coco
from lskd_nb.sources.image_folder import read_image_folder
from lskd_nb.students.views import open_image
from lskd_nb.verbalization import images as sets

RED, BLUE = (230, 20, 20), (20, 40, 230)
SIZE = (80, 60)
BOX = (10, 5, 40, 35)  # of the red thing, xyxy in the picture as it is shown


def picture() -> Image.Image:
    """A red thing at BOX on blue."""
    image = Image.new("RGB", SIZE, BLUE)
    image.paste(RED, BOX)
    return image


# how a camera stores a picture that is to be turned by each tag
STORED = {
    3: Image.Transpose.ROTATE_180,
    6: Image.Transpose.ROTATE_90,
    8: Image.Transpose.ROTATE_270,
}


def save(path: Path, turn: int = 1, mode: str = "RGB", **how) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = picture()
    if turn > 1:
        image = image.transpose(STORED[turn])
        exif = Image.Exif()
        exif[0x0112] = turn
        how["exif"] = exif
    image.convert(mode).save(path, **how)


@pytest.fixture
def photos(tmp_path) -> Path:
    home = tmp_path / "my photos"
    save(home / "plain.jpg", quality=95)
    save(home / "Summer 2024" / "am Meer é.JPG", format="JPEG", quality=95)
    save(home / "Summer 2024" / "deep" / "plain.jpg", 6, quality=95)
    save(home / "upside.jpeg", 3, quality=95)
    save(home / "left.png", 8)
    save(home / "cmyk.jpg", mode="CMYK", quality=95)
    save(home / "grey.png", mode="L")
    elsewhere = tmp_path / "disk"
    save(elsewhere / "linked.webp", lossless=True)
    (home / "more").symlink_to(elsewhere)
    (home / "again.jpg").symlink_to("plain.jpg")
    (home / "Summer 2024" / "round").symlink_to(home)  # a circle
    (home / "gone.jpg").symlink_to("nowhere.jpg")
    whole = (home / "plain.jpg").read_bytes()
    (home / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (home / "phone.HEIC").write_bytes(b"ftypheic")
    for name in (".DS_Store", ".thumb.jpg", "notes.txt", "boxes.csv"):
        (home / name).write_bytes(b"x")
    return home


PICTURES = {
    "Summer 2024/am Meer é.JPG",
    "Summer 2024/deep/plain.jpg",
    "cmyk.jpg",
    "grey.png",
    "left.png",
    "more/linked.webp",
    "plain.jpg",
    "upside.jpeg",
}


def test_a_folder_is_read_with_all_that_lies_in_it(photos):
    images, rejects = read_image_folder(photos)
    names = {i.image_id for i in images}
    # of a picture with two names the first is taken
    assert names == PICTURES - {"plain.jpg"} | {"again.jpg"}
    assert {(i.width, i.height) for i in images} == {SIZE}, "as they are shown"
    assert {i.source for i in images} == {"folder"} and not any(i.regions for i in images)
    assert {r.record: r.reason for r in rejects} == {
        "plain.jpg": "repeated image",
        "gone.jpg": "missing image",
        "cut.jpg": "corrupt image",
        "phone.HEIC": "unknown kind of picture",
    }
    assert len(read_image_folder(photos, limit=3)[0]) == 3
    with pytest.raises(FileNotFoundError, match="nowhere is not there; expected a folder of pict"):
        read_image_folder(photos / "nowhere")


def coco(photos: Path, names: dict[str, str], box=BOX, size=SIZE) -> dict:
    """COCO JSON about pictures under the names that a tool gives them."""
    x0, y0, x1, y1 = box
    images = [dict(id=n, file_name=told) for n, told in enumerate(names.values(), 1)]
    if size:
        images = [image | dict(width=size[0], height=size[1]) for image in images]
    return dict(
        info={},
        images=images,
        categories=[dict(id=0, name="red_(thing)", supercategory="")],
        annotations=[
            dict(id=n, image_id=n, category_id=0, bbox=[x0, y0, x1 - x0, y1 - y0], iscrowd=0)
            for n in range(1, len(names) + 1)
        ],
    )


def write(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8-sig")
    return path


TOOLS = {
    "CVAT": lambda name: name,
    "Windows": lambda name: name.replace("/", "\\"),
    "Label Studio": lambda name: f"../../label-studio/data/media/upload/3/{Path(name).name}",
    "another machine": lambda name: f"/home/ada/pictures/{name}",
}


@pytest.mark.parametrize("sized", [True, False])
@pytest.mark.parametrize("tool", TOOLS)
def test_boxes_of_any_tool_lie_on_what_they_were_drawn_on(photos, tmp_path, tool, sized):
    """Also of pictures that are stored lying: the box is red through and through."""
    unlike = {n for n in PICTURES if not n.endswith("plain.jpg")}  # no two of one name
    names = {name: TOOLS[tool](name) for name in sorted(unlike)}
    file = write(
        tmp_path / "out" / "instances.json", coco(photos, names, size=SIZE if sized else None)
    )
    told = {"coco": {"annotations": str(file), "images": str(photos)}}
    found = sets.read_images(sets.sources_of(told, "."), tmp_path / "links")
    assert not found.rejects and {i.image_id for i in found.images} == unlike
    for image in found.images:
        (region,) = image.regions
        assert region.label == "red (thing)" and region.box == BOX
        shown = np.asarray(open_image(found.root, image.path)).astype(int)
        assert shown.shape == (*SIZE[::-1], 3)
        red = shown[5:35, 10:40].mean((0, 1)), shown[40:, 50:].mean((0, 1))
        assert image.image_id == "grey.png" or (red[0][0] > 180 > red[1][0])
    lying = [i.path for i in found.images if i.path.startswith("upright/")]
    assert sorted(lying) == ["upright/coco/left.png", "upright/coco/upside.jpeg"]
    before = {p: os.stat(found.root / p).st_mtime_ns for p in lying}
    again = sets.read_images(sets.sources_of(told, "."), tmp_path / "links")
    assert again == found, "the same paths again"
    assert {p: os.stat(found.root / p).st_mtime_ns for p in lying} == before, "and no new copies"


def test_boxes_of_the_picture_as_it_is_stored_stay_on_it(photos, tmp_path):
    """COCO's own were drawn before browsers turned anything: their sizes say so."""
    names = {"left.png": "left.png"}
    file = write(tmp_path / "boxes.json", coco(photos, names, (25, 10, 55, 40), SIZE[::-1]))
    told = {"coco": {"annotations": str(file), "images": str(photos)}}
    found = sets.read_images(sets.sources_of(told, "."), tmp_path / "links")
    (image,) = found.images
    assert found.root == photos and (image.width, image.height) == SIZE[::-1]
    shown = np.asarray(open_image(found.root, image.path))
    assert (shown[10:40, 25:55] == RED).all()


def test_what_is_wrong_with_a_file_is_said_record_by_record(photos, tmp_path):
    names = {"plain.jpg": "Summer 2024/deep/../../plain.jpg", "cmyk.jpg": "cmyk.jpg"}
    content = coco(photos, names)
    more = [
        dict(id=3, file_name="lost.jpg", width=80, height=60),
        dict(id=4, file_name="cut.jpg", width=80, height=60),
        dict(id=5, file_name="grey.png", width=80, height=90),
        dict(id=6, file_name="cmyk.jpg", width=80, height=60),
        dict(id=7, width=80, height=60),
        "x",
    ]
    content["images"] += more
    box = dict(image_id=2, category_id=0)
    content["annotations"] += [
        box | dict(bbox=[0, 0, 200, 10]),  # cut to the image
        box | dict(bbox=[90, 0, 5, 5]),
        box | dict(bbox=["0", 0, 5, 5]),
        box | dict(bbox=[0, 0, 80, 60], iscrowd=1),
        box | dict(bbox=[0, 0, 5, 5], category_id=9),
        box | dict(bbox=[0, 0, 5, 5], image_id=99),
        dict(category_id=0, bbox=[0, 0, 5, 5]),
        box | dict(bbox=[1, 1, 9, 9], score=0.5),
    ]
    file, counts = write(tmp_path / "boxes.json", content), Counter()
    images, rejects = read_coco(file, photos, counts=counts)
    assert [i.image_id for i in images] == ["cmyk.jpg"], "plain.jpg may be one of two"
    assert [r.box[2] for r in images[0].regions] == [40, 80, 10] and counts["clamped"] == 1
    assert images[0].regions[2].score == 0.5
    assert count_reasons(rejects) == {
        "missing field": 2,
        "bad path": 1,
        "missing image": 1,
        "corrupt image": 1,
        "image size differs": 1,
        "repeated image": 1,
        "bad record": 1,
        "box of no area": 1,
        "bad number": 1,
        "a crowd": 1,
        "unknown category": 1,
        "unknown image": 1,
    }
    for wrong, words in (([], "a list of detections"), ({"images": []}, "annotations is none")):
        with pytest.raises(ValueError, match=f"expected COCO JSON.* found {words}"):
            read_coco(write(tmp_path / "wrong.json", wrong), photos)


def test_a_folder_and_a_file_about_it_are_one_source(photos, tmp_path):
    """The file's pictures have its boxes; a detector looks at the others."""
    file = write(tmp_path / "b.json", coco(photos, {"cmyk.jpg": "cmyk.jpg"}))
    told = {"coco": {"annotations": str(file), "images": str(photos)}, "folder": str(photos)}
    found = sets.read_images(sets.sources_of(told, "."), tmp_path / "links", detected=True)
    regions = {i.image_id: len(i.regions) for i in found.images}
    assert len(regions) == 8 and regions.pop("coco/cmyk.jpg") == 1 and not any(regions.values())
    assert "repeated image" not in {r.reason for r in found.rejects if "cmyk" in r.record}
    bare = sets.read_images(sets.sources_of(told, "."), tmp_path / "links")
    assert [i.image_id for i in bare.images] == ["coco/cmyk.jpg"]
    assert count_reasons(bare.rejects)["no regions"] == 7
    with pytest.raises(
        ValueError, match=r"no image can be used: .*name a detector \(01.detector\)"
    ):
        sets.read_images(sets.sources_of({"folder": str(photos)}, "."), tmp_path / "links")


def test_lvis_and_coco_of_one_picture_are_one_image(tmp_path):
    """And Visual Genome's beside them keeps its own names."""
    for name in ("train2017/000000000009.jpg", "vg/VG_100K/9.jpg"):
        save(tmp_path / name)
    lvis = dict(
        categories=[dict(id=1, name="red_thing", synonyms=[], frequency="c", image_count=20)],
        images=[
            dict(id=9, width=80, height=60, neg_category_ids=[], not_exhaustive_category_ids=[])
            | dict(coco_url="http://images.cocodataset.org/train2017/000000000009.jpg")
        ],
        annotations=[dict(id=1, image_id=9, category_id=1, bbox=[10, 5, 30, 30])],
    )
    write(tmp_path / "lvis_v1_train.json", lvis)
    plain = coco(tmp_path, {"9": "train2017/000000000009.jpg"})
    write(tmp_path / "instances_train2017.json", plain)
    write(
        tmp_path / "vg/image_data.json",
        [dict(image_id=9, width=80, height=60, url="x/VG_100K/9.jpg")],
    )
    thing = dict(x=10, y=5, w=30, h=30, names=["thing"], object_id=1)
    write(tmp_path / "vg/objects.json", [dict(image_id=9, objects=[thing])])
    told = {"visual_genome": "vg", "coco": "instances_train2017.json", "lvis": "lvis_v1_train.json"}
    found = sets.read_images(sets.sources_of(told, tmp_path), tmp_path / "links")
    assert [(i.image_id, i.path) for i in found.images] == [
        ("9", "VG_100K/9.jpg"),
        ("coco/train2017/000000000009.jpg", "coco/train2017/000000000009.jpg"),
    ]
    assert [(r.reason, r.detail) for r in found.rejects] == [
        ("repeated image", "lvis has it, and so has coco")
    ]
    for image in found.images:
        assert open_image(found.root, image.path).size == SIZE
    alone = sets.read_images(sets.sources_of({"lvis": told["lvis"]}, tmp_path), tmp_path / "x")
    assert alone.images[0].regions[0].label == "red thing"


def test_one_name_in_two_folders_is_two_pictures(tmp_path):
    """Cameras count from one again; an upright copy is of its own file."""
    for home, color in (("a", RED), ("b", BLUE)):
        exif = Image.Exif()
        exif[0x0112] = 6
        (tmp_path / home).mkdir()
        path = tmp_path / home / "IMG_0001.JPG"
        Image.new("RGB", SIZE, color).save(path, "JPEG", exif=exif, quality=95)
        os.utime(path, (1_600_000_000 + len(home), 1_600_000_000 + ord(home)))
        told = sets.sources_of({"folder": str(tmp_path / home)}, ".")
        found = sets.read_images(told, tmp_path / "links", detected=True)
        (image,) = found.images
        shown = np.asarray(open_image(found.root, image.path)).astype(int)
        assert np.abs(shown - color).max() < 12 and (image.width, image.height) == SIZE[::-1]


def test_boxes_of_two_pictures_with_one_id_are_nobodys(photos, tmp_path):
    """As where two exports were put together by hand; a repeated category keeps its first name."""
    content = coco(photos, {"a": "cmyk.jpg", "b": "grey.png", "c": "left.png"})
    content["images"][1]["id"] = 1
    content["categories"].append(dict(id=0, name="other"))
    images, rejects = read_coco(write(tmp_path / "b.json", content), photos)
    assert [i.image_id for i in images] == ["left.png"]
    assert images[0].regions[0].label == "red (thing)"
    reasons = count_reasons(rejects)
    assert reasons["repeated image"] == 2 and reasons["repeated category"] == 1


@pytest.mark.parametrize(
    ("told", "meant"),
    [
        ("/home/bob/export/Summer 2024/deep/plain.jpg", "Summer 2024/deep/plain.jpg"),
        ("my photos/plain.jpg", "plain.jpg"),
        ("photos/AM%20MEER%20e\u0301.jpg", "Summer 2024/am Meer é.JPG"),
        ("two  blanks.jpg", "two  blanks.jpg"),
    ],
)
def test_a_picture_is_found_where_one_alone_is_meant(photos, tmp_path, told, meant):
    save(photos / "two  blanks.jpg")
    images, rejects = read_coco(write(tmp_path / "b.json", coco(photos, {"a": told})), photos)
    assert [i.image_id for i in images] == [meant] and not rejects


def test_odd_names_and_kinds_are_left_out_one_by_one(tmp_path):
    home = tmp_path / "odd"
    save(home / "tagged.tif", 6)
    save(home / "good.png")
    os.rename(os.fsencode(home / "good.png"), os.fsencode(home) + b"/caf\xe9.png")
    images, rejects = read_image_folder(home)
    assert [(i.image_id, i.width, i.height) for i in images] == [("tagged.tif", *SIZE)]
    assert [r.reason for r in rejects] == ["bad path"]
    names = {"a": "data:image/png;base64," + "A" * 5000, "b": "tagged.tif"}
    images, rejects = read_coco(write(tmp_path / "b.json", coco(home, names, size=None)), home)
    assert [i.regions[0].box for i in images] == [BOX] and len(rejects[0].detail) < 600
