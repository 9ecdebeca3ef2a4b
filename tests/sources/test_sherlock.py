"""Sherlock: real excerpts, the mini world's files, and records changed at random."""

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lskd_nb.mini.files.world_files import read_truth
from lskd_nb.sources import BadRecord, count_reasons
from lskd_nb.sources.sherlock import (
    CORPUS,
    picture_path,
    read_comparison,
    read_sherlock,
    read_test_ids,
)

CORPUS_VAL = CORPUS["val"][0]


# ------------------------------------------------------------------------ records changed at random


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_changed_sherlock_row_is_read_right_or_rejected(
    check_reject, mutation, tmp_path_factory, data
):
    url = "https://cs.stanford.edu/people/rak248/VG_100K_2/7.jpg"
    box = dict(left=30, top=10, width=90, height=20)
    row = dict(
        inputs=dict(
            image=dict(url=url, width=100, height=80),
            bboxes=[box, box | dict(left=2)],
            clue="a cup",
            confidence=2.0,
            obs_idx=0,
        ),
        targets=dict(inference="it is  hot"),
        instance_id="a1",
        split_idx=0,
    )
    row_changed, fields = data.draw(mutation(row))
    folder = tmp_path_factory.mktemp("s")
    (folder / CORPUS_VAL).write_text(json.dumps([row, row_changed, row]))
    clues, rejects, clamped = read_sherlock(folder, "val", check_images=False)
    assert clues[0] == clues[-1] and len(rejects) <= 1 and len(clues) + len(rejects) >= 3
    for reject in rejects:
        check_reject(reject, fields, CORPUS_VAL, 1)
    if len(clues) == 2:
        return
    read, inputs = clues[1], row_changed["inputs"]
    if rejects:  # of one of the two boxes
        bad = int(re.match(r"bboxes\[(\d)\]: ", rejects[0].detail)[1])
        inputs["bboxes"].pop(bad)
    width, height = inputs["image"]["width"], inputs["image"]["height"]
    given_boxes = [
        (b["left"], b["top"], b["left"] + b["width"], b["top"] + b["height"])
        for b in inputs["bboxes"]
    ]
    cut = [
        (max(x0, 0), max(y0, 0), min(x1, int(width)), min(y1, int(height)))
        for x0, y0, x1, y1 in given_boxes
    ]
    assert [r.box for r in read.image.regions] == cut and {r.id for r in read.image.regions} == {0}
    assert clamped == 2 + sum(c != g for c, g in zip(cut, given_boxes, strict=True))
    assert (read.clue, read.confidence, read.split_idx) == (
        " ".join(inputs["clue"].split()),
        inputs["confidence"],
        row_changed.get("split_idx"),
    )
    assert read.inference == " ".join(
        row_changed["targets"]["inference"].split()
    ) and read.instance_id == " ".join(row_changed["instance_id"].split())


# ------------------------------------------------------------------------------------ read as it is


def test_real_sherlock_rows(sample, tmp_path):
    rows = sample("sherlock/sherlock_val_subset160.json")
    (tmp_path / CORPUS_VAL).write_text(json.dumps(rows))
    clues, rejects, clamped = read_sherlock(tmp_path, "val", check_images=False)
    assert len(clues) == 160 and not rejects
    overrun = 0
    for row, clue in zip(rows, clues, strict=True):
        image, boxes = row["inputs"]["image"], row["inputs"]["bboxes"]
        assert (clue.image.width, clue.image.height) == (image["width"], image["height"])
        assert image["url"].endswith(clue.image.path) and clue.image.path.startswith(
            "VG_100K" if "VG_" in image["url"] else "vcr1images/"
        )
        for box, region in zip(boxes, clue.image.regions, strict=True):
            x0, y0, x1, y1 = (
                box["left"],
                box["top"],
                box["left"] + box["width"],
                box["top"] + box["height"],
            )
            inside = x0 >= 0 and y0 >= 0 and x1 <= image["width"] and y1 <= image["height"]
            overrun += not inside
            assert not inside or region.box == (x0, y0, x1, y1)
            assert (
                0 <= region.box[0] < region.box[2] <= image["width"]
                and 0 <= region.box[1] < region.box[3] <= image["height"]
            )
        assert (clue.clue, clue.inference, clue.split_idx) == (
            row["inputs"]["clue"].strip(),
            row["targets"]["inference"].strip(),
            row["split_idx"],
        )
    assert clamped == overrun > 20 and max(len(c.image.regions) for c in clues) == 7
    assert len({c.image.image_id for c in clues}) == len(
        {r["inputs"]["image"]["url"] for r in rows}
    )
    missing, rejects, _ = read_sherlock(tmp_path, "val", limit=5)
    assert not missing and count_reasons(rejects) == {"missing image": 5}


