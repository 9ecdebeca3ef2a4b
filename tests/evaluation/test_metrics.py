"""Official metrics on cases whose answer is known, against short transcriptions of the authors'
scripts, and files for leaderboards.
"""

import csv
import json
from itertools import permutations
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lskd_nb.evaluation import choices, metrics, submissions
from lskd_nb.evaluation import items as benchmark_items
from lskd_nb.mini.files.world_files import write_world
from lskd_nb.records import PREDICTIONS, read_parquet, write_parquet
from lskd_nb.regions import LocatedImage, Region
from lskd_nb.run_folder import find_root
from lskd_nb.sources import MultipleChoice
from lskd_nb.sources.aokvqa import AokvqaQuestion, read_aokvqa
from lskd_nb.sources.sherlock import Comparison, read_comparison, read_test_ids
from lskd_nb.sources.snli_ve import LABELS, read_snli_ve
from lskd_nb.sources.vcr import q_a, qa_r, read_vcr
from lskd_nb.sources.visual7w import read_visual7w
from lskd_nb.sources.visualcomet import (
    Ranking,
    draw_candidates,
    flat_inferences,
    rankings,
    read_visualcomet,
)

SAMPLES = find_root().parent / "shared" / "samples"
BOX = Region(0, (0.0, 0.0, 10.0, 10.0))


def image(number: int, *regions: Region) -> LocatedImage:
    return LocatedImage(f"m{number}", f"{number}.jpg", 100, 100, regions, "x", "val")


