"""Labels: what people say of triples, who labels which, and what several come to (section 3.2).

A label file (Parquet, records.LABELS) has one row for each triple and annotator: accept or reject,
and two scores from 0 to 1. The critic learns from one label of each triple. Where several people
labelled it, ``consensus`` makes one of theirs: accepted by more than half of them, scores averaged.
A tie is no accept: a filter should be strict, and leaving contested triples out would leave only
easy ones to judge the critic by.
"""

from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import groupby
from math import inf, isfinite, isnan
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lskd_nb.critic.agreement import JudgementFile, krippendorff_alpha
from lskd_nb.records import LABELS, PARQUET, read_parquet

# in a run's folder: what people said; what notebook 03 used of it, and the part it held out
BY_PEOPLE, USED, HELD_OUT = "labels_by_people.parquet", "labels.parquet", "labels_held_out.parquet"
LEVEL = {"accept": "nominal", "qa_score": "interval", "rationale_score": "interval"}


def label_file(path: str | Path, triple_ids: Collection[str]) -> JudgementFile:
    """The file of labels of these triples.

    Reading and adding raise ``ValueError`` naming file and row for a triple that is not among them,
    a label without a decision, a score outside 0..1, an annotator without a name, and a triple that
    one annotator labels twice.
    """
    known = triple_ids if isinstance(triple_ids, set | frozenset | Mapping) else set(triple_ids)

    def wrong(row: Mapping) -> str | None:
        if row["triple_id"] not in known:
            return f"triple {row['triple_id']!r} is not among the {len(known):,} of this run"
        return label_error(row)

    return JudgementFile(Path(path), LABELS, "triple_id", wrong)


def label_error(label: Mapping) -> str | None:
    """What keeps a row from being a label, None where nothing does.

    Whether its triple exists is not looked at.

    >>> label_error(dict(accept=True, qa_score=0.75, rationale_score=1.5))
    'rationale_score is 1.5, expected a number from 0 to 1'
    """
    if not isinstance(label["accept"], bool):
        return f"accept is {label['accept']!r}, expected true or false"
    for name in ("qa_score", "rationale_score"):
        score = label[name]
        number = isinstance(score, int | float) and not isinstance(score, bool)
        if not number or not 0 <= score <= 1:  # nan is not
            return f"{name} is {score!r}, expected a number from 0 to 1"
    return None


def read_labels(path: str | Path, triple_ids: Collection[str]) -> pa.Table:
    """LABELS, checked.

    Raises ``FileNotFoundError`` where there is no file, ``ValueError`` as ``label_file`` does.
    """
    if not Path(path).exists():
        raise FileNotFoundError(
            f"{path} is not there: people's labels are written there by the"
            " annotation widget or `lskd labels import`"
        )
    return label_file(path, triple_ids).read()


@dataclass(frozen=True)
class RunLabels:
    """Labels of a run's triples, and of those that the run does not have, as records.REJECTS."""

    labels: pa.Table
    rejects: list[dict]


def labels_of_run(
    path: str | Path, triple_ids: Collection[str], stage: str, needs_one: bool = True
) -> RunLabels:
    """Labels by people of any triples, parted into those of this run and others, which ``stage``
    rejects.

    Raises as ``read_labels`` does for what is no label, and ``ValueError`` where not one of them is
    of this run, if it ``needs_one``.
    """
    path, known = Path(path), triple_ids
    if not isinstance(known, Mapping | Set):
        known = dict.fromkeys(known)
    if not path.exists():
        read_labels(path, known)
    if path.suffix != ".parquet":
        raise ValueError(
            f"{path}: labels are read from Parquet with the columns {LABELS.names}, as the"
            " annotation widget and `lskd labels import` write it; convert the file first"
        )
    ids = read_parquet(path, LABELS)["triple_id"].to_pylist()
    table = read_labels(path, set(ids))
    here = np.array([i in known for i in ids], dtype=bool)
    if needs_one and not here.any():
        told = f"none of its {len(ids):,} labels is of this run's {len(known):,} triples"
        raise ValueError(
            f"{path}: {told if ids else 'it has no labels yet'}; label them with the annotation"
            " widget of notebook 07 or `lskd labels export`"
        )
    rejects = [
        dict(
            stage=stage,
            record=str(row["triple_id"]),
            reason="label of a triple that this run does not have",
            detail=f"{path.name}, by {row['annotator']}",
        )
        for row in table.filter(pa.array(~here)).to_pylist()
    ]
    return RunLabels(table.filter(pa.array(here)), rejects)


