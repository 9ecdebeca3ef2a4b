"""Scores, intervals and comparisons, on cases whose answer is known."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from lskd_nb.evaluation import choices
from lskd_nb.records import PREDICTIONS
from lskd_nb.students.views import View


def item(number: int, label: int, task: str = "vcr.q_a") -> choices.Item:
    return choices.Item(
        f"i{number}", f"m{number // 2}", View("x.jpg"), "Why?", ("a", "b"), label, task, "why"
    )


def rows(correct: list[bool], system: str, seed: int = 0, task: str = "vcr.q_a") -> pd.DataFrame:
    return pd.DataFrame(
        dict(
            item_id=[f"i{i}" for i in range(len(correct))],
            image_id=[f"m{i // 2}" for i in range(len(correct))],
            task=task,
            system=system,
            seed=seed,
            correct=correct,
        )
    )


def test_best_score_is_chosen():
    table = choices.predictions(
        [item(0, 1), item(1, 0)], [np.array([0.1, 0.9]), np.array([-2.0, -1.0])], "base", 0
    )
    assert table["correct"].to_pylist() == [True, False]
    assert table.schema == PREDICTIONS


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_no_number_is_no_answer(odd):
    """argmax of NaN is 0: every item whose first choice is right would count as answered."""
    with pytest.raises(ValueError, match="^broken, item i1: scores are .* expected finite numbers"):
        choices.predictions(
            [item(0, 0), item(1, 0)], [np.array([0.1, 0.9]), np.array([odd, odd])], "broken", 0
        )
    with pytest.raises(ValueError, match="1 of 2 values are no numbers"):
        choices.bootstrap(np.array([0.5, odd]), np.arange(2))


def test_answer_and_rationale_must_both_be_right():
    answers = choices.predictions(
        [item(i, 0) for i in range(4)],
        [np.array([1.0, 0]), np.array([1.0, 0]), np.array([0, 1.0]), np.array([0, 1.0])],
        "base",
        0,
    )
    rationales = choices.predictions(
        [item(i, 0, "vcr.qa_r") for i in range(4)],
        [np.array([1.0, 0]), np.array([0, 1.0]), np.array([1.0, 0]), np.array([0, 1.0])],
        "base",
        0,
    )
    both = choices.q_ar(answers, rationales)
    assert both["correct"].to_pylist() == [True, False, False, False]
    assert set(both["task"].to_pylist()) == {"vcr.q_ar"}
    with pytest.raises(ValueError, match="not of the same items"):
        choices.q_ar(answers, rationales.slice(0, 2))


def test_interval_covers_the_mean_and_knows_clusters():
    rng = np.random.default_rng(0)
    clusters = np.repeat(np.arange(200), 5)
    shared = rng.random(200) < 0.6
    dependent = choices.bootstrap(np.repeat(shared, 5), clusters)
    independent = choices.bootstrap(rng.random(1000) < 0.6, np.arange(1000))
    width = [b["high"] - b["low"] for b in (dependent, independent)]
    assert dependent["low"] < np.repeat(shared, 5).mean() < dependent["high"]
    assert 1.8 < width[0] / width[1] < 2.8  # five items of a cluster tell as much as one: sqrt(5)
    assert (dependent["n"], dependent["clusters"]) == (1000, 200)


def test_interval_has_its_coverage():
    rng = np.random.default_rng(1)
    hits = []
    for _ in range(200):
        found = choices.bootstrap(rng.random(150) < 0.7, np.arange(150), resamples=300)
        hits.append(found["low"] <= 0.7 <= found["high"])
    assert 0.88 <= np.mean(hits) <= 0.99


def test_nothing_to_average_is_an_error():
    with pytest.raises(ValueError, match="no items"):
        choices.bootstrap(np.array([]), np.array([]))


def test_paired_difference_needs_the_same_items():
    one, other = rows([True, True, False, True], "lskd"), rows([False, True, False, False], "base")
    assert choices.paired_difference(one, other)["mean"] == 0.5
    with pytest.raises(ValueError, match="different items"):
        choices.paired_difference(one, other.iloc[:2])


def test_summary_files_every_task_in_its_place():
    frame = pd.concat(
        [
            rows([True, True], s, seed, t)
            for s in ("base", "lskd", "unfiltered")
            for seed in (0, 1)
            for t in ("vcr.q_a", "grounding", "snli_ve")
        ]
    )
    found = choices.summary(frame)
    assert found["vcr"]["lskd"]["q_a"]["n"] == 4 and found["vcr"]["lskd"]["q_a"]["clusters"] == 1
    assert found["grounding"]["base"]["mean"] == 1.0
    assert found["nonlocalized"]["snli_ve"]["lskd"]["mean"] == 1.0
    assert found["difference"]["vcr"]["q_a"]["lskd_minus_base"]["mean"] == 0.0


def test_typical_counts_who_prefers_what_is_usual_to_what_is_right():
    table = choices.predictions(
        [item(n, 0) for n in range(4)],
        [np.array(s) for s in ([0.1, 0.9], [0.9, 0.1], [0.5, 0.5], [0.1, 0.9])],
        "base",
        0,
    )
    found = choices.typical(table.to_pandas(), {"i0": 1, "i1": 1, "i2": 1})  # i3 says of none
    assert found["correct"].tolist() == [1.0, 0.0, 0.0] and set(found["task"]) == {"typical"}


def test_where_less_is_better_a_difference_says_what_is_taken_away():
    """So above 0 speaks for LSKD in every difference."""
    frame = pd.concat(
        [
            rows([True, True, False, False], "lskd", 0, "typical"),
            rows([True, True, True, False], "unfiltered", 0, "typical"),
            rows([False, False, False, False], "base", 0, "typical"),
        ]
    )
    found = choices.summary(frame)
    assert found["typical"]["unfiltered"]["mean"] == 0.75
    difference = found["difference"]["typical"]
    assert set(difference) == {"unfiltered_minus_lskd", "base_minus_lskd"}
    assert difference["unfiltered_minus_lskd"]["mean"] == 0.25
    assert difference["base_minus_lskd"]["mean"] == -0.5
    low, high = (difference["unfiltered_minus_lskd"][end] for end in ("low", "high"))
    assert (low, high) == (0.0, 0.5)  # of two images, one with a question that differs


@pytest.fixture(scope="module")
def looked(tmp_path_factory):
    """A small student, the folder of two images, and items of 3, 5 and 1 choices about three
    views of them.
    """
    from PIL import Image

    from lskd_nb.mini.pretraining.base import fresh_student
    from lskd_nb.regions import Region

    folder = tmp_path_factory.mktemp("images")
    for name in ("a.png", "b.png"):
        Image.fromarray(
            np.random.default_rng(ord(name[0])).integers(0, 255, (24, 30, 3), dtype=np.uint8)
        ).save(folder / name)
    student = fresh_student(
        0, hidden=32, layers=2, vision_width=24, vision_layers=1, image_size=32
    ).eval()
    views = View("a.png"), View("b.png"), View("a.png", (Region(0, (2.0, 3.0, 20.0, 20.0)),))
    said = (
        "To stay dry.",
        "To play with the dog, or with the cat that sits near the tent.",
        "A tree.",
        "It rains.",
        "No.",
    )
    return (
        student,
        folder,
        [
            choices.Item(
                f"i{n}",
                views[n % 3].image,
                views[n % 3],
                f"Why does [0] do this{' now' * (n % 4)}?",
                said[: (3, 5, 1)[n % 2 + n % 5 // 4]],
                0,
                "t",
            )
            for n in range(11)
        ],
    )


@pytest.mark.parametrize("batch", [64, 2, 1])
def test_a_view_is_encoded_once_and_scores_are_those_of_one_text_at_a_time(
    looked, monkeypatch, batch
):
    import torch

    from lskd_nb.students.views import FrozenFeatures

    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    student, folder, items = looked
    views = FrozenFeatures(student, folder)
    found, encoded = [], []
    with torch.no_grad():
        for item in items:
            for choice in item.choices:
                logits = student.itm_logits(
                    views.encode([item.view]), student.tokenize([item.question], [choice])
                )
                found.append(float(logits[0, 1] - logits[0, 0]))
    monkeypatch.setattr(
        views,
        "encode",
        lambda some, encode=views.encode: encoded.extend(v.key for v in some) or encode(some),
    )
    scores = choices.match_scores(student, items, views, batch)
    assert [len(s) for s in scores] == [len(i.choices) for i in items]
    np.testing.assert_allclose(np.concatenate(scores), found, atol=1e-5)
    assert len(encoded) == len(set(encoded)) == 3


def test_weights_that_are_no_numbers_are_named_with_the_item(looked, monkeypatch):
    import copy

    import torch

    from lskd_nb.evaluation import baselines
    from lskd_nb.students.views import FrozenFeatures

    student, folder, items = looked
    broken = copy.deepcopy(student)
    with torch.no_grad():
        broken.blip2.itm_head.weight.fill_(float("nan"))
    with pytest.raises(ValueError, match="^the student, item i0: scores are .*nan"):
        choices.match_scores(broken, items, FrozenFeatures(broken, folder))
    student.save(folder / "broken")  # whole on disk; what overflows does so when it runs
    monkeypatch.setattr(baselines, "load_student", lambda *told, **how: broken)
    with pytest.raises(ValueError, match="broken, item i0: scores are"):
        baselines.score_items(str(folder / "broken"), items, folder)


def test_no_predictions_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="run notebook 06 first"):
        choices.read_predictions([tmp_path])
    assert pa.Table.from_pylist([], schema=PREDICTIONS).num_rows == 0


def test_grounding_compares_the_right_answer_with_the_other_regions():
    rows = pd.DataFrame(
        dict(
            item_id=["a", "b", "c"],
            label=[0, 1, 0],
            scores=[[2.0, 1.0, 3.0], [5.0, 4.0, 0.0], [1.0, 1.0, 0.0]],
            task="vcr.q_a",
        )
    )
    found = choices.grounding(rows, {"a": 1, "b": 0, "c": 1, "elsewhere": 2})
    assert found["correct"].tolist() == [1.0, 0.0, 0.0] and set(found["task"]) == {"grounding"}
    assert choices.grounding(rows, {"a": 2})["correct"].tolist() == [0.0]


def test_three_classes_from_one_score_by_thresholds_of_the_training_rows():
    rng = np.random.default_rng(0)
    label = rng.integers(3, size=300)
    table = pa.Table.from_pylist(
        [
            dict(
                item_id=str(i),
                image_id=str(i),
                task="snli_ve",
                system="s",
                seed=0,
                slice="",
                scores=[float(4 - 2 * k + rng.normal(0, 0.3))],
                label=int(k),
                correct=None,
            )
            for i, k in enumerate(label)
        ],
        schema=PREDICTIONS,
    )
    held_out = choices.entailment_by_thresholds(table, 200)
    assert len(held_out) == 100 and held_out["correct"].mean() > 0.95
    shuffled = table.set_column(
        table.column_names.index("scores"),
        "scores",
        pa.array([[float(x)] for x in rng.normal(size=300)], pa.list_(pa.float32())),
    )
    assert choices.entailment_by_thresholds(shuffled, 200)["correct"].mean() < 0.6


def test_rows_without_label_or_scores_are_written_as_nulls(tmp_path):
    rows = pd.DataFrame(
        dict(
            item_id=["a", "b"],
            image_id=["m", "m"],
            task="sherlock.comparison",
            system="s",
            seed=0,
            slice="",
            correct=[-0.25, 1.0],
            label=[None, np.nan],
        )
    )
    choices.write_rows(rows, tmp_path / "predictions" / "p.parquet")
    found = choices.read_predictions([tmp_path])
    assert (
        found["correct"].tolist() == [-0.25, 1.0]
        and found["label"].isna().all()
        and found["scores"].isna().all()
    )
