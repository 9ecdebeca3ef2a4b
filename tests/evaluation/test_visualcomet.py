"""VisualCOMET's Acc@50, and recall of rankings with ties."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lskd_nb.evaluation import metrics
from lskd_nb.sources import MultipleChoice
from lskd_nb.sources.visualcomet import Ranking


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


def test_acc_at_50_perfect_reversed_constant_missing(image, mean, predict):
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
