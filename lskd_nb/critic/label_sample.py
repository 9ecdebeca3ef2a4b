"""Which triples people are asked to label: a sample, drawn once and kept in the run's folder.

It has two parts, about different images: from labels of the one the critic learns, with those of
the other it may be measured. The seed draws it, with a hash of each id, so that a larger run's
sample has a smaller one's in it. Drawn again it keeps every triple that is still there, labelled or
not, and replaces those that are gone.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from lskd_nb.critic.labels import (
    BY_PEOPLE,
    HELD_OUT,
    USED,
    labelled_elsewhere,
    run_triple_ids,
    shuffled,
)
from lskd_nb.records import LABELS, atomic_path, database, parquet_at, read_parquet

WANTED = 20_000  # the paper's number of labels
FILE, TO_MEASURE = "sample_to_label.parquet", "labels_to_measure.parquet"
LEARN, MEASURE = "learn", "measure"
MEASURED = 0.1  # share of the images, and of the sample, that is to measure with
SAMPLE = pa.schema(
    [
        ("triple_id", pa.string()),
        ("image_id", pa.string()),
        ("part", pa.string()),  # learn | measure
    ]
)
LEARNED_FROM = b"labels_file"  # in the file's metadata: the labels to learn from, from the folder

FIXED = """
    WITH images AS (SELECT DISTINCT image_id FROM triples),
    learned AS (SELECT DISTINCT image_id FROM triples SEMI JOIN to_learn USING (triple_id)),
    measured AS (SELECT DISTINCT image_id FROM triples SEMI JOIN to_measure USING (triple_id)),
    before AS (SELECT image_id, min(part) AS part FROM old GROUP BY image_id)
    SELECT i.image_id, CASE WHEN l.image_id IS NOT NULL THEN 'learn'
        WHEN b.part IS NOT NULL THEN b.part
        WHEN m.image_id IS NOT NULL THEN 'measure' END AS part
    FROM images i LEFT JOIN learned l USING (image_id) LEFT JOIN measured m USING (image_id)
        LEFT JOIN before b USING (image_id)
"""
PARTED = """
    SELECT image_id, coalesce(part, CASE WHEN row_number() OVER (
        PARTITION BY part ORDER BY md5($seed || image_id), image_id
    ) <= $images THEN 'measure' ELSE 'learn' END) AS part FROM fixed
"""
DRAWN = """
    WITH known AS (
        SELECT t.triple_id, t.image_id, p.part, o.place,
            o.place IS NOT NULL AND o.part = p.part AS old,
            CASE p.part WHEN 'learn' THEN t.triple_id IN (SELECT triple_id FROM to_learn)
                ELSE t.triple_id IN (SELECT triple_id FROM to_measure) END AS labelled
        FROM triples t JOIN parted p USING (image_id) LEFT JOIN old o USING (triple_id)
    ), placed AS (
        SELECT *, row_number() OVER (PARTITION BY part ORDER BY old DESC,
            CASE WHEN old THEN place END, labelled DESC, md5($seed || triple_id), triple_id
        ) AS number FROM known
    )
    SELECT triple_id, image_id, part FROM placed
    WHERE old OR labelled OR number <= CASE part WHEN 'learn' THEN $learn ELSE $measure END
    ORDER BY part, number
