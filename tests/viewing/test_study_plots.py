"""Figures of what the filter is worth show their data, and say it in words."""

import numpy as np
import pytest

from lskd_nb.critic import filtering
from lskd_nb.viewing import plots, study_plots
from lskd_nb.viewing.alt_text import alt_of

ONE, TWO = dict(mean=0.3, low=0.2, high=0.4), dict(mean=0.55, low=0.5, high=0.6)
THRESHOLDS = [
    dict(share=share, triples=1190, system="x", q_ar=q_ar)
    for share, q_ar in ((0.1, TWO), (0.2, ONE), (1.0, ONE))
]
CEILING = dict(triples=2379, q_ar=dict(unfiltered=ONE, lskd=ONE, truth=TWO))


@pytest.fixture(autouse=True)
def style():
    plots.style()


def test_ranks_are_bars_of_each_tenth():
    accepted = np.arange(200) >= 100
    points = filtering.rank_curve(np.arange(200.0), accepted, np.arange(200), resamples=50)
    figure = study_plots.rank_bars(points)
    heights = [bar.get_height() for bar in figure.axes[0].patches]
    assert heights == [100.0] * 5 + [0.0] * 5 and "1 100% (100 to 100)" in alt_of(figure)
    assert "No triples" in alt_of(study_plots.rank_bars([]))


def test_thresholds_and_ceiling_side_by_side_with_their_sources():
    sources = ["this run", "pooled over 3 seeds"]
    figure = study_plots.filter_curves(THRESHOLDS, CEILING, ONE, sources)
    left, right = figure.axes
    assert [ax.get_title() for ax in (left, right)] == sources
    assert [t.get_text() for t in left.get_xticklabels()] == ["10%", "20%", "all"]
    assert "1,190 triples each" in left.get_xlabel() and "2,379" in right.get_xlabel()
    assert [bar.get_height() for bar in right.patches] == pytest.approx([30, 30, 55])
    told = alt_of(figure)
    assert "55% (50 to 60) from the best 10%" in told and "30% (20 to 40) from all" in told
    assert "perfect critic 55% (50 to 60)" in told and "The base student, dashed: 30%" in told
    assert len(study_plots.filter_curves(THRESHOLDS[:1], None).axes) == 1
    assert len(study_plots.filter_curves(None, CEILING).axes[0].patches) == 3
    assert "An empty panel" in alt_of(study_plots.filter_curves(None, None))


def test_two_bases_and_their_students():
    parts = dict(q_a=ONE, q_ar=TWO, grounding=ONE)
    found = dict.fromkeys(("base", "lskd", "plain", "plain_lskd"), parts)
    figure = study_plots.base_bars(found | dict(difference={}), "pooled")
    assert len(figure.axes[0].patches) == 12 and figure.axes[0].get_title() == "pooled"
    assert "grounding: base 30% (20 to 40), LSKD 30%" in alt_of(figure)
    assert "plain base + LSKD 55% (50 to 60), chance 6.25%" in alt_of(figure)
    figure.canvas.draw()


def test_typical_answers_by_system():
    figure = study_plots.typical_bars(dict(lskd=ONE, unfiltered=TWO, clip=ONE))
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == ["unfiltered", "LSKD"]
    assert "unfiltered 55% (50 to 60); LSKD 30% (20 to 40); a coin 50%" in alt_of(figure)
    assert "not measured" in alt_of(study_plots.typical_bars({}))
