"""VCR: the mini world's files, and all that can be wrong with a row or its metadata."""

import json
import shutil
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lskd_nb.mini.files.vcr_questions import vcr_questions
from lskd_nb.mini.files.world_files import world_pictures
from lskd_nb.regions import mentions, tokens_to_text
from lskd_nb.sources import BadRecord, count_reasons
from lskd_nb.sources.vcr import QUESTION_WORDS, _text, images_of, q_a, qa_r, read_vcr
from lskd_nb.sources.visualcomet import read_visualcomet

TRAIN, VAL, SEED = 20, 12, 5


def test_vcr_of_the_world_is_what_was_written(world):
    _, pictures = world_pictures(TRAIN, VAL, SEED)
    expected = vcr_questions([p.scene for p in pictures], SEED)
    questions, rejects = read_vcr(world / "vcr", "val")
    assert not rejects and len(questions) == len(expected) > VAL
    for found, wrote in zip(questions, expected, strict=True):
        assert (found.question, found.answer_choices, found.answer_label) == (
            wrote.question,
            wrote.answers,
            wrote.answer_label,
        )
        assert (found.rationale_choices, found.rationale_label) == (
            wrote.rationales,
            wrote.rationale_label,
        )
        assert (found.slice, found.swap, found.rationale_swap) == (
            wrote.kind,
            wrote.swap,
            wrote.rationale_swap,
        )
        scene = pictures[wrote.scene].scene
        assert found.image.image_id == found.img_id == pictures[wrote.scene].vcr_id
        assert [r.box for r in found.image.regions] == [e.box for e in scene.entities]
        assert mentions(found.question) == [wrote.region]
    assert len(images_of(questions)) == len({q.img_id for q in questions})
    assert {q.image.split for q in read_vcr(world / "vcr", "train")[0]} == {"train"}


def test_vcr_items(world):
    question = read_vcr(world / "vcr", "val", limit=1)[0][0]
    answer = q_a(question)
    assert (answer.choices, answer.label, answer.task) == (
        question.answer_choices,
        question.answer_label,
        "vcr.q_a",
    )
    reason = qa_r(question)
    assert (
        reason.question
        == f"{question.question} Answer: {question.answer_choices[question.answer_label]}"
    )
    assert reason.item_id == answer.item_id  # answers and rationales are joined by it
    assert (reason.choices, reason.label) == (question.rationale_choices, question.rationale_label)
    assert qa_r(question, 2).question.endswith(question.answer_choices[2]) and qa_r(
        question, 2
    ).item_id.endswith("/2")


# fmt: off
PUBLISHED = (  # the keys of a real row
    "movie", "objects", "interesting_scores", "answer_likelihood", "img_fn", "metadata_fn",
    "question", "answer_choices", "answer_label", "rationale_choices", "rationale_label",
    "answer_sources", "rationale_sources", "answer_match_iter", "rationale_match_iter",
    "question_orig", "answer_orig", "rationale_orig", "img_id", "annot_id", "question_number",
    "match_fold", "match_index",
)
# fmt: on


def test_rows_with_only_the_published_keys_are_read(edit, world_copy):
    before = read_vcr(world_copy / "vcr", "val")[0]

    def published(rows: list) -> None:
        for number, row in enumerate(rows):
            told = {key: row.get(key, number) for key in PUBLISHED}
            told |= dict(interesting_scores=[1, -1, 0], answer_likelihood="possible")
            row.clear()
            row.update(told)

    edit(world_copy / "vcr/val.jsonl", published)
    questions, rejects = read_vcr(world_copy / "vcr", "val")
    assert not rejects and len(questions) == len(before) and len(PUBLISHED) == 23
    for found, old in zip(questions, before, strict=True):
        assert (found.swap, found.rationale_swap, found.typical) == (None, None, None)
        assert found.slice == found.question.split()[0].lower() in QUESTION_WORDS
        ours = dict(swap=old.swap, rationale_swap=old.rationale_swap, typical=old.typical)
        assert replace(found, slice=old.slice, **ours) == old


def test_the_answer_that_the_teacher_takes_for_typical(edit, world_copy):
    def tell(rows: list) -> None:
        for row in rows:
            row.pop("lskd_typical", None)
        rows[0]["lskd_typical"] = (rows[0]["answer_label"] + 1) % 4
        rows[1]["lskd_typical"] = None  # the right answer is the typical one, or it is no choice

    edit(world_copy / "vcr/val.jsonl", tell)
    questions, rejects = read_vcr(world_copy / "vcr", "val")
    assert not rejects and {q.typical for q in questions[1:]} == {None}
    assert questions[0].typical == (questions[0].answer_label + 1) % 4


def test_vcr_tokens_as_they_are_published(edit, world_copy):
    path = world_copy / "vcr/val.jsonl"
    edit(
        path,
        lambda rows: rows[0].update(
            question=["Why", "do", "n't", "they", "see", [0], "'", "s", "coat", "?"]
        ),
    )
    assert read_vcr(world_copy / "vcr", "val")[0][0].question == "Why don't they see [0]'s coat?"


