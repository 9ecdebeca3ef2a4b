"""Sherlock's metrics against short transcriptions of the authors' scripts, and its file for the
leaderboard.
"""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lskd_nb.evaluation import metrics, submissions
from lskd_nb.regions import Region
from lskd_nb.sources import MultipleChoice
from lskd_nb.sources.sherlock import Comparison

BOX = Region(0, (0.0, 0.0, 10.0, 10.0))


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


@pytest.fixture(scope="session")
def compared(image) -> Callable[..., Comparison]:
    def make(annot1: list, annot2: list, number: int = 0) -> Comparison:
        texts = tuple(f"t{k}" for k in range(len(annot1)))
        found = MultipleChoice(
            f"i{number}", image(number, BOX), "", texts, None, "sherlock.comparison", "vcr"
        )
        return Comparison(
            found,
            tuple(f"id{number}-{k:02}" for k in range(len(texts))),
            tuple(annot1),
            tuple(annot2),
        )

    return make


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


def test_comparison_perfect_reversed_constant_tied(compared, mean, predict):
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


def test_comparison_is_the_mean_over_both_annotators(compared, predict):
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


def test_comparison_needs_every_score_and_rating(compared, predict):
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


def test_sherlock_array_is_ordered_by_sorted_id(compared, predict, with_scores, tmp_path):
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
            tmp_path / "other.npy", rated, with_scores(table, 1, [np.inf, 0.5, 0.6]), ids
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
