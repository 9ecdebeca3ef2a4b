"""What is said of a run whose corpus was imported (see ``imported``), and what it can't have.

Of a run of one's own there is nothing to say, and nothing is left out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lskd_nb.run_folder import imported_from

MOST_NAMED = 8  # teachers


def provenance(record: Mapping) -> str:
    """Where an imported corpus comes from, in sentences for whoever sees its figures."""
    names = [f"`{name}`" for name in record["written_by"]]
    written = ", ".join(names[:MOST_NAMED]) + (" and others" if names[MOST_NAMED:] else "")
    return (
        f"Imported from `{record['file']}` (sha256 `{record['sha256'][:12]}`) on {record['date']},"
        f" not made here: {record['triples']:,} triples about {record['images']:,} images. Scores"
        " are those of the file, by the critic of whoever made it; no critic was trained here, and"
        f" what that one dropped is not in the file. Who wrote the texts, as the file names it:"
        f" {written}."
    )


def provenance_of(folder: str | Path) -> str:
    """The same of a run's folder; "" where it was not imported."""
    record = imported_from(folder)
    return provenance(record) if record else ""


@dataclass(frozen=True)
class Trainable:
    """What notebook 5 can train of a run: the ``unfiltered`` student or not, which ``studies``,
    rehearsing with which share of a batch; ``told`` says what is left out, and why.
    """

    unfiltered: bool
    studies: list[str]
    rehearsal_share: float
    told: tuple[str, ...] = ()

    @property
    def first_corpus(self) -> str:
        """The file that the first student learns from."""
        return "unfiltered.parquet" if self.unfiltered else "corpus.parquet"


def trainable(folder: str | Path, studies: Sequence[str], rehearsal_share: float) -> Trainable:
    """All that was asked for; of an imported run what the file has the triples for."""
    if (record := imported_from(folder)) is None:
        return Trainable(True, list(studies), rehearsal_share)
    without = {"truth": "nobody knows which of its triples are true"}
    if record["unscored"]:
        without["thresholds"] = f"{record['unscored']:,} triples have no score to rank them by"
    left = {study: why for study, why in without.items() if study in studies}
    sentences = [
        provenance(record),
        "There is no unfiltered student: the file has no such triples.",
    ]
    sentences += [f"The study {study!r} is left out: {why}." for study, why in left.items()]
    if rehearsal_share:
        sentences.append("Nothing is rehearsed: the file has no plain pairs (rehearsal_share).")
    return Trainable(False, [s for s in studies if s not in left], 0.0, tuple(sentences))