def item(
    number: int,
    choices: tuple[str, ...] = ("a", "b", "c", "d"),
    label: int | None = 0,
    task: str = "vcr.q_a",
    slice: str = "why",
) -> MultipleChoice:
    return MultipleChoice(f"i{number}", image(number // 2), "Why?", choices, label, task, slice)


def predict(
    items: list[MultipleChoice], scores: list, system: str = "base", seed: int = 0
) -> pa.Table:
    return choices.predictions(
        benchmark_items.student_items(items), [np.asarray(s, float) for s in scores], system, seed
    )


def mean(rows: pd.DataFrame) -> float:
    return choices.accuracy(rows)["mean"]


# ---------------------------------------------------------------------------------------------- VCR


def test_vcr_counts_both_right():
    rng = np.random.default_rng(0)
    labels = rng.integers(4, size=(40, 2))
    scores = rng.normal(size=(2, 40, 4))
    parts = [
        [item(n, label=int(labels[n, k]), task=task) for n in range(40)]
        for k, task in enumerate(("vcr.q_a", "vcr.qa_r"))
    ]
    found = metrics.vcr(*(predict(items, list(s)) for items, s in zip(parts, scores, strict=True)))
    hits = scores.argmax(2) == labels.T  # models/eval_q2ar.py
    expected = dict(
        zip(
            ("vcr.q_a", "vcr.qa_r", "vcr.q_ar"),
            (hits[0].mean(), hits[1].mean(), (hits[0] & hits[1]).mean()),
            strict=True,
        )
    )
    assert {task: mean(rows) for task, rows in found.items()} == pytest.approx(expected)
    assert set(found["vcr.q_ar"]["task"]) == {"vcr.q_ar"}


@pytest.mark.parametrize(
    ("scores", "expected"), [([9, 1, 1, 1], 1.0), ([1, 2, 3, 4], 0.0), ([5, 5, 5, 5], 0.25)]
)
def test_vcr_perfect_reversed_constant(scores, expected):
    items = [item(n, label=n % 4 if expected == 0.25 else 0) for n in range(8)]
    found = metrics.vcr(predict(items, [scores] * 8), predict(items, [scores] * 8))
    assert (
        mean(found["vcr.q_a"]) == mean(found["vcr.q_ar"]) == expected
    )  # of equals the first is taken


def test_vcr_refuses_other_questions_hidden_labels_and_numbers_that_are_none():
    items = [item(n) for n in range(4)]
    good = predict(items, [[1, 0, 0, 0]] * 4)
    for wrong, message in (
        (predict(items[:3], [[1, 0, 0, 0]] * 3), "not of the same items"),
        (
            predict([item(n, label=None) for n in range(4)], [[1, 0, 0, 0]] * 4),
            "vcr.qa_r: item i0 has no label",
        ),
        (predict(items, [[1, 0, 0, 0]] * 3 + [[1, np.nan, 0, 0]]), "item i3: scores are"),
        (
            pa.concat_tables([good, predict(items[:1], [[1, 0, 0, 0]], "lskd")]),
            "item i0 is predicted twice",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            metrics.vcr(good, wrong)


def test_vcr_upload_has_the_official_columns(tmp_path):
    rng = np.random.default_rng(1)
    answers, rationales = rng.normal(size=(3, 4)), rng.normal(size=(3, 4, 4))
    ids = ["test-1", "test-0", "test-2"]
    one = predict(
        [MultipleChoice(i, image(0), "Why?", ("a",) * 4, None, "vcr.q_a", "") for i in ids],
        list(answers),
    )
    many = predict(
        [
            MultipleChoice(f"{i}/{a}", image(0), "Why?", ("a",) * 4, None, "vcr.qa_r", "")
            for i in ids
            for a in range(4)
        ],
        list(rationales.reshape(12, 4)),
    )
    path = tmp_path / "submission.csv"
    submissions.write_vcr(path, ids, one, many)
    with path.open() as file:
        header = next(csv.reader(file))
    group_names = ["answer"] + [
        f"rationale_conditioned_on_a{i}" for i in range(4)
    ]  # models/eval_for_leaderboard.py
    assert header == ["annot_id"] + [
        f"{group_name}_{i}" for group_name in group_names for i in range(4)
    ]
    frame = pd.read_csv(path).set_index("annot_id")
    assert list(frame.index) == ids and frame.shape == (3, 20)
    probabilities = frame.to_numpy().reshape(3, 5, 4)
    assert (
        np.allclose(probabilities.sum(2), 1)
        and (probabilities[:, 0].argmax(1) == answers.argmax(1)).all()
    )
    exact = np.exp(rationales) / np.exp(rationales).sum(2, keepdims=True)
    assert np.allclose(probabilities[:, 1:], exact, atol=1e-6)
    for wanted, message in (
        (["test-3"], "answers, item test-3"),
        (["test-0", "test-0"], "1 of them are repeated"),
    ):
        with pytest.raises(ValueError, match=message):
            submissions.write_vcr(tmp_path / "other.csv", wanted, one, many)
    with pytest.raises(ValueError, match="rationales, item test-2/3: scores are None"):
        submissions.write_vcr(tmp_path / "other.csv", ids, one, many.slice(0, 11))
    assert [p.name for p in tmp_path.iterdir()] == ["submission.csv"]  # nothing half-written


# ----------------------------------------------------------------------------------------- Sherlock


def pairwise_acc(model_pred, label, seed=1):
    """As in score_comparison.py, with a generator of its own instead of the global one."""
    tiebroken = (
        list(model_pred)
        + np.random.RandomState(seed).random_sample(size=10)[: len(model_pred)] / 1e9
    )
    correct, total = 0, 0
    for i in range(len(label)):
        for j in range(i + 1, len(label)):
            if label[i] == label[j]:
                continue
            total += 1
            correct += int((label[i] < label[j]) == (tiebroken[i] < tiebroken[j]))
    return (correct / total - 0.5) * 2 if total > 0 else 0.0


def compared(annot1: list, annot2: list, number: int = 0) -> Comparison:
    texts = tuple(f"t{k}" for k in range(len(annot1)))
    found = MultipleChoice(
        f"i{number}", image(number, BOX), "", texts, None, "sherlock.comparison", "vcr"
    )
    return Comparison(
        found, tuple(f"id{number}-{k:02}" for k in range(len(texts))), tuple(annot1), tuple(annot2)
    )


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 0.5, 1.0, -3.0]), st.integers(1, 3)),
        min_size=1,
        max_size=10,
    )
)
def test_comparison_agreement_is_the_official_one(pairs):
    scores, ratings = zip(*pairs, strict=True)
    assert metrics.comparison_agreement(scores, ratings) == pytest.approx(
        pairwise_acc(scores, ratings)
    )
    np.random.seed(1)
    noise = (
        np.random.random(size=10) / 1e9
    )  # the official noise: seeding the global generator gives the same numbers
    assert metrics.comparison_agreement(noise[: len(ratings)], ratings) == pytest.approx(
        metrics.comparison_agreement([0.0] * len(ratings), ratings)
    )


