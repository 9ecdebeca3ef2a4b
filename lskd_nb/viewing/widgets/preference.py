"""Blinded judgement of two answers to one pointed question."""

import html
from pathlib import Path

import ipywidgets as w

from lskd_nb.critic.agreement import named
from lskd_nb.evaluation.preference import PAIRS, judgement_file
from lskd_nb.records import read_parquet
from lskd_nb.regions import region_of
from lskd_nb.viewing.markup import mention_html, sample_html
from lskd_nb.viewing.widgets.frame import Frame, attempt, button, picture, row

KEYS = {"ArrowLeft": "left", "ArrowDown": "tie", "ArrowRight": "right"}


class PreferenceAnnotator(Frame):
    """Judge pairs of answers to pointed questions, not knowing whose they are (see ``preference``):
    left is better, right is better, or a tie.

    Each judgement is written to ``judgements`` at once, so judging goes on where it stopped; undo
    takes back the annotator's last one. What can't be written is said in the frame. Raises
    ``ValueError`` for an annotator without a name, or a file of other judgements.
    """

    def __init__(
        self, pairs: str | Path, judgements: str | Path, image_root: str | Path, annotator: str
    ):
        self.annotator, self.image_root = named(annotator), image_root
        table = read_parquet(pairs, PAIRS)
        self.rows, self.file = table.to_pylist(), judgement_file(judgements, table)
        self.progress, self.body, self.trouble = w.HTML(), w.HTML(), w.HTML()
        self.left, self.tie, self.right = (
            button(text, lambda choice=choice: self._judge(choice))
            for text, choice in (
                ("◀ left is better", "left"),
                ("tie", "tie"),
                ("right is better ▶", "right"),
            )
        )
        self.undo = button("undo", self._take_back, icon="undo")
        keys = {key: lambda choice=choice: self._judge(choice) for key, choice in KEYS.items()} | {
            "u": self._take_back
        }
        super().__init__(
            [
                self.progress,
                self.body,
                row(self.left, self.tie, self.right, self.undo),
                self.trouble,
            ],
            keys,
            "keys: ← left is better · ↓ tie · → right is better · u undo",
            "preference annotator",
        )
        self._show()

    def _judge(self, choice: str) -> None:
        if self.shown is not None:
            pair = self.shown["pair_id"]
            attempt(
                lambda: self.file.add(dict(pair_id=pair, annotator=self.annotator, choice=choice)),
                self._show,
                self.trouble,
            )

    def _take_back(self) -> None:
        attempt(lambda: self.file.take_back(self.annotator), self._show, self.trouble)

    def _show(self) -> None:
        """The first pair that is not judged yet and whose picture can be seen.

        Pairs without one are counted, not judged.
        """
        judged = {
            r["pair_id"] for r in self.file.read().to_pylist() if r["annotator"] == self.annotator
        }
        self.shown, self.body.value, unseen = None, "<i>every pair is judged</i>", 0
        for pair in (pair for pair in self.rows if pair["pair_id"] not in judged):
            told, seen = self._pair(pair)
            if seen:
                self.shown, self.body.value = pair, told
                break
            self.body.value, unseen = told, unseen + 1
        without = f", {unseen:,} without a picture" if unseen else ""
        self.progress.value = (
            f"{html.escape(self.annotator)}:"
            f" {len(judged):,} of {len(self.rows):,} pairs judged{without}"
        )
        self.undo.disabled = not judged
        for choice in (self.left, self.tie, self.right):
            choice.disabled = self.shown is None

    def _pair(self, pair: dict) -> tuple[str, bool]:
        texts = [
            pair["question"],
            *(
                pair[f"{side}_{part}"]
                for side in ("left", "right")
                for part in ("answer", "rationale")
            ),
        ]
        drawn, seen = picture(
            self.image_root, pair["image"], [region_of(r) for r in pair["regions"]], texts
        )
        sides = "".join(self._side(pair, side) for side in ("left", "right"))
        question = f'<div style="font-size:15px"><b>{mention_html(pair["question"])}</b></div>'
        return (
            sample_html(drawn, f'{question}<div style="display:flex;flex-wrap:wrap">{sides}</div>'),
            seen,
        )

    def _side(self, pair: dict, side: str) -> str:
        answer, rationale = (
            mention_html(pair[f"{side}_{part}"]) for part in ("answer", "rationale")
        )
        return (
            '<div style="flex:1 1 14em;border:1px solid'
            ' rgba(128,128,128,.5);border-radius:4px;padding:6px 10px;margin:4px 8px 4px 0"><small'
            f' style="opacity:.72">{side}</small><div>{answer}</div><div'
            f' style="opacity:.8">{rationale}</div></div>'
        )

    def static_html(self) -> str:
        """The pair now shown, as plain HTML."""
        return f"<div>{self.progress.value}</div>{self.body.value}"
