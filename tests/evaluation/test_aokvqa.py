"""A-OKVQA's metrics against a transcription of the authors' script, and its file of predictions."""

import json
from collections.abc import Callable

import pytest

from lskd_nb.evaluation import metrics, submissions
from lskd_nb.run_folder import find_root
from lskd_nb.sources.aokvqa import AokvqaQuestion, read_aokvqa

SAMPLES = find_root().parent / "shared" / "samples"


def eval_aokvqa(dataset: list[dict], preds: dict, multiple_choice: bool) -> float:
    """As in evaluation/eval_predictions.py, not strict."""
    if not multiple_choice:
        dataset = [d for d in dataset if d["difficult_direct_answer"] is False]
    acc = []
    for d in dataset:
        if d["question_id"] not in preds:
            acc.append(0.0)
        elif multiple_choice:
            acc.append(float(preds[d["question_id"]] == d["choices"][d["correct_choice_idx"]]))
        else:
            acc.append(
                min(1.0, sum(preds[d["question_id"]] == da for da in d["direct_answers"]) / 3.0)
            )
    return sum(acc) / len(acc)


@pytest.fixture(scope="session")
def aokvqa(item) -> Callable[..., AokvqaQuestion]:
    def make(
        number: int,
        answers: tuple[str, ...],
        difficult: bool = False,
        choices: tuple[str, ...] = ("a", "b", "c", "d"),
    ) -> AokvqaQuestion:
        return AokvqaQuestion(item(number, choices, task="aokvqa"), answers, difficult, ())

    return make


def test_real_aokvqa_answered_by_the_right_choice(mean):
    path = SAMPLES / "aokvqa" / "aokvqa_v1p0_val.json"
    if not path.exists():
        pytest.skip("no sample of A-OKVQA beside the project")
    rows, (questions, _) = (
        json.loads(path.read_text()),
        read_aokvqa(path.parent, "val", check_images=False),
    )
    gold = {d["question_id"]: d["choices"][d["correct_choice_idx"]] for d in rows}
    assert mean(metrics.aokvqa_multiple_choice(questions, gold)) == 1
    direct = metrics.aokvqa_direct_answer(questions, gold)
    assert len(direct) == sum(not d["difficult_direct_answer"] for d in rows) == 92
    assert (
        mean(direct)
        == pytest.approx(eval_aokvqa(rows, gold, False))
        == pytest.approx(208 / (3 * 92))
    )
    first = {d["question_id"]: d["choices"][0] for d in rows[:60]}
    assert mean(metrics.aokvqa_multiple_choice(questions, first, strict=False)) == pytest.approx(
        eval_aokvqa(rows, first, True)
    )
    assert mean(metrics.aokvqa_direct_answer(questions, first, strict=False)) == pytest.approx(
        eval_aokvqa(rows, first, False)
    )


def test_direct_answers_count_to_three_and_leave_out_difficult_questions(aokvqa):
    questions = [
        aokvqa(0, ("a",) * 10),
        aokvqa(1, ("a", "a", "b", "A", "a ")),
        aokvqa(2, ("b",) * 10),
        aokvqa(3, ("a",) * 10, difficult=True),
    ]
    answers = dict.fromkeys(("i0", "i1", "i2", "i3"), "a")
    assert metrics.aokvqa_direct_answer(questions, answers)["correct"].tolist() == pytest.approx(
        [1, 2 / 3, 0]
    )
    assert len(metrics.aokvqa_multiple_choice(questions, answers)) == 4
    answers.pop("i0")
    assert metrics.aokvqa_direct_answer(questions, answers, strict=False)[
        "correct"
    ].tolist() == pytest.approx([0, 2 / 3, 0])
    for metric in (metrics.aokvqa_direct_answer, metrics.aokvqa_multiple_choice):
        with pytest.raises(ValueError, match="1 of . items have no answer, i0 is the first"):
            metric(questions, answers)
    with pytest.raises(ValueError, match="'e' is none of the choices"):
        metrics.aokvqa_multiple_choice(questions[:1], {"i0": "e"})
    with pytest.raises(ValueError, match="no direct answers"):
        metrics.aokvqa_direct_answer([aokvqa(0, ())], {"i0": "a"})


def test_a_choice_offered_twice_is_right_either_way(aokvqa, mean, predict):
    questions = [aokvqa(0, ("a",), choices=("a", "b", "a", "c"))]
    table = predict([questions[0].item], [[0, 0, 1, 0]])
    assert table["correct"].to_pylist() == [False]  # by index
    assert (
        mean(
            metrics.aokvqa_multiple_choice(
                questions, metrics.chosen_texts([questions[0].item], table)
            )
        )
        == 1
    )


def test_aokvqa_predictions_file(tmp_path):
    path = tmp_path / "predictions_test.json"
    submissions.write_aokvqa(
        path, ["q1", "q2"], {"q1": "a", "q2": "b", "q3": "c"}, {"q1": "x", "q2": "y"}
    )
    assert json.loads(path.read_text()) == {
        "q1": {"multiple_choice": "a", "direct_answer": "x"},
        "q2": {"multiple_choice": "b", "direct_answer": "y"},
    }
    with pytest.raises(ValueError, match="direct_answer: 1 of 2 questions have no answer, q2"):
        submissions.write_aokvqa(path, ["q1", "q2"], None, {"q1": "x"})
    with pytest.raises(ValueError, match="give multiple_choice"):
        submissions.write_aokvqa(path, ["q1"])