def test_comparison_perfect_reversed_constant_tied():
    ratings = [1.0, 2, 2, 3, 1, 3, 1, 2, 3, 1]
    rated = [compared(ratings, ratings, n) for n in range(3)]
    items = [c.item for c in rated]
    assert mean(metrics.sherlock_comparison(rated, predict(items, [ratings] * 3))) == 1
    assert mean(metrics.sherlock_comparison(rated, predict(items, [-np.array(ratings)] * 3))) == -1
    constant = mean(metrics.sherlock_comparison(rated, predict(items, [[0.5] * 10] * 3)))
    assert constant == pytest.approx(pairwise_acc([0.5] * 10, ratings)) and -1 < constant < 1
    alike = [compared([2.0] * 10, [2.0] * 10)]
    assert mean(metrics.sherlock_comparison(alike, predict(items[:1], [ratings]))) == 0
    assert metrics.sherlock_ceilings(rated) == dict(human=1.0, oracle=1.0)
    assert metrics.comparison_agreement(range(12), range(12)) == 1  # the script stops at ten


def test_comparison_is_the_mean_over_both_annotators():
    rng = np.random.default_rng(0)
    rated = [
        compared(*rng.integers(1, 4, size=(2, 10)).astype(float).tolist(), n) for n in range(20)
    ]
    scores = rng.normal(size=(20, 10)).round(1).astype(np.float32)
    rows = metrics.sherlock_comparison(rated, predict([c.item for c in rated], list(scores)))
    expected = [
        np.mean([pairwise_acc(s.astype(float), c.annot1), pairwise_acc(s.astype(float), c.annot2)])
        for c, s in zip(rated, scores, strict=True)
    ]
    assert rows["correct"].to_numpy() == pytest.approx(expected)
    ceilings = metrics.sherlock_ceilings(rated)
    human = np.mean(
        [[pairwise_acc(c.annot1, c.annot2), pairwise_acc(c.annot2, c.annot1)] for c in rated]
    )
    oracle = np.mean(
        [
            [pairwise_acc(np.mean([c.annot1, c.annot2], axis=0), a) for a in (c.annot1, c.annot2)]
            for c in rated
        ]
    )
    assert (ceilings["human"], ceilings["oracle"]) == pytest.approx(
        (human, oracle)
    ) and oracle > human


def test_comparison_needs_every_score_and_rating():
    rated = [compared([1.0, 2], [2.0, 1], n) for n in range(2)]
    items = [c.item for c in rated]
    with pytest.raises(ValueError, match="item i1: 0 scores for 2 choices"):
        metrics.sherlock_comparison(rated, predict(items[:1], [[0, 1]]))
    with pytest.raises(ValueError, match="item i1: 3 scores for 2 choices"):
        metrics.sherlock_comparison(rated, predict(items, [[0, 1], [0, 1, 2]]))
    with pytest.raises(ValueError, match="item i0 has no ratings"):
        metrics.sherlock_comparison(
            [Comparison(items[0], ("x", "y"), (), ())], predict(items[:1], [[0, 1]])
        )
    with pytest.raises(ValueError, match="no comparisons"):
        metrics.sherlock_ceilings([])


def test_sherlock_array_is_ordered_by_sorted_id(tmp_path):
    rated = [compared([1.0, 2, 3], [1.0, 2, 3], n) for n in (1, 0)]
    table = predict([c.item for c in rated], [[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]])
    ids = sorted(i for c in rated for i in c.test_ids)
    submissions.write_sherlock(tmp_path / "comparison.npy", rated, table, ids)
    found = np.load(tmp_path / "comparison.npy", allow_pickle=False)
    assert found.dtype == np.float32 and found.tolist() == pytest.approx(
        [0.4, 0.5, 0.6, 0.1, 0.2, 0.3]
    )
    for wrong, message in (
        (ids[:-1], "id1-02 is not among the official ids"),
        ([*ids, "zzz"], "zzz has no score"),
        (ids[::-1], "sorted"),
    ):
        with pytest.raises(ValueError, match=message):
            submissions.write_sherlock(tmp_path / "other.npy", rated, table, wrong)
    with pytest.raises(ValueError, match="item i1: 0 scores"):
        submissions.write_sherlock(tmp_path / "other.npy", rated, table.slice(1), ids)
    with pytest.raises(ValueError, match="id0-00: its score is not finite"):
        submissions.write_sherlock(
            tmp_path / "other.npy",
            rated,
            predict([c.item for c in rated], [[0.1, 0.2, 0.3], [np.inf, 0.5, 0.6]]),
            ids,
        )
    assert not (tmp_path / "other.npy").exists()


