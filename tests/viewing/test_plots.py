"""Figures and tables show their data."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from lskd_nb.critic import filtering
from lskd_nb.regions import Region
from lskd_nb.viewing import pictures, plots
from lskd_nb.viewing.alt_text import alt_of


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
    table = plots.result_table({"vcr": {"lskd": {"q_ar": one}}}, filtered=False)
    assert table.count("unfiltered: no critic") == 2 and ">+ LSKD<" not in table


def test_a_result_table_says_on_what_it_rests_and_what_is_missing():
    one = dict(mean=0.421, low=0.4, high=0.44)
    metrics = dict(
        nonlocalized=dict(snli_ve=dict(clip=one), snli_ve_fitted=dict(clip=one)),
        systems={"clip": dict(pixels=336), "base": dict(pixels=480), "<i>": dict(pixels=1)},
        benchmarks=dict(
            vcr=dict(items=0, left_out=0, why="vcr_folder is empty: not evaluated"),
            snli_ve=dict(items=6, left_out=12, why="missing image: 12"),
        ),
    )
    table = plots.result_table(metrics)
    head = [part.split("</th>")[0] for part in table.split("<th>")[1:]]
    fitted = head.index("SNLI-VE, fitted thresholds (not zero-shot)")
    assert head[fitted - 1] == "SNLI-VE"
    rows = {r.split("<")[0]: r.split("<td>") for r in table.split('left">')[1:]}
    assert "336 px" in rows["clip "][0] and rows["clip "][fitted].startswith("42.1")
    assert rows["items"][fitted].startswith("6 (12 left out)") and rows["items"][1][0] == "–"
    paper = rows["paper: BLIP-2 ViT-G + LSKD"]
    assert paper[fitted - 1].startswith("40.3") and paper[fitted][0] == "–"
    assert paper[fitted + 1].startswith("79.5")
    assert "vcr_folder is empty" in table and "<i>" not in table
    vcr = dict(vcr={"lskd": {"q_ar": one}})
    assert "Grounding: not measured" in plots.result_table(vcr)
    assert "Grounding" not in plots.result_table(vcr | dict(grounding=dict(lskd=one)))


def test_figures_of_what_was_not_evaluated_say_so():
    one = dict(mean=0.3, low=0.2, high=0.4)
    vcr = {s: {p: one for p in ("q_a", "qa_r", "q_ar")} for s in ("base", "lskd")}
    for figure, groups, said in (
        (plots.accuracy_bars({}), 0, "VCR: not evaluated"),
        (plots.accuracy_bars(vcr), 3, "grounding: not measured"),
        (plots.accuracy_bars(vcr, dict(base=one)), 4, ""),
    ):
        (ax,) = figure.axes
        assert ax.get_xlabel() == said and len(ax.get_xticks()) == groups
        assert said in alt_of(figure)
        figure.canvas.draw()
    empty = plots.scaling_curve([], None)
    assert empty.axes[0].get_xlabel() == "VCR: not evaluated"
    single = plots.scaling_curve([dict(triples=28, q_ar=one)], one)
    single.canvas.draw()
    assert [t.get_text() for t in single.axes[0].get_xticklabels()] == ["28"]


def test_choices_beside_their_image_draw_what_they_mention():
    many = [Region(i, (3 * i, 3, 3 * i + 3, 30)) for i in range(12)]
    told = pictures.choices_html(
        Image.new("RGB", (60, 40)), many, "Why [11]?", ["[3] <b>", "x"], {0: "✓", None: "?"}
    )
    assert "✓" in told and "?</small>" not in told and "<b>Why" in told and "&lt;b&gt;" in told
    drawn = pictures.choices_html(
        Image.new("RGB", (60, 40)), [many[3], many[11]], "Why [11]?", ["[3] <b>", "x"], {0: "✓"}
    )
    assert told == drawn


def test_strip_lights_one_stage():
    assert (
        plots.pipeline_strip(3).count(plots.BLUE) == 1
        and plots.pipeline_strip(0).count(plots.BLUE) == 6
    )
