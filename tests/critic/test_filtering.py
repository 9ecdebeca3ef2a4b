"""The filter and its curves, on cases whose answer is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lskd_nb.critic import filtering as f


def test_a_perfect_critic_and_a_coin():
    rng = np.random.default_rng(0)
    accepted = rng.random(2000) < 0.5
    images = np.arange(2000) // 4
    perfect = f.share_curve(
        accepted + 0.0 + rng.random(2000) * 0.1, accepted, images, [0.2, 1.0], resamples=200
    )
    coin = f.share_curve(rng.random(2000), accepted, images, [0.2, 1.0], resamples=200)
    assert perfect[0].mean == 1.0 and perfect[1].mean == pytest.approx(accepted.mean())
    assert coin[0].low < accepted.mean() < coin[0].high


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.floats(0.01, 1.0))
def test_a_share_is_kept_exactly_and_ties_go_by_the_hash_of_the_id(values, share):
    scores, ids = np.array(values) / 4, [f"t{n}" for n in range(len(values))]
    best, threshold = f.best_share(scores, ids, share)
    assert best.sum() == max(int(share * len(scores)), 1)
    assert threshold == scores[best].min() and threshold >= scores[~best].max(initial=-1)
    turned, again = f.best_share(scores[::-1], ids[::-1], share)  # whatever the order of the rows
    assert (turned[::-1] == best).all() and again == threshold
    apart = f.ties_apart(scores, best, threshold)
    assert (f.kept(apart, threshold) == best).all()
    assert np.abs(apart - scores).max() < 1e-12


def test_three_of_ten_that_tie_at_the_top_are_not_all_of_the_best_fifth():
    scores = np.array([1, 1, 1, *np.linspace(0.5, 0.1, 7)])
    best, threshold = f.best_share(scores, list("abcdefghij"), 0.2)
    assert best.sum() == 2 and not best[3:].any() and threshold == 1.0


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="share is 0 of 1 scores"):
        f.best_share(np.array([0.5]), ["a"], 0)
    with pytest.raises(ValueError, match="share is 0.2 of 0 scores"):
        f.best_share(np.array([]), [], 0.2)
    with pytest.raises(ValueError, match="1 of 2 scores are no numbers"):
        f.best_share(np.array([0.5, np.nan]), ["a", "b"], 0.5)
    with pytest.raises(ValueError, match="expected as many of each"):
        f.acceptability([0.1, 0.2], [True], ["a", "b"], [0.5])


def test_nothing_kept_has_no_acceptability():
    (point,) = f.acceptability(np.array([0.1, 0.2]), np.array([True, False]), ["a", "b"], [0.9])
    assert point.kept == 0 and np.isnan(point.mean) and point.share == 0.0


def test_interval_grows_with_dependence():
    accepted = np.repeat(np.random.default_rng(1).random(100) < 0.5, 10)
    scores = np.ones(1000)
    together = f.acceptability(scores, accepted, np.repeat(np.arange(100), 10), [0.5])[0]
    apart = f.acceptability(scores, accepted, np.arange(1000), [0.5])[0]
    assert together.high - together.low > 2 * (apart.high - apart.low)


@given(
    st.lists(
        st.tuples(st.integers(0, 8), st.booleans(), st.sampled_from("abcde")),
        min_size=1,
        max_size=40,
    ),
    st.lists(st.integers(-1, 10), min_size=1, max_size=6),
)
def test_one_pass_over_all_thresholds_gives_what_each_gives_alone(rows, cuts):
    scores, accepted, images = (
        np.array([r[0] for r in rows]) / 8,
        np.array([r[1] for r in rows]),
        [r[2] for r in rows],
    )
    points = f.acceptability(scores, accepted, images, [c / 8 for c in cuts], resamples=20)
    for cut, point in zip(cuts, points, strict=True):
        keep = scores >= cut / 8
        assert (
            point.kept == keep.sum()
            and point.share == pytest.approx(keep.mean())
            and point.threshold == cut / 8
        )
        assert not keep.any() or point.mean == pytest.approx(accepted[keep].mean())
        (alone,) = f.acceptability(scores, accepted, images, [cut / 8], resamples=20)
        assert np.allclose([point.low, point.high], [alone.low, alone.high], equal_nan=True)
        assert (
            not keep.any()
            or accepted[keep].min() - 1e-6 <= point.low <= point.high <= accepted[keep].max() + 1e-6
        )


def test_each_tenth_of_the_ranking_by_itself():
    rng = np.random.default_rng(0)
    scores = rng.random(1000)
    accepted = rng.random(1000) < np.where(scores > 0.5, 0.9, 0.3)
    points = f.rank_curve(scores, accepted, np.arange(1000) // 4, resamples=200)
    assert [p.kept for p in points] == [100] * 10
    assert [p.share for p in points] == pytest.approx(np.arange(0.1, 1.01, 0.1))
    assert points[0].mean == accepted[np.argsort(-scores)[:100]].mean()
    assert all(p.low <= p.mean <= p.high for p in points)
    assert points[3].low > points[6].high and points[-1].threshold == scores.min()


def test_a_ranking_of_fewer_triples_than_parts_and_of_none():
    points = f.rank_curve(np.array([0.2, 0.9, 0.5]), np.array([0, 1, 1]), list("abc"), resamples=20)
    assert [(p.kept, p.mean) for p in points] == [(1, 1.0), (1, 1.0), (1, 0.0)]
    assert f.rank_curve(np.array([]), np.array([]), [], resamples=20) == []