def test_a_detection_without_name_does_not_lose_the_still(edit, world_copy):
    question = read_vcr(world_copy / "vcr", "val")[0][0]
    path = (world_copy / "vcr" / question.image.path).with_suffix(".json")
    metadata = json.loads(path.read_text())
    metadata["names"].append(None)
    metadata["boxes"].append([1, 1, 50, 50, 0.9])
    path.write_text(json.dumps(metadata))
    edit(
        world_copy / "vcr/val.jsonl",
        lambda rows: [r["objects"].append(None) for r in rows if r["img_id"] == question.img_id],
    )
    questions, rejects = read_vcr(world_copy / "vcr", "val")
    assert questions[0] == question
    assert [r.reason for r in rejects] == ["bad text"] and "box" in rejects[0].record


@pytest.mark.parametrize("field", ["img_fn", "metadata_fn"])
@pytest.mark.parametrize("path", ["../../secret.jpg", "/etc/passwd", "a/../../../b.json"])
def test_vcr_paths_may_not_leave_the_folder(edit, world_copy, field, path):
    edit(world_copy / "vcr/val.jsonl", lambda rows: rows[0].update({field: path}))
    _, (reject,) = read_vcr(world_copy / "vcr", "val")
    if path.startswith("/"):  # it is looked for below vcr1images
        assert reject.reason in ("missing image", "missing metadata")
    else:
        assert reject.reason == "bad path" and reject.detail.startswith(f"{field}: ")


def test_vcr_test_split_has_no_labels(edit, world_copy):
    def hide(rows: list) -> None:
        for row in rows:
            for key in [
                k
                for k in row
                if "label" in k or "match" in k or "sources" in k or "orig" in k or "lskd" in k
            ]:
                del row[key]

    shutil.copy(world_copy / "vcr/val.jsonl", world_copy / "vcr/test.jsonl")
    edit(world_copy / "vcr/test.jsonl", hide)
    questions, rejects = read_vcr(world_copy / "vcr", "test")
    assert questions and not rejects
    assert all(q.answer_label is q.rationale_label is q.swap is None for q in questions)
    assert {q.slice for q in questions} <= {"why", "what", "how"}
    with pytest.raises(ValueError, match="has no answer label"):
        qa_r(questions[0])
    assert qa_r(questions[0], 1).label is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda r: r["question"].append([9]), "unknown region"),
        (lambda r: r["answer_choices"][0].append([-1]), "unknown region"),
        (lambda r: r["rationale_choices"][3].append([0, 5]), "unknown region"),
        (lambda r: r["question"].append(["0"]), "bad tokens"),
        (lambda r: r["question"].append([]), "bad tokens"),
        (lambda r: r.update(question="What is 1 doing?"), "bad list"),
        (lambda r: r.update(question=[]), "bad tokens"),
        (lambda r: r["objects"].append("dog"), "objects differ"),
        (lambda r: r["objects"].__setitem__(0, "zebra"), "objects differ"),
        (lambda r: r["answer_choices"].pop(), "not four choices"),
        (lambda r: r.update(answer_label=4), "bad label"),
        (lambda r: r.update(rationale_label="1"), "bad label"),
        (lambda r: r.update(answer_label=(r["answer_label"] + 1) % 4), "label disagrees"),
        (lambda r: r.update(img_fn="nowhere/1.jpg"), "missing image"),
        (lambda r: r.update(metadata_fn="nowhere/1.json"), "missing metadata"),
        (lambda r: r.pop("rationale_choices"), "missing field"),
        (lambda r: r.update(lskd_typical=4), "bad label"),
        (lambda r: r.update(lskd_typical=r["answer_label"]), "label disagrees"),
        (lambda r: r.update(lskd_swap=r["answer_label"]), "label disagrees"),
        (lambda r: r.update(lskd_rationale_swap=r["rationale_label"]), "label disagrees"),
    ],
)
def test_bad_vcr_rows_are_rejected(edit, world_copy, change, reason):
    before = len(read_vcr(world_copy / "vcr", "val")[0])
    edit(world_copy / "vcr/val.jsonl", lambda rows: change(rows[1]))
    questions, rejects = read_vcr(world_copy / "vcr", "val")
    assert [r.reason for r in rejects] == [reason] and len(questions) == before - 1
    assert rejects[0].record == "val.jsonl, val-1"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda m: m.pop("boxes"), "missing field"),
        (lambda m: m["names"].pop(), "damaged metadata"),
        (lambda m: m.update(width=100), "image size differs"),
        (lambda m: m.update(height=0), "bad number"),
    ],
)
def test_bad_vcr_metadata_rejects_every_row_about_it(world_copy, change, reason):
    questions, _ = read_vcr(world_copy / "vcr", "val")
    path = world_copy / "vcr" / questions[0].image.path.replace(".jpg", ".json")
    metadata = json.loads(path.read_text())
    change(metadata)
    path.write_text(json.dumps(metadata))
    left, rejects = read_vcr(world_copy / "vcr", "val")
    about = [q for q in questions if q.img_id == questions[0].img_id]
    assert [r.reason for r in rejects] == [reason] * len(about) and len(left) == len(
        questions
    ) - len(about)
    path.write_text("{")
    assert {r.reason for r in read_vcr(world_copy / "vcr", "val")[1]} == {"damaged metadata"}


