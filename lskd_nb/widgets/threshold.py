"""Moving the threshold by hand, and seeing what it keeps and what it costs."""

from collections.abc import Mapping, Sequence

import ipywidgets as w
import numpy as np

from lskd_nb.filtering import Acceptability
from lskd_nb.markup import triple_html
from lskd_nb.widgets.frame import Frame


class ThresholdExplorer(Frame):
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
        super().__init__([self.slider, self.summary, self.border], {}, "", "threshold explorer")
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

    def static_html(self) -> str:
        """What is shown now, as plain HTML."""
        return self.summary.value + self.border.value
