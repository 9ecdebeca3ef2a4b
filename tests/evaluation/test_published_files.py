"""Benchmarks as their files are published, whole or not: VCR's rows with their 23 keys and nothing
more, sets without a readable picture, sets that nobody has.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lskd_nb.evaluation import choices, zero_shot
from lskd_nb.records import REJECTS, write_parquet
from lskd_nb.viewing import plots

GIVEN = dict.fromkeys(zero_shot.SETS, "")
WEIGHTS = Path(zero_shot.__file__).parents[1] / "mini" / "weights"
ASKED = ["Why", "is", [11], "pointing", "at", [3, 7], "?"]
ANSWERS = [
    [[11], "is", "telling", [3], "that", [0], "ordered", "the", "pancakes", "."],
    ["He", "just", "told", "a", "joke", "."],
    [[11], "is", "feeling", "accusatory", "towards", [7], "."],
    [[11], "is", "giving", [7], "directions", "."],
]
REASONS = [
    [[7], "has", "the", "pancakes", "in", "front", "of", "him", "."],
    [[3], "is", "taking", "everyone", "'s", "order", "."],
    [[3], "is", "looking", "at", "the", "pancakes", "."],
    [[5], "is", "delivering", "food", "."],
]


def row(number: int, still: str) -> dict:
    """A row as published."""
    told = dict(
        movie="3015_CHARLIE_ST_CLOUD",
        objects=["person"] * 12,
        interesting_scores=[0, -1, 1],
        answer_likelihood="possible",
        img_fn=f"lsmdc_3015/{still}.jpg",
        metadata_fn=f"lsmdc_3015/{still}.json",
        answer_orig="12 is telling 4 that 1 ordered the pancakes.",
        question_orig="Why is 12 pointing at 4 and 8?",
        rationale_orig="8 has the pancakes in front of him.",
        question=ASKED,
        answer_match_iter=[0, 3, 2, 1],
        answer_sources=[number, 12852, 26814, 25743],
        answer_choices=ANSWERS,
        answer_label=0,
        rationale_choices=REASONS,
        rationale_sources=[number, 26814, 12852, 25743],
        rationale_match_iter=[0, 2, 1, 3],
        rationale_label=0,
        img_id=f"val-{still}",
        question_number=number,
        annot_id=f"val-{number}",
        match_fold="val-0",
        match_index=number,
    )
    assert len(told) == 23
    return told


@pytest.fixture
def published(tmp_path) -> Path:
    """A root with ``vcr``: six questions about three stills of twelve people; one still is lost."""
    home = tmp_path / "vcr"
    (home / "vcr1images" / "lsmdc_3015").mkdir(parents=True)
    boxes = [[16.0 * n, 4.0, 16.0 * n + 15, 60.0, 0.75] for n in range(12)]
    for still in "abc":
        told = dict(
            boxes=boxes, segms=[[]] * 12, names=["person"] * 12, width=192, height=80, ambiguous=0
        )
        place = home / "vcr1images" / "lsmdc_3015"
        (place / f"{still}.json").write_text(json.dumps(told))
        if still != "c":
            Image.new("RGB", (192, 80), (40 * ord(still) % 256, 90, 60)).save(
                place / f"{still}.jpg"
            )
    rows = [row(n, "abc"[n // 2]) for n in range(6)]
    (home / "val.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    return tmp_path


def sets_under(root: Path, **given: str) -> zero_shot.Benchmarks:
    places = zero_shot.benchmark_folders(root, root / "world", GIVEN | given)
    return zero_shot.read_benchmarks(places, root / "candidates.json")


def test_vcr_as_published_runs_to_its_figures_without_grounding(published):
    sets = sets_under(published, vcr="vcr")
    shown = zero_shot.question_to_show(sets.vcr)
    assert shown.annot_id == "val-0" and shown.swap is None
    items = zero_shot.benchmark_items(sets)
    assert list(items) == ["vcr.q_a", "vcr.qa_r"]
    asked = items["vcr.q_a"][0]
    assert asked.question == "Why is [0] pointing at [1, 2]?"
    assert asked.choices[0] == "Answer: [0] is telling [1] that [3] ordered the pancakes."
    assert [r.box[0] for r in asked.view.regions] == [176.0, 48.0, 112.0, 0.0]
    assert [r.box[0] for r in items["vcr.qa_r"][0].view.regions] == [176.0, 48.0, 112.0, 0.0, 80.0]
    images = zero_shot.benchmark_folders(published, "nowhere", GIVEN | {"vcr": "vcr"}).images
    scoring = zero_shot.Scoring(published, "question: ", stored_views=False)
    frames = []
    for system, weights in (("base", "student"), ("clip", "clip")):
        found = zero_shot.predict(system, str(WEIGHTS / weights), items, images, scoring)
        assert found.texts == 2 * 4 * 4 and found.pixels > 0
        frames += zero_shot.official_metrics(sets, found.tables).values()
    results = choices.summary(pd.concat(frames))
    assert results["vcr"].keys() == {"base", "clip"} and "grounding" not in results
    assert results["vcr"]["base"]["q_ar"]["n"] == 4
    table = plots.result_table(results | {"benchmarks": zero_shot.coverage(sets)})
    assert "Grounding" in table and "not measured" in table
    assert "4 (2 left out)" in table


def test_what_is_left_out_is_counted_with_its_reason(published):
    sets = sets_under(published, vcr="vcr")
    told = zero_shot.coverage(sets)
    assert told["vcr"] == dict(items=4, left_out=2, why="missing image: 2")
    assert told["aokvqa"] == dict(items=0, left_out=0, why="aokvqa_folder is empty: not evaluated")
    rows = zero_shot.rejects_of(sets)
    assert {r["stage"] for r in rows} == {"evaluation.vcr"} and "c.jpg" in rows[0]["detail"]
    assert write_parquet(rows, published / "rejects_06.parquet", REJECTS).num_rows == 2


def test_a_row_that_is_there_twice_counts_once(published):
    file = published / "vcr" / "val.jsonl"
    file.write_text(file.read_text() + file.read_text().splitlines()[0] + "\n")
    told = zero_shot.coverage(sets_under(published, vcr="vcr"))["vcr"]
    assert (told["items"], told["why"]) == (4, "missing image: 2, repeated id: 1")


def test_a_test_split_in_the_place_of_val_has_no_labels(published):
    file = published / "vcr" / "val.jsonl"
    hidden = [
        {k: v for k, v in json.loads(line).items() if k != "rationale_label"}
        for line in file.read_text().splitlines()
    ]
    file.write_text("".join(json.dumps(r) + "\n" for r in (hidden[0], row(9, "b"))))
    assert zero_shot.coverage(sets_under(published, vcr="vcr"))["vcr"]["why"] == "no label: 1"
    file.write_text("".join(json.dumps(r) + "\n" for r in hidden))
    with pytest.raises(ValueError, match="vcr: NOTHING LEFT, not evaluated. no label: 4"):
        sets_under(published, vcr="vcr")


def snli_ve(root: Path, pictures: bool, train: bool) -> None:
    home = root / "snli_ve"
    home.mkdir()
    labels = ("entailment", "neutral", "contradiction")
    rows = [
        dict(
            Flickr30K_ID=f"{n}",
            annotator_labels=[label],
            captionID=f"{n}.jpg#0",
            gold_label=label,
            pairID=f"{n}.jpg#0r1{label[0]}",
            sentence1="A man.",
            sentence2=f"A man {n} sleeps.",
        )
        for n in range(2)
        for label in labels
    ]
    for split in ("dev", *(["train"] if train else [])):
        (home / f"snli_ve_{split}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    if pictures:
        (home / "flickr30k_images").mkdir()
        for n in range(2):
            Image.new("RGB", (20, 20)).save(home / "flickr30k_images" / f"{n}.jpg")


def test_a_set_without_a_readable_picture_is_left_out_and_named(published):
    snli_ve(published, pictures=False, train=True)
    sets = sets_under(published, vcr="vcr", snli_ve="snli_ve")
    assert list(zero_shot.benchmark_items(sets)) == ["vcr.q_a", "vcr.qa_r"]
    told = zero_shot.coverage(sets)["snli_ve"]
    assert told["items"] == 0 and told["left_out"] == 6
    assert told["why"].startswith("NOTHING LEFT, not evaluated. missing image: 6 (the first: ")
    with pytest.raises(ValueError, match="no benchmark has an item.*snli_ve: NOTHING LEFT.*0.jpg"):
        sets_under(published, snli_ve="snli_ve")


def test_without_training_labels_snli_ve_is_zero_shot_alone(published):
    snli_ve(published, pictures=True, train=False)
    sets = sets_under(published, snli_ve="snli_ve")
    items = zero_shot.benchmark_items(sets)
    assert list(items) == ["snli_ve"] and len(items["snli_ve"]) == 6
    assert "no thresholds are fitted" in zero_shot.coverage(sets)["snli_ve_train"]["why"]
    perfect = [np.eye(3)[i.label] for i in items["snli_ve"]]
    table = choices.predictions(items["snli_ve"], perfect, "it", 0)
    rows = zero_shot.official_metrics(sets, {"snli_ve": table})
    assert list(rows) == ["snli_ve"] and rows["snli_ve"]["correct"].tolist() == [1.0] * 6
    results = choices.summary(rows["snli_ve"])
    assert list(results["nonlocalized"]) == ["snli_ve"]
    assert "fitted" in plots.result_table(results | {"benchmarks": zero_shot.coverage(sets)})


def test_candidates_that_are_not_there_are_missed_before_anything_is_read(tmp_path):
    places = zero_shot.benchmark_folders(tmp_path, tmp_path / "world", GIVEN | {"vcr": "nowhere"})
    with pytest.raises(FileNotFoundError, match="candidates: .*rank.json is not there. Leave"):
        zero_shot.read_benchmarks(places, tmp_path / "r.json", tmp_path / "rank.json")
    with pytest.raises(FileNotFoundError, match="nowhere/val.jsonl is not there"):
        zero_shot.read_benchmarks(places, tmp_path / "r.json")
