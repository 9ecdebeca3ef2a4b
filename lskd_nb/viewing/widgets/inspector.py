"""What each verbalizer said of a region, and where they disagree."""

import html
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

import ipywidgets as w

from lskd_nb.regions import LocatedImage
from lskd_nb.verbalization.disagreement import Contradiction, Disagreements, Told, marked, retrieved
from lskd_nb.viewing.markup import sample_html
from lskd_nb.viewing.widgets.frame import Frame, attempt, button, picture, row

ORDERS = {"most disagreement first": "disagreement", "as written": "written"}
STYLE = """
.loc-said{border-collapse:collapse;margin:2px 0 8px;font-size:14px!important}
.loc-said td,.loc-said th{text-align:left!important;vertical-align:top;\
padding:2px 10px 2px 0!important;font-weight:normal;white-space:normal}
.loc-said th,.loc-said td:last-child{white-space:nowrap}
.loc-lonely{background:#ffe08a!important;color:#111!important;border-radius:3px;padding:0 2px}
.loc-clash{border-left:3px solid #d55e00;padding-left:8px;margin:3px 0}
"""


class VerbalizationInspector(Frame):
    """Look at a run's images and see what each verbalizer said of a region, with model and score:
    ``VerbalizationInspector("outputs/runs/mini")``.

    Contradictions come first, and words that one verbalizer alone says are marked (see
    ``disagreement``). Images come with most disagreement first, which takes seconds for 100,000s of
    lines (of more than 20,000 images, so many of them come first), or with ``order="written"`` as
    they are in the file. Raises ``FileNotFoundError`` before
    notebook 01 has run, ``ValueError`` for damaged files.
    """

    def __init__(self, run_folder: str | Path, order: str = "disagreement"):
        self.disagreements = Disagreements(run_folder)
        self.order = w.Dropdown(options=list(ORDERS.items()), value=order, description="images")
        self.place = w.BoundedIntText(
            value=1, min=1, max=1, description="number", layout=w.Layout(width="11em")
        )
        self.named = w.Text(
            placeholder="id, then Enter",
            description="image",
            continuous_update=False,
            layout=w.Layout(width="16em"),
        )
        self.count, self.body, self.trouble = w.HTML(), w.HTML(), w.HTML()
        self.regions = w.ToggleButtons(
            options=[],
            description="region",
            style=dict(button_width="auto", description_width="auto"),
        )
        keys = {
            "ArrowLeft": lambda: self._step(-1),
            "ArrowRight": lambda: self._step(1),
            "ArrowUp": lambda: self._turn(-1),
            "ArrowDown": lambda: self._turn(1),
        }
        steps = (
            button("◀ previous", keys["ArrowLeft"]),
            self.place,
            self.count,
            button("next ▶", keys["ArrowRight"]),
        )
        super().__init__(
            [row(self.order, *steps, self.named), self.regions, self.trouble, self.body],
            keys,
            "keys: ← → image · ↑ ↓ region",
            "verbalization inspector",
        )
        self._refill()
        self.order.observe(lambda _: attempt(self._refill, lambda: None, self.trouble), "value")
        self.place.observe(lambda _: attempt(self._show, lambda: None, self.trouble), "value")
        self.named.observe(
            lambda _: attempt(lambda: self.go_to(self.named.value), lambda: None, self.trouble),
            "value",
        )
        self.regions.observe(self._tell, "value")

    def _refill(self) -> None:
        if self.order.value == "disagreement":
            self.image_ids = list(self.disagreements.images)
        else:
            self.image_ids = self.disagreements.run.image_ids()
        self.place.max = max(len(self.image_ids), 1)
        if self.place.value != 1:
            self.place.value = 1  # shows by itself
        else:
            self._show()

    def _step(self, by: int) -> None:
        if self.image_ids:
            self.place.value = (self.place.value - 1 + by) % len(self.image_ids) + 1

    def go_to(self, image_id: str) -> None:
        """Show the image of that id, the one of a triple for instance.

        Raises ``ValueError`` where the run has none.
        """
        if (wanted := image_id.strip()) and wanted not in self.image_ids:
            raise ValueError(f"this run has no image {wanted!r}")
        if wanted:
            self.place.value = self.image_ids.index(wanted) + 1

    def _turn(self, by: int) -> None:
        ids = [region for _, region in self.regions.options]
        if ids:
            self.regions.value = ids[(ids.index(self.regions.value) + by) % len(ids)]

    def _show(self) -> None:
        """Another image, at its worst region."""
        self.count.value = f"of {len(self.image_ids):,}"
        if not self.image_ids:
            self.body.value = "<i>this run has no images</i>"
            return
        image_id = self.image_ids[self.place.value - 1]
        self.image, self.told = (
            self.disagreements.run.image(image_id),
            self.disagreements.of(image_id),
        )
        self.picture, _ = picture(
            self.disagreements.run.image_root, self.image.path, self.image.regions
        )
        clashes = Counter(c.region for c in self.told.contradictions)
        # chooses the first
        self.regions.options = [
            (f"[{r.id}] {r.label} {'≠' * clashes[r.id]}".strip(), r.id) for r in self.image.regions
        ]
        self.regions.value = max(
            (r.id for r in self.image.regions),
            key=lambda i: self.told.disagreement.get(i, 0),
            default=None,
        )
        self._tell()

    def _tell(self, _change=None) -> None:
        self.body.value = _told_html(self.image, self.picture, self.told, self.regions.value)

    def static_html(self) -> str:
        """The image and region now shown, as plain HTML."""
        return self.body.value


