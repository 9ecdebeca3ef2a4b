"""Stepping through a corpus, or through everything a run judged: the highlighted image, the texts, what the teacher saw, and why a triple was kept."""

import html
from collections.abc import Mapping
from pathlib import Path

import ipywidgets as w

from lskd_nb.browsing import CorpusIndex, Filter
from lskd_nb.markup import described, line_html, mention_html, picture_html, sample_html, triple_html
from lskd_nb.regions import regions_of
from lskd_nb.run_folder import RunFolder
from lskd_nb.verdicts import Verdicts, reasons
from lskd_nb.views import open_image
from lskd_nb.widgets.frame import Frame, button, row

ORDERS = [("best first", "score DESC"), ("worst first", "score ASC"), ("as written", "as written"), ("by image", "image")]
KEPT = {"kept and dropped": None, "kept": True, "dropped": False}
HINT = "Click here, then keys: ← → step · K kept or dropped · I all about this image · O order · R reset. Point at a mention to light its region."


class CorpusBrowser(Frame):
    """Step through triples, any number of them, each beside its highlighted image and what the teacher saw.

    ``of`` is a run's folder: then all triples that the critic judged are here, and each says why it was kept or dropped. Or it is a corpus (Parquet), with
    its ``image_root`` and, if at hand, ``context``: the words the teacher saw, by image id. Filters: data set, question, prompt, critic score, number of
    regions, words, a triple's or image's id.
    """

    def __init__(self, of: str | Path, image_root: str | Path | None = None, context: Mapping[str, str] | None = None):
        self.run = None if str(of).endswith(".parquet") else RunFolder(of)
        if self.run is None and image_root is None:
            raise ValueError(f"{of} is a corpus file: image_root must say where its images are")
        self.index = CorpusIndex(of) if self.run is None else CorpusIndex.of_run(self.run.folder)
        self.image_root, self.context = image_root or self.run.image_root, context or {}
        self.verdicts = self.run and Verdicts(self.run.folder, self.index)
        self.rows: list[dict] = []
        controls = self._controls()
        self.back, self.forward = button("◀ previous", lambda: self._step(-1)), button("next ▶", lambda: self._step(1))
        self.same = w.ToggleButton(description="all about this image", layout=w.Layout(width="auto"))
        self.place = w.BoundedIntText(value=1, min=1, max=max(self.index.total, 1), layout=w.Layout(width="7em"), description_tooltip="number")
        self.count, self.body = w.HTML(), w.HTML()
        self.same.observe(self._refill, "value")
        self.place.observe(self._show, "value")
        steps = row(self.back, self.place, self.count, self.forward, self.same, button("reset", self.reset))
        super().__init__([*controls, steps, self.body], self._keys(), HINT, "corpus browser")
        self._refill()

    def _controls(self) -> list[w.Box]:
        """Filters, observed."""
        self.family, self.source, self.opening = (self._choice(column, title) for column, title in (
            ("family", "prompt"), ("source", "data set"), ("opening", "question")))
        most = max(self.index.most_regions(), 1)
        self.kept = w.Dropdown(options=list(KEPT), description="show")
        self.regions = w.IntRangeSlider(value=(0, most), min=0, max=most, description="regions", continuous_update=False)
        self.score = w.FloatRangeSlider(value=(0.0, 1.0), min=0.0, max=1.0, step=0.01, description="critic", continuous_update=False)
        self.text = w.Text(placeholder="words to look for", description="text", continuous_update=False)
        self.named = w.Text(placeholder="of a triple or an image", description="id", continuous_update=False)
        self.order = w.Dropdown(options=ORDERS, description="order")
        self.filters = (self.family, self.source, self.opening, self.kept, self.regions, self.score, self.text, self.named, self.order)
        for control in self.filters:
            control.observe(self._filter, "value")
        self._usual = [control.value for control in self.filters]
        shown = [self.kept] if self.run else []
        return [row(*shown, self.source, self.opening, self.family), row(self.score, self.regions, self.order), row(self.text, self.named)]

    def _keys(self) -> dict:
        return {"ArrowLeft": lambda: self._step(-1), "ArrowRight": lambda: self._step(1), "i": lambda: self._set(self.same, not self.same.value),
                "k": lambda: self._next(self.kept), "o": lambda: self._next(self.order), "r": self.reset}

    def _choice(self, column: str, title: str) -> w.Dropdown:
        return w.Dropdown(options=[("all", ""), *((value, value) for value in self.index.choices(column))], description=title)

    def _set(self, control: w.Widget, value: object) -> None:
        control.value = value

    def _next(self, choice: w.Dropdown) -> None:
        choice.index = (choice.index + 1) % len(choice.options)

    def reset(self) -> None:
        """Take all filters back."""
        self._held = True
        self.same.value = False
        for control, value in zip(self.filters, self._usual, strict=True):
            control.value = value
        self._held = False
        self._refill()

    _held = False  # while several controls change at once

    def _filter(self, _change=None) -> None:
        """A filter asks about all images again."""
        if not self._held:
            self._held, self.same.value = True, False
            self._held = False
            self._refill()

    def _refill(self, _change=None) -> None:
        if self._held:
            return
        wanted = self._wanted()
        self.places = self.index.places(wanted, self.order.value)
        self.total = len(self.places)
        self._held = True
        self.place.max, self.place.value = max(self.total, 1), 1
        self._held = False
        self._show()

    def _wanted(self) -> Filter:
        if self.same.value and self.rows:
            return Filter(image_id=self.rows[0]["image_id"])
        named = self.named.value.strip()
        name = {"image_id" if named and self.index.count(Filter(image_id=named)) else "triple_id": named}
        return Filter(family=self.family.value, source=self.source.value, opening=self.opening.value, score=self.score.value, text=self.text.value.strip(),
                      kept=KEPT[self.kept.value], regions=None if self.regions.value == (0, self.regions.max) else self.regions.value, **name)

    def _step(self, by: int) -> None:
        if self.total:
            self.place.value = (self.place.value - 1 + by) % self.total + 1

    def _show(self, _change=None) -> None:
        if self._held:
            return
        self.rows = self.index.rows(self.places[self.place.value - 1 :][:1])
        self.count.value = f"of {self.total:,}"
        if self.rows:
            self.body.value = self._sample(self.rows[0])
        else:
            self.body.value = "<i>no triple fits these filters</i>"

    def _sample(self, shown: Mapping) -> str:
        drawn, seen = regions_of(shown), self.run.told(shown["image_id"]) if self.run else self.context.get(shown["image_id"], "")
        texts = [shown["question"], shown["answer"], shown["rationale"], seen]
        picture = picture_html(open_image(self.image_root, shown["image"]), drawn, described(drawn), texts)
        words = f'<details open><summary>what the teacher saw</summary><div class="loc-words">{mention_html(seen)}</div></details>' if seen else ""
        return sample_html(picture, f"{triple_html(shown)}{self._why(shown, seen)}{words}{_provenance(shown)}")

    def _why(self, shown: Mapping, seen: str) -> str:
        if self.verdicts is None:
            return line_html("critic", "unscored" if shown["score"] is None else f"{shown['score']:.3f}")
        told = reasons(self.verdicts.of(shown), shown["rationale"], seen)
        more = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in told[1:])
        mark = "#0b6e4f" if shown["kept"] else "#a63d00"
        return (f'<div class="loc-why" style="border-left:4px solid {mark};padding:2px 10px;margin:8px 0"><b>{html.escape(told[0])}</b>'
                f'<ul style="margin:2px 0;padding-left:1.2em">{more}</ul></div>')

    def static_html(self) -> str:
        """The sample now shown, as plain HTML."""
        return self.body.value


def _provenance(shown: Mapping) -> str:
    told = {"triple": shown["triple_id"], "image": f"{shown['image']} ({shown['source']}, {shown['split']})", "written by": shown["model"],
            "prompt": f"{shown['family']} family, {shown['prompt']}", "request": shown["request"]}
    return '<details class="loc-quiet"><summary>provenance</summary>' + "".join(line_html(k, html.escape(str(v))) for k, v in told.items()) + "</details>"
