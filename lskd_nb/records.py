"""What flows between the stages: one Arrow schema for each file of a run.

A stage reads Parquet and writes Parquet; nothing else is passed on, so any stage can be run alone,
resumed or looked at. Files are written under a temporary name and renamed, so a file that exists is
whole. Columns are plain: boxes are xyxy in pixels of the stored image, scores are probabilities,
texts mention regions as ``[0]``.
"""

import errno
import hashlib
import os
import tempfile
import uuid
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

if TYPE_CHECKING:
    import duckdb

ROW_GROUP = 10_000  # rows: what is read for one of them is little
GROUPS = 20  # that are read together: all at once take half as much again while they are read
DATABASE_BYTES = 3 * 2**30
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)
# DuckDB's reader of the file that a parameter names, to the letter: no pattern, and no folder
# called "model=x" that makes a column
PARQUET = "read_parquet(regexp_replace(?, '([*?[])', '[\\1]', 'g'), hive_partitioning = false)"
NUMBERED_PARQUET = f"{PARQUET[:-1]}, file_row_number = true)"
BOX = pa.list_(pa.float32(), 4)
REGION = pa.struct(
    [("id", pa.int32()), ("box", BOX), ("label", pa.string()), ("score", pa.float32())]
)
IDS = pa.list_(pa.int32())