def consensus(labels: pa.Table) -> list[dict]:
    """One LABELS row for each labelled triple, in order of their first label; ``annotator`` names
    all, sorted, joined by " + ".

    Accepted where more than half of its annotators accept it; scores are the means of theirs.
    """
    of: dict[str, list[dict]] = {}
    for row in labels.to_pylist():
        of.setdefault(row["triple_id"], []).append(row)
    return [
        dict(
            triple_id=triple_id,
            annotator=" + ".join(sorted(r["annotator"] for r in rows)),
            accept=2 * sum(r["accept"] for r in rows) > len(rows),
            qa_score=float(np.mean([r["qa_score"] for r in rows])),
            rationale_score=float(np.mean([r["rationale_score"] for r in rows])),
        )
        for triple_id, rows in of.items()
    ]


@dataclass(frozen=True)
class Agreement:
    """How far annotators agree on the triples that at least two of them labelled.

    Alphas are None where there is nothing to agree about.
    """

    annotators: int
    triples: int
    accept: float | None  # Krippendorff's alpha, nominal
    qa_score: float | None  # the same at interval level
    rationale_score: float | None


def agreement(labels: pa.Table) -> Agreement:
    """Krippendorff's alpha of the decision and of the two scores."""
    rows = sorted(labels.to_pylist(), key=lambda r: r["triple_id"])
    shared = [
        group
        for _, found in groupby(rows, key=lambda r: r["triple_id"])
        if len(group := list(found)) > 1
    ]
    alphas = {
        name: krippendorff_alpha([[r[name] for r in group] for group in shared], level)
        for name, level in LEVEL.items()
    }
    told = {name: None if isnan(alpha) else alpha for name, alpha in alphas.items()}
    return Agreement(len({r["annotator"] for group in shared for r in group}), len(shared), **told)


# --------------------------------------------------------- what is learned from, and what measures


def images_held_out(image_ids: Collection[str], share: float, seed: int) -> set[str]:
    """A share of the labelled images, drawn by the seed: at least one, and never all.

    Raises ``ValueError`` for a share that is not between 0 and 1, or fewer than two images.
    """
    images = sorted(set(image_ids))
    if not 0 < share < 1 or len(images) < 2:
        raise ValueError(
            f"{len(images)} labelled images, a share of {share} to hold out; expected labels about"
            " two images or more, and a share above 0 and below 1: without labels that it has not"
            " learned from nobody knows what the critic is worth"
        )
    order = np.random.default_rng([seed, 8]).permutation(images)
    number = min(max(round(share * len(images)), 1), len(images) - 1)
    return {str(image) for image in order[:number]}


@dataclass(frozen=True)
class Known:
    """What notebook 03 knows of a run: triples that the critic has learned from, and the labels
    that were held out (accepted or not, by triple).
    """

    learned: frozenset[str]
    held_out: dict[str, bool]

    def fresh(self, accepted: Mapping[str, bool]) -> dict[str, bool]:
        """Those that the critic has not learned from.

        Raises ``ValueError`` saying what to do where none is left.
        """
        left = {t: good for t, good in accepted.items() if t not in self.learned}
        if not left:
            raise ValueError(
                f"of {len(accepted):,} labels none is left to measure with: notebook 03 has learned"
                " from all of their triples. Label others, into a file of their own:"
                ' Annotator(run, name, labels="labels_to_measure.parquet") asks only for those;'
                " or name no labels_file, then the labels that notebook 03 held out are used"
            )
        return left


def known_labels(folder: str | Path) -> Known:
    """The labels that notebook 03 has used in a run's folder."""
    used, held = (read_parquet(Path(folder) / name, LABELS) for name in (USED, HELD_OUT))
    kept = dict(zip(held["triple_id"].to_pylist(), held["accept"].to_pylist(), strict=True))
    return Known(frozenset(used["triple_id"].to_pylist()) - kept.keys(), kept)