def test_retrieval_ranks_count_ties_by_their_mean():
    perfect = metrics.sherlock_retrieval(np.eye(4))
    assert perfect == dict(im2txt=1.0, txt2im=1.0, p_at_1=1.0)
    assert metrics.sherlock_retrieval(np.zeros((5, 5))) == dict(im2txt=3.0, txt2im=3.0, p_at_1=0.0)
    assert metrics.sherlock_retrieval(-np.eye(4)) == dict(im2txt=4.0, txt2im=4.0, p_at_1=0.0)
    assert metrics.sherlock_retrieval(np.array([[2, 1], [3, 2.5]])) == dict(
        im2txt=1.5, txt2im=1.5, p_at_1=0.5
    )
    with pytest.raises(ValueError, match="square matrix"):
        metrics.sherlock_retrieval(np.zeros((2, 3)))


# -------------------------------------------------------------------------------------- VisualCOMET


@settings(max_examples=80, deadline=None)
@given(st.permutations(range(12)), st.integers(1, 12))
def test_r_precision_is_the_official_recall(order, num_gt):
    scores = np.array(order, float)
    sorted_indices = np.argsort(
        -scores
    )  # run_rank.py sorts perplexities, the right candidates are the first num_gt
    recall = sum(sorted_indices[i] < num_gt for i in range(num_gt)) / num_gt
    assert metrics.r_precision(scores, np.arange(12) < num_gt) == pytest.approx(recall)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=1, max_size=6).filter(
        lambda pairs: any(g for _, g in pairs)
    )
)
def test_tied_candidates_count_as_in_the_mean_of_all_orders(pairs):
    k, found = sum(g for _, g in pairs), []
    for order in permutations(pairs):
        found.append(sum(g for _, g in sorted(order, key=lambda p: -p[0])[:k]) / k)
    assert metrics.r_precision(*zip(*pairs, strict=True)) == pytest.approx(np.mean(found))


def test_acc_at_50_perfect_reversed_constant_missing():
    gold = [tuple(k in own for k in range(50)) for own in ({3, 4}, {0}, {7, 9, 11, 13, 20})]
    units = [
        Ranking(
            MultipleChoice(
                f"i{n}",
                image(n),
                "[0] waits.",
                tuple(map(str, range(50))),
                None,
                "visualcomet",
                "before",
            ),
            g,
        )
        for n, g in enumerate(gold)
    ]
    items = [u.item for u in units]
    scores = np.array(gold, float)
    assert mean(metrics.visualcomet_acc_at_50(units, predict(items, list(scores)))) == 1
    assert mean(metrics.visualcomet_acc_at_50(units, predict(items, list(-scores)))) == 0
    constant = mean(metrics.visualcomet_acc_at_50(units, predict(items, [[0.3] * 50] * 3)))
    assert constant == pytest.approx(
        np.mean([2, 1, 5]) / 50
    )  # not 1, though a sort that keeps order would give it
    with pytest.raises(ValueError, match="item i2: 0 scores for 50"):
        metrics.visualcomet_acc_at_50(units, predict(items[:2], list(scores[:2])))
    with pytest.raises(ValueError, match="0 of them right"):
        metrics.r_precision([1.0, 2.0], [False, False])


# ------------------------------------------------------------------------------------------ A-OKVQA


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


def aokvqa(
    number: int,
    answers: tuple[str, ...],
    difficult: bool = False,
    choices: tuple[str, ...] = ("a", "b", "c", "d"),
) -> AokvqaQuestion:
    return AokvqaQuestion(item(number, choices, task="aokvqa"), answers, difficult, ())


def test_real_aokvqa_answered_by_the_right_choice():
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


def test_direct_answers_count_to_three_and_leave_out_difficult_questions():
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


