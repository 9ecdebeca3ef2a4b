"""Labelling triples: accept or reject, and how good answer and rationale are."""

import html
from collections.abc import Sequence
from pathlib import Path

import ipywidgets as w
import pyarrow as pa

from lskd_nb.critic.agreement import named
from lskd_nb.critic.label_sample import to_label
from lskd_nb.critic.labels import (
    BY_PEOPLE,
    Agreement,
    agreement,
    assign_annotators,
    label_file,
    nearest,
    run_triple,
    run_triple_ids,
    with_gone,
)
from lskd_nb.records import SCORES, read_parquet
from lskd_nb.regions import mentions
from lskd_nb.run_folder import RunFolder
from lskd_nb.viewing.markup import sample_html, triple_html
from lskd_nb.viewing.widgets.frame import STATIC, Frame, attempt, button, picture, row

STEPS = {"1 bad": 0.0, "2": 0.25, "3": 0.5, "4": 0.75, "5 good": 1.0}
HINT = (
    "keys: A accept · R reject · 1 to 5 the answer, then 1 to 5 the rationale · Enter or N save · S"
    " skip · U undo"
)


class Annotator(Frame):
    """Label the triples of a run as ``annotator``: ``Annotator("outputs/runs/mini", "ada")``.

    Each label is written at once to ``labels`` (the run's labels_by_people.parquet unless named),
    which several may write and notebook 03 reads; labelling goes on where it stopped, undo takes
    back one's last label and shows its triple again. The first ``number`` triples (None: all) are
    labelled of the sample that the run has drawn (``label_sample``), in its order, or of all, in an
    order that the seed alone decides; those nearest to the critic's score ``near`` first where it
    is given; or ``triple_ids``, in their own order. With ``annotators``, a share ``overlap`` of
    them goes to all, the rest is dealt out. With ``labels`` of its own it asks for the sample's
    part to measure with, and for nothing about an image that another label file of the run's folder
    (labels*.parquet) has: what measures is what the critic does not learn from. No score of the
    critic is shown, nor what others said.

    Raises ``ValueError`` for a name that is empty or not among ``annotators``, for triples that are
    not of this run, and for a file of other labels.
    """

    def __init__(
        self,
        run_folder: str | Path,
        annotator: str,
        triple_ids: Sequence[str] | None = None,
        labels: str | Path | None = None,
        number: int | None = None,
        seed: int = 0,
        near: float | None = None,
        annotators: Sequence[str] = (),
        overlap: float = 0.2,
    ):
        self.run, self.annotator = RunFolder(run_folder), named(annotator)
        known = dict.fromkeys(run_triple_ids(self.run.folder))
        if unknown := [t for t in triple_ids or () if t not in known]:
            raise ValueError(
                f"triple {unknown[0]!r} is not among the {len(known):,} of {self.run.folder}"
            )
        path = Path(labels or BY_PEOPLE)
        if path.name == str(path):  # a name alone is a file of the run
            path = self.run.folder / path
        self.file = label_file(path, with_gone(path, known))
        if number is not None and number < 1:
            raise ValueError(f"number is {number}, expected at least 1 triple")
        if triple_ids is None:
            ordered = to_label(self.run.folder, path if labels else None, seed)
        else:
            ordered = list(dict.fromkeys(triple_ids))
        if near is not None:
            ordered = nearest(
                ordered, read_parquet(self.run.folder / "scores.parquet", SCORES), near
            )
        self.triple_ids = assign_annotators(
            ordered[:number], self.annotator, annotators, overlap, seed
        )
        self.skipped: set[str] = set()
        self.shown: dict | None = None
        self._seen, self._made_of = False, _stamp(self.run.folder)
        super().__init__(self._controls(), self._keys(), HINT, "annotator")
        self._show()

    def _controls(self) -> list[w.Widget]:
        self.progress, self.told, self.trouble = w.HTML(), w.HTML(), w.HTML()
        self.body = w.HTML(layout=w.Layout(flex="1 1 44em"))
        guidelines = (STATIC / "guidelines.html").read_text(encoding="utf-8")
        self.guidelines = w.HTML(
            '<details open class="loc-guidelines"><summary>what to look'
            f" for</summary>{guidelines}</details>",
            layout=w.Layout(flex="0 1 24em"),
        )
        self.accept = _choices({"✓ accept": True, "✗ reject": False}, "triple")
        self.qa, self.rationale = _choices(STEPS, "answer"), _choices(STEPS, "rationale")
        self.save = button("save ▶", self._save, button_style="primary")
        self.skip = button("skip", self._skip)
        self.undo = button("undo", self._take_back)
        for choice in (self.accept, self.qa, self.rationale):
            choice.observe(lambda _: self._able(), "value")
        sample = row(self.body, self.guidelines)
        sample.layout.align_items = "flex-start"
        return [
            self.progress,
            sample,
            row(self.accept, self.qa, self.rationale),
            row(self.save, self.skip, self.undo),
            self.trouble,
            self.told,
        ]

    def _keys(self) -> dict:
        def set_to(choice: w.ToggleButtons, value):
            return lambda: None if self.shown is None else setattr(choice, "value", value)

        scores = {
            str(key): lambda value=value: self._score(value)
            for key, value in enumerate(STEPS.values(), 1)
        }
        return {
            "a": set_to(self.accept, True),
            "r": set_to(self.accept, False),
            "Enter": self._save,
            "n": self._save,
            "s": self._skip,
            "u": self._take_back,
        } | scores

    def _score(self, value: float) -> None:
        """A digit scores the answer; the next one the rationale; a third one begins again."""
        if self.shown is not None:
            if self.qa.value is not None and self.rationale.value is None:
                self.rationale.value = value
            else:
                self.qa.value, self.rationale.value = value, None

    # ------------------------------------------------------------------------------ what is clicked

    def _save(self) -> None:
        if self.shown is None:
            return
        if self.save.disabled:
            self.trouble.value = (
                '<span class="loc-quiet">accept or reject, and both scores, make a label</span>'
            )
            return
        if self._made_of != _stamp(self.run.folder):
            self.trouble.value = (
                '<b role="alert" class="loc-error">'
                "the run has other triples by now: open the annotator again</b>"
            )
            return
        label = dict(
            triple_id=self.shown["triple_id"],
            annotator=self.annotator,
            accept=self.accept.value,
            qa_score=self.qa.value,
            rationale_score=self.rationale.value,
        )
        attempt(lambda: self.file.add(label), self._show, self.trouble)

    def _skip(self) -> None:
        if self.shown is not None:
            self.skipped.add(self.shown["triple_id"])
            attempt(lambda: None, self._show, self.trouble)

    def _take_back(self) -> None:
        taken: list[dict] = []
        attempt(
            lambda: taken.append(self.file.take_back(self.annotator)),
            lambda: self._show(taken[0] if taken else None),
            self.trouble,
        )

    # -------------------------------------------------------------------------------- what is shown

    def _show(self, again: dict | None = None) -> None:
        """The next triple, or that of a label which was taken back, with what it said."""
        labels = self.file.read()
        own = {r["triple_id"] for r in labels.to_pylist() if r["annotator"] == self.annotator}
        waiting = [t for t in self.triple_ids if t not in own]
        if self.skipped >= set(waiting):
            self.skipped.clear()  # once round: what was skipped comes again
        following = next((t for t in waiting if t not in self.skipped), None)
        self._present(again["triple_id"] if again else following)
        for choice, name in (
            (self.accept, "accept"),
            (self.qa, "qa_score"),
            (self.rationale, "rationale_score"),
        ):
            choice.value = (
                again[name] if again and again[name] in dict(choice.options).values() else None
            )
        skipped = f", {len(self.skipped):,} skipped" if self.skipped else ""
        self.progress.value = (
            f"{html.escape(self.annotator)}: {len(self.triple_ids) - len(waiting):,}"
            f" of {len(self.triple_ids):,} triples labelled{skipped}"
        )
        self.undo.disabled = not own
        self.told.value = _agreement_html(labels)
        self._able()

    def _able(self) -> None:
        self.skip.disabled = self.shown is None
        for choice in (self.accept, self.qa, self.rationale):
            choice.disabled = not self._seen
        self.save.disabled = (
            self.shown is None
            or not self._seen
            or None in (self.accept.value, self.qa.value, self.rationale.value)
        )

    def _present(self, triple_id: str | None) -> None:
        """Show a triple; only one whose picture is seen can be labelled."""
        self.shown, self._seen, self.body.value = None, False, "<i>every triple is labelled</i>"
        if triple_id is None:
            return
        shown = run_triple(self.run.folder, triple_id)
        image = self.run.image(shown["image_id"])
        texts = [shown[part] for part in ("question", "answer", "rationale")]
        # as the critic and the students see it: plain, where nothing is pointed at
        offered = set(shown["regions_offered"]) if mentions(" ".join(texts)) else ()
        drawn = [r for r in image.regions if r.id in offered]
        told, self._seen = picture(self.run.image_root, image.path, drawn, texts)
        self.body.value, self.shown = sample_html(told, triple_html(shown)), shown

    def static_html(self) -> str:
        """The triple now shown, and the guidelines, as plain HTML."""
        below = "".join(part.value for part in (self.body, self.guidelines, self.told))
        return f"<div>{self.progress.value}</div>{below}"


def _stamp(folder: Path) -> tuple[int, int]:
    """Which triples a run's folder holds: labels of others would be lost."""
    stat = (folder / "triples.parquet").stat()
    return stat.st_size, stat.st_mtime_ns


def _choices(options: dict[str, object], description: str) -> w.ToggleButtons:
    return w.ToggleButtons(
        options=list(options.items()),
        value=None,
        description=description,
        style=dict(button_width="auto", description_width="auto"),
    )


def _agreement_html(labels: pa.Table) -> str:
    """How far annotators agree, once two have labelled the same triple."""
    found: Agreement = agreement(labels)
    if not found.triples:
        return ""
    alphas = " · ".join(
        f"{title} {'–' if alpha is None else f'{alpha:.2f}'}"
        for title, alpha in (
            ("accept", found.accept),
            ("answer", found.qa_score),
            ("rationale", found.rationale_score),
        )
    )
    return (
        f'<div class="loc-quiet">{found.annotators} annotators, {found.triples:,} triples in'
        f" common. Krippendorff's alpha: {alphas} (1: they agree, 0: as by chance)</div>"
    )
