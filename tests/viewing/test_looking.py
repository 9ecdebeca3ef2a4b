"""Widgets: what they show follows the data, and nothing of a corpus is shown unescaped."""

import numpy as np
import pytest
from PIL import Image

from lskd_nb.corpus.build import build
from lskd_nb.corpus.index import CorpusIndex, Filter
from lskd_nb.records import (
    CORPUS,
    LABELS,
    PREDICTIONS,
    REGIONS,
    SCORES,
    TRIPLES,
    VERBALIZATIONS,
    read_parquet,
    write_parquet,
)
from lskd_nb.viewing import widgets


@pytest.fixture
def corpus(tmp_path):
    Image.new("RGB", (40, 30), "white").save(tmp_path / "m.png")
    rows = [
        dict(
            triple_id=f"t{i}",
            image_id="m",
            family=("id", "description")[i % 2],
            question=f"Why is [0] <b>{i}</b> here?",
            answer="To rest.",
            rationale="[1] is <script>x</script>.",
            regions=[0, 1],
            regions_offered=[0, 1],
            model="w",
            prompt="p",
            request="r",
            score=i / 10,
            image="m.png",
            width=40,
            height=30,
            source="s",
            split="train",
            references=[
                dict(id=k, box=[k, k, 20 + k, 20], label="dog", score=None) for k in (0, 1)
            ],
        )
        for i in range(6)
    ]
    write_parquet(rows, tmp_path / "c.parquet", CORPUS)
    return tmp_path / "c.parquet"


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
    assert (
        browser.total == 1
        and "data:image/jpeg;base64" in browser.body.value
        and 'class="loc-box r1"' in browser.body.value
    )
    assert (
        "<script>" not in browser.body.value
        and "&lt;i&gt;dog" in browser.body.value
        and "#05ff37" in browser.body.value
    )
    browser.text.value = "nowhere"
    assert browser.total == 0 and "no triple fits" in browser.body.value
    browser.forward.click()
    browser.press("r")
    assert (
        browser.total == 6
        and browser.order.value == "score DESC"
        and browser.score.value == (0.0, 1.0)
        and browser.text.value == ""
    )
    browser.named.value = "t3"
    assert [r["triple_id"] for r in browser.rows] == ["t3"] and browser.total == 1
    browser.named.value = "m"
    assert browser.total == 6
    assert "data:image/jpeg" in widgets.CorpusBrowser(corpus, corpus.parent).static().data


@pytest.fixture
def judged(tmp_path):
    """A run's folder with twelve judged triples about three images, four of them kept, and their
    index.
    """
    rng, regions = (
        np.random.default_rng(0),
        [dict(id=k, box=[k, k, 20 + k, 20], label=("dog", "cat")[k], score=None) for k in (0, 1)],
    )
    for name in "abc":
        Image.fromarray(rng.integers(0, 255, (30, 40, 3), np.uint8)).save(tmp_path / f"{name}.png")
    images = [
        dict(
            image_id=n,
            image=f"{n}.png",
            width=40,
            height=30,
            source="s",
            split="train",
            regions=regions,
        )
        for n in "abc"
    ]
    texts = dict(
        family="id",
        question="Why is [0] here?",
        answer="To rest.",
        rationale="[1] is a tired dog with balloons.",
        regions=[0, 1],
        regions_offered=[0, 1],
        model="w",
        prompt="p",
        request="r",
    )
    triples = [texts | dict(triple_id=f"t{i}", image_id="abc"[i % 3]) for i in range(12)]
    scores = [
        dict(triple_id=f"t{i}", score=i / 20, qa_score=0.9 if i >= 8 else 0.2, rationale_score=0.8)
        for i in range(12)
    ]
    lines = [
        dict(
            image_id=n,
            kind="local",
            verbalizer="captioner",
            region=0,
            question=None,
            text=f"a tired dog <{n}>",
            score=0.5,
            model="m",
            version="v",
        )
        for n in "abc"
    ]
    tables = {
        "regions": (images, REGIONS),
        "triples": (triples, TRIPLES),
        "scores": (scores, SCORES),
        "verbalizations": (lines, VERBALIZATIONS),
        "labels": (
            [
                dict(
                    triple_id="t2",
                    annotator="ada",
                    accept=False,
                    qa_score=0.25,
                    rationale_score=1.0,
                )
            ],
            LABELS,
        ),
    }
    written = {
        name: write_parquet(rows, tmp_path / f"{name}.parquet", schema)
        for name, (rows, schema) in tables.items()
    }
    write_parquet(
        build(
            written["triples"], written["scores"], written["regions"], ["t8", "t9", "t10", "t11"]
        ),
        tmp_path / "corpus.parquet",
        CORPUS,
    )
    (tmp_path / "image_root.txt").write_text(str(tmp_path))
    (tmp_path / "predictions").mkdir()
    write_parquet(
        [
            dict(
                item_id=f"t{i}",
                image_id="abc"[i % 3],
                task="acceptability",
                system="raw",
                seed=0,
                scores=[],
                label=1,
                correct=float(i > 6),
                slice="id",
            )
            for i in range(3, 12)
        ],
        tmp_path / "predictions" / "acceptability.parquet",
        PREDICTIONS,
    )
    return tmp_path


