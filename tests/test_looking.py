"""Figures and widgets: what they show follows the data, and nothing of a corpus is shown unescaped."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from lskd_nb import figures, filtering, widgets
from lskd_nb.records import CORPUS, write_parquet
from lskd_nb.regions import Region


@pytest.fixture
def corpus(tmp_path):
    Image.new("RGB", (40, 30), "white").save(tmp_path / "m.png")
    rows = [dict(triple_id=f"t{i}", image_id="m", family=("id", "description")[i % 2], question=f"Why is [0] <b>{i}</b> here?", answer="To rest.",
                 rationale="[1] is <script>x</script>.", regions=[0, 1], regions_offered=[0, 1], model="w", prompt="p", request="r", score=i / 10,
                 image="m.png", width=40, height=30, source="s", split="train",
                 references=[dict(id=k, box=[k, k, 20 + k, 20], label="dog", score=None) for k in (0, 1)]) for i in range(6)]
    write_parquet(rows, tmp_path / "c.parquet", CORPUS)
    return tmp_path / "c.parquet"


def test_corpus_text_is_escaped_and_mentions_are_coloured():
    shown = figures.mention_html("[0] says <script>alert(1)</script>")
    assert "<script>" not in shown and "&lt;script&gt;" in shown and "#05ff37" in shown


def test_browser_steps_filters_and_searches(corpus):
    browser = widgets.CorpusBrowser(corpus, corpus.parent, {"m": "Regions:\n[0] <i>dog</i>"})
    assert browser.rows[0]["triple_id"] == "t5" and browser.total == 6
    browser.forward.click()
    assert browser.rows[0]["triple_id"] == "t4"
    browser.back.click()
    browser.back.click()
    assert browser.rows[0]["triple_id"] == "t0"  # round the corner
    browser.family.value = "id"
    assert browser.total == 3 and browser.rows[0]["triple_id"] == "t4"
    browser.order.value = "score ASC"
    assert browser.rows[0]["triple_id"] == "t0"
    browser.score.value = (0.15, 0.3)
    assert browser.total == 1 and "data:image/jpeg;base64" in browser.body.value and 'class="loc-box r1"' in browser.body.value
    assert "<script>" not in browser.body.value and "&lt;i&gt;dog" in browser.body.value and "#05ff37" in browser.body.value
    browser.text.value = "nowhere"
    assert browser.total == 0 and "no triple fits" in browser.body.value
    browser.forward.click()
    assert "data:image/jpeg" in widgets.CorpusBrowser(corpus, corpus.parent).static().data


def test_threshold_explorer_follows_the_slider():
    scores = np.linspace(0.05, 0.95, 10)
    rows = [dict(question=f"q{i} [0]?", answer="a", rationale="r") for i in range(10)]
    explorer = widgets.ThresholdExplorer(scores, scores > 0.5, list(range(10)), rows, threshold=0.9)
    assert "100.0%" in explorer.summary.value and "kept 1 of 10" in explorer.summary.value
    explorer.slider.value = 0.3
    assert "kept 7 of 10" in explorer.summary.value and "71.4%" in explorer.summary.value
    assert "q3 " in explorer.border.value and "q2 " in explorer.border.value
    explorer.slider.value = 1.0
    assert "nothing is kept" in explorer.static().data
    with pytest.raises(ValueError, match="same triples"):
        widgets.ThresholdExplorer(scores, scores > 0.5, [1], rows)


def test_figures_show_their_data():
    figures.style()
    rng = np.random.default_rng(0)
    accepted, scores = rng.random(200) < 0.5, rng.random(200)
    curve = filtering.share_curve(scores, accepted, np.arange(200), resamples=50)
    one = dict(mean=0.3, low=0.2, high=0.4)
    vcr = {s: {p: one for p in ("q_a", "qa_r", "q_ar")} for s in ("base", "unfiltered", "lskd")}
    made = [figures.show_regions(Image.new("RGB", (60, 40)), [Region(0, (3, 3, 30, 30))], "title"),
            figures.image_grid([Image.new("RGB", (60, 40))] * 2, [[], []], ["a", "b"]),
            figures.error_bars({"captioner": {"place": 0.1}}), figures.precision_recall(accepted, scores), figures.calibration(accepted, scores),
            figures.threshold_curves(curve, curve, 0.2), figures.accuracy_bars(vcr),
            figures.scaling_curve([dict(triples=n, q_ar=one) for n in (100, 200)], one),
            figures.loss_curves({"lskd": [dict(step=i, seconds=0.1, itm=1 / (i + 1)) for i in range(30)]}),
            figures.preference_bars({"win": one, "tie": one, "lose": one, "pairs": 9, "alpha": 0.5})]
    assert all(isinstance(f, Figure) for f in made)
    labelled = [ax for f in made[2:] for ax in f.axes]
    assert all(ax.get_xlabel() or ax.get_xticklabels() for ax in labelled)
    assert made[4].axes[0].get_xlabel() == "predicted probability of accept"
    assert made[6].axes[0].patches[0].get_height() == pytest.approx(30)
    assert made[-1].axes[0].get_title() == "9 pairs, alpha 0.50" and made[-1].axes[0].patches[0].get_width() == pytest.approx(100 * one["mean"])


def test_result_table_has_our_figures_beside_the_papers():
    one = dict(mean=0.421, low=0.4, high=0.44)
    table = figures.result_table({"vcr": {"lskd": {"q_ar": one}}})
    assert "42.1" in table and "40.0, 44.0" in table and "33.4" in table and "–" in table


def test_strip_lights_one_stage():
    assert figures.pipeline_strip(3).count(figures.BLUE) == 1 and figures.pipeline_strip(0).count(figures.BLUE) == 6
