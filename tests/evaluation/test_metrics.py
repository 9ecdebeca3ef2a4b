"""Official metrics on cases whose answer is known, and files for leaderboards: VCR, SNLI-VE,
Visual7W, and the slices of them all.
"""

import csv
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
from lskd_nb.regions import Region
from lskd_nb.sources import MultipleChoice
from lskd_nb.sources.aokvqa import read_aokvqa
from lskd_nb.sources.sherlock import read_comparison, read_test_ids
from lskd_nb.sources.snli_ve import LABELS, read_snli_ve
from lskd_nb.sources.vcr import q_a, qa_r, read_vcr
from lskd_nb.sources.visual7w import read_visual7w
from lskd_nb.sources.visualcomet import draw_candidates, flat_inferences, rankings, read_visualcomet

# ---------------------------------------------------------------------------------------------- VCR


def test_vcr_counts_both_right(item, mean, predict):
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
def test_vcr_perfect_reversed_constant(item, mean, predict, scores, expected):
    items = [item(n, label=n % 4 if expected == 0.25 else 0) for n in range(8)]
    found = metrics.vcr(predict(items, [scores] * 8), predict(items, [scores] * 8))
    assert (
        mean(found["vcr.q_a"]) == mean(found["vcr.q_ar"]) == expected
    )  # of equals the first is taken


def test_vcr_refuses_other_questions_hidden_labels_and_numbers_that_are_none(
    item, predict, with_scores
):
    items = [item(n) for n in range(4)]
    good = predict(items, [[1, 0, 0, 0]] * 4)
    for wrong, message in (
        (predict(items[:3], [[1, 0, 0, 0]] * 3), "not of the same items"),
        (
            predict([item(n, label=None) for n in range(4)], [[1, 0, 0, 0]] * 4),
            "vcr.qa_r: item i0 has no label",
        ),
        (with_scores(good, 3, [1, np.nan, 0, 0]), "item i3: scores are"),
        (
            pa.concat_tables([good, predict(items[:1], [[1, 0, 0, 0]], "lskd")]),
            "item i0 is predicted twice",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            metrics.vcr(good, wrong)


def test_vcr_upload_has_the_official_columns(image, predict, tmp_path):
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


# -------------------------------------------------------------------------------- SNLI-VE, Visual7W


def test_snli_ve_is_accuracy_in_three_classes(item, mean, predict):
    items = [item(n, LABELS, n % 3, "snli_ve", LABELS[n % 3]) for n in range(9)]
    right = {i.item_id: LABELS[i.label] for i in items}
    assert mean(metrics.snli_ve(items, right)) == 1
    assert mean(metrics.snli_ve(items, dict.fromkeys(right, "neutral"))) == pytest.approx(1 / 3)
    assert mean(metrics.snli_ve(items, {"i0": "entailment"}, strict=False)) == pytest.approx(1 / 9)
    table = predict(items, [[n == k for k in range(3)] for n in range(3)] * 3)
    rows = metrics.snli_ve(items, metrics.chosen_texts(items, table))
    assert rows["correct"].tolist() == [bool(c) for c in table["correct"].to_pylist()] == [True] * 9
    assert list(metrics.by_slice(rows).index) == ["all", *sorted(LABELS)]


def test_visual7w_ignores_case_and_splits_by_type(item):
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


def test_slices_by_regions_and_size(image, predict):
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


def test_slices_have_intervals_over_images_and_paired_differences(item, predict):
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


def test_a_student_takes_all_six_benchmarks(item, mean, tmp_path):
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
    assert [s.question.split()[0] for s in shown] == ["What", "[0]", "Does"]
    assert shown[0].view.regions and shown[1].view.regions[0].id == 0
    assert shown[2].choices == tuple(f"Answer: {label}" for label in LABELS)
    assert benchmark_items.hypothesis_items(premises[:1])[0].choices == (premises[0].question,)
    with pytest.raises(ValueError, match="no wording for the task 'lvis'"):
        benchmark_items.student_items([item(0, task="lvis")])