def test_a_run_is_browsed_whole_and_every_triple_says_why(judged):
    browser = widgets.CorpusBrowser(judged)
    assert browser.total == 12 and browser.rows[0]["triple_id"] == "t11" and browser.rows[0]["kept"]
    assert (
        "Kept: the critic gives it 0.550, it needed 0.400 (place 1 of 12, the best 33% are kept;"
        " place 1 of 4 about this image)" in browser.body.value
    )
    assert (
        "it doubts neither" in browser.body.value and "a tired dog &lt;c&gt;" in browser.body.value
    )
    assert (
        "not given: balloon" in browser.body.value
        and "On record it is acceptable: the filter was right" in browser.body.value
    )
    browser.kept.value = "dropped"
    assert browser.total == 8 and browser.rows[0]["triple_id"] == "t7"
    assert "Dropped: the critic gives it 0.350, it would have needed 0.400" in browser.body.value
    assert (
        "0.20 for the answer (usual among the kept: 0.90)" in browser.body.value
        and "it doubts the answer" in browser.body.value
    )
    assert "On record it is acceptable: the filter was wrong" in browser.body.value
    assert (
        "4 triples about this image" in browser.body.value
        and browser.body.value.count(">dropped</td>") == 3
        and "t7" in browser.count.value
    )
    browser.press("ArrowRight")
    assert browser.rows[0]["triple_id"] == "t6"
    browser.press("i")
    assert (
        {r["image_id"] for r in browser.index.rows(browser.places)} == {"a"}
        and browser.total == 4
        and browser.rows[0]["triple_id"] == "t6"
        and browser.place.value == 2
    )
    browser.press("o")  # another order of the same triples
    assert browser.same.value and browser.total == 4 and browser.rows[0]["triple_id"] == "t0"
    browser.order.value = "score DESC"
    browser.press("ArrowRight")
    browser.press("i")  # back, at this triple
    assert browser.total == 8 and browser.rows[0]["triple_id"] == "t6" and browser.place.value == 2
    browser.text.value = "dog tired"
    assert browser.total == 8
    browser.text.value = '"dog tired"'
    assert browser.total == 0
    browser.text.value = ""
    browser.named.value = "t2"  # a filter asks about all images again
    assert (
        not browser.same.value
        and browser.total == 1
        and "ada rejects it: answer 0.25, rationale 1.00" in browser.body.value
    )
    assert "On record" not in browser.body.value
    browser.press("r")
    browser.press("k")
    assert browser.kept.value == "kept" and browser.total == 4


