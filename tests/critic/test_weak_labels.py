"""What is said of labels that are too few, or all the same, and what is then not claimed."""

import math

import numpy as np
import pytest

from lskd_nb.critic import weak_labels as wl
from lskd_nb.critic.filtering import Acceptability
from lskd_nb.critic.model import critic_metrics
from lskd_nb.evaluation.choices import bootstrap


@pytest.mark.parametrize(
    ("accepted", "auc", "held", "said"),
    [
        ([True, False] * 150, 0.6, 60, []),
        ([], None, 0, []),
        ([True, False] * 149, 0.9, 60, ["298 labels are few: below 300"]),
        ([True, False] * 150, 0.59, 60, ["AUC on 60 labels held out is 0.59, below 0.6"]),
        ([True] * 300, None, 0, ["all 300 labels say accept"]),
        ([False], math.nan, 1, ["1 label is few", "the only label says reject", "the only label"]),
        ([True] * 5, math.nan, 2, ["5 labels are few", "all 5 labels", "all 2 labels held"]),
    ],
)
def test_thresholds(accepted, auc, held, said):
    told = wl.critic_warnings(accepted, {} if auc is None else {"auc": auc}, held)
    assert len(told) == len(said) and all(s in t for s, t in zip(said, told, strict=True)), told


def test_a_critic_that_does_not_learn_is_only_measured():
    (told,) = wl.critic_warnings([True, False], {"auc": 0.9}, 2, learns=False)
    assert "measured" in told and "learns" not in told


def test_one_class_has_no_auc_and_does_not_fail():
    for word in (True, False):
        found = critic_metrics(np.array([word] * 4), np.array([0.1, 0.4, 0.6, 0.9]))
        assert math.isnan(found["auc"]) and len(wl.auc_warnings(found["auc"], 4)) == 1


def test_of_few_labels_no_share_is_told_and_none_is_sure():
    few = bootstrap(np.ones(29), np.arange(29))
    many = bootstrap(np.ones(30), np.repeat(np.arange(10), 3))
    none = bootstrap(np.zeros(40), np.arange(40))
    mixed = bootstrap(np.array([0.0, 1.0] * 20), np.arange(40))
    found = wl.cautious(dict(raw=mixed, kept=few, many=many, none=none))
    assert found["raw"] == mixed and found["kept"] == dict(n=29, clusters=29)
    assert found["many"]["high"] == 1 and found["many"]["low"] == pytest.approx(0.025**0.1)
    assert found["none"]["low"] == 0 < found["none"]["high"] == pytest.approx(1 - 0.025**0.025)
    (told,) = wl.measured_warnings(dict(raw=mixed, kept=few))
    assert "what was kept" in told and "29 labels measured it, and 30 are needed" in told
    assert len(wl.measured_warnings({})) == 2
    points = Acceptability(np.arange(60.0), np.ones(60), range(60)).by_share([0.1, 0.5, 1.0])
    assert [p.kept for p in wl.told_points(points)] == [30, 60]


def test_a_run_tells_what_its_notebooks_warned_of():
    metrics = {"warnings": {"04": ["b"], "03": ["a", "c"]}}
    assert wl.run_warnings(metrics) == ["03: a", "03: c", "04: b"] and wl.run_warnings({}) == []