def test_vcr_box_of_no_area_loses_its_mentions_only(world_copy):
    questions, _ = read_vcr(world_copy / "vcr", "val")
    image = questions[0].image
    region = mentions(questions[0].question)[0]
    path = world_copy / "vcr" / image.path.replace(".jpg", ".json")
    metadata = json.loads(path.read_text())
    metadata["boxes"][region] = [50, 50, 50, 90, 0.75]
    path.write_text(json.dumps(metadata))
    left, rejects = read_vcr(world_copy / "vcr", "val")
    reasons = count_reasons(rejects)
    assert reasons["box of no area"] == 1 and reasons["unknown region"] >= 1
    assert len(left) == len(questions) - reasons["unknown region"]
    for question in left:
        if question.img_id == image.image_id:  # ids stay the metadata's indices
            assert region not in [r.id for r in question.image.regions]
            assert question.image.regions == tuple(r for r in image.regions if r.id != region)


def test_vcr_tolerates_boxes_without_score_and_prefixed_paths(edit, world_copy):
    questions, _ = read_vcr(world_copy / "vcr", "val")
    path = world_copy / "vcr" / questions[0].image.path.replace(".jpg", ".json")
    metadata = json.loads(path.read_text())
    metadata["boxes"] = [
        [*metadata["boxes"][0][:4], 0.75],
        *(box[:4] for box in metadata["boxes"][1:]),
    ]
    path.write_text(json.dumps(metadata))
    edit(
        world_copy / "vcr/val.jsonl",
        lambda rows: rows[0].update(img_fn="vcr1images/" + rows[0]["img_fn"]),
    )
    found, rejects = read_vcr(world_copy / "vcr", "val")
    assert not rejects and found[0].image.path == questions[0].image.path
    assert [r.score for r in found[0].image.regions] == [0.75] + [None] * (
        len(metadata["boxes"]) - 1
    )


def test_damaged_vcr_files_are_errors(world_copy):
    with pytest.raises(ValueError, match="'dev' is none of"):
        read_vcr(world_copy / "vcr", "dev")
    with pytest.raises(FileNotFoundError, match="test.jsonl"):
        read_vcr(world_copy / "vcr", "test")
    text = (world_copy / "vcr/val.jsonl").read_text()
    (world_copy / "vcr/val.jsonl").write_text(text[:-40])
    with pytest.raises(
        ValueError, match=rf"val.jsonl, line {len(text.splitlines())}: not valid JSON"
    ):
        read_vcr(world_copy / "vcr", "val")


TOKENS = st.lists(
    st.one_of(
        st.sampled_from(["What", "is", "holding", "and", "the", "?", ",", "."]),
        st.lists(st.integers(0, 4), min_size=1, max_size=3, unique=True),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(TOKENS)
def test_mentions_survive_from_tokens_to_text(tokens):
    ids = [i for t in tokens if isinstance(t, list) for i in t]
    assert mentions(_text(tokens, set(range(5)))) == list(dict.fromkeys(ids))
    if 4 in ids:
        with pytest.raises(BadRecord, match="unknown region: 4"):
            _text(tokens, {0, 1, 2, 3})
    assert _text(tokens, set(range(5))) == tokens_to_text(tokens)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_changed_vcr_metadata_is_read_right_or_rejected(
    mutation, small_world, tmp_path_factory, data
):
    record = json.loads((small_world / "visualcomet/val_annots.json").read_text())[0]
    metadata = json.loads((small_world / "vcr/vcr1images" / record["metadata_fn"]).read_text()) | {
        "segms": []
    }
    wrong, _ = data.draw(mutation(metadata))
    folder = tmp_path_factory.mktemp("m")
    (folder / "val_annots.json").write_text(json.dumps([record]))
    (folder / "vcr1images" / record["metadata_fn"]).parent.mkdir(parents=True)
    (folder / "vcr1images" / record["metadata_fn"]).write_text(json.dumps(wrong))
    units, rejects, clamped = read_visualcomet(folder, "val", folder, check_images=False)
    assert units or rejects
    for unit in units:
        assert all(
            0 <= r.box[0] < r.box[2] <= wrong["width"]
            and 0 <= r.box[1] < r.box[3] <= wrong["height"]
            for r in unit.image.regions
        )
        assert len(unit.image.regions) + sum("box" in r.record for r in rejects) == len(
            wrong["boxes"]
        )
        cut = [r for r in unit.image.regions if list(r.box) != wrong["boxes"][r.id][:4]]
        assert clamped == len(cut)
