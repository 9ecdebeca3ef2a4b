"""Localized Narratives: traces and boxes, captions alone, records changed at random."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lskd_nb.sources.localized_narratives import read_narratives, utterance_box

NARRATIVE = dict(
    dataset_id="mscoco_val2017",
    image_id="137576",
    annotator_id=93,
    caption="In this image there are cows.",
    voice_recording="coco_val/x.ogg",
    timed_caption=[
        dict(utterance="In this image", start_time=0.0, end_time=1.0),
        dict(utterance="cows", start_time=1.2, end_time=2.0),
    ],
    traces=[[dict(x=0.2, y=-0.05, t=0.5), dict(x=0.4, y=0.5, t=1.3)], [dict(x=0.6, y=1.2, t=1.9)]],
)


def narratives_file(
    folder: Path, *rows: object, name: str = "coco_val_localized_narratives.jsonl"
) -> Path:
    (folder / name).write_text("".join(json.dumps(r) + "\n" for r in rows))
    return folder / name


def test_a_box_is_what_the_mouse_went_over_while_the_words_were_said(cut, tmp_path):
    (told,), rejects = read_narratives(narratives_file(tmp_path, NARRATIVE))
    assert (
        not rejects
        and told.image == "val2017/000000137576.jpg"
        and told.caption == NARRATIVE["caption"]
    )
    box, cut = utterance_box(told, told.utterances[1], 100, 200)
    assert box == pytest.approx((40, 100, 60, 200)) and cut
    assert utterance_box(told, told.utterances[0], 100, 200) is None, (
        "one point above the image is no box"
    )


def test_captions_have_no_traces_and_images_have_several_narratives(tmp_path):
    captions = {
        k: v
        for k, v in NARRATIVE.items()
        if k not in ("timed_caption", "traces", "voice_recording")
    }
    narratives_file(
        tmp_path,
        NARRATIVE,
        NARRATIVE | dict(annotator_id=4),
        name="coco_val_localized_narratives-00000-of-00002.jsonl",
    )
    narratives_file(
        tmp_path,
        captions,
        captions | dict(dataset_id="of another set", image_id=5),
        captions | dict(image_id=5),
        name="x_captions.jsonl",
    )
    told, rejects = read_narratives(tmp_path)
    assert [n.annotator_id for n in told] == [93, 4, 93, 93] and told[2].trace == told[
        2
    ].utterances == ()
    assert told[3].image == "val2017/000000000005.jpg" and told[3].image_id == "5"
    assert [(r.record, r.reason) for r in rejects] == [
        ("x_captions.jsonl, line 2", "unknown data set")
    ] and "dataset_id is 'of another set', expected one that begins with mscoco" in rejects[
        0
    ].detail
    with pytest.raises(FileNotFoundError, match="holds no .jsonl"):
        read_narratives(tmp_path.joinpath("empty").mkdir() or tmp_path / "empty")


@pytest.mark.parametrize(
    ("dataset_id", "image_id", "file", "path"),
    [
        ("mscoco_val2017", "137576", "x.jsonl", "val2017/000000137576.jpg"),
        ("mscoco_train2017", 9, "x.jsonl", "train2017/000000000009.jpg"),
        ("ADE20k", "ADE_val_00000001", "x.jsonl", "validation/ADE_val_00000001.jpg"),
        ("ADE20k", "ADE_train_00000001", "x.jsonl", "training/ADE_train_00000001.jpg"),
        ("ADE20k_validation", "ADE_val_1", "ade20k_train.jsonl", "validation/ADE_val_1.jpg"),
        ("Flick30k", "1000092795", "x.jsonl", "flickr30k_images/1000092795.jpg"),
        ("Flickr30k", "1000092795.jpg", "x.jsonl", "flickr30k_images/1000092795.jpg"),
        ("open_images_validation", "0a1b", "x.jsonl", "validation/0a1b.jpg"),
        ("OpenImages", "train1", "open_images_test_localized_narratives.jsonl", "test/train1.jpg"),
        ("open_images", "0a1b", "open_images_train_v6_captions.jsonl", "train/0a1b.jpg"),
    ],
)
def test_images_of_every_set_have_their_path(tmp_path, dataset_id, image_id, file, path):
    row = NARRATIVE | dict(dataset_id=dataset_id, image_id=image_id)
    (told,), rejects = read_narratives(narratives_file(tmp_path, row, name=file))
    assert told.image == path and not rejects


def test_a_split_that_nothing_tells_is_named(tmp_path):
    row = NARRATIVE | dict(dataset_id="ADE20k", image_id="bedroom_7")
    _, (reject,) = read_narratives(narratives_file(tmp_path, row, name="x.jsonl"))
    assert reject.reason == "unknown split" and "dataset_id is 'ADE20k'" in reject.detail


def test_a_bad_part_does_not_lose_the_narrative(tmp_path):
    row = NARRATIVE | dict(
        timed_caption=[*NARRATIVE["timed_caption"], dict(utterance="", start_time=2, end_time=3)],
        traces=[*NARRATIVE["traces"], "x", [dict(x=1, y=None, t=2), dict(x=0.5, y=0.5, t=3)]],
    )
    (told,), rejects = read_narratives(narratives_file(tmp_path, row))
    assert [u.text for u in told.utterances] == ["In this image", "cows"]
    assert [t for _, _, t in told.trace] == [0.5, 1.3, 1.9, 3]
    assert [r.reason for r in rejects] == ["bad text", "bad record"]
    assert rejects[1].detail.startswith("traces: ") and rejects[1].detail.endswith(", and 1 more")


def test_captions_alone_can_be_asked_for_and_damaged_files_are_named(tmp_path):
    path = narratives_file(tmp_path, NARRATIVE, NARRATIVE | dict(traces="none"))
    told, rejects = read_narratives(path, traces=False)
    assert (
        not rejects
        and [n.caption for n in told] == [NARRATIVE["caption"]] * 2
        and told[0].trace == told[0].utterances == ()
    )
    assert [r.record for r in read_narratives(path)[1]] == [
        f"{path.name}, line 2"
    ] and not read_narratives(path, limit=1)[1]
    whole = path.read_bytes()
    for number, content in (
        (2, whole[:-40]),
        (3, whole + b"[]\n"),
        (3, whole + b"[" * 5000),
        (3, whole + b"1" * 5000),
        (None, whole + b'"\xff"\n'),
    ):
        path.write_bytes(content)
        with pytest.raises(
            ValueError,
            match=(
                f"{path.name}, line {number}: can't be read"
                if number
                else f"{path.name}, after line .: not a UTF-8 text file"
            ),
        ):
            read_narratives(path)
    for wrong in (tmp_path / "none.jsonl", [tmp_path / "none.jsonl"]):
        with pytest.raises(FileNotFoundError, match="none.jsonl is not there"):
            read_narratives(wrong)


def test_the_real_fragment_of_a_narrative(sample_file):
    (told,), rejects = read_narratives(
        sample_file("localized_narratives/coco_val_one_truncated.jsonl")
    )
    assert (
        not rejects
        and told.image == "val2017/000000137576.jpg"
        and told.annotator_id == 93
        and len(told.trace) == 1
    )


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_changed_narrative_is_read_right_or_rejected(changed_content, tmp_path_factory, data):
    row, way = data.draw(changed_content(NARRATIVE))
    told, rejects = read_narratives(narratives_file(tmp_path_factory.mktemp("n"), NARRATIVE, row))
    in_part = bool(rejects) and way[0] in ("timed_caption", "traces")
    assert len(told) + len(rejects) == 2 + in_part
    fields = dict(
        timed_caption="timed_caption|utterance|start_time|end_time", traces="traces|x|y|t"
    ).get(way[0], way[0])
    for reject in rejects:
        assert reject.record == "coco_val_localized_narratives.jsonl, line 2" and re.search(
            rf"\b({fields})\b", reject.detail
        )
    if in_part:  # what is left of it is as it was
        assert told[1].caption == NARRATIVE["caption"] and told[1].image == told[0].image
        assert set(told[1].trace) <= set(told[0].trace)
        assert set(told[1].utterances) <= set(told[0].utterances)
        return
    for narrative, raw in zip(told, (NARRATIVE, row), strict=False):
        points = [(p["x"], p["y"], p["t"]) for stroke in raw.get("traces") or [] for p in stroke]
        assert (
            narrative.caption == " ".join(raw["caption"].split())
            and list(narrative.trace) == points
        )
        assert [(u.start, u.end) for u in narrative.utterances] == [
            (u["start_time"], u["end_time"]) for u in raw.get("timed_caption") or []
        ]
        assert not narrative.image.startswith("/") and ".." not in narrative.image.split("/")
        for utterance in narrative.utterances:
            found = utterance_box(narrative, utterance, 64, 48)
            assert found is None or (
                0 <= found[0][0] < found[0][2] <= 64 and 0 <= found[0][1] < found[0][3] <= 48
            )
