"""Alt text: no picture of a notebook is without words, and the words of a figure are those of
its data.
"""

import base64
import io
import re
from html.parser import HTMLParser

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from PIL import Image

from lskd_nb.critic import filtering
from lskd_nb.publishing import renderings
from lskd_nb.regions import Region
from lskd_nb.run_folder import find_root
from lskd_nb.viewing import pictures, plots
from lskd_nb.viewing.alt_text import MOST, alt_of, fewer_colors, fewer_colors_of, image_html

ROOT = find_root()
SOURCES = sorted((ROOT / "notebooks").glob("*.ipynb"))


class Pictures(HTMLParser):
    """Collects pictures of HTML: those with words (or hidden, beside words that are there), and
    those without.
    """

    def __init__(self, text: str):
        super().__init__()
        self.told, self.silent = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag == "img":
            (self.told if (given.get("alt") or "").strip() else self.silent).append(given)
        if tag == "svg" and given.get("aria-hidden") != "true":
            (
                self.told
                if given.get("role") == "img" and (given.get("aria-label") or "").strip()
                else self.silent
            ).append(given)


def silent_pictures(book: nbformat.NotebookNode) -> list[str]:
    """Ids of the cells that show a picture without words, in their Markdown or their outputs."""
    found = []
    for cell in book.cells:
        texts = (
            [cell.source]
            if cell.cell_type == "markdown"
            else [o.get("data", {}).get("text/html", "") for o in cell.get("outputs", [])]
        )
        bare = [
            o
            for o in cell.get("outputs", [])
            if {"image/png", "image/jpeg", "image/svg+xml"} & o.get("data", {}).keys()
        ]
        if (
            bare
            or re.search(r"!\[\s*\]\(", cell.source)
            or any(Pictures("".join(t)).silent for t in texts)
        ):
            found.append(cell.id)
    return found


@pytest.fixture(scope="module")
def executed() -> nbformat.NotebookNode:
    """A small notebook, really run: a figure of this project, one drawn on the spot, one
    updated, and one without any words.
    """
    imports = """\
import matplotlib.pyplot as plt
from IPython.display import display
from PIL import Image
from lskd_nb.regions import Region
from lskd_nb.viewing import pictures, plots
plots.style()"""
    drawn_on_the_spot = """\
figure, ax = plt.subplots()
ax.plot([1, 40], [0.69, 0.05], label="mine")
ax.set(xlabel="step", ylabel="loss", title="Mine & yours");"""
    of_this_project = """\
dog = Region(0, (3, 3, 30, 30), "dog")
pictures.show_regions(Image.new("RGB", (60, 40), "white"), [dog], "a <b>title</b>");"""
    live = 'live = display(plots.loss_curves({}), display_id=True)\nplt.close("all")'
    updated = """\
curve = [{"step": i, "itm": 1 / (i + 1)} for i in range(9)]
live.update(plots.loss_curves({"lskd": curve}))
plt.close("all")"""
    codes = [imports, of_this_project, drawn_on_the_spot, live, updated, "plt.plot([1, 2]);"]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in codes])
    return NotebookClient(book, timeout=1800, kernel_name="python3").execute()


def test_every_figure_of_a_notebook_is_an_image_with_words(executed):
    assert silent_pictures(executed) == []
    shown = [
        Pictures(o.data["text/html"]).told[0]
        for c in executed.cells
        for o in c.outputs
        if o.output_type == "display_data"
    ]
    assert len(shown) == 4
    assert [given["alt"] for given in shown] == [
        "a <b>title</b>: an image with dog as [0] highlighted",
        "Mine & yours: loss against step: mine from 0.69 at 1 to 0.05 at 40",
        "Curves of the losses by step, running means: itm of lskd from 0.31 to 0.31 at step 9",
        "from 1 at 0 to 2 at 1",
    ]
    for given in shown:
        png = base64.b64decode(given["src"].removeprefix("data:image/png;base64,"))
        image = Image.open(io.BytesIO(png))
        assert (
            image.width == int(given["width"])
            and "max-width:100%" in given["style"]
            and len(png) < 30_000
        )


def test_renderings_keep_words_and_have_few_colours(executed, tmp_path):
    noise = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)).save(
        noise, "PNG"
    )
    encoded = base64.b64encode(noise.getvalue()).decode()
    book = nbformat.from_dict(executed)
    outputs = [
        nbformat.v4.new_output(
            "display_data",
            {"text/html": f'<img alt="noise" src="data:image/png;base64,{encoded}"/>'},
        ),
        nbformat.v4.new_output("display_data", {"image/png": encoded}),
    ]
    book.cells.append(nbformat.v4.new_code_cell("noise", outputs=outputs))
    made = renderings.rendering(book, tmp_path, ROOT)
    in_html, alone = (o.data for o in made.cells[-1].outputs)
    (told,) = Pictures(in_html["text/html"]).told
    assert (
        told["alt"] == "noise"
        and told["src"].endswith(alone["image/png"])
        and len(alone["image/png"]) < 0.6 * len(encoded)
    )
    assert Image.open(io.BytesIO(base64.b64decode(alone["image/png"]))).size == (120, 90)
    assert silent_pictures(nbformat.from_dict(made | {"cells": made.cells[:-1]})) == []


