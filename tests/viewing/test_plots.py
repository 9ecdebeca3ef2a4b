"""Figures and tables show their data."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from lskd_nb.critic import filtering
from lskd_nb.regions import Region
from lskd_nb.viewing import pictures, plots


def test_figures_show_their_data():
    plots.style()
    rng = np.random.default_rng(0)
    accepted, scores = rng.random(200) < 0.5, rng.random(200)
    curve = filtering.share_curve(scores, accepted, np.arange(200), resamples=50)
    one = dict(mean=0.3, low=0.2, high=0.4)
    vcr = {s: {p: one for p in ("q_a", "qa_r", "q_ar")} for s in ("base", "unfiltered", "lskd")}
    made = [
        pictures.show_regions(Image.new("RGB", (60, 40)), [Region(0, (3, 3, 30, 30))], "title"),
        pictures.image_grid([Image.new("RGB", (60, 40))] * 2, [[], []], ["a", "b"]),
        plots.error_bars({"captioner": {"place": 0.1}}),
        plots.precision_recall(accepted, scores),
        plots.calibration(accepted, scores),
        plots.threshold_curves(curve, curve, 0.2),
        plots.accuracy_bars(vcr),
        plots.scaling_curve([dict(triples=n, q_ar=one) for n in (100, 200)], one),
        plots.loss_curves(
            {"lskd": [dict(step=i, seconds=0.1, itm=1 / (i + 1)) for i in range(30)]}
        ),
        plots.preference_bars({"win": one, "tie": one, "lose": one, "pairs": 9, "alpha": 0.5}),
    ]
    assert all(isinstance(f, Figure) for f in made)
    labelled = [ax for f in made[2:] for ax in f.axes]
    assert all(ax.get_xlabel() or ax.get_xticklabels() for ax in labelled)
    assert made[4].axes[0].get_xlabel() == "predicted probability of accept"
    assert made[6].axes[0].patches[0].get_height() == pytest.approx(30)
    assert made[-1].axes[0].get_title() == "9 pairs, alpha 0.50" and made[-1].axes[0].patches[
        0
    ].get_width() == pytest.approx(100 * one["mean"])


def test_result_table_has_our_figures_beside_the_papers():
    one = dict(mean=0.421, low=0.4, high=0.44)
    table = plots.result_table({"vcr": {"lskd": {"q_ar": one}}})
    assert "42.1" in table and "40.0, 44.0" in table and "33.4" in table and "–" in table


def test_strip_lights_one_stage():
    assert (
        plots.pipeline_strip(3).count(plots.BLUE) == 1
        and plots.pipeline_strip(0).count(plots.BLUE) == 6
    )