def test_a_choice_offered_twice_is_right_either_way():
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


# -------------------------------------------------------------------------------- SNLI-VE, Visual7W


def test_snli_ve_is_accuracy_in_three_classes():
    items = [item(n, LABELS, n % 3, "snli_ve", LABELS[n % 3]) for n in range(9)]
    right = {i.item_id: LABELS[i.label] for i in items}
    assert mean(metrics.snli_ve(items, right)) == 1
    assert mean(metrics.snli_ve(items, dict.fromkeys(right, "neutral"))) == pytest.approx(1 / 3)
    assert mean(metrics.snli_ve(items, {"i0": "entailment"}, strict=False)) == pytest.approx(1 / 9)
    table = predict(items, [[n == k for k in range(3)] for n in range(3)] * 3)
    rows = metrics.snli_ve(items, metrics.chosen_texts(items, table))
    assert rows["correct"].tolist() == [bool(c) for c in table["correct"].to_pylist()] == [True] * 9
    assert list(metrics.by_slice(rows).index) == ["all", *sorted(LABELS)]


def test_visual7w_ignores_case_and_splits_by_type():
    items = [
        item(n, ("A dog.", "a cat", "Two", "none"), 0, "visual7w", "what" if n < 3 else "how")
        for n in range(4)
    ]
    answers = {"i0": "a DOG.", "i1": "a cat", "i2": "A dog.", "i3": "A dog"}
    table = metrics.by_slice(metrics.visual7w(items, answers))
    assert table["mean"].to_dict() == pytest.approx(
        {"all": 0.5, "how": 0.0, "what": 2 / 3}
    ) and table["n"].to_dict() == {"all": 4, "how": 1, "what": 3}
    with pytest.raises(ValueError, match="1 of 4 items have no answer, i3"):
        metrics.visual7w(items, {k: answers[k] for k in ("i0", "i1", "i2")})
    with pytest.raises(ValueError, match="i0 has no label"):
        metrics.visual7w([item(0, label=None)], {"i0": "a"})


# ------------------------------------------------------------------------------------------- slices


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 8), st.integers(0, 8), st.integers(1, 4), st.integers(1, 4)),
        max_size=5,
    )
)
def test_covered_area_counts_overlaps_once(boxes):
    pixels = np.zeros((12, 12), bool)
    for x, y, w, h in boxes:
        pixels[y : y + h, x : x + w] = True
    assert (
        metrics.covered_area([Region(0, (x, y, x + w, y + h)) for x, y, w, h in boxes])
        == pixels.sum()
    )


def test_slices_by_regions_and_size():
    small, large = Region(0, (0, 0, 20, 20)), Region(1, (0, 0, 100, 60))
    cases = [
        ("Why is [0] here?", ("1", "small")),
        ("Do [0] and [1] talk?", ("2", "large")),
        ("Where is this?", ("0", "none")),
        ("", ("2", "large")),
    ]
    items = [
        MultipleChoice(f"i{n}", image(n, small, large), text, ("a", "b"), 0, "vcr.q_a", "why")
        for n, (text, _) in enumerate(cases)
    ]
    slices = metrics.region_slices(items)
    assert list(zip(slices["regions"], slices["size"], strict=True)) == [
        expected for _, expected in cases
    ]
    rows = predict(items, [[1, 0], [0, 1], [1, 0], [1, 0]]).to_pandas().merge(slices, on="item_id")
    assert metrics.by_slice(rows, "size")["mean"].to_dict() == {
        "all": 0.75,
        "large": 0.5,
        "none": 1.0,
        "small": 1.0,
    }
    with pytest.raises(ValueError, match="'area' is none of"):
        metrics.by_slice(rows, "area")


