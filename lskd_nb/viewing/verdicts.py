"""Why a triple was kept or dropped, in sentences that a person can check.

The filter knows one number, the critic's probability. Around it stands what else a run has on
record: the critic's two finer scores beside those of what was kept, the labels people gave, and
which words of the rationale the teacher had not been given. A wrong triple has one of three
authors: a verbalizer (the words do not fit the picture), the teacher (the text does not follow from
the words), or, where nothing is wrong, the critic.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lskd_nb.corpus.index import CorpusIndex
from lskd_nb.critic import UNFILTERED
from lskd_nb.records import PARQUET
from lskd_nb.regions import MENTION
from lskd_nb.run_folder import imported_from
from lskd_nb.verbalization.disagreement import said

DOUBTED = 0.1  # below the median of the kept: the critic doubts this part


@dataclass(frozen=True)
class Verdict:
    """What is known of the decision about one triple. Scores are 0 to 1; ranks count from 1."""

    kept: bool
    score: float | None
    threshold: float | None  # the lowest score that was kept; None where nothing was
    rank: int
    total: int
    kept_in_all: int
    rank_in_image: int
    of_image: int
    # answer, rationale: own finer score, median of the kept
    parts: Mapping[str, tuple[float, float]]
    labels: tuple[Mapping, ...] = ()  # rows of records.LABELS
    acceptable: bool | None = (
        None  # on record, where notebook 04 measured acceptability on this triple
    )
    imported: str = ""  # the file that an imported run is of: the decision was its makers'


class Verdicts:
    """The verdicts of a run, read as they are asked for."""

    def __init__(self, folder: str | Path, index: CorpusIndex):
        self.folder, self.index = Path(folder), index
        self._imported = str((imported_from(folder) or {}).get("file", ""))
        kept = "FROM triples WHERE kept"
        self._threshold, self._count, *self._medians = index.one(
            f"SELECT min(score), count(*), median(qa_score), median(rationale_score) {kept}"
        )

    def of(self, row: Mapping) -> Verdict:
        """The verdict about a row of ``CorpusIndex.of_run``."""
        above = "SELECT 1 + count(*) FILTER (WHERE score > ?), count(*) FROM triples"
        rank, total = self.index.one(above, [row["score"]])
        rank_in_image, of_image = self.index.one(
            f"{above} WHERE image_id = ?", [row["score"], row["image_id"]]
        )
        finer = zip(
            ("answer", "rationale"), ("qa_score", "rationale_score"), self._medians, strict=True
        )
        parts = {name: (row[column], median) for name, column, median in finer}
        return Verdict(
            row["kept"],
            row["score"],
            self._threshold,
            rank,
            total,
            self._count,
            rank_in_image,
            of_image,
            parts,
            tuple(self._labels(row["triple_id"])),
            self._acceptable(row["triple_id"]),
            self._imported,
        )

    def _labels(self, triple_id: str) -> list[dict]:
        query = (
            f"SELECT annotator, accept, qa_score, rationale_score FROM {PARQUET}"
            " WHERE triple_id = ?"
        )
        files = [
            file
            for name in ("labels.parquet", "labels_by_people.parquet")
            if (file := self.folder / name).exists()
        ]
        found = [row for file in files for row in self.index.read(query, str(file), triple_id)]
        # one that is in both files counts once
        return list({tuple(row.values()): row for row in found}.values())

    def _acceptable(self, triple_id: str) -> bool | None:
        file = self.folder / "predictions" / "acceptability.parquet"
        query = f"SELECT correct FROM {PARQUET} WHERE system = 'raw' AND item_id = ?"
        found = self.index.read(query, str(file), triple_id) if file.exists() else []
        return bool(found[0]["correct"]) if found else None


def reasons(verdict: Verdict, rationale: str, told: str) -> list[str]:
    """The verdict in plain sentences, the decision first. ``told`` is what the teacher saw."""
    share = verdict.kept_in_all / verdict.total
    needed = "it needed" if verdict.kept else "it would have needed"
    where = (
        f"place {verdict.rank:,} of {verdict.total:,}, the best {share:.0%} are kept; place"
        f" {verdict.rank_in_image} of {verdict.of_image} about this image"
    )
    if verdict.imported:
        return [_imported(verdict), *map(_label, verdict.labels)]
    if verdict.score is None and verdict.kept:
        return [f"Kept, as all are ({UNFILTERED}): nobody has scored it."]
    if verdict.score is None:
        return ["Dropped: the critic has given it no score."]
    if verdict.threshold is None:
        return ["Dropped: nothing was kept."]
    digits = 3 if f"{verdict.score:.3f}" != f"{verdict.threshold:.3f}" else 6
    found = [
        f"{'Kept' if verdict.kept else 'Dropped'}: the critic gives it"
        f" {verdict.score:.{digits}f}, {needed} {verdict.threshold:.{digits}f} ({where})."
    ]
    found += _doubts(verdict)
    found += map(_label, verdict.labels)
    if verdict.acceptable is not None:
        right = "right" if verdict.acceptable == verdict.kept else "wrong"
        found.append(
            f"On record it is {'' if verdict.acceptable else 'not '}acceptable:"
            f" the filter was {right}."
        )
    if told:
        unsaid = [
            word for word in said(MENTION.sub(" ", rationale)).words if word not in said(told).words
        ]
        new = f"Words of the rationale that the teacher was not given: {', '.join(unsaid)}."
        found.append(new if unsaid else "The teacher was given every word of the rationale.")
    return found


def _label(label: Mapping) -> str:
    scores = f"answer {label['qa_score']:.2f}, rationale {label['rationale_score']:.2f}"
    return f"{label['annotator']} {'accepts' if label['accept'] else 'rejects'} it: {scores}."


def _imported(verdict: Verdict) -> str:
    """Of a triple that somebody else has kept, all there is: the score that the file has."""
    if verdict.score is None:
        return f"Kept by its makers: it is in {verdict.imported}, without a score."
    return (
        f"Kept by its makers: {verdict.imported} gives it {verdict.score:.3f} (place"
        f" {verdict.rank:,} of {verdict.total:,}; place {verdict.rank_in_image} of"
        f" {verdict.of_image} about this image). What they dropped is not in the file."
    )


def _doubts(verdict: Verdict) -> list[str]:
    """Which of the two finer scores speaks against a triple."""
    known = {
        name: (own, usual)
        for name, (own, usual) in verdict.parts.items()
        if own is not None and usual is not None
    }
    if not known:
        return []
    told = " and ".join(
        f"{own:.2f} for the {name} (usual among the kept: {usual:.2f})"
        for name, (own, usual) in known.items()
    )
    lower = sorted(
        (name for name, (own, usual) in known.items() if own < usual - DOUBTED),
        key=lambda name: known[name][0] - known[name][1],
    )
    if verdict.kept and not lower:
        doubt = "it doubts neither"
    elif lower:
        doubt = f"it doubts the {lower[0]} most" if len(lower) > 1 else f"it doubts the {lower[0]}"
    else:
        doubt = "both are as usual, so others were only better"
    return [f"The critic's finer scores are {told}: {doubt}."]