"""


@dataclass(frozen=True)
class Drawn:
    """A sample (SAMPLE), how many of its triples are new in it, and how many have gone."""

    path: Path
    sample: pa.Table
    new: int
    gone: int

    def number(self, part: str) -> int:
        return self.sample["part"].to_pylist().count(part)


def draw_sample(
    folder: str | Path, labels_file: str | Path, number: int = WANTED, seed: int = 0
) -> Drawn:
    """Draw the sample of a run's folder, or find the one that is there; it is written where
    anything of it is new.

    ``labels_file`` is where labels to learn from are written. Of ``number`` triples in all a tenth
    is to measure with, about a tenth of the images: none where there are fewer than three. What has
    a label already is in the sample, in the part of its file. Raises ``FileNotFoundError`` where
    there are no triples yet, ``ValueError`` for a damaged file.
    """
    folder = Path(folder)
    path, old, triples = folder / FILE, read_sample(folder), folder / "triples.parquet"
    if not triples.exists():
        raise FileNotFoundError(f"{triples} is not there: run notebook 02 first")
    before = SAMPLE.empty_table() if old is None else old
    places = pa.array(range(before.num_rows), pa.int64())
    with database() as db:
        columns = f"SELECT triple_id, image_id FROM {parquet_at(triples)}"
        db.execute(f"CREATE TABLE triples AS {columns}")
        for name, files in (
            ("to_learn", (folder / BY_PEOPLE, Path(labels_file))),
            ("to_measure", _measuring_files(folder, Path(labels_file))),
        ):
            db.register(name, pa.table({"triple_id": pa.array(_labelled(files), pa.string())}))
        db.register("old", before.append_column("place", places))
        db.execute(f"CREATE TABLE fixed AS {FIXED}")
        images, to_measure = db.execute(
            "SELECT count(*), count(*) FILTER (WHERE part = 'measure') FROM fixed"
        ).fetchall()[0]
        wanted = min(max(round(MEASURED * images), 1), images - 2) if images > 2 else 0
        given = dict(seed=f"{seed} ", images=max(wanted - to_measure, 0))
        db.execute(f"CREATE TABLE parted AS {PARTED}", given)
        measure = max(round(MEASURED * number), 1) if number > 1 else 0
        given = dict(seed=f"{seed} ", learn=number - measure, measure=measure)
        sample = db.sql(DRAWN, params=given).to_arrow_table().cast(SAMPLE)
        db.register("sample", sample)
        of_others = "SELECT count(*) FROM {} ANTI JOIN {} USING (triple_id)"
        gone, new = (
            db.sql(of_others.format(one, other)).fetchall()[0][0]
            for one, other in (("old", "triples"), ("sample", "old"))
        )
    place = os.path.relpath(Path(labels_file).resolve(), folder.resolve())
    if old is None or not sample.equals(old) or learned_from(folder) != folder / place:
        told = sample.replace_schema_metadata({LEARNED_FROM: place.encode()})
        with atomic_path(path) as temporary:
            pq.write_table(told, temporary, compression="zstd")
    return Drawn(path, sample, new, gone)


def read_sample(folder: str | Path) -> pa.Table | None:
    """The sample of a run's folder (SAMPLE); None where none is drawn yet.

    Raises ``ValueError`` for a damaged file.
    """
    path = Path(folder) / FILE
    return read_parquet(path, SAMPLE) if path.exists() else None


def learns_from(folder: str | Path, labels: str | Path | None) -> bool:
    """Whether a label file is the one that the critic learns from: by default the run's
    labels_by_people.parquet, or the one that the sample was drawn for.
    """
    if labels is None:
        return True
    ours = {(Path(folder) / BY_PEOPLE).resolve(), learned_from(folder).resolve()}
    return Path(labels).resolve() in ours


def learned_from(folder: str | Path) -> Path:
    """The file that labels to learn from are written to."""
    path = Path(folder) / FILE
    told = (pq.read_schema(path).metadata or {}) if path.exists() else {}
    return Path(folder) / told.get(LEARNED_FROM, BY_PEOPLE.encode()).decode()


def to_label(folder: str | Path, labels: str | Path | None = None, seed: int = 0) -> list[str]:
    """The triples that a label file asks for, in their order: the sample's part where one is drawn,
    else all of the run in an order that the seed decides.

    A file to measure with (``learns_from`` says which) gets none about an image that another label
    file of the run has; the one to learn from none about an image that is labelled to measure.
    """
    folder = Path(folder)
    learns, sample = learns_from(folder, labels), read_sample(folder)
    if learns:
        elsewhere = _labelled(_measuring_files(folder, labels or learned_from(folder)))
    else:
        elsewhere = [*labelled_elsewhere(folder, labels), *_labelled([learned_from(folder)])]
    if sample is None:
        ordered = shuffled(run_triple_ids(folder), seed)
    else:
        part = LEARN if learns else MEASURE
        rows = sample.select(["part", "triple_id"]).to_pydict()
        ordered = [t for p, t in zip(*rows.values(), strict=True) if p == part]
    if not elsewhere:
        return ordered
    taken = _about_the_same(folder, elsewhere)
    return [t for t in ordered if t not in taken]


def image_of_each(folder: str | Path, triple_ids: Iterable[str]) -> dict[str, str]:
    """The image of each of these triples of a run; those that it does not have are not in it."""
    with _with_given(Path(folder), triple_ids) as db:
        found = db.sql("SELECT triple_id, image_id FROM triples SEMI JOIN given USING (triple_id)")
        return dict(found.fetchall())


def _about_the_same(folder: Path, triple_ids: Iterable[str]) -> set[str]:
    """All triples of a run about the images of these."""
    with _with_given(folder, triple_ids) as db:
        found = db.sql(
            "SELECT triple_id FROM triples SEMI JOIN (SELECT image_id FROM triples SEMI JOIN given"
            " USING (triple_id)) USING (image_id)"
        ).to_arrow_table()
    return set(found["triple_id"].to_pylist())


def _with_given(folder: Path, triple_ids: Iterable[str]) -> duckdb.DuckDBPyConnection:
    """A database with a run's ``triples`` and the ``given`` ids."""
    db = database()
    columns = f"SELECT triple_id, image_id FROM {parquet_at(folder / 'triples.parquet')}"
    db.execute(f"CREATE VIEW triples AS {columns}")
    db.register("given", pa.table({"triple_id": pa.array(list(triple_ids), pa.string())}))
    return db


def _measuring_files(folder: Path, labels_file: str | Path) -> Iterator[Path]:
    """Label files of a run other than this, which the critic learns from, and what 03 writes."""
    others = {folder / name for name in (BY_PEOPLE, USED, HELD_OUT)} | {Path(labels_file)}
    resolved = {path.resolve() for path in others}
    yield from (p for p in sorted(folder.glob("labels*.parquet")) if p.resolve() not in resolved)


def _labelled(files: Iterable[Path]) -> list[str]:
    """Triples that these files have labels of, each once; what is no label file is passed over."""
    found: dict[str, None] = {}
    for path in files:
        if path.exists() and set(LABELS.names) <= set(pq.read_schema(path).names):
            ids = pq.read_table(path, columns=["triple_id"])["triple_id"]
            found |= dict.fromkeys(ids.to_pylist())
    return list(found)
