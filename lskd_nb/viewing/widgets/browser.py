"""Stepping through a corpus, or all that a run judged: image, texts, and why a triple was kept."""

import html
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import ipywidgets as w
import numpy as np

from lskd_nb.corpus.index import CorpusIndex, Filter
from lskd_nb.regions import regions_of
from lskd_nb.run_folder import RunFolder
from lskd_nb.viewing.markup import (
    DROPPED_COLOR,
    KEPT_COLOR,
    line_html,
    mention_html,
    sample_html,
    triple_html,
)
from lskd_nb.viewing.verdicts import Verdicts, reasons
from lskd_nb.viewing.widgets.frame import Frame, attempt, button, picture, row

ORDERS = [
    ("best first", "score DESC"),
    ("worst first", "score ASC"),
    ("as written", "as written"),
    ("by image", "image"),
]
KEPT = {"kept and dropped": None, "kept": True, "dropped": False}
MOST_BESIDE = 30  # triples of one image that are listed
HINT = (
    "Click here, then keys: ← → step · K kept or dropped · I all about this image · O order · R"
    " reset. Point at a mention to light its region."
)


class CorpusBrowser(Frame):
    """Step through any number of triples, each beside its image and what the teacher saw.

    ``of`` is a run's folder: then all triples that the critic judged are here, and each says why it
    was kept or dropped. Or it is a corpus (Parquet), with its ``image_root`` and, if at hand,
    ``context``: the words the teacher saw, by image id. Filters: data set, question, prompt, critic
    score, number of regions, words, a triple's or image's id.
    """

    def __init__(
        self,
        of: str | Path,
        image_root: str | Path | None = None,
        context: Mapping[str, str] | None = None,
    ):
        self.run = None if str(of).endswith(".parquet") else RunFolder(of)
        if self.run is None and image_root is None:
            raise ValueError(f"{of} is a corpus file: image_root must say where its images are")
        self.index = CorpusIndex(of) if self.run is None else CorpusIndex.of_run(self.run.folder)
        self.image_root, self.context = image_root or self.run.image_root, context or {}
        self.verdicts = self.run and Verdicts(self.run.folder, self.index)
        self.rows: list[dict] = []
        self.places, self.total = np.array([], dtype=np.int64), 0
        controls = self._controls()
        self.back = button("◀ previous", lambda: self._step(-1))
        self.forward = button("next ▶", lambda: self._step(1))
        self.same = w.ToggleButton(
            description="all about this image", layout=w.Layout(width="auto")
        )
        self.place = w.BoundedIntText(
            value=1,
            min=1,
            max=max(self.index.total, 1),
            layout=w.Layout(width="7em"),
            description_tooltip="number",
        )
        self.count, self.body, self.trouble = w.HTML(), w.HTML(), w.HTML()
        self.same.observe(self._turn, "value")
        self.place.observe(self._go, "value")
        steps = row(
            self.back, self.place, self.count, self.forward, self.same, button("reset", self.reset)
        )
        super().__init__(
            [*controls, steps, self.trouble, self.body], self._keys(), HINT, "corpus browser"
        )
        self._refill()

    def _controls(self) -> list[w.Box]:
        """Filters, observed."""
        self.family, self.source, self.opening = (
            self._choice(column, title)
            for column, title in (
                ("family", "prompt"),
                ("source", "data set"),
                ("opening", "question"),
            )
        )
        most = max(self.index.most_regions(), 1)
        self.kept = w.Dropdown(options=list(KEPT), description="show")
        self.regions = w.IntRangeSlider(
            value=(0, most), min=0, max=most, description="mentions", continuous_update=False
        )
        self.score = w.FloatRangeSlider(
            value=(0.0, 1.0),
            min=0.0,
            max=1.0,
            step=0.01,
            description="critic",
            continuous_update=False,
        )
        self.text = w.Text(
            placeholder='words, or "a phrase"; then Enter',
            description="text",
            continuous_update=False,
        )
        self.named = w.Text(
            placeholder="of a triple or an image; then Enter",
            description="id",
            continuous_update=False,
        )
        self.order = w.Dropdown(options=ORDERS, description="order")
        self.filters = (
            self.family,
            self.source,
            self.opening,
            self.kept,
            self.regions,
            self.score,
            self.text,
            self.named,
            self.order,
        )
        for control in self.filters:
            control.observe(self._filter, "value")
        self._usual = [control.value for control in self.filters]
        shown = [self.kept] if self.run else []
        return [
            row(*shown, self.source, self.opening),
            row(self.score, self.regions, self.family),
            row(self.text, self.named, self.order),
        ]

    def _keys(self) -> dict:
        keys = {
            "ArrowLeft": lambda: self._step(-1),
            "ArrowRight": lambda: self._step(1),
            "i": lambda: self._set(self.same, not self.same.value),
            "o": lambda: self._next(self.order),
            "r": self.reset,
        }
        # a corpus has none that were dropped
        return keys | ({"k": lambda: self._next(self.kept)} if self.run else {})

    def _choice(self, column: str, title: str) -> w.Dropdown:
        return w.Dropdown(
            options=[("all", ""), *((value, value) for value in self.index.choices(column))],
            description=title,
        )

    def _set(self, control: w.Widget, value: object) -> None:
        control.value = value

    def _next(self, choice: w.Dropdown) -> None:
        choice.index = (choice.index + 1) % len(choice.options)

    def reset(self) -> None:
        """Take all filters back."""
        with self._holding():
            self.same.value = False
            for control, value in zip(self.filters, self._usual, strict=True):
                control.value = value
        self._refill()

    @contextmanager
    def _holding(self) -> Iterator[None]:
        """Change several controls, and look once."""
        self._held = True
        try:
            yield
        finally:
            self._held = False

    _held = False

    def _filter(self, change: Mapping) -> None:
        """A filter asks about all images again; an order does not."""
        if not self._held:
            with self._holding():
                self.same.value = self.same.value and change["owner"] is self.order
            self._refill()

    def _turn(self, _change=None) -> None:
        """All about this image, or back to where one came from, at the triple that is shown."""
        if not self._held:
            self._refill(stay=True)

    def _refill(self, stay: bool = False) -> None:
        attempt(lambda: self._find(stay), self._show, self.trouble)

    def _find(self, stay: bool) -> None:
        shown = self.places[self.place.value - 1] if stay and self.total else None
        self.places = self.index.places(self._wanted(), self.order.value)
        self.total = len(self.places)
        again = np.flatnonzero(self.places == shown) if shown is not None else ()
        with self._holding():
            self.place.max = max(self.total, 1)
            self.place.value = int(again[0]) + 1 if len(again) else 1

    def _wanted(self) -> Filter:
        if self.same.value and self.rows:
            return Filter(image_id=self.rows[0]["image_id"])
        named, text = self.named.value.strip(), self.text.value.strip()
        name = {
            "image_id" if named and self.index.count(Filter(image_id=named)) else "triple_id": named
        }
        phrase = text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else ""
        return Filter(
            family=self.family.value,
            source=self.source.value,
            opening=self.opening.value,
            score=self.score.value,
            text=phrase,
            words=() if phrase else tuple(text.split()),
            kept=KEPT[self.kept.value],
            regions=None if self.regions.value == (0, self.regions.max) else self.regions.value,
            **name,
        )

    def _step(self, by: int) -> None:
        if self.total:
            self.place.value = (self.place.value - 1 + by) % self.total + 1

    def _go(self, _change=None) -> None:
        if not self._held:
            attempt(lambda: None, self._show, self.trouble)

    def _show(self) -> None:
        try:
            rows = self.index.rows(self.places[self.place.value - 1 :][:1])
            body = self._sample(rows[0]) if rows else "<i>no triple fits these filters</i>"
        except (OSError, ValueError):
            self.rows, self.body.value = [], ""  # rather nothing than another triple
            raise
        named = f" · <b>{html.escape(rows[0]['triple_id'])}</b>" if rows else ""
        self.rows, self.body.value, self.count.value = rows, body, f"of {self.total:,}{named}"

    def _sample(self, shown: Mapping) -> str:
        drawn = regions_of(shown)
        told = self.run.told if self.run else lambda image_id: self.context.get(image_id, "")
        seen = told(shown["image_id"])
        texts = [shown["question"], shown["answer"], shown["rationale"], seen]
        image, _ = picture(self.image_root, shown["image"], drawn, texts)
        words = ""
        if seen:
            words = (
                "<details open><summary>what the teacher saw</summary>"
                f'<div class="loc-words">{mention_html(seen)}</div></details>'
            )
        about = triple_html(shown) + self._why(shown, seen) + words + self._beside(shown)
        return sample_html(image, about + _provenance(shown))

    def _beside(self, shown: Mapping) -> str:
        """The triples about the same image, folded, in the order of their scores."""
        if self.verdicts is None:
            return ""
        of_image = self.index.places(Filter(image_id=shown["image_id"]))
        lines = "".join(
            _line_html(row, row["triple_id"] == shown["triple_id"])
            for row in self.index.rows(of_image[:MOST_BESIDE])
        )
        return (
            f"<details><summary>{len(of_image)} triples about this image</summary><table"
            f' style="font-size:12px">{lines}</table></details>'
        )

    def _why(self, shown: Mapping, seen: str) -> str:
        if self.verdicts is None:
            return line_html(
                "critic", "unscored" if shown["score"] is None else f"{shown['score']:.3f}"
            )
        told = reasons(self.verdicts.of(shown), shown["rationale"], seen)
        more = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in told[1:])
        mark = KEPT_COLOR if shown["kept"] else DROPPED_COLOR
        return (
            f'<div class="loc-why" style="border-left:4px solid {mark};padding:2px 10px;margin:8px'
            f' 0"><b>{html.escape(told[0])}</b><ul style="margin:2px'
            f' 0;padding-left:1.2em">{more}</ul></div>'
        )

    def static_html(self) -> str:
        """The sample now shown, as plain HTML."""
        return self.body.value


def _line_html(row: Mapping, here: bool) -> str:
    color, word = (KEPT_COLOR, "kept") if row["kept"] else (DROPPED_COLOR, "dropped")
    score = "–" if row["score"] is None else f"{row['score']:.3f}"
    return (
        f'<tr style="font-weight:{700 if here else 400}"><td>{score}</td><td'
        f' style="color:{color}">{word}</td><td'
        f' style="text-align:left">{mention_html(row["question"])}'
        f" {mention_html(row['answer'])}</td></tr>"
    )


def _provenance(shown: Mapping) -> str:
    told = {
        "triple": shown["triple_id"],
        "image": f"{shown['image']} ({shown['source']}, {shown['split']})",
        "written by": shown["model"],
        "prompt": f"{shown['family']} family, {shown['prompt']}",
        "request": shown["request"],
    }
    return (
        '<details class="loc-quiet"><summary>provenance</summary>'
        + "".join(line_html(k, html.escape(str(v))) for k, v in told.items())
        + "</details>"
    )
