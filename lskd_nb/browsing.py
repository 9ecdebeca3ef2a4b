"""Looking through a corpus of any size: what fits a filter, in an order, a row at a time.

A million rows take seconds to read and milliseconds to point at. So an index with one short line for each row is made when a corpus is opened (by DuckDB,
in memory, one to two seconds for a million); filters and orders are answered from it with the *places* of the rows in the Parquet file, and only the rows
that are looked at are read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np

ORDERS = {"score DESC": "score DESC NULLS LAST, place", "score ASC": "score ASC NULLS LAST, place", "triple_id": "by_id", "as written": "place"}
COLUMNS = {"family": "family", "source": "source", "model": "model", "opening": "opening"}
INDEX = """
CREATE TABLE triples AS SELECT file_row_number AS place, row_number() OVER (ORDER BY triple_id, file_row_number) AS by_id, score, family, source, model,
    lower(regexp_extract(question, '^[^\\s\\[]*')) AS opening, len(regions) AS regions,
    lower(question || chr(10) || answer || chr(10) || rationale) AS words
FROM read_parquet(?, file_row_number = true)
"""


@dataclass(frozen=True)
class Filter:
    """What rows to look at; None or an empty text leaves a part out."""

    family: str | None = None
    source: str | None = None  # data set of the image
    model: str | None = None
    opening: str | None = None  # first word of the question, lower case
    regions: tuple[int, int] | None = None  # least and most regions mentioned
    score: tuple[float, float] = (0.0, 1.0)  # of the critic; 0 to 1 lets rows without a score through
    text: str = ""  # in question, answer or rationale, case aside

    def clause(self) -> tuple[str, list]:
        """A condition in SQL and its values."""
        parts, values = [], []
        for name, column in COLUMNS.items():
            if value := getattr(self, name):
                parts.append(f"{column} = ?")
                values.append(value)
        if self.regions:
            parts.append("regions BETWEEN ? AND ?")
            values += self.regions
        if self.score != (0.0, 1.0):
            parts.append("score BETWEEN ? AND ?")
            values += self.score
        if self.text:
            parts.append("contains(words, lower(?))")
            values.append(self.text)
        return " AND ".join(parts) or "true", values


class CorpusIndex:
    """A corpus (Parquet, records.CORPUS) opened for looking. Raises ``FileNotFoundError``, or ``ValueError`` for what is no corpus."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if not self.path.exists():
            raise FileNotFoundError(f"{self.path} is not there: run notebook 04 first")
        self._made_of = self._stamp()
        self._db = duckdb.connect()
        try:
            self._db.execute(INDEX, [str(self.path)])
        except duckdb.Error as error:
            raise ValueError(f"{self.path} is no corpus: {str(error).splitlines()[0]}") from error
        self.total = self._db.execute("SELECT count(*) FROM triples").fetchall()[0][0]

    def _stamp(self) -> tuple[int, int]:
        stat = self.path.stat()
        return stat.st_size, stat.st_mtime_ns

    def count(self, wanted: Filter) -> int:
        """How many rows fit."""
        clause, values = wanted.clause()
        return self._db.execute(f"SELECT count(*) FROM triples WHERE {clause}", values).fetchall()[0][0]

    def places(self, wanted: Filter, order: str = "score DESC") -> np.ndarray:
        """Places of the rows that fit, (N,) int64, in one of ``ORDERS``; rows of equal score in the order of the file."""
        if order not in ORDERS:
            raise ValueError(f"no order {order!r}; there are {list(ORDERS)}")
        clause, values = wanted.clause()
        return self._db.execute(f"SELECT place FROM triples WHERE {clause} ORDER BY {ORDERS[order]}", values).fetchnumpy()["place"]

    def rows(self, places: Sequence[int]) -> list[dict]:
        """The rows at these places, whole. Raises ``ValueError`` where the file is another one by now."""
        if self._stamp() != self._made_of:
            raise ValueError(f"{self.path} has changed since it was opened: open it again")
        wanted = [int(p) for p in places]
        if not wanted:
            return []
        among = ", ".join(map(str, wanted))
        found = self._db.sql(f"SELECT * FROM read_parquet(?, file_row_number = true) WHERE file_row_number IN ({among})", params=[str(self.path)])
        by_place = {row.pop("file_row_number"): row for row in found.to_arrow_table().to_pylist()}
        return [by_place[p] for p in wanted]

    def choices(self, column: str, most: int = 20) -> list[str]:
        """The commonest values of ``family``, ``source``, ``model`` or ``opening``, the commonest first."""
        found = self._db.execute(f"SELECT {COLUMNS[column]} AS value FROM triples GROUP BY value ORDER BY count(*) DESC, value LIMIT {int(most)}").fetchall()
        return [value for value, in found if value]

    def most_regions(self) -> int:
        """The largest number of regions that a triple mentions."""
        return self._db.execute("SELECT coalesce(max(regions), 0) FROM triples").fetchall()[0][0]
