"""Looking through triples, of any number: what fits a filter, in an order, a row at a time.

A million rows take seconds to read and milliseconds to point at. So an index with one short line
for each row is made when a corpus is opened (by DuckDB, in memory, some seconds for a million);
filters and orders are answered from it with the *places* of the rows in the Parquet file, and only
the rows that are looked at are read. A corpus holds what was kept; ``CorpusIndex.of_run`` opens all
that the critic of a run has judged, the dropped triples too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np

from lskd_nb.records import NUMBERED_PARQUET, PARQUET, database

ORDERS = {
    "score DESC": "score DESC NULLS LAST, place",
    "score ASC": "score ASC NULLS LAST, place",
    "triple_id": "by_id",
    "as written": "place",
    "image": "by_image",
}
COLUMNS = {
    "family": "family",
    "source": "source",
    "model": "model",
    "opening": "opening",
    "image_id": "image_id",
    "triple_id": "triple_id",
}
FINER = ("score", "qa_score", "rationale_score")
CORPUS_ROWS = f"""
SELECT *, file_row_number AS place, true AS kept,
    NULL::FLOAT AS qa_score, NULL::FLOAT AS rationale_score
FROM {NUMBERED_PARQUET}
"""
RUN_ROWS = f"""
SELECT t.*, t.file_row_number AS place, c.triple_id IS NOT NULL AS kept,
    s.score, s.qa_score, s.rationale_score, r.source
FROM {NUMBERED_PARQUET} t
    JOIN {PARQUET} s USING (triple_id)
    JOIN (SELECT image_id, source FROM {PARQUET}) r USING (image_id)
    LEFT JOIN (SELECT triple_id FROM {PARQUET}) c USING (triple_id)
"""
INDEX = """
CREATE TABLE triples AS SELECT place, row_number() OVER (ORDER BY triple_id, place) AS by_id,
    row_number() OVER (ORDER BY image_id, score DESC NULLS LAST, place) AS by_image,
    triple_id, image_id, kept, score, qa_score, rationale_score, family, source, model,
    lower(regexp_extract(question, '^[^\\s\\[]*')) AS opening, len(regions) AS regions,
    lower(question || chr(10) || answer || chr(10) || rationale) AS words
