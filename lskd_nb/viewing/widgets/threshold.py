"""Moving the threshold by hand, and seeing what it keeps and what it costs."""

import html
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import duckdb
import ipywidgets as w
import numpy as np

from lskd_nb.corpus.index import CorpusIndex, Filter
from lskd_nb.critic.filtering import Acceptability, Point, ties_apart
from lskd_nb.critic.weak_labels import FEW_MEASURED, told_points
from lskd_nb.records import NUMBERED_PARQUET, PARQUET, database
from lskd_nb.regions import regions_of
from lskd_nb.viewing.markup import DROPPED_COLOR, KEPT_COLOR, sample_html, triple_html
from lskd_nb.viewing.widgets.frame import Frame, picture, row

MEASURED = f"""
SELECT t.file_row_number AS place, s.score, p.correct > 0.5 AS accepted, p.image_id FROM {PARQUET} p
    JOIN {NUMBERED_PARQUET} t ON t.triple_id = p.item_id JOIN {PARQUET} s USING (triple_id)
WHERE p.system = 'raw' ORDER BY place
"""
# the critic's finer scores, where a row has them
FINER, ID = ({"answer": "qa_score", "rationale": "rationale_score"}, "triple_id")
HINT = (
    "Click here, then keys: ← → a hundredth · PageUp PageDown a tenth · R back. Acceptability is"
    " measured on triples the critic has not learned from."
)


class ThresholdExplorer(Frame):
    """Drag the threshold: acceptability with its 95% interval, size and share of what is kept, and
    the triples at the border move with it.

    ``scores`` (N,) are the critic's, ``accepted`` (N,) whether each triple is acceptable, ``rows``
    (N,) the triples or a function from a place to one; where ``image_root`` is given, their images
    are shown. ``of_run`` takes all of that from a run's folder; at the run's own threshold it keeps
    what the run has kept, ties included. Raises ``ValueError`` unless there
    are as many of each.
    """

    def __init__(
        self,
        scores: Sequence[float],
        accepted: Sequence[bool],
        image_ids: Sequence[str],
        rows: Sequence[Mapping] | Callable[[int], Mapping],
        threshold: float = 0.8,
        image_root: str | Path | None = None,
    ):
        self.scores = np.asarray(scores)
        self.accepted = np.asarray(accepted)
        self.image_root = image_root
        self.row_at = rows if callable(rows) else list(rows).__getitem__
        if (
            not len(self.scores)
            == len(self.accepted)
            == len(image_ids)
            == (len(self.scores) if callable(rows) else len(rows))
        ):
            raise ValueError("scores, accepted, image_ids and rows must be of the same triples")
        if np.isnan(self.scores.astype(float)).any():
            raise ValueError("some scores are no numbers: a threshold can't part them")
        self.order = np.argsort(self.scores)
        self.judged = Acceptability(self.scores, self.accepted, image_ids, resamples=300)
        self.curve = self.judged.at(np.linspace(0, 1, 51))
        self.slider = w.FloatSlider(
            value=threshold,
            min=0.0,
            max=1.0,
            step=0.001,
            readout_format=".3f",
            description="threshold",
            layout=w.Layout(width="34em"),
        )
        self.summary = w.HTML()
        self.plot = w.HTML()
        self.border = w.HTML(layout=w.Layout(flex="1 1 420px", min_width="0"))
        self.slider.observe(self._show, "value")
        by = {"ArrowLeft": -0.01, "ArrowRight": 0.01, "PageDown": -0.1, "PageUp": 0.1}
        keys = {key: lambda step=step: self._move(step) for key, step in by.items()} | {
            "r": lambda: setattr(self.slider, "value", threshold)
        }
        super().__init__(
            [row(self.slider, self.summary), row(self.plot, self.border, align="flex-start")],
            keys,
            HINT,
            "threshold explorer",
        )
        self._show()

    @classmethod
    def of_run(
        cls, folder: str | Path, threshold: float | None = None, index: CorpusIndex | None = None
    ) -> "ThresholdExplorer":
        """The explorer of a run's folder, on the triples that notebook 04 measured acceptability
        on; ``threshold``: the run's own.

        ``index`` is the run's (``CorpusIndex.of_run``), where it is open already: of a million
        triples that takes seconds and a gigabyte.
        """
        from lskd_nb.run_folder import RunFolder, imported_from

        run = RunFolder(folder)
        index = index or CorpusIndex.of_run(run.folder)
        record = run.folder / "predictions" / "acceptability.parquet"
        if origin := imported_from(run.folder):
            told = f"{run.folder} was imported from {origin['file']}, which has no dropped triples"
            raise ValueError(f"{told}: there is no threshold to move")
        if not record.exists():
            raise FileNotFoundError(f"{record} is not there: run notebook 04 first")
        files = [
            str(record),
            *(str(run.folder / f"{name}.parquet") for name in ("triples", "scores")),
        ]
        try:
            with database() as db:
                known = db.execute(MEASURED, files).fetchnumpy()
        except duckdb.Error as error:
            raise ValueError(f"{record} can't be read: {str(error).splitlines()[0]}") from error
        cut, scores = index.one("SELECT min(score) FROM triples WHERE kept")[0], known["score"]
        if cut is not None:
            corpus = index.places(Filter(kept=True), "as written")
            scores = ties_apart(scores, np.isin(known["place"], corpus), cut)
        return cls(
            scores,
            known["accepted"],
            known["image_id"],
            lambda i: index.rows([known["place"][i]])[0],
            cut if threshold is None else threshold,
            run.image_root,
        )

    def _move(self, by: float) -> None:
        self.slider.value = min(max(self.slider.value + by, 0.0), 1.0)

    def _show(self, _change=None) -> None:
        (point,) = self.judged.at([self.slider.value])
        if 0 < point.kept < FEW_MEASURED:
            told = f"too few to say how much is acceptable (under {FEW_MEASURED})"
        elif point.kept:
            told = (
                f"<b>{100 * point.mean:.1f}%</b> acceptable <small>[{100 * point.low:.1f},"
                f" {100 * point.high:.1f}]</small>"
            )
        else:
            told = "nothing is kept"
        self.summary.value = (
            f'<div style="font-size:16px">{told} · kept {point.kept:,} of {len(self.scores):,}'
            f" ({100 * point.share:.1f}%)</div>"
        )
        self.plot.value = _curve_svg(self.curve, point)
        cut = len(self.scores) - point.kept
        above, below = self.order[cut : cut + 2][::-1], self.order[max(cut - 2, 0) : cut][::-1]
        self.border.value = self._side("just above: kept", KEPT_COLOR, above) + self._side(
            "just below: dropped", DROPPED_COLOR, below
        )

    def _side(self, title: str, color: str, picked: Sequence[int]) -> str:
        lines = "".join(self._line(int(i), color) for i in picked) or "<i>none</i>"
        return f'<div style="margin:6px 0 2px;font-weight:600;color:{color}">{title}</div>{lines}'

    def _line(self, index: int, color: str) -> str:
        shown = self.row_at(index)
        mark = "✓ acceptable" if self.accepted[index] else "✗ not acceptable"
        finer = "".join(
            f" · {name} {shown[column]:.2f}"
            for name, column in FINER.items()
            if shown.get(column) is not None
        )
        name = html.escape(f" · {shown[ID]}") if ID in shown else ""
        told = f"<small>{self.scores[index]:.3f} · {mark}{finer}{name}</small>{triple_html(shown)}"
        if self.image_root is not None:
            texts = [shown[k] for k in ("question", "answer", "rationale")]
            small, _ = picture(self.image_root, shown["image"], regions_of(shown), texts, width=150)
            told = sample_html(small, told)
        return f'<div style="border-left:3px solid {color};padding:0 8px;margin:4px 0">{told}</div>'

    def static_html(self) -> str:
        """What is shown now, as plain HTML."""
        font = "font-family:system-ui,sans-serif"
        return (
            f'<div style="{font}">{self.summary.value}</div><div'
            f' style="{font};display:flex;flex-wrap:wrap">{self.plot.value}'
            f"<div>{self.border.value}</div></div>"
        )