def test_bars_are_called_by_words_at_them_or_by_their_middles():
    figure, (numbers, ticked, grouped, named, aside) = plt.subplots(1, 5)
    numbers.hist([0.05, 0.38, 0.38, 0.92], bins=np.linspace(0, 1, 6))
    ticked.bar([0, 0.25, 0.5, 0.75, 1], [1, 2, 3, 4, 5], width=0.25)
    ticked.set_xticks([0, 0.5, 1], ["none", "half", "all"])
    for place, heights in enumerate(((1, 2), (3, 4), (5, 6))):
        grouped.bar(np.arange(2) + 0.25 * (place - 1), heights, width=0.25)
    grouped.set_xticks([0, 1], ["cats", "dogs"])
    named.barh(["7", "9"], [1, 2])
    aside.bar(["a", "b"], [1, 2], align="edge")
    assert (
        alt_of(figure)
        == "0.1 1; 0.3 2; 0.5 0; 0.7 0; 0.9 1. none 1; 0.25 2; half 3; 0.75 4; all 5. cats 1; dogs"
        " 2; cats 3; dogs 4; cats 5; dogs 6. 7 1; 9 2. a 1; b 2"
    )
    plt.close("all")


def test_what_does_not_decode_stays_and_what_is_transparent_is_white():
    for encoded in ("AAAA", "A", "", base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()):
        assert fewer_colors_of(encoded) == encoded
    drawn = np.random.default_rng(0).integers(0, 256, (60, 80, 4), dtype=np.uint8)
    drawn[:30, :, 3] = 0
    out = io.BytesIO()
    Image.fromarray(drawn).save(out, "PNG")
    made = np.asarray(Image.open(io.BytesIO(fewer_colors(out.getvalue()))).convert("RGB"))
    assert (
        len(fewer_colors(out.getvalue())) < len(out.getvalue())
        and (made[:30] >= 250).all()
        and (made[30:] < 200).any()
    )


def test_a_picture_that_would_not_shrink_stays_as_it_is():
    small = io.BytesIO()
    Image.new("P", (4, 4)).save(small, "PNG", optimize=True)
    assert fewer_colors(small.getvalue()) == small.getvalue()


def test_the_words_of_figures_are_their_data():
    scores = np.linspace(0.01, 1, 100)
    curve = filtering.share_curve(scores, scores > 0.5, np.arange(100), resamples=50)
    by_threshold = filtering.acceptability(
        scores, scores > 0.5, np.arange(100), [0.25, 0.75], resamples=50
    )
    told = alt_of(plots.threshold_curves(curve, by_threshold, 0.5))
    assert (
        "100% where 50% are kept, 50% where 100% are kept" in told
        and "66% from 0.25 on, 100% from 0.75 on" in told
    )
    one, two = dict(mean=0.3, low=0.2, high=0.4), dict(mean=0.55, low=0.5, high=0.6)
    told = alt_of(
        plots.accuracy_bars(
            {s: {"q_a": v, "qa_r": v, "q_ar": v} for s, v in (("base", one), ("lskd", two))}
        )
    )
    assert "Q→A: base 30% (20 to 40), LSKD 55% (50 to 60), chance 25%" in told
    assert "30% (20 to 40) with 1,000 triples" in alt_of(
        plots.scaling_curve([dict(triples=1000, q_ar=one)], two)
    )
    assert "captioner: place 10%; captioner: pose 40%" in alt_of(
        plots.error_bars({"captioner": {"place": 0.1, "pose": 0.4}})
    )
    assert "win 30% (20 to 40)" in alt_of(plots.preference_bars({"win": one, "pairs": 9}))
    assert "1.00 where 10% are found" in alt_of(
        plots.precision_recall(scores > 0.5, scores)
    ) and "0.50 is what guessing" in alt_of(plots.precision_recall(scores > 0.5, scores))
    assert alt_of(plots.calibration(scores > 0.5, scores, bins=2)).count(" at ") == 3
    grid = pictures.image_grid(
        [Image.new("RGB", (60, 40))] * 2,
        [[Region(0, (3, 3, 30, 30), "dog")], []],
        ["first", "second"],
    )
    assert alt_of(grid) == "2 images. first: an image with dog as [0] highlighted; second: an image"
    plt.close("all")


def test_a_figure_that_nobody_described_is_told_by_its_labels():
    figure, (left, middle, right) = plt.subplots(1, 3)
    left.barh(["what", "why"], [3, 5])
    left.set(xlabel="triples")
    middle.hist(np.repeat([0.1, 0.9], [3, 50]), bins=MOST + 10)
    right.imshow(np.zeros((4, 4)))
    right.set_title("who sees whom", loc="left")
    assert (
        alt_of(figure)
        == "triples: what 3; why 5. 20 bars, the highest 50 at 0.88. picture: who sees whom"
    )
    assert 'alt="triples: what 3' in image_html(figure) and image_html(plt.figure()) is None
    plots.describe(figure, "my  own\nwords")
    assert alt_of(figure) == "my own words"
    plt.close("all")


@pytest.mark.parametrize("path", SOURCES, ids=[p.stem for p in SOURCES])
def test_pictures_in_the_sources_have_words(path):
    assert silent_pictures(nbformat.read(path, as_version=4)) == []


@pytest.mark.slow
def test_no_picture_of_a_run_is_without_words(smoke):
    made = sorted((smoke / "notebooks").glob("*.ipynb"))
    assert len(made) == len(SOURCES)
    silent = {
        path.stem: ids
        for path in made
        if (ids := silent_pictures(nbformat.read(path, as_version=4)))
    }
    assert silent == {}