def test_a_bad_box_does_not_lose_the_others(sample, tmp_path):
    rows = [r for r in sample("sherlock/sherlock_val_subset160.json")]
    several = next(r for r in rows if len(r["inputs"]["bboxes"]) == 2)
    several["inputs"]["bboxes"][0]["width"] = 0
    for box in rows[0]["inputs"]["bboxes"]:
        box["height"] = -1
    (tmp_path / CORPUS_VAL).write_text(json.dumps([rows[0], several]))
    (clue,), rejects, _ = read_sherlock(tmp_path, "val", check_images=False)
    assert clue.instance_id == several["instance_id"] and len(clue.image.regions) == 1
    assert [(r.record, r.reason, r.detail[:9]) for r in rejects] == [
        (f"{CORPUS_VAL}, element 0", "box of no area", "bboxes[0]"),
        (f"{CORPUS_VAL}, element 1", "box of no area", "bboxes[0]"),
    ]


def test_real_comparison_instance(sample, tmp_path):
    (tmp_path / "test_comparison_public").mkdir()
    (tmp_path / "test_comparison_public/test_comparison_instances.json").write_text(
        json.dumps(sample("sherlock/comparison_instances_one.json"))
    )
    (comparison,), rejects, clamped = read_comparison(tmp_path, "test", check_images=False)
    assert (comparison.item.choices, comparison.annot1, rejects, clamped) == (
        ("this is a preferred posture",),
        (),
        [],
        0,
    )
    assert (
        comparison.test_ids == ("15cffa7518035ba4bda661d534660395",)
        and comparison.item.image.path == "VG_100K/2371713.jpg"
    )
    assert (
        comparison.item.image.regions[0].box == (201, 154, 371, 240)
        and comparison.item.slice == "visual_genome"
    )


def test_sherlock_of_the_world(small_world):
    truth = read_truth(small_world / "truth.jsonl")
    clues, rejects, clamped = read_sherlock(
        small_world / "sherlock", "train", small_world / "visual_genome"
    )
    assert not rejects and not clamped and all(c.split_idx is None for c in clues)
    for clue in clues:
        entities = truth[clue.image.image_id].entities
        assert any(
            all(abs(a - b) <= 1 for a, b in zip(clue.image.regions[0].box, e.box, strict=True))
            and e.kind in clue.clue
            for e in entities
        )
    assert {
        c.split_idx for c in read_sherlock(small_world / "sherlock", "val", small_world / "vcr")[0]
    } == {0}
    with pytest.raises(ValueError, match="'test' is none of"):
        read_sherlock(small_world / "sherlock", "test")
    with pytest.raises(FileNotFoundError, match="sherlock_train_v1_1.json"):
        read_sherlock(small_world, "train")


def test_urls_by_the_official_rule():
    assert (
        picture_path("http://s3/ai2-rowanz/vcr1images/movieclips_VG/a@1.jpg")
        == "vcr1images/movieclips_VG/a@1.jpg"
    )
    for url in (
        "http://x/vcr1images/../../etc/a.jpg",
        "http://x/vcr1images/a.jpg",
        "http://x/VG_100K/a.jpg",
        "http://x/VG_100K_3/1.jpg",
        "VG_",
    ):
        with pytest.raises(BadRecord, match="url is"):
            picture_path(url)