REGIONS = pa.schema(
    [
        ("image_id", pa.string()),  # unique in the run
        ("image", pa.string()),  # path relative to the image root
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("source", pa.string()),  # data set the image comes from
        ("split", pa.string()),
        ("regions", pa.list_(REGION)),
    ]
)
VERBALIZATIONS = pa.schema(
    [
        ("image_id", pa.string()),
        ("kind", pa.string()),  # global | local | dynamic
        ("verbalizer", pa.string()),  # e.g. clip-place, captioner, region-captioner, vqa, dataset
        ("region", pa.int32()),  # null unless local
        ("question", pa.string()),  # null unless dynamic
        ("text", pa.string()),
        ("score", pa.float32()),  # the model's probability of the line, null where it has none
        ("model", pa.string()),  # name or path it was loaded from
        ("version", pa.string()),  # revision or hash of the weights
    ]
)
TRIPLE_FIELDS = [
    ("triple_id", pa.string()),
    ("image_id", pa.string()),
    ("family", pa.string()),  # prompt family: id | description | words
    ("question", pa.string()),
    ("answer", pa.string()),
    ("rationale", pa.string()),
    ("regions", IDS),  # mentioned in question, answer or rationale; none in the family words
    ("regions_offered", IDS),  # shown to the teacher
    ("model", pa.string()),
    ("prompt", pa.string()),  # family, offer where it is not "all", hash of the prompt files
    ("request", pa.string()),  # hash of the request, key of the response cache
]
TRIPLES = pa.schema(TRIPLE_FIELDS)
REJECTS = pa.schema(
    [
        ("stage", pa.string()),
        ("record", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
    ]
)
LABELS = pa.schema(
    [
        ("triple_id", pa.string()),
        ("annotator", pa.string()),
        ("accept", pa.bool_()),
        ("qa_score", pa.float32()),  # 0..1, how good the answer is for the question
        ("rationale_score", pa.float32()),  # 0..1, how well the rationale supports it
    ]
)
SCORES = pa.schema(
    [
        ("triple_id", pa.string()),
        ("score", pa.float32()),  # critic's probability that the triple is acceptable
        ("qa_score", pa.float32()),
        ("rationale_score", pa.float32()),
    ]
)
CORPUS = pa.schema(
    [
        *TRIPLE_FIELDS,
        ("score", pa.float32()),
        ("image", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("source", pa.string()),
        ("split", pa.string()),
        ("references", pa.list_(REGION)),  # every region offered, with its box
    ]
)
PREDICTIONS = pa.schema(
    [
        ("item_id", pa.string()),
        ("image_id", pa.string()),
        ("task", pa.string()),  # e.g. vcr.q_a, snli_ve
        ("system", pa.string()),  # base | unfiltered | lskd | ...
        ("seed", pa.int32()),
        ("scores", pa.list_(pa.float32())),  # one for each choice
        ("label", pa.int32()),  # null where no single choice is right
        # what the item adds to its metric: 0 or 1, in some sets a fraction; null: not scored yet
        ("correct", pa.float32()),
        ("slice", pa.string()),  # question type
    ]
)


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``.

    It is renamed to ``path`` when the block ends well, else removed.

    Raises ``OSError`` naming ``path`` where there is no room for it, or no leave to write it; what
    was there stays as it was.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with place_for(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            os.replace(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def place_for(path: Path) -> Iterator[None]:
    """Write to ``path``.

    Raises ``OSError`` naming it where the disk is full or it may not be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno in NO_ROOM:
            raise OSError(
                error.errno,
                f"{path} can't be written:"
                f" {os.strerror(error.errno)}. What was there before is untouched",
            ) from error
        raise


def write_parquet(rows: pa.Table | Iterable[dict], path: str | Path, schema: pa.Schema) -> pa.Table:
    """Write ``rows`` (dicts or a table) under ``schema``; return the table.

    Raises ``ValueError`` naming the file, the row and the field when a value does not fit the
    schema.
    """
    if not isinstance(rows, pa.Table):
        rows = list(rows)
        try:
            table = pa.Table.from_pylist(rows, schema=schema)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise ValueError(f"{path}: {_misfit(rows, schema)}") from error
    else:
        table = rows.select(schema.names).cast(schema)
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", row_group_size=ROW_GROUP)
    return table


def _misfit(rows: list[dict], schema: pa.Schema) -> str:
    for number, row in enumerate(rows):
        for field in schema:
            try:
                pa.array([row.get(field.name)], type=field.type)
            except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
                return (
                    f"row {number}, field {field.name!r}:"
                    f" expected {field.type}, got {row.get(field.name)!r} ({error})"
                )
    return "rows do not fit the schema"


def _in_groups(number: int) -> list[range]:
    return [range(first, min(first + GROUPS, number)) for first in range(0, number, GROUPS)]


def read_parquet(path: str | Path, schema: pa.Schema) -> pa.Table:
    """Read ``path`` and check that it has the columns of ``schema``.

    Raises ``FileNotFoundError`` saying which stage writes the file, ``ValueError`` when it is
    damaged or of another kind.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(
            f"{path} is not there: run the notebook that writes it first (see the README's tree)"
        )
    try:
        with pq.ParquetFile(path) as file:
            there = file.schema_arrow.names
            wanted = [name for name in schema.names if name in there]
            parts = [
                file.read_row_groups(groups, wanted) for groups in _in_groups(file.num_row_groups)
            ]
            table = pa.concat_tables(parts or [file.read(wanted)])
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path} is not a readable Parquet file: {error}") from error
    missing = [name for name in schema.names if name not in there]
    if missing:
        raise ValueError(f"{path} lacks the columns {missing}; it has {there}")
    return table.select(schema.names).cast(schema)


class RowsById(Mapping[str, dict]):
    """A table's rows by a column of ids, in the table's order, each made when it is asked for.

    Five million triples as dicts would take fourteen gigabytes; here it is their table and some
    hundred megabytes. Finding one takes tens of microseconds. Raises ``KeyError`` for an id that is
    not there.
    """

    def __init__(self, table: pa.Table, column: str):
        self._batches, self._ids = table.to_batches(), table[column]
        self._starts = [0, *accumulate(batch.num_rows for batch in self._batches)]
        self._places = pc.sort_indices(self._ids)
        self._sorted = self._ids.take(self._places).combine_chunks()

    def __getitem__(self, row_id: str) -> dict:
        if (place := self._place(row_id)) is None:
            raise KeyError(row_id)
        batch = bisect_right(self._starts, place) - 1
        return self._batches[batch].slice(place - self._starts[batch], 1).to_pylist()[0]

    def __contains__(self, row_id: object) -> bool:
        return self._place(row_id) is not None

    def __iter__(self) -> Iterator[str]:
        for chunk in self._ids.chunks:
            yield from chunk.to_pylist()

    def __len__(self) -> int:
        return len(self._ids)

    def _place(self, row_id: object) -> int | None:
        if not isinstance(row_id, str):
            return None
        found = bisect_left(range(len(self)), row_id, key=lambda n: self._sorted[n].as_py())
        if found == len(self) or self._sorted[found].as_py() != row_id:
            return None
        return self._places[found].as_py()


def database() -> "duckdb.DuckDBPyConnection":
    """DuckDB in memory, which has ``DATABASE_BYTES`` and goes on in temporary files beyond that:
    by itself it would take four fifths of the machine's memory.
    """
    import duckdb

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    place = Path(tempfile.gettempdir(), f"lskd-{os.getpid()}-{uuid.uuid4().hex[:8]}")
    told = {
        "memory_limit": f"{min(DATABASE_BYTES, memory * 4 // 5) // 2**20}MiB",
        "temp_directory": str(place),  # made when it is needed, and removed by DuckDB
    }
    return duckdb.connect(config=told)


def parquet_at(path: str | Path) -> str:
    """``PARQUET`` with its path in place of the parameter, for statements that take none."""
    literal = str(path).replace("'", "''")
    return PARQUET.replace("?", f"'{literal}'", 1)


def hash_of(files: Iterable[Path]) -> str:
    """SHA-256 of the files' contents, one after the other.

    Weights of many gigabytes pass through little memory.
    """
    digest = hashlib.sha256()
    for file in files:
        with open(file, "rb") as content:
            while block := content.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()
