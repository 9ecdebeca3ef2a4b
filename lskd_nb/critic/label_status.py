"""How far the labelling of a run is: what ``lskd labels status`` tells."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from lskd_nb.critic.label_sample import FILE, LEARN, MEASURE, image_of_each, read_sample
from lskd_nb.critic.labels import Agreement, agreement, consensus, labels_of_run, run_triple_ids
from lskd_nb.critic.weak_labels import auc_warnings, labels_warnings
from lskd_nb.records import LABELS

METRICS = "03_critic_training.metrics.json"


@dataclass(frozen=True)
class Part:
    """One label file of a run, beside the part of the sample that it asks for."""

    path: Path
    wanted: int | None  # triples of that part; None where no sample is drawn
    done: int  # of these, labelled
    labels: pa.Table  # LABELS, of triples of the run
    decisions: tuple[bool, ...]  # one of each triple: accepted or not
    images: int  # that are labelled
    left_out: int  # labels of triples that the run does not have

    @property
    def agreed(self) -> Agreement:
        return agreement(self.labels)

    def lines(self) -> list[str]:
        """What there is, by whom, how much of it is accepted, and how far people agree."""
        number = len(self.decisions)
        if not number:
            return [f"{self.path}: no labels yet{self._to_go()}"]
        who = Counter(self.labels["annotator"].to_pylist()).most_common()
        share = sum(self.decisions) / number
        lines = [
            f"{self.path}: {number:,} triples labelled, by"
            f" {', '.join(f'{name} ({count:,})' for name, count in who)}; {sum(self.decisions):,}"
            f" accepted ({share:.0%}){self._to_go()}"
        ]
        if (found := self.agreed).triples:
            alphas = (("accept", found.accept), ("answer", found.qa_score))
            told = ", ".join(
                f"{name} {'–' if alpha is None else f'{alpha:.2f}'}"
                for name, alpha in (*alphas, ("rationale", found.rationale_score))
            )
            lines.append(
                f"  {found.annotators} people labelled {found.triples:,} of them in common:"
                f" Krippendorff's alpha {told} (1: they agree, 0: as by chance)"
            )
        if self.left_out:
            lines.append(f"  {self.left_out:,} labels are of triples that the run does not have")
        return lines

    def _to_go(self) -> str:
        if self.wanted is None:
            return ""
        return f"; {self.done:,} of the sample's {self.wanted:,}, {self.wanted - self.done:,} to go"


@dataclass(frozen=True)
class Status:
    """What is labelled to learn from and to measure with, and what is to be warned of."""

    sample: Path | None
    learn: Part
    measure: Part
    warnings: tuple[str, ...]

    @property
    def enough(self) -> bool:
        """Whether notebook 03 can train a critic: it takes labels about two images or more."""
        return self.learn.images >= 2

    def lines(self) -> list[str]:
        where = f"the sample to label is {self.sample}"
        if self.sample is None:
            where = "no sample is drawn: `lskd run` draws it where it stops for labels"
        return [
            where,
            "to learn from: " + "\n".join(self.learn.lines()),
            "to measure with: " + "\n".join(self.measure.lines()),
            *(f"warning: {line}" for line in self.warnings),
        ]


def label_status(run_dir: str | Path, labels_file: Path, to_measure: Path) -> Status:
    """The state of a run's two label files, which need not be there yet.

    Raises ``FileNotFoundError`` where the run has no triples, ``ValueError`` for a file that is
    none of labels.
    """
    run_dir = Path(run_dir)
    sample, ids = read_sample(run_dir), run_triple_ids(run_dir)
    parts: dict[str, set[str] | None] = {LEARN: None, MEASURE: None}
    if sample is not None:
        for part in parts:
            chosen = sample.filter(pc.equal(sample["part"], part))
            parts[part] = set(chosen["triple_id"].to_pylist())
    learn = _part(run_dir, labels_file, ids, parts[LEARN])
    measure = _part(run_dir, to_measure, ids, parts[MEASURE])
    told = [*labels_warnings(learn.decisions), *_of_the_critic(run_dir)]
    where = None if sample is None else run_dir / FILE
    return Status(where, learn, measure, tuple(told))


def _part(run_dir: Path, path: Path, ids: list[str], wanted: set[str] | None) -> Part:
    labels, left_out = LABELS.empty_table(), 0
    if path.exists():
        found = labels_of_run(path, ids, "03", needs_one=False)
        labels, left_out = found.labels, len(found.rejects)
    rows = consensus(labels)
    labelled = [row["triple_id"] for row in rows]
    return Part(
        path,
        None if wanted is None else len(wanted),
        0 if wanted is None else len(wanted.intersection(labelled)),
        labels,
        tuple(row["accept"] for row in rows),
        len(set(image_of_each(run_dir, labelled).values())),
        left_out,
    )


def _of_the_critic(run_dir: Path) -> list[str]:
    """What notebook 03 found of the critic when it last ran, if it did."""
    try:
        told = json.loads((run_dir / METRICS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    critic = told.get("critic", {}) if isinstance(told, Mapping) else {}
    auc, number = critic.get("auc"), critic.get("held_out", 0)
    return auc_warnings(auc, number) if isinstance(auc, float) else []