def test_comparison_of_the_world(edit, small_world, small_copy):
    key = json.loads((small_world / "sherlock/val_comparison_answer_key.json").read_text())
    comparisons, rejects, _ = read_comparison(small_world / "sherlock", "val", small_world / "vcr")
    assert not rejects and len(comparisons) == len(key["annotations"]) == 12
    for comparison, wrote in zip(comparisons, key["annotations"], strict=True):
        assert (
            comparison.item.choices == tuple(c["prediction"] for c in wrote["candidates"])
            and comparison.item.label is None
        )
        assert comparison.annot1 == tuple(c["annot1"] for c in wrote["candidates"])
        for test_id, candidate in zip(comparison.test_ids, wrote["candidates"], strict=True):
            assert key["test_id_map"][test_id] == dict(
                Input_iid=wrote["Input_iid"], candidate=candidate["source_iid"]
            )
    assert sorted(i for c in comparisons for i in c.test_ids) == read_test_ids(
        small_world / "sherlock", "val"
    )
    folder = small_copy / "sherlock"
    (folder / "val_comparison").mkdir()
    for part in ("instances", "answer_key"):  # where the archives unpack to
        (folder / f"val_comparison_{part}.json").rename(
            folder / f"val_comparison/val_comparison_{part}.json"
        )
    edit(
        folder / "val_comparison/val_comparison_answer_key.json",
        lambda k: k["annotations"][0]["candidates"][0].update(annot1="3.0"),
    )
    assert read_comparison(folder, "val", small_copy / "vcr") == (comparisons, [], 0)
    (folder / "val_comparison/val_comparison_instances.json").rename(
        folder / "test_comparison_instances.json"
    )
    hidden = read_comparison(folder, "test", check_images=False)[0]
    assert [c.test_ids for c in hidden] == [c.test_ids for c in comparisons] and not hidden[
        0
    ].annot2


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda k: k["annotations"][2].pop("Input_iid"), "missing field"),
        (lambda k: k["annotations"].__setitem__(2, 7), "bad record"),
        (lambda k: k["annotations"][2]["candidates"].__setitem__(0, None), "bad record"),
        (lambda k: k["annotations"][2]["candidates"][0].update(annot2="often"), "bad number"),
        (lambda k: k["annotations"][2]["candidates"][0].pop("annot1"), "bad number"),
        (
            lambda k: k["annotations"][2]["candidates"][0].update(prediction="another"),
            "texts differ",
        ),
        (
            lambda k: k["annotations"][2]["candidates"][0].update(source_iid="nobody"),
            "unknown instance",
        ),
        (
            lambda k: k["annotations"][2].update(
                candidates=k["annotations"][2]["candidates"][:1] * 2
            ),
            "bad candidates",
        ),
        (
            lambda k: k["test_id_map"].__setitem__(
                next(
                    i
                    for i, m in k["test_id_map"].items()
                    if m["Input_iid"] == k["annotations"][2]["Input_iid"]
                ),
                3,
            ),
            "unknown instance",
        ),
    ],
)
def test_bad_comparisons_are_rejected(edit, small_copy, change, reason):
    edit(small_copy / "sherlock/val_comparison_answer_key.json", change)
    comparisons, rejects, _ = read_comparison(small_copy / "sherlock", "val", small_copy / "vcr")
    assert len(comparisons) == 11 and rejects[-1].reason == reason
    assert rejects[-1].record == "val_comparison_answer_key.json, annotations, element 2"


def test_bad_comparison_files(edit, small_copy):
    folder = small_copy / "sherlock"
    edit(
        folder / "val_comparison_instances.json",
        lambda rows: (
            rows[0]["region"][0].update(width=-4),
            rows[10].update(test_id=rows[11]["test_id"]),
        ),
    )
    comparisons, rejects, _ = read_comparison(folder, "val", small_copy / "vcr")
    assert len(comparisons) == 10 and [r.reason for r in rejects] == [
        "box of no area",
        "repeated test id",
        "unknown instance",
        "unknown instance",
    ]
    assert "region[0]: box" in rejects[0].detail
    (folder / "val_comparison_answer_key.json").write_text("[]")
    with pytest.raises(ValueError, match="answer_key.json: expected an object with test_id_map"):
        read_comparison(folder, "val", small_copy / "vcr")
    edit(folder / "val_comparison_instance_ids.json", lambda ids: ids.reverse())
    with pytest.raises(ValueError, match="expected a sorted list"):
        read_test_ids(folder, "val")