def test_what_cannot_be_seen_is_said_and_nothing_else_is_shown(judged):
    (judged / "b.png").unlink()
    (judged / "c.png").write_bytes(b"damaged")
    browser = widgets.CorpusBrowser(judged)
    assert (
        "no picture: " in browser.body.value
        and "not a readable image" in browser.body.value
        and browser.rows[0]["triple_id"] == "t11"
    )
    browser.press("ArrowRight")
    assert (
        browser.rows[0]["triple_id"] == "t10"
        and "no picture: no image &#x27;b.png&#x27;" in browser.body.value
    )
    assert "no picture" in widgets.ThresholdExplorer.of_run(judged).border.value
    write_parquet([], judged / "triples.parquet", TRIPLES)
    browser.press("ArrowRight")
    assert "has changed since it was opened" in browser.trouble.value and browser.body.value == ""
    with pytest.raises(ValueError, match="files are of several runs|no corpus|12"):
        write_parquet(
            [
                dict(
                    triple_id="t1",
                    image_id="z",
                    family="id",
                    question="q",
                    answer="a",
                    rationale="r",
                    regions=[],
                    regions_offered=[],
                    model="m",
                    prompt="p",
                    request="r",
                )
            ],
            judged / "triples.parquet",
            TRIPLES,
        )
        CorpusIndex.of_run(judged)


def test_rows_of_a_run_are_a_corpus_row_and_more(judged):
    index = CorpusIndex.of_run(judged)
    whole, own = index.rows([9])[0], CorpusIndex(judged / "corpus.parquet").rows([1])[0]
    assert {name: whole[name] for name in own} == own and own["triple_id"] == "t9"
    assert index.places(Filter(kept=False, image_id="a"), "image").tolist() == [6, 3, 0]
    (judged / "scores.parquet").unlink()
    with pytest.raises(FileNotFoundError, match="scores.parquet is not there: run notebook 04"):
        widgets.CorpusBrowser(judged)
    with pytest.raises(FileNotFoundError, match="no folder of a run"):
        widgets.CorpusBrowser(judged / "predictions")
    with pytest.raises(ValueError, match="image_root must say where"):
        widgets.CorpusBrowser(judged / "corpus.parquet")


def test_threshold_explorer_of_a_run_shows_pictures_at_the_border(judged):
    explorer = widgets.ThresholdExplorer.of_run(judged)
    assert (
        explorer.slider.value == pytest.approx(0.4)
        and "kept 4 of 9" in explorer.summary.value
        and "too few to say" in explorer.summary.value
    )
    assert (
        explorer.border.value.count("data:image/jpeg") == 4
        and "0.400 · ✓" in explorer.border.value
        and "0.350 · ✓" in explorer.border.value
    )
    explorer.press("PageDown")
    assert explorer.slider.value == pytest.approx(0.3) and "kept 6 of 9" in explorer.summary.value
    for _ in range(5):
        explorer.press("PageDown")
    assert explorer.slider.value == 0.0 and "kept 9 of 9" in explorer.summary.value
    assert 'role="img"' in explorer.static_html() and "too few" in explorer.static_html()


def test_threshold_explorer_keeps_at_the_threshold_what_the_run_has_kept_of_ties(judged):
    scores = read_parquet(judged / "scores.parquet", SCORES).to_pylist()
    for row in scores[5:8]:  # as good as the last one kept, and dropped
        row["score"] = scores[8]["score"]
    write_parquet(scores, judged / "scores.parquet", SCORES)
    explorer = widgets.ThresholdExplorer.of_run(judged)
    assert explorer.slider.value == pytest.approx(0.4) and "kept 4 of 9" in explorer.summary.value
    explorer.slider.value -= 1e-9
    assert "kept 4 of 9" not in explorer.summary.value


def test_threshold_explorer_follows_the_slider():
    scores = np.linspace(0.005, 0.995, 100)
    rows = [dict(question=f"q{i} [0]?", answer="a", rationale="r") for i in range(100)]
    explorer = widgets.ThresholdExplorer(
        scores, scores > 0.5, list(range(100)), rows, threshold=0.7
    )
    assert "100.0%" in explorer.summary.value and "kept 30 of 100" in explorer.summary.value
    explorer.slider.value = 0.71  # 29 of 29 are no 100%
    assert "too few to say" in explorer.summary.value and "100.0%" not in explorer.summary.value
    assert "29 are kept, too few to say" in explorer.plot.value
    explorer.slider.value = 0.3
    assert "kept 70 of 100" in explorer.summary.value and "71.4%" in explorer.summary.value
    assert "q30 " in explorer.border.value and "q29 " in explorer.border.value
    explorer.slider.value = 1.0
    assert "nothing is kept" in explorer.static().data
    with pytest.raises(ValueError, match="same triples"):
        widgets.ThresholdExplorer(scores, scores > 0.5, [1], rows)
