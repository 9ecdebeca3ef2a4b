"""The corpus: filtered triples with their images and boxes, in Parquet; what is asked of it.

``released`` has the published JSONL format.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lskd_nb.corpus.index import CorpusIndex, Filter
from lskd_nb.records import CORPUS, PARQUET, SCORES, TRIPLES, database, read_parquet

AT_ONCE = 100_000  # triples that are joined together


def build(
    triples: pa.Table,
    scores: pa.Table,
    regions: pa.Table,
    triple_ids: Sequence[str] | pa.ChunkedArray | None = None,
) -> pa.Table:
    """Join triples, their critic scores and their images' regions.

    Only ``triple_ids`` where given, in the triples' order.

    Raises ``ValueError`` when a triple lacks a score or an image.
    """
    wanted = ids = triples["triple_id"]
    places = pa.chunked_array([np.arange(len(ids))])
    if triple_ids is not None:
        wanted = triple_ids
        if not isinstance(wanted, pa.ChunkedArray):
            wanted = pa.chunked_array([triple_ids], pa.string())
        places = pc.index_in(wanted, value_set=ids).drop_null()
        places = places.take(pc.sort_indices(places))
    judged = pc.index_in(ids.take(places), value_set=scores["triple_id"])
    found = [CORPUS.empty_table()]
    with database() as db:
        db.register("regions", regions)
        for start in range(0, len(places), AT_ONCE):
            part = judged.slice(start, AT_ONCE)
            chosen = triples.take(places.slice(start, AT_ONCE)).append_column(
                "score", scores["score"].take(part)
            )
            found.append(_with_images(db, chosen.filter(pc.is_valid(part))))
    corpus = pa.concat_tables(found)
    if corpus.num_rows != len(wanted):
        there = set(corpus["triple_id"].to_pylist())
        missing = [t for t in wanted.to_pylist() if t not in there]
        raise ValueError(
            f"{len(missing)} triples have no score or no image, {missing[0]!r} the first"
        )
    return corpus


def _with_images(db: duckdb.DuckDBPyConnection, triples: pa.Table) -> pa.Table:
    """Rows of records.CORPUS: triples that have a score, with what ``regions`` has of their
    images.
    """
    db.register("triples", triples.append_column("place", pa.array(range(triples.num_rows))))
    joined = db.sql(
        "SELECT t.*, r.image, r.width, r.height, r.source, r.split,"
        " list_filter(r.regions, lambda x: list_contains(t.regions_offered, x.id)) AS"
        ' "references" FROM triples t JOIN regions r USING (image_id) ORDER BY t.place'
    )
    return joined.to_arrow_table().select(CORPUS.names).cast(CORPUS)


def is_filtered(path: str | Path) -> bool:
    """Whether a critic has scored a corpus: without one its triples have no scores."""
    with database() as db:
        scores, rows = db.execute(
            f"SELECT count(score), count(*) FROM {PARQUET}", [str(path)]
        ).fetchall()[0]
    return scores > 0 or rows == 0


def find(
    path: str | Path,
    family: str | None = None,
    text: str = "",
    low: float = 0.0,
    high: float = 1.0,
    order: str = "score DESC",
    limit: int = 50,
    offset: int = 0,
) -> tuple[int, list[dict]]:
    """How many corpus rows fit, and a page of them.

    ``text`` is looked for in question, answer and rationale, case aside.
    """
    stat = Path(path).stat() if Path(path).exists() else None
    index = _opened(Path(path), stat and (stat.st_size, stat.st_mtime_ns))
    places = index.places(Filter(family=family, text=text, score=(low, high)), order)
    return len(places), index.rows(places[offset : offset + limit])


@lru_cache(maxsize=2)
def _opened(path: Path, _stamp: tuple[int, int] | None) -> CorpusIndex:
    """The index of a corpus, kept until its file changes."""
    return CorpusIndex(path)


def load_stage(folder: str | Path) -> tuple[pa.Table, pa.Table]:
    """Triples and scores of a run, checked to be of each other."""
    triples = read_parquet(Path(folder) / "triples.parquet", TRIPLES)
    scores = read_parquet(Path(folder) / "scores.parquet", SCORES)
    if set(triples["triple_id"].to_pylist()) != set(scores["triple_id"].to_pylist()):
        raise ValueError(
            f"{folder}: triples.parquet and scores.parquet are not of the same triples;"
            " run notebook 04 again"
        )
    return triples, scores


def rejected_counts(rejects: Iterable[Mapping]) -> dict[str, int]:
    """How many rejects for each reason."""
    counts: dict[str, int] = {}
    for row in rejects:
        counts[row["reason"]] = counts.get(row["reason"], 0) + 1
    return dict(sorted(counts.items(), key=lambda kv: -kv[1]))
