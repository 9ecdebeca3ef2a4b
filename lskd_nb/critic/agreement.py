"""What several people judge, in one Parquet file that is checked when read; how far they agree.

A row is one annotator's judgement of one thing: a label of a triple, a choice between two answers.
The file is replaced as a whole under a lock, so several annotators may write it at the same time,
and what one has judged is on disk before the next thing is shown.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock

from lskd_nb.records import read_parquet, write_parquet

LEVELS = ("nominal", "interval")


@dataclass(frozen=True)
class JudgementFile:
    """A Parquet file of judgements under ``schema``, which has a column ``annotator`` and one,
    ``thing``, with the id of what is judged.

    ``wrong`` says what is wrong with a row, None where nothing is.
    """

    path: Path
    schema: pa.Schema
    thing: str
    wrong: Callable[[Mapping], str | None]

    def read(self) -> pa.Table:
        """All judgements, in the order they were made; an empty table where there is no file yet.

        Raises ``ValueError`` naming file and row for what ``wrong`` objects to, an annotator
        without a name, or one who judges a thing twice.
        """
        if not self.path.exists():
            return self.schema.empty_table()
        table = read_parquet(self.path, self.schema)
        if more := [
            name for name in pq.read_schema(self.path).names if name not in self.schema.names
        ]:
            raise ValueError(
                f"{self.path} has columns that would be lost when it is"
                f" written: {more}; expected {self.schema.names}"
            )
        self.check(table.to_pylist())
        return table

    def check(self, rows: Iterable[Mapping]) -> None:
        """The same of rows that are to be written."""
        seen = set()
        for number, row in enumerate(rows):
            judged, trouble = (row[self.thing], row["annotator"]), self.wrong(row)
            if trouble is None and not (row["annotator"] or "").strip():
                trouble = "no annotator is named"
            if trouble is None and judged in seen:
                trouble = (
                    f"{row['annotator']} judges {self.thing.removesuffix('_id')}"
                    f" {row[self.thing]!r} a second time"
                )
            if trouble is not None:
                raise ValueError(f"{self.path}, row {number}: {trouble}")
            seen.add(judged)

    def add(self, *judgements: Mapping) -> None:
        """Append judgements, all or none, checked as they are when read."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._locked():
            rows = [*self.read().to_pylist(), *judgements]
            self.check(rows)
            write_parquet(rows, self.path, self.schema)

    def take_back(self, annotator: str) -> dict | None:
        """Remove and return what an annotator judged last; None where there is nothing."""
        with self._locked():
            rows = self.read().to_pylist()
            own = [n for n, row in enumerate(rows) if row["annotator"] == annotator]
            if not own:
                return None
            taken = rows.pop(own[-1])
            write_parquet(rows, self.path, self.schema)
            return taken

    def _locked(self) -> FileLock:
        return FileLock(f"{self.path}.lock")


def named(annotator: str) -> str:
    """An annotator's name without spaces around it. Raises ``ValueError`` where there is none."""
    if not annotator.strip():
        raise ValueError("the annotator needs a name: judgements are told apart by it")
    return annotator.strip()


# ---------------------------------------------------------------------------------------- agreement


def krippendorff_alpha(units: Iterable[Sequence[Hashable]], level: str = "nominal") -> float:
    """Krippendorff's alpha: 1 - observed / expected disagreement.

    ``units`` are the labels that each thing was given.

    Two labels disagree by 1 where they differ (``nominal``), or by the square of their difference
    (``interval``, for numbers). With m_u labels of unit u and n = Σ m_u over units with at least
    two: alpha = 1 - (n - 1) Σ_u D_u / (m_u - 1) / D, where D_u sums the disagreement of all pairs
    of labels within u, and D that of all pairs of labels (Krippendorff 2011, "Computing
    Krippendorff's Alpha-Reliability"). NaN where no unit has two labels, or all labels are the
    same: there is nothing to agree about then. Raises ``ValueError`` for another level.
    """
    if level not in LEVELS:
        raise ValueError(f"level is {level!r}, expected one of {LEVELS}")
    difference = _different if level == "nominal" else _squared
    shared = [list(labels) for labels in units if len(labels) > 1]
    everything = [label for labels in shared for label in labels]
    expected = difference(everything) if everything else 0
    if expected == 0:
        return float("nan")
    observed = sum(difference(labels) / (len(labels) - 1) for labels in shared)
    return float(1 - (len(everything) - 1) * observed / expected)


def _different(labels: Sequence[Hashable]) -> int:
    """Ordered pairs of labels that differ."""
    return len(labels) ** 2 - sum(n * n for n in Counter(labels).values())


def _squared(labels: Sequence[float]) -> float:
    """Squared differences over all ordered pairs."""
    if len(set(labels)) == 1:
        return 0.0
    mean = sum(labels) / len(labels)
    return 2 * len(labels) * sum((label - mean) ** 2 for label in labels)
