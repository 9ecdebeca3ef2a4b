"""Every reader on the stage's files: what it gives, and that it leaves out what it should."""

import re
from collections import Counter

import pytest

from lskd_nb.sources import count_reasons
from lskd_nb.sources.aokvqa import read_aokvqa
from lskd_nb.sources.localized_narratives import read_narratives
from lskd_nb.sources.lvis import read_lvis
from lskd_nb.sources.refcoco import read_refcoco
from lskd_nb.sources.sherlock import picture_path, read_comparison, read_sherlock, read_test_ids
from lskd_nb.sources.snli_ve import read_snli_ve
from lskd_nb.sources.vcr import q_a, qa_r, read_vcr
from lskd_nb.sources.visual7w import read_visual7w
from lskd_nb.sources.visual_genome import read_human_texts, read_visual_genome
from lskd_nb.sources.visualcomet import draw_candidates, flat_inferences, rankings, read_visualcomet
from lskd_nb.students.views import View, draw, open_image
from lskd_nb.verbalization.caption_rows import narrative_set
from lskd_nb.verbalization.retrieval import vocabulary_from_lvis

BAD_PICTURES = {"corrupt image": 1, "missing image": 1}
ALL_TEXTS = ("region_descriptions", "question_answers", "attributes", "relationships")


def test_visual_genome(data):
    counts: Counter = Counter()
    images, rejects = read_visual_genome(data / "visual_genome", counts=counts)
    assert count_reasons(rejects) == BAD_PICTURES | {"no regions": 1} and len(images) == 21
    regions = [len(image.regions) for image in images]
    assert min(regions) >= 4 and regions.count(10) > 3 and counts["clamped"] >= 3
    assert {image.path.split("/")[0] for image in images} == {"VG_100K", "VG_100K_2"}
    texts, rejects = read_human_texts(data / "visual_genome", images, ALL_TEXTS)
    assert rejects == []
    assert Counter(t.origin for t in texts).keys() == set(ALL_TEXTS)
    assert sum(t.region is not None for t in texts) > 200


@pytest.mark.parametrize("split", ["train", "val"])
def test_vcr(data, written, split):
    questions, rejects = read_vcr(data / "vcr", split)
    assert rejects == [] and len(questions) == written[f"vcr/{split}.jsonl"]
    assert {q.swap for q in questions} == {None}  # no key of the mini world's
    assert max(r.id for q in questions for r in q.image.regions) >= 10
    said = [t for q in questions for t in (q.question, *q.answer_choices, *q.rationale_choices)]
    assert any(re.search(r"\[\d+, \d+\]", text) for text in said)
    assert any(re.fullmatch(r"What is \[\d+\]'s mood\?", text) for text in said)
    assert any("it's raining" in text for text in said) and any("isn't" in text for text in said)
    assert not any(" '" in text for text in said)
    assert {q_a(q).label for q in questions} == {0, 1, 2, 3} == {qa_r(q).label for q in questions}


def test_vcr_test_has_no_labels(data, written):
    questions, rejects = read_vcr(data / "vcr", "test")
    assert rejects == [] and len(questions) == written["vcr/test.jsonl"]
    assert {(q.answer_label, q.rationale_label) for q in questions} == {(None, None)}


@pytest.mark.parametrize(
    "split, name", [("train", "train_v1_1"), ("val", "val_with_split_idxs_v1_1")]
)
def test_sherlock(data, content, split, name):
    rows = content(f"sherlock/sherlock_{name}.json")
    bad: Counter = Counter()
    for url in (row["inputs"]["image"]["url"] for row in rows):
        file = data / "images" / picture_path(url)
        if not file.exists():
            bad["missing image"] += 1
        elif not file.read_bytes().endswith(b"\xff\xd9"):
            bad["corrupt image"] += 1
    # one of two boxes has no width: the other is kept
    empty = {"box of no area": 1} if split == "train" else {}
    clues, rejects, clamped = read_sherlock(data / "sherlock", split, data / "images")
    assert count_reasons(rejects) == dict(bad) | empty
    assert len(clues) == len(rows) - bad.total() and clamped > 5
    assert bool(bad) == (split == "train")


@pytest.mark.parametrize(
    "split, name", [("train", "train_v1_1"), ("val", "val_with_split_idxs_v1_1")]
)
def test_sherlocks_boxes_are_in_the_pixels_of_the_picture_at_hand(data, content, split, name):
    rows = content(f"sherlock/sherlock_{name}.json")
    known = {r["url"]: r["width"] for r in content("visual_genome/image_data.json")}
    inputs = {row["instance_id"]: row["inputs"] for row in rows}
    clues, _, _ = read_sherlock(data / "sherlock", split, data / "images")
    scaled = 0
    for clue in clues:
        said = inputs[clue.instance_id]
        factor = known.get(said["image"]["url"], said["image"]["width"]) / said["image"]["width"]
        assert clue.image.width == factor * said["image"]["width"]
        assert clue.image.regions[0].box[1] == factor * said["bboxes"][0]["top"]
        scaled += factor == 2
    assert scaled >= 3


