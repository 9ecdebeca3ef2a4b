"""Pictures that are scaled copies of what was annotated, or lie in Visual Genome's other folder."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lskd_nb.regions import LocatedImage, Region
from lskd_nb.sources import BadRecord, count_reasons, scaled_to, stored_size
from lskd_nb.sources.sherlock import CORPUS, picture_path, read_comparison, read_sherlock
from lskd_nb.sources.vcr import read_vcr
from lskd_nb.sources.visual_genome import read_human_texts, read_visual_genome, stated_sizes
from lskd_nb.sources.visualcomet import read_visualcomet
from lskd_nb.verbalization.caption_rows import CaptionSet, visual_genome_rows

TEXTS = ("region_descriptions", "question_answers", "attributes", "relationships")


def resize(path: Path, width: int, height: int) -> None:
    with Image.open(path) as image:
        image.resize((width, height)).save(path)


def test_a_copy_has_the_shape_of_what_was_annotated_to_a_pixel(tmp_path):
    Image.new("RGB", (667, 500)).save(tmp_path / "a.png")
    for width, height in ((667, 500), (1334, 1000), (1333, 1000), (1335, 1001), (267, 200)):
        assert stored_size(tmp_path / "a.png", width, height) == (667, 500)
    for width, height in ((500, 667), (667, 502), (1334, 1003), (1330, 1000), (264, 200)):
        with pytest.raises(BadRecord, match="image size differs: .*667 x 500.*record"):
            stored_size(tmp_path / "a.png", width, height)


def test_scaled_boxes_stay_inside():
    image = LocatedImage("a", "a.jpg", 1919, 797, (Region(3, (0, 0, 1919, 797), "x", 0.5),), "", "")
    for size in ((1280, 532), (3, 1), (1919, 797)):
        (region,) = scaled_to(image, size).regions
        assert region.box == (0, 0, *size) and (region.id, region.label) == (3, "x")


def test_sherlock_boxes_of_another_scale_are_scaled(edit, small_copy):
    folder, root = small_copy / "sherlock", small_copy / "visual_genome"
    plain, _, cut = read_sherlock(folder, "train", root)

    def change(rows: list) -> None:
        for number, row in enumerate(rows):
            image, boxes = row["inputs"]["image"], row["inputs"]["bboxes"]
            image.update(width=640, height=480 if number else 400)
            for box in boxes:
                box.update({key: 2 * value for key, value in box.items()})

    edit(folder / CORPUS["train"][0], change)
    counts: Counter = Counter()
    clues, rejects, cut_too = read_sherlock(folder, "train", root, counts=counts)
    assert clues == plain[1:] and cut == cut_too and counts["scaled"] == len(plain) - 1
    assert [(r.record, r.reason) for r in rejects] == [
        (f"{CORPUS['train'][0]}, element 0", "image size differs")
    ]


def test_real_sherlock_rows_of_half_the_size_are_read(sample, tmp_path):
    """The real rows, with pictures of half their stated size; boxes are where they were."""
    rows = sample("sherlock/sherlock_val_subset160.json")[:40]
    (tmp_path / CORPUS["val"][0]).write_text(json.dumps(rows))
    told, _, _ = read_sherlock(tmp_path, "val", check_images=False)
    for row in rows:
        image = row["inputs"]["image"]
        path = tmp_path / picture_path(image["url"])
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (round(image["width"] / 2), round(image["height"] / 2))).save(path)
    clues, rejects, _ = read_sherlock(tmp_path, "val", counts=(counts := Counter()))
    assert not rejects and len(clues) == 40 == counts["scaled"]
    for clue, before in zip(clues, told, strict=True):
        assert abs(2 * clue.image.width - before.image.width) <= 1
        for region, old in zip(clue.image.regions, before.image.regions, strict=True):
            np.testing.assert_allclose(2 * np.array(region.box), old.box, atol=1)


def test_visual_genome_and_its_texts_are_scaled(edit, world_copy):
    folder = world_copy / "visual_genome"
    plain, _ = read_visual_genome(folder)
    texts, captions = (
        read_human_texts(folder, plain, TEXTS)[0],
        list(visual_genome_rows(folder, plain, CaptionSet("plain"))),
    )
    for path in (folder / "VG_100K").iterdir():
        resize(path, 160, 120)
    images, rejects = read_visual_genome(folder, counts=(counts := Counter()))
    assert not rejects and counts["scaled"] == len(images) == len(plain)
    for image, old in zip(images, plain, strict=True):
        assert (image.width, image.height) == (160, 120)
        assert [r.label for r in image.regions] == [r.label for r in old.regions]
        for region, before in zip(image.regions, old.regions, strict=True):
            assert region.box == tuple(v / 2 for v in before.box)
    assert read_human_texts(folder, images, TEXTS) == (texts, [])  # about the same regions
    assert set(stated_sizes(folder).values()) == {(320, 240)}
    half = list(visual_genome_rows(folder, images, CaptionSet("half")))
    assert [r["boxes"] for r in half] == [[[v / 2 for v in r["boxes"][0]]] for r in captions]


def test_vcr_and_visualcomet_boxes_are_scaled(small_copy):
    vcr, comet = small_copy / "vcr", small_copy / "visualcomet"
    questions, _ = read_vcr(vcr, "val")
    units, _, _ = read_visualcomet(comet, "val", vcr)
    still = questions[0].image
    resize(vcr / still.path, 640, 480)
    again, rejects = read_vcr(vcr, "val", counts=(counts := Counter()))
    assert not rejects and counts["scaled"] == 1 and len(again) == len(questions)
    assert (again[0].image.width, again[0].image.height) == (640, 480)
    for region, before in zip(again[0].image.regions, still.regions, strict=True):
        assert region.box == tuple(2 * v for v in before.box) and region.score == before.score
    scaled, rejects, _ = read_visualcomet(comet, "val", vcr, counts=(counts := Counter()))
    assert not rejects and counts["scaled"] == 1 and len(scaled) == len(units)
    resize(vcr / still.path, 480, 640)
    assert set(count_reasons(read_vcr(vcr, "val")[1])) == {"image size differs"}


def test_pictures_in_the_other_folder_of_visual_genome_are_found(small_copy):
    folder, clues = small_copy / "visual_genome", small_copy / "sherlock"
    before, _ = read_visual_genome(folder)
    told, _, _ = read_sherlock(clues, "train", folder)
    moved = sorted((folder / "VG_100K").iterdir())[:3]
    (folder / "VG_100K_2").mkdir()
    for path in moved:
        path.rename(folder / "VG_100K_2" / path.name)
    images, rejects = read_visual_genome(folder, counts=(counts := Counter()))
    assert not rejects and counts["other_folder"] == 3
    assert [i.regions for i in images] == [i.regions for i in before]
    assert {i.path for i in images} >= {f"VG_100K_2/{p.name}" for p in moved}
    assert all((folder / i.path).is_file() for i in images)
    again, rejects, _ = read_sherlock(clues, "train", folder, counts=(counts := Counter()))
    names = [p.name for p in moved]
    assert not rejects and len(again) == len(told)
    assert counts["other_folder"] == sum(Path(c.image.path).name in names for c in told) > 0
    moved[0].symlink_to(folder / "nowhere")  # a link to nothing is no picture
    assert read_visual_genome(folder)[0] == images


def test_a_comparison_of_another_scale_is_one_comparison(edit, small_copy):
    folder, root = small_copy / "sherlock", small_copy / "vcr"
    plain, _, _ = read_comparison(folder, "val", root)
    for path in {c.item.image.path for c in plain}:
        resize(root / path, 320 // 4, 240 // 4)
    found, rejects, _ = read_comparison(folder, "val", root, counts=(counts := Counter()))
    assert not rejects and [c.test_ids for c in found] == [c.test_ids for c in plain]
    assert counts["scaled"] == sum(len(c.test_ids) for c in plain)