def _told_html(image: LocatedImage, picture: str, told: Told, region: int | None) -> str:
    own = [c for c in told.contradictions if c.region == region]
    clashes = "".join(_clash_html(told.lines, c) for c in own) or "<div>no contradiction</div>"
    label = next((r.label for r in image.regions if r.id == region), "")
    tables = ""
    if region is not None:
        about = _table_html(told, [x for x in told.lines if x["region"] == region])
        tables = f"<b>[{region}] {html.escape(label)}</b>{clashes}{about}"
    whole = _table_html(told, [x for x in told.lines if x["region"] is None])
    tables += f"<b>the whole image</b>{whole}"
    quiet = (
        f'<div class="loc-quiet">{html.escape(image.image_id)}; <mark'
        ' class="loc-lonely">marked</mark>: nobody else says it; ≠ a contradiction</div>'
    )
    lit = "" if region is None else f".loc-lit{region} .loc-spot.s{region}{{opacity:1!important}}"
    sample = sample_html(picture, tables + quiet)
    return f'<style>{STYLE}{lit}</style><div class="loc-lit{region}">{sample}</div>'


def _clash_html(lines: Sequence[Mapping], found: Contradiction) -> str:
    one, other = (
        f"<b>{html.escape(lines[n]['verbalizer'])}</b> {html.escape(_words(lines[n]))}"
        for n in (found.one, found.other)
    )
    return (
        f'<div class="loc-clash">{one}<br>{other}<br><span'
        f' class="loc-quiet">{html.escape(found.why)}</span></div>'
    )


def _table_html(told: Told, lines: Sequence[Mapping]) -> str:
    """A row for each verbalizer, with its model; of retrieval, the words one after another."""
    rows = ""
    for (name, model), group in groupby(lines, key=lambda x: (x["verbalizer"], x["model"])):
        texts = [
            _marked_html(_words(x), told)
            + ("" if x["score"] is None else f' <small class="loc-quiet">{x["score"]:.2f}</small>')
            for x in group
        ]
        between = " &nbsp; " if retrieved(name) else "<br>"
        rows += (
            f'<tr><th scope="row">{html.escape(name)}</th><td>{between.join(texts)}</td><td'
            f' class="loc-quiet">{html.escape(model or "")}</td></tr>'
        )
    return (
        f'<table class="loc-said">{rows}</table>' if rows else "<div><i>nothing was said</i></div>"
    )


def _words(line: Mapping) -> str:
    return f"{line['question']} {line['text']}" if line["question"] else line["text"]


def _marked_html(text: str, told: Told) -> str:
    return "".join(
        f'<mark class="loc-lonely">{html.escape(piece)}</mark>' if lonely else html.escape(piece)
        for piece, lonely in marked(text, told.lonely)
    )