FROM ({rows})
"""


@dataclass(frozen=True)
class Filter:
    """What rows to look at; None or an empty text leaves a part out."""

    family: str | None = None
    source: str | None = None  # data set of the image
    model: str | None = None
    opening: str | None = None  # first word of the question, lower case
    regions: tuple[int, int] | None = None  # least and most regions mentioned
    # of the critic; 0 to 1 lets rows without a score through
    score: tuple[float, float] = (0.0, 1.0)
    text: str = ""  # in question, answer or rationale, case aside
    words: tuple[str, ...] = ()  # all of them there, in any order
    kept: bool | None = None  # by the filter; a corpus has no others
    image_id: str | None = None
    triple_id: str | None = None

    def clause(self) -> tuple[str, list]:
        """A condition in SQL and its values."""
        parts, values = [], []
        for name, column in COLUMNS.items():
            if value := getattr(self, name):
                parts.append(f"{column} = ?")
                values.append(value)
        if self.kept is not None:
            parts.append("kept" if self.kept else "NOT kept")
        if self.regions:
            parts.append("regions BETWEEN ? AND ?")
            values += self.regions
        if self.score != (0.0, 1.0):
            parts.append("score BETWEEN ? AND ?")
            values += self.score
        for text in (self.text, *self.words):
            if text:
                parts.append("contains(words, lower(?))")
                values.append(text)
        return " AND ".join(parts) or "true", values


class CorpusIndex:
    """A corpus (Parquet, records.CORPUS) opened for looking.

    Raises ``FileNotFoundError``, or ``ValueError`` for what is no corpus.
    """

    def __init__(self, path: str | Path, rows: str = CORPUS_ROWS, *others: Path):
        self.path, self._files = Path(path), (Path(path), *others)
        for file in self._files:
            if not file.exists():
                raise FileNotFoundError(f"{file} is not there: run notebook 04 first")
        self._made_of = self._stamp()
        self._db = database()
        try:
            self._db.execute(INDEX.format(rows=rows), [str(f) for f in self._files])
        except duckdb.Error as error:
            raise ValueError(f"{self.path} is no corpus: {str(error).splitlines()[0]}") from error
        self.total = self.count(Filter())
        if len(self._files) > 1:
            self._check_joined()

    @classmethod
    def of_run(cls, folder: str | Path) -> "CorpusIndex":
        """Every triple that the critic of a run has judged, kept or dropped.

        Rows are a corpus's, with ``kept``, ``qa_score`` and ``rationale_score``.
        """
        return cls(
            *(Path(folder) / "triples.parquet", RUN_ROWS),
            *(Path(folder) / f"{name}.parquet" for name in ("scores", "regions", "corpus")),
        )

    def _check_joined(self) -> None:
        """Raise ``ValueError`` where a run's files are not of the same triples: some without a
        score or an image, or with two.
        """
        triples = self.one(f"SELECT count(*) FROM {PARQUET}", [str(self._files[0])])[0]
        if triples != self.total:
            raise ValueError(
                f"{self.path} has {triples:,} triples, and {self.total:,} with a score and an"
                " image: its files are of several runs, run 04 again"
            )

    def _stamp(self) -> tuple:
        return tuple(
            (stat.st_size, stat.st_mtime_ns) for stat in (file.stat() for file in self._files)
        )

    def count(self, wanted: Filter) -> int:
        """How many rows fit."""
        clause, values = wanted.clause()
        return self.one(f"SELECT count(*) FROM triples WHERE {clause}", values)[0]

    def places(self, wanted: Filter, order: str = "score DESC") -> np.ndarray:
        """Places of the rows that fit, (N,) int64, in one of ``ORDERS``; rows of equal score in
        the order of the file.
        """
        if order not in ORDERS:
            raise ValueError(f"no order {order!r}; there are {list(ORDERS)}")
        clause, values = wanted.clause()
        return self._db.execute(
            f"SELECT place FROM triples WHERE {clause} ORDER BY {ORDERS[order]}", values
        ).fetchnumpy()["place"]

    def rows(self, places: Sequence[int]) -> list[dict]:
        """The rows at these places, whole.

        Raises ``ValueError`` where the file is another one by now.
        """
        if self._stamp() != self._made_of:
            raise ValueError(f"{self.path} has changed since it was opened: open it again")
        wanted = [int(p) for p in places]
        if not wanted:
            return []
        among = ", ".join(map(str, wanted))
        by_place = {
            row.pop("file_row_number"): row
            for row in self.read(
                f"SELECT * FROM {NUMBERED_PARQUET} WHERE file_row_number IN ({among})",
                str(self.path),
            )
        }
        if len(self._files) > 1:
            self._complete(by_place, among)
        return [by_place[p] for p in wanted]

    def _complete(self, by_place: Mapping[int, dict], among: str) -> None:
        """Give a run's triples what a corpus has: scores, image and regions."""
        regions = self._files[2]
        images = sorted({row["image_id"] for row in by_place.values()})
        told = {
            row["image_id"]: row
            for row in self.read(
                f"SELECT * FROM {PARQUET} WHERE image_id IN ({', '.join('?' * len(images))})",
                str(regions),
                *images,
            )
        }
        for line in self.read(
            f"SELECT place, kept, {', '.join(FINER)} FROM triples WHERE place IN ({among})"
        ):
            row = by_place[line.pop("place")]
            image = told[row["image_id"]]
            row |= line | {
                name: image[name] for name in ("image", "width", "height", "source", "split")
            }
            row["references"] = [
                r for r in image["regions"] if r["id"] in set(row["regions_offered"])
            ]

    def read(self, query: str, *values: object) -> list[dict]:
        """The lines of a query, over the index's table ``triples`` or any Parquet file."""
        try:
            return self._db.sql(query, params=list(values)).to_arrow_table().to_pylist()
        except duckdb.Error as error:
            raise ValueError(
                f"{', '.join(v for v in values[:1] if isinstance(v, str)) or self.path}"
                f" can't be read: {str(error).splitlines()[0]}"
            ) from error

    def one(self, query: str, values: Sequence = ()) -> tuple:
        """The first line of a query over the index's table ``triples``."""
        return self._db.execute(query, list(values)).fetchall()[0]

    def choices(self, column: str, most: int = 20) -> list[str]:
        """The commonest values of ``family``, ``source``, ``model`` or ``opening``, in order."""
        found = self._db.execute(
            f"SELECT {COLUMNS[column]} AS value FROM triples"
            f" GROUP BY value ORDER BY count(*) DESC, value LIMIT {int(most)}"
        ).fetchall()
        return [value for (value,) in found if value]

    def most_regions(self) -> int:
        """The largest number of regions that a triple mentions."""
        return self.one("SELECT coalesce(max(regions), 0) FROM triples")[0]