# ------------------------------------------------------------------ who labels what, in which order


def run_triple_ids(folder: str | Path) -> list[str]:
    """The triples of a run, in the order of its file."""
    if not (path := Path(folder) / "triples.parquet").exists():
        raise FileNotFoundError(f"{path} is not there: run notebook 02 first")
    return pq.read_table(path, columns=["triple_id"])["triple_id"].to_pylist()


def labelled_elsewhere(folder: str | Path, own: str | Path) -> set[str]:
    """Triples that have a label in another label file of a run's folder (labels*.parquet) than
    ``own``: whoever measures what a critic learned needs others.
    """
    found: set[str] = set()
    for path in sorted(Path(folder).glob("labels*.parquet")):
        if path.resolve() == Path(own).resolve():
            continue
        if set(LABELS.names) <= set(pq.read_schema(path).names):  # not what an import has rejected
            found.update(pq.read_table(path, columns=["triple_id"])["triple_id"].to_pylist())
    return found


def with_gone(path: str | Path, triple_ids: Collection[str]) -> set[str]:
    """Triples that the labels of a file may be of: those of a run, and, where one of its labels is
    of them, the others too that it has labels of. Notebook 02 may have written other triples since.
    """
    known = set(triple_ids)
    if not Path(path).exists():
        return known
    labelled = read_parquet(path, LABELS)["triple_id"].to_pylist()
    return known | set(labelled) if known.intersection(labelled) else known


def run_triple(folder: str | Path, triple_id: str) -> dict:
    """One of them, a row of records.TRIPLES. Raises ``ValueError`` where there is none."""
    path = Path(folder) / "triples.parquet"
    with duckdb.connect() as db:
        found = (
            db.sql(f"SELECT * FROM {PARQUET} WHERE triple_id = ?", params=[str(path), triple_id])
            .to_arrow_table()
            .to_pylist()
        )
    if not found:
        raise ValueError(f"{path} has no triple {triple_id!r}")
    return found[0]


def shuffled(triple_ids: Sequence[str], seed: int) -> list[str]:
    """Triples in an order that the seed alone decides, and not the critic: labels of the first
    of them may measure acceptability.
    """
    ordered = sorted(triple_ids)
    return [ordered[i] for i in np.random.default_rng([seed, 11]).permutation(len(ordered))]


def nearest(triple_ids: Sequence[str], scores: pa.Table, threshold: float) -> list[str]:
    """These triples, those first whose critic's score (records.SCORES) is nearest to ``threshold``;
    those without a score last.

    There a label teaches the critic most; labels drawn so say nothing of how acceptable the corpus
    is.
    """
    known = zip(scores["triple_id"].to_pylist(), scores["score"].to_pylist(), strict=True)
    away = {
        t: abs(score - threshold) for t, score in known if score is not None and isfinite(score)
    }
    return sorted(triple_ids, key=lambda t: away.get(t, inf))


def assign_annotators(
    ordered: Sequence[str],
    annotator: str,
    annotators: Sequence[str] = (),
    overlap: float = 0.0,
    seed: int = 0,
) -> list[str]:
    """What one of several annotators labels: a share ``overlap`` (0..1), drawn by the seed, that
    all of them get, and of the rest every n-th.

    Shared triples lie among the others, so that agreement is known early. Without ``annotators``
    everybody labels everything. Raises ``ValueError`` for an annotator who is not among them, a
    name twice, or another share.
    """
    if not 0 <= overlap <= 1:
        raise ValueError(f"overlap is {overlap}, expected a share from 0 to 1")
    if not annotators:
        return list(ordered)
    if annotator not in annotators or len(set(annotators)) < len(annotators):
        raise ValueError(
            f"annotator {annotator!r} must be among the annotators,"
            f" each named once: {list(annotators)}"
        )
    drawn = np.random.default_rng([seed, 12]).permutation(len(ordered))[
        : round(overlap * len(ordered))
    ]
    everybodys, turn = {ordered[i] for i in drawn}, annotators.index(annotator)
    own = [t for t in ordered if t not in everybodys][turn :: len(annotators)]
    mine = everybodys | set(own)
    return [t for t in ordered if t in mine]