def test_the_comparison(data):
    found, rejects, _ = read_comparison(data / "sherlock", "val", data / "images")
    assert rejects == [] and len(found) == 6
    assert {len(c.item.choices) for c in found} == {10}
    assert {c.item.slice for c in found} == {"visual_genome", "vcr"}
    assert any(len(c.item.image.regions) > 1 for c in found)
    assert {r for c in found for r in (*c.annot1, *c.annot2)} == {1.0, 2.0, 3.0}
    ids = read_test_ids(data / "sherlock", "val")
    assert ids == sorted(i for c in found for i in c.test_ids)


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_visualcomet(data, written, split):
    units, rejects, _ = read_visualcomet(data / "visualcomet", split, data / "vcr")
    assert rejects == [] and len(units) > written[f"visualcomet/{split}_annots.json"]
    assert any("20 feet away from [" in u.event for u in units)
    if split == "test":
        assert {u.gold for u in units} == {()}
    else:
        pool = flat_inferences(data / "visualcomet", split)
        candidates = draw_candidates(data / "visualcomet", split, 50)
        assert len(pool) > 80
        assert {len(r.item.choices) for r in rankings(units, candidates, pool)} == {50}


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_aokvqa(data, written, split):
    questions, rejects = read_aokvqa(data / "aokvqa", split)
    assert rejects == [] and len(questions) == written[f"aokvqa/aokvqa_v1p0_{split}.json"]
    assert ({q.item.label for q in questions} == {None}) == (split == "test")
    assert sum("" in q.item.choices for q in questions) == (split != "test")
    assert {q.difficult_direct_answer for q in questions} == {True, False}


@pytest.mark.parametrize("split", ["train", "dev", "test"])
def test_snli_ve(data, content, split):
    rows = content(f"snli_ve/snli_ve_{split}.jsonl")
    folder = data / "snli_ve/flickr30k_images"
    missing = sum(not (folder / f"{r['Flickr30K_ID']}.jpg").exists() for r in rows)
    items, rejects = read_snli_ve(data / "snli_ve", split)
    assert count_reasons(rejects) == ({"missing image": missing} if missing else {})
    assert bool(missing) == (split != "test") and len(items) == len(rows) - missing
    assert {item.slice for item in items} == {"entailment", "neutral", "contradiction"}


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_visual7w(data, content, split):
    images = content("visual7w/dataset_v7w_telling.json")["images"]
    asked = sum(len(i["qa_pairs"]) for i in images if i["split"] == split)
    items, rejects = read_visual7w(data / "visual7w", split)
    assert rejects == [] and len(items) == asked >= 15
    known = {i["image_id"] for i in content("visual_genome/image_data.json")}
    assert known & {int(i.image.image_id) for i in items}


@pytest.mark.parametrize(
    "name, split_by, splits",
    [
        ("refcoco", "unc", ("train", "val", "testA", "testB")),
        ("refcoco", "google", ("train", "val")),
        ("refcoco+", "unc", ("train", "val", "testA", "testB")),
        ("refcocog", "umd", ("train", "val", "test")),
        ("refcocog", "google", ("train", "val")),
    ],
)
def test_refcoco(data, written, name, split_by, splits):
    total = 0
    for split in splits:
        refs, rejects, _ = read_refcoco(data, name, split, split_by)
        assert rejects == []
        assert all(len(ref.expressions) == 3 for ref in refs)
        total += len(refs)
    assert total == written[f"{name}/refs({split_by}).p"]


@pytest.mark.parametrize("split", ["train", "val"])
def test_lvis(data, written, split):
    path = data / f"lvis/lvis_v1_{split}.json"
    images, rejects, _ = read_lvis(path, data)
    assert rejects == [] and len(images) == written[f"lvis/{path.name}"]
    folders = {image.image.path.split("/")[0] for image in images}
    assert folders == ({"train2017"} if split == "train" else {"train2017", "val2017"})
    assert "umbrella" in vocabulary_from_lvis(path)


def test_localized_narratives(data, written):
    told, rejects = read_narratives(data / "localized_narratives")
    number = sum(n for name, n in written.items() if name.startswith("localized_narratives/"))
    assert rejects == [] and len(told) == number
    assert any(x < 0 or x > 1 for n in told for x, _, _ in n.trace)
    assert "validation/ADE_val_00000001.jpg" in {n.image for n in told}
    found = narrative_set(data, "localized_narratives")
    assert len(list(found.rows)) == number - 1  # they are read as they are asked for
    assert count_reasons(found.rejected) == {"missing image": 1}


def test_pictures_of_every_form_are_drawn_through_the_links(data):
    images, _ = read_visual_genome(data / "visual_genome", data / "images")
    assert len(images) == 21
    for image in images:
        assert draw(View(image.path, image.regions), data / "images", 64).size == (64, 64)
        assert open_image(data / "images", image.path).size == (image.width, image.height)
    for name in ("train/0a3f1bd2c9e87765.jpg", "validation/ffd9c8a7b6e50413.jpg"):
        shown = open_image(data, name)  # CMYK; one that a camera wanted turned
        assert (shown.mode, shown.size) == ("RGB", (512, 384))