def _curve_svg(curve: Sequence[Point], now: Point, width: int = 330, height: int = 210) -> str:
    """Acceptability against the threshold with its interval, and where the slider is."""
    left, top, right, bottom = 42, 8, width - 8, height - 34

    def at(threshold: float, value: float) -> str:
        return f"{left + threshold * (right - left):.1f},{bottom - value * (bottom - top):.1f}"

    shown = told_points(curve)
    band = " ".join(
        [at(p.threshold, p.high) for p in shown] + [at(p.threshold, p.low) for p in reversed(shown)]
    )
    line = " ".join(at(p.threshold, p.mean) for p in shown)
    grid = "".join(
        f'<path d="M{at(0, v)} L{at(1, v)}" stroke="currentColor" opacity=".15"/><text'
        f' x="{left - 6}" y="{bottom - v * (bottom - top) + 4:.1f}"'
        f' text-anchor="end">{100 * v:.0f}</text>'
        for v in (0, 0.25, 0.5, 0.75, 1)
    )
    ticks = "".join(
        f'<text x="{left + v * (right - left):.1f}" y="{bottom + 15}"'
        f' text-anchor="middle">{v:g}</text>'
        for v in (0, 0.25, 0.5, 0.75, 1)
    )
    x, y = at(now.threshold, now.mean if told_points([now]) else 0).split(",")
    if 0 < now.kept < FEW_MEASURED:
        found = f"{now.kept} are kept, too few to say how many are acceptable"
    elif now.kept:
        found = f"{100 * now.mean:.0f}% of {now.kept} kept triples are acceptable"
    else:
        found = "nothing is kept"
    alt = html.escape(
        f"Acceptability against the threshold; at {now.threshold:.2f} {found}", quote=True
    )
    return (
        f'<svg role="img" aria-label="{alt}" viewBox="0 0 {width} {height}" width="{width}"'
        f' height="{height}" font-family="sans-serif" font-size="11"'
        f' fill="currentColor">{grid}{ticks}<text x="{(left + right) / 2}" y="{height - 5}"'
        ' text-anchor="middle">critic\'s probability at least</text><text x="12"'
        f' y="{(top + bottom) / 2}" text-anchor="middle" transform="rotate(-90 12'
        f' {(top + bottom) / 2})">acceptable (%)</text><polygon points="{band}" fill="{KEPT_COLOR}"'
        f' opacity=".2"/><polyline points="{line}" fill="none" stroke="{KEPT_COLOR}"'
        f' stroke-width="2"/><path d="M{x},{top} L{x},{bottom}" stroke="{DROPPED_COLOR}"'
        f' stroke-dasharray="4 3"/><circle cx="{x}" cy="{y}" r="4.5" fill="{DROPPED_COLOR}"/></svg>'
    )
