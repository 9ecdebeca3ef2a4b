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


@given(st.lists(st.integers(0, 10), min_size=1, max_size=60), st.floats(0.01, 1.0))
def test_a_share_keeps_at_most_that_much_and_never_tears_ties(values, share):
    scores = np.array(values) / 10
    threshold = f.threshold_for_share(scores, share)
    keep = f.kept(scores, threshold)
    top = scores == scores.max()
    assert keep.sum() <= max(np.floor(share * len(scores)), top.sum())
    assert keep.any() and not (set(scores[keep]) & set(scores[~keep]))


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="share is 0"):
        f.threshold_for_share(np.array([0.5]), 0)
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
