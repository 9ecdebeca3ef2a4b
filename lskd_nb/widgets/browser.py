"""Stepping through a corpus, or through everything a run judged: the highlighted image, the texts, what the teacher saw, and why a triple was kept."""

import html
from collections.abc import Mapping
from pathlib import Path

import ipywidgets as w

from lskd_nb.browsing import CorpusIndex, Filter
from lskd_nb.markup import described, line_html, mention_html, picture_html, sample_html, triple_html
from lskd_nb.regions import regions_of
from lskd_nb.views import open_image
from lskd_nb.widgets.frame import Frame, button, row


class CorpusBrowser(Frame):
    """Step through a corpus of any size: filter it by data set, prompt, question, number of regions, critic score and words, and see each highlighted
    image beside its triple. ``context`` maps image ids to the words the teacher saw, shown where given.
    """

    def __init__(self, corpus: str | Path, image_root: str | Path, context: Mapping[str, str] | None = None):
        self.index, self.image_root, self.context = CorpusIndex(corpus), image_root, context or {}
        self.rows: list[dict] = []
        self.family, self.source, self.opening = (self._choice(column, title) for column, title in (
            ("family", "prompt"), ("source", "data set"), ("opening", "question")))
        most = max(self.index.most_regions(), 1)
        self.regions = w.IntRangeSlider(value=(0, most), min=0, max=most, description="regions", continuous_update=False)
        self.score = w.FloatRangeSlider(value=(0.0, 1.0), min=0.0, max=1.0, step=0.01, description="critic", continuous_update=False)
        self.text = w.Text(placeholder="words to look for", description="text", continuous_update=False)
        self.order = w.Dropdown(options=[("best first", "score DESC"), ("worst first", "score ASC"), ("as written", "as written")], description="order")
        self.back, self.forward = button("◀ previous", lambda: self._step(-1)), button("next ▶", lambda: self._step(1))
        self.place = w.IntText(value=0, description="number", layout=w.Layout(width="12em"))
        self.count, self.body = w.HTML(), w.HTML()
        for control in (self.family, self.source, self.opening, self.regions, self.score, self.text, self.order):
            control.observe(self._refill, "value")
        self.place.observe(self._show, "value")
        keys = {"ArrowLeft": lambda: self._step(-1), "ArrowRight": lambda: self._step(1)}
        super().__init__([row(self.source, self.opening, self.family), row(self.score, self.regions), row(self.text, self.order),
                          row(self.back, self.forward, self.place, self.count), self.body], keys, "keys: ← → step", "corpus browser")
        self._refill()

    def _choice(self, column: str, title: str) -> w.Dropdown:
        return w.Dropdown(options=[("all", ""), *((value, value) for value in self.index.choices(column))], description=title)

    def _refill(self, _change=None) -> None:
        wanted = Filter(family=self.family.value, source=self.source.value, opening=self.opening.value, score=self.score.value, text=self.text.value.strip(),
                        regions=None if self.regions.value == (0, self.regions.max) else self.regions.value)
        self.places = self.index.places(wanted, self.order.value)
        self.total = len(self.places)
        if self.place.value:
            self.place.value = 0  # shows by itself
        else:
            self._show()

    def _step(self, by: int) -> None:
        if self.total:
            self.place.value = (self.place.value + by) % self.total

    def _show(self, _change=None) -> None:
        self.rows = self.index.rows(self.places[max(self.place.value, 0) :][:1])
        self.count.value = f"of {self.total:,}"
        self.body.value = self._sample(self.rows[0]) if self.rows else "<i>no triple fits these filters</i>"

    def _sample(self, shown: Mapping) -> str:
        drawn, seen = regions_of(shown), self.context.get(shown["image_id"], "")
        texts = [shown["question"], shown["answer"], shown["rationale"], seen]
        picture = picture_html(open_image(self.image_root, shown["image"]), drawn, described(drawn), texts)
        score = "unscored" if shown["score"] is None else f"{shown['score']:.3f}"
        told = line_html("critic", score) + line_html("from", " · ".join(html.escape(shown[k]) for k in ("source", "family", "model", "triple_id")))
        words = f'<details open><summary>what the teacher saw</summary><div class="loc-words">{mention_html(seen)}</div></details>' if seen else ""
        return sample_html(picture, f'{triple_html(shown)}<div class="loc-quiet">{told}</div>{words}')

    def static_html(self) -> str:
        """The sample now shown, as plain HTML."""
        return self.body.value