def test_slices_have_intervals_over_images_and_paired_differences():
    rng = np.random.default_rng(0)
    items = [item(n, label=0, slice="why" if n % 3 else "how") for n in range(300)]
    base = metrics.vcr(*[predict(items, list(rng.normal(size=(300, 4))))] * 2)["vcr.q_a"]
    better = base.assign(correct=base["correct"] | (rng.random(300) < 0.3), system="lskd")
    table = metrics.by_slice(base)
    assert (
        table["n"].to_dict() == {"all": 300, "how": 100, "why": 200}
        and table.loc["all", "clusters"] == 150
    )
    assert (table["low"] < table["mean"]).all() and (table["mean"] < table["high"]).all()
    assert table.loc["all"].to_dict() == choices.accuracy(base)
    paired = metrics.by_slice(better, other=base)
    part = base["slice"] == "how"
    assert (
        paired.loc["how", "mean"]
        == pytest.approx(better["correct"][part].mean() - base["correct"][part].mean())
        and (paired["low"] > 0).all()
    )
    assert (
        paired.loc["all", "high"] - paired.loc["all", "low"]
        < table.loc["all", "high"] - table.loc["all", "low"]
    )
    with pytest.raises(ValueError, match="different items"):
        metrics.by_slice(better, other=base.iloc[:200])


# ---------------------------------------------------------------------------- all six, by a student


def test_a_student_takes_all_six_benchmarks(tmp_path):
    from lskd_nb.mini.pretraining.base import fresh_student
    from lskd_nb.students.views import FrozenFeatures

    world = tmp_path / "world"
    write_world(world, 3, 3, 5, workers=1)
    questions, comparisons = (
        read_vcr(world / "vcr", "val")[0],
        read_comparison(world / "sherlock", "val", world / "vcr")[0],
    )
    units = read_visualcomet(world / "visualcomet", "val", world / "vcr")[0]
    ranked = rankings(
        units,
        draw_candidates(world / "visualcomet", number=6),
        flat_inferences(world / "visualcomet"),
    )
    asked = read_aokvqa(world / "aokvqa", "val")[0]
    told, premises = (
        read_visual7w(world / "visual7w", "val")[0],
        read_snli_ve(world / "snli_ve", "dev")[0],
    )
    student = fresh_student(
        0, hidden=32, layers=2, vision_width=24, vision_layers=1, image_size=32
    ).eval()

    def scored(items: list[MultipleChoice], root: Path) -> pa.Table:
        put = benchmark_items.student_items(items)
        rows = choices.predictions(
            put, choices.match_scores(student, put, FrozenFeatures(student, root)), "base", 0
        )
        write_parquet(rows, tmp_path / "p.parquet", PREDICTIONS)
        return read_parquet(tmp_path / "p.parquet", PREDICTIONS)

    frames = metrics.vcr(
        scored([q_a(q) for q in questions], world / "vcr"),
        scored([qa_r(q) for q in questions], world / "vcr"),
    )
    table = scored([c.item for c in comparisons], world / "vcr")
    frames["sherlock"] = metrics.sherlock_comparison(comparisons, table)
    submissions.write_sherlock(
        tmp_path / "comparison.npy", comparisons, table, read_test_ids(world / "sherlock", "val")
    )
    frames["visualcomet"] = metrics.visualcomet_acc_at_50(
        ranked, scored([r.item for r in ranked], world / "vcr")
    )
    items = [q.item for q in asked]
    frames["aokvqa"] = metrics.aokvqa_direct_answer(
        asked, metrics.chosen_texts(items, scored(items, world / "aokvqa")), "base"
    )
    for task, items, metric in (
        ("visual7w", told, metrics.visual7w),
        ("snli_ve", premises, metrics.snli_ve),
    ):
        frames[task] = metric(
            items, metrics.chosen_texts(items, scored(items, world / task)), "base"
        )
    for name, rows in frames.items():
        assert len(rows) and -1 <= mean(rows) <= 1 and set(rows["system"]) == {"base"}, name
        assert len(metrics.by_slice(rows)) == 1 + rows["slice"].nunique()
    assert [len(frames[n]) for n in ("vcr.q_ar", "sherlock", "visualcomet", "visual7w")] == [
        len(questions),
        len(comparisons),
        len(units),
        len(told),
    ]
    shown = benchmark_items.student_items([comparisons[0].item, ranked[0].item, premises[0]])
    assert [s.question.split()[0] for s in shown] == [
        "What",
        ranked[0].item.question.split()[0],
        "Does",
    ] and shown[0].view.regions
    assert benchmark_items.hypothesis_items(premises[:1])[0].choices == (premises[0].question,)
    with pytest.raises(ValueError, match="no wording for the task 'lvis'"):
        benchmark_items.student_items([item(0, task="lvis")])
