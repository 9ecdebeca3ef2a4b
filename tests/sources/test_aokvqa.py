"""A-OKVQA: real excerpts, the mini world's files, and records changed at random."""

import json
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lskd_nb.evaluation import choices, metrics
from lskd_nb.evaluation.items import student_items
from lskd_nb.mini.pretraining.base import fresh_student
from lskd_nb.run_folder import find_root
from lskd_nb.sources import count_reasons
from lskd_nb.sources.aokvqa import read_aokvqa
from lskd_nb.students.views import FrozenFeatures

SAMPLES = find_root().parent / "shared" / "samples"


# ------------------------------------------------------------------------ records changed at random


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_changed_aokvqa_row_is_read_right_or_rejected(
    check_reject, mutation, tmp_path_factory, data
):
    row = dict(
        split="val",
        image_id=7,
        question_id="q",
        question="What is it?",
        choices=["a", "b", "c", "a"],
        correct_choice_idx=2,
        direct_answers=["c", "c", "d"],
        difficult_direct_answer=False,
        rationales=["r"],
    )
    row_changed, fields = data.draw(mutation(row))
    folder = tmp_path_factory.mktemp("a")
    (folder / "aokvqa_v1p0_val.json").write_text(json.dumps([row, row_changed]))
    questions, rejects = read_aokvqa(folder, "val", check_images=False)
    for reject in rejects:
        check_reject(reject, fields, "aokvqa_v1p0_val.json", 1)
    in_part = len(questions) == 2 and bool(rejects)
    assert len(questions) + len({r.record for r in rejects}) == 2 + in_part
    if len(questions) == 1:
        return
    read = questions[1]
    for name in ("direct_answers", "rationales"):
        kept = [t for t in row_changed.get(name) or [] if isinstance(t, str)]
        assert list(getattr(read, name)) == kept
        assert len(row_changed.get(name) or []) - len(kept) == sum(
            name in r.detail for r in rejects
        )
    assert (
        list(read.item.choices) == row_changed["choices"]
        and read.item.label == row_changed["correct_choice_idx"]
    )
    assert read.difficult_direct_answer is row_changed["difficult_direct_answer"]
    assert read.item.image.path == f"val2017/{row_changed['image_id']:012}.jpg"


# ------------------------------------------------------------------------------------ read as it is


def test_real_aokvqa_rows(sample):
    rows = sample("aokvqa/aokvqa_v1p0_val.json")
    questions, rejects = read_aokvqa(SAMPLES / "aokvqa", "val", check_images=False)
    assert len(questions) == 100 and not rejects
    for row, question in zip(rows, questions, strict=True):
        assert (
            question.item.choices[question.item.label] == row["choices"][row["correct_choice_idx"]]
        )
        assert (
            question.direct_answers == tuple(row["direct_answers"])
            and len(question.rationales) == 3
        )
        assert question.difficult_direct_answer is row["difficult_direct_answer"]
    assert (
        sum(len(set(q.item.choices)) < 4 for q in questions) == 2
    )  # real questions offer a choice twice
    assert {q.item.slice for q in questions} >= {"what", "why", "where", "other"}


def test_the_right_choices_of_real_rows_as_direct_answers(sample):
    """Scored by the official rule, counted here anew; over the whole of val it comes to 78.26."""
    rows = sample("aokvqa/aokvqa_v1p0_val.json")
    questions, _ = read_aokvqa(SAMPLES / "aokvqa", "val", check_images=False)
    right = {q.item.item_id: q.item.choices[q.item.label] for q in questions}
    scored = metrics.aokvqa_direct_answer(questions, right)
    easy = [r for r in rows if not r["difficult_direct_answer"]]
    expected = [
        min(1, r["direct_answers"].count(r["choices"][r["correct_choice_idx"]]) / 3) for r in easy
    ]
    assert len(scored) == len(easy) == 92
    assert scored["correct"].mean() == pytest.approx(sum(expected) / 92) == pytest.approx(0.7536231)


def test_an_empty_choice_is_asked_like_any_other(edit, small_copy):
    folder = small_copy / "aokvqa"
    edit(
        folder / "aokvqa_v1p0_val.json",
        lambda rows: (
            rows[0]["choices"].__setitem__(rows[0]["correct_choice_idx"], ""),
            rows[1]["choices"].__setitem__((rows[1]["correct_choice_idx"] + 1) % 4, ""),
            rows[0].update(question_id=17),
        ),
    )
    questions, rejects = read_aokvqa(folder, "val")
    assert not rejects and questions[0].item.item_id == "17"
    assert [q.item.choices.count("") for q in questions[:3]] == [1, 1, 0]
    put = student_items(q.item for q in questions[:4])
    assert "Answer: " in put[0].choices
    student = fresh_student(
        0, hidden=32, layers=2, vision_width=24, vision_layers=1, image_size=32
    ).eval()
    scores = choices.match_scores(student, put, FrozenFeatures(student, folder))
    assert all(np.isfinite(s).all() and len(s) == 4 for s in scores)
    told = choices.predictions(put, scores, "base", 0)
    answers = metrics.chosen_texts([q.item for q in questions[:4]], told)
    answers |= {"17": ""}
    assert metrics.aokvqa_multiple_choice(questions[:4], answers)["correct"][0] == 1
    assert len(metrics.aokvqa_direct_answer(questions[:4], answers)) <= 4


def test_aokvqa_of_the_world(edit, small_world, small_copy):
    questions, rejects = read_aokvqa(small_world / "aokvqa", "val")
    assert (
        questions
        and not rejects
        and all((q.item.image.width, q.item.image.height) == (320, 240) for q in questions)
    )
    folder = small_copy / "aokvqa"
    shutil.copy(folder / "aokvqa_v1p0_val.json", folder / "aokvqa_v1p0_test.json")
    hidden = ("correct_choice_idx", "direct_answers", "rationales")
    edit(
        folder / "aokvqa_v1p0_test.json",
        lambda rows: [(row.update(split="test"), [row.pop(k) for k in hidden]) for row in rows],
    )
    edit(folder / "aokvqa_v1p0_test.json", lambda rows: rows[0].pop("difficult_direct_answer"))
    test, rejects = read_aokvqa(folder, "test", check_images=False)
    assert len(test) == len(questions) and not rejects
    assert all(q.item.label is None and q.direct_answers == () == q.rationales for q in test)
    edit(folder / "aokvqa_v1p0_val.json", lambda rows: rows[0].pop("correct_choice_idx"))
    (folder / questions[1].item.image.path).unlink()
    left, rejects = read_aokvqa(folder, "val")
    assert len(left) == len(questions) - 2 and count_reasons(rejects) == {
        "missing field": 1,
        "missing image": 1,
    }
    with pytest.raises(ValueError, match="'dev' is none of"):
        read_aokvqa(folder, "dev")
