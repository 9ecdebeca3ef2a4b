"""Widgets to look at a corpus: plain ipywidgets with ``observe``, safe to run headless, each with a static twin.

``interact`` and ``Output`` are avoided: they swallow exceptions and can hang a headless run.
"""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import ipywidgets as w
import numpy as np
from IPython.display import HTML
from PIL import Image

from lskd_nb.browsing import CorpusIndex, Filter
from lskd_nb.figures import mention_html, regions_of, triple_html
from lskd_nb.filtering import Acceptability
from lskd_nb.preference import PAIRS, add_judgement, read_judgements, remove_last_judgement
from lskd_nb.records import read_parquet
from lskd_nb.regions import highlight, region_of
from lskd_nb.views import open_image


def _png(image: Image.Image, width: int = 420) -> bytes:
    image = image.resize((width, round(width * image.height / image.width)), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    image.quantize(128).save(out, "PNG", optimize=True)
    return out.getvalue()


class CorpusBrowser(w.VBox):
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
        self.back, self.forward = w.Button(description="◀ previous"), w.Button(description="next ▶")
        self.place = w.IntText(value=0, description="number", layout=w.Layout(width="12em"))
        self.count, self.image, self.body = w.HTML(), w.Image(format="png"), w.HTML()
        for control in (self.family, self.source, self.opening, self.regions, self.score, self.text, self.order):
            control.observe(self._refill, "value")
        self.place.observe(self._show, "value")
        self.back.on_click(lambda _: self._step(-1))
        self.forward.on_click(lambda _: self._step(1))
        super().__init__(
            [
                w.HBox([self.source, self.opening, self.family]),
                w.HBox([self.score, self.regions]),
                w.HBox([self.text, self.order]),
                w.HBox([self.back, self.forward, self.place, self.count]),
                w.HBox([self.image, self.body]),
            ]
        )
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
        if not self.rows:
            self.image.value, self.body.value = b"", "<i>no triple fits these filters</i>"
            return
        row = self.rows[0]
        self.image.value = _png(highlight(open_image(self.image_root, row["image"]), regions_of(row)))
        self.body.value = self._html(row)

    def _html(self, row: Mapping) -> str:
        score = "unscored" if row["score"] is None else f"{row['score']:.3f}"
        told = f"<b>critic</b> {score} · " + " · ".join(html.escape(row[k]) for k in ("source", "family", "model", "triple_id"))
        seen = self.context.get(row["image_id"])
        words = (
            f'<details open><summary>what the teacher saw</summary><pre style="white-space:pre-wrap;font-size:12px">{mention_html(seen)}</pre></details>'
            if seen
            else ""
        )
        return f'<div style="padding:0 1em;max-width:36em">{triple_html(row)}<div style="color:#777;font-size:12px">{told}</div>{words}</div>'

    def static(self) -> HTML:
        """The sample now shown, as plain HTML."""
        picture = base64.b64encode(bytes(self.image.value)).decode()
        return HTML(
            f'<div style="display:flex"><img alt="the highlighted image" width="420" src="data:image/png;base64,{picture}"/>{self.body.value}</div>'
        )


class ThresholdExplorer(w.VBox):
    """Drag the threshold and see what is kept: acceptability with its interval, share, and the triples at the border."""

    def __init__(
        self, scores: Sequence[float], accepted: Sequence[bool], image_ids: Sequence[str], rows: Sequence[Mapping], threshold: float = 0.8
    ):
        self.scores, self.accepted, self.image_ids, self.rows = np.asarray(scores), np.asarray(accepted), list(image_ids), list(rows)
        if not len(self.scores) == len(self.accepted) == len(self.image_ids) == len(self.rows):
            raise ValueError("scores, accepted, image_ids and rows must be of the same triples")
        self.order, self.judged = np.argsort(self.scores), Acceptability(self.scores, self.accepted, self.image_ids, resamples=300)
        self.slider = w.FloatSlider(
            value=threshold, min=0.0, max=1.0, step=0.01, description="threshold", continuous_update=False, layout=w.Layout(width="32em")
        )
        self.summary, self.border = w.HTML(), w.HTML()
        self.slider.observe(self._show, "value")
        super().__init__([self.slider, self.summary, self.border])
        self._show()

    def _show(self, _change=None) -> None:
        (point,) = self.judged.at([self.slider.value])
        if point.kept:
            told = f"<b>{100 * point.mean:.1f}%</b> acceptable <small>[{100 * point.low:.1f}, {100 * point.high:.1f}]</small>"
        else:
            told = "nothing is kept"
        self.summary.value = f'<div style="font-size:16px">{told} · kept {point.kept:,} of {len(self.scores):,} ({100 * point.share:.1f}%)</div>'
        cut = len(self.scores) - point.kept
        self.border.value = "".join(
            f'<h4 style="margin:8px 0 2px">{title}</h4>' + ("".join(self._line(i) for i in picked) or "<i>none</i>")
            for title, picked in (("just above: kept", self.order[cut : cut + 3][::-1]), ("just below: dropped", self.order[max(cut - 3, 0) : cut][::-1]))
        )

    def _line(self, index: int) -> str:
        mark = "✓ acceptable" if self.accepted[index] else "✗ not acceptable"
        return (
            f'<div style="border-left:3px solid #ccc;padding:0 8px;margin:4px 0"><small>{self.scores[index]:.3f} · {mark}</small>'
            f"{triple_html(self.rows[index])}</div>"
        )

    def static(self) -> HTML:
        """What is shown now, as plain HTML."""
        return HTML(self.summary.value + self.border.value)


class PreferenceAnnotator(w.VBox):
    """Judge pairs of answers to pointed questions, not knowing whose they are (see ``preference``): left is better, right is better, or a tie.

    Each click is written to ``judgements`` at once, so judging goes on where it stopped; undo takes back the annotator's last judgement. Raises
    ``ValueError`` for an annotator without a name.
    """

    def __init__(self, pairs: str | Path, judgements: str | Path, image_root: str | Path, annotator: str):
        if not annotator.strip():
            raise ValueError("the annotator needs a name: judgements are told apart by it")
        self.pairs, self.path, self.image_root, self.annotator = read_parquet(pairs, PAIRS), Path(judgements), image_root, annotator.strip()
        self.rows = self.pairs.to_pylist()
        self.left, self.tie, self.right = (w.Button(description=d) for d in ("◀ left is better", "tie", "right is better ▶"))
        self.undo, self.progress = w.Button(description="undo", icon="undo"), w.HTML()
        self.image, self.body = w.Image(format="png"), w.HTML()
        for button, choice in ((self.left, "left"), (self.tie, "tie"), (self.right, "right")):
            button.on_click(lambda _, choice=choice: self._judge(choice))
        self.undo.on_click(lambda _: self._take_back())
        super().__init__([self.progress, self.image, self.body, w.HBox([self.left, self.tie, self.right, self.undo])])
        self._show()

    def _judge(self, choice: str) -> None:
        if self.shown is not None:
            add_judgement(self.path, self.pairs, self.shown["pair_id"], self.annotator, choice)
        self._show()

    def _take_back(self) -> None:
        remove_last_judgement(self.path, self.pairs, self.annotator)
        self._show()

    def _show(self) -> None:
        judged = {r["pair_id"] for r in read_judgements(self.path, self.pairs).to_pylist() if r["annotator"] == self.annotator}
        self.shown = next((row for row in self.rows if row["pair_id"] not in judged), None)
        self.progress.value = f"{html.escape(self.annotator)}: {len(judged):,} of {len(self.rows):,} pairs judged"
        self.undo.disabled = not judged
        for button in (self.left, self.tie, self.right):
            button.disabled = self.shown is None
        if self.shown is None:
            self.image.value, self.body.value = b"", "<i>every pair is judged</i>"
            return
        self.image.value = _png(highlight(open_image(self.image_root, self.shown["image"]), [region_of(r) for r in self.shown["regions"]]))
        sides = "".join(self._side(side) for side in ("left", "right"))
        self.body.value = f'<div style="font-size:15px"><b>{mention_html(self.shown["question"])}</b></div><div style="display:flex">{sides}</div>'

    def _side(self, side: str) -> str:
        answer, rationale = (mention_html(self.shown[f"{side}_{part}"]) for part in ("answer", "rationale"))
        return (
            f'<div style="width:24em;border:1px solid #ccc;border-radius:4px;padding:6px 10px;margin:4px 8px 4px 0"><small style="color:#777">{side}</small>'
            f'<div>{answer}</div><div style="color:#555">{rationale}</div></div>'
        )

    def static(self) -> HTML:
        """The pair now shown, as plain HTML."""
        picture = base64.b64encode(bytes(self.image.value)).decode()
        shown = f'<img alt="the highlighted image" width="420" src="data:image/png;base64,{picture}"/>' if picture else ""
        return HTML(f"<div>{self.progress.value}</div>{shown}{self.body.value}")
