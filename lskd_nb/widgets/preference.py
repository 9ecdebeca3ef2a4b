"""Blinded judgement of two answers to one pointed question."""

import html
from pathlib import Path

import ipywidgets as w
from IPython.display import HTML

from lskd_nb.markup import described, mention_html, picture_html
from lskd_nb.preference import PAIRS, add_judgement, read_judgements, remove_last_judgement
from lskd_nb.records import read_parquet
from lskd_nb.regions import region_of
from lskd_nb.views import open_image


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
        self.image, self.body = w.HTML(), w.HTML()
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
            self.image.value, self.body.value = "", "<i>every pair is judged</i>"
            return
        drawn = [region_of(r) for r in self.shown["regions"]]
        self.image.value = picture_html(open_image(self.image_root, self.shown["image"]), drawn, described(drawn))
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
        return HTML(f"<div>{self.progress.value}</div>{self.image.value}{self.body.value}")
