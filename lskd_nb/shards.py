"""Long work, done in parts: a killed call goes on with the first part that is not written yet, and
parts may be done by many machines.

A part is a shard: so many rows of a Parquet file in, a Parquet file of results and one of rejects
out, each there only when it is whole. The ``local`` engine does them one after the other in this
process. The ``ray`` engine has Ray Data hand them to workers, each with its models loaded once, on
this machine or on those of a cluster that share the folder; parts of a worker that is lost are done
again by others. Either finds what is done already, and the results are the same.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from lskd_nb.records import REJECTS, atomic_path, read_parquet, write_parquet

# rows of the input -> results, rejects
Work = Callable[[pa.Table], tuple[pa.Table | list[dict], list[dict]]]
INPUT = "input.parquet"


@dataclass(frozen=True)
class Engine:
    """Who does the parts: "local", or "ray" with so many ``workers`` (0: one for each GPU of the
    cluster, or else for each two of its cores).
    """

    name: str = "local"
    workers: int = 0

    def __post_init__(self) -> None:
        if self.name not in ("local", "ray"):
            raise ValueError(f"engine is {self.name!r}; expected 'local' or 'ray'")


LOCAL = Engine()


def in_shards(
    table: pa.Table,
    folder: Path,
    part: int,
    load: Callable[[], Work],
    schema: pa.Schema,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    engine: Engine = LOCAL,
) -> tuple[pa.Table, pa.Table]:
    """The work that ``load`` makes ready, on ``table``, ``part`` rows at a time; its results (of
    ``schema``) and its rejects, in the order of the rows.

    The shards lie in ``folder``, which must belong to this very work: one that is there is not done
    again. ``load`` is called once in each process that works, not at all where nothing is left to
    do; for Ray it must be picklable. ``on_progress`` is told how many rows are done, of how many.
    """
    starts = range(0, table.num_rows, part)
    left = [start for start in starts if not _shard(folder, start).exists()]

    def tell() -> None:
        done = table.num_rows - sum(min(part, table.num_rows - start) for start in left)
        on_progress(done, table.num_rows)

    if left and engine.name == "ray":
        with atomic_path(folder / INPUT) as temporary:
            pq.write_table(table, temporary, row_group_size=part)
        for start in _by_ray(list(left), folder, part, load, schema, engine.workers):
            left.remove(start)
            tell()
    work = load() if left else None
    for start in list(left):
        _write(work(table.slice(start, part)), folder, start, schema)
        left.remove(start)
        tell()
    rows = [
        schema.empty_table(),
        *(read_parquet(_shard(folder, start), schema) for start in starts),
    ]
    rejects = [
        REJECTS.empty_table(),
        *(read_parquet(_rejects(folder, start), REJECTS) for start in starts),
    ]
    return pa.concat_tables(rows).combine_chunks(), pa.concat_tables(rejects).combine_chunks()


def _shard(folder: Path, start: int) -> Path:
    return folder / f"{start:07d}.parquet"


def _rejects(folder: Path, start: int) -> Path:
    return folder / f"{start:07d}.rejects.parquet"


def _write(
    found: tuple[pa.Table | list[dict], list[dict]], folder: Path, start: int, schema: pa.Schema
) -> None:
    """The results last: where they are, the part is done."""
    rows, rejects = found
    write_parquet(rejects, _rejects(folder, start), REJECTS)
    write_parquet(rows, _shard(folder, start), schema)


# ---------------------------------------------------------------------------------------------- Ray


class Worker:
    """An actor of Ray's: its models are loaded with its first part.

    What it gives back are only the parts it has written.
    """

    def __init__(self, folder: Path, part: int, load: Callable[[], Work], schema: pa.Schema):
        self.folder, self.part, self.load, self.schema = folder, part, load, schema
        self.work: Work | None = None

    def __call__(self, batch: dict) -> dict:
        (start,), told = batch["item"].tolist(), ""
        try:
            self.work = self.work or self.load()
            if not _shard(self.folder, start).exists():
                _write(
                    self.work(
                        pq.ParquetFile(self.folder / INPUT).read_row_group(start // self.part)
                    ),
                    self.folder,
                    start,
                    self.schema,
                )
        except Exception as error:  # the work's own: it would be the same on another worker
            told = f"{type(error).__name__}: {error}"
        return {"start": [start], "error": [told]}


def _by_ray(
    starts: list[int],
    folder: Path,
    part: int,
    load: Callable[[], Work],
    schema: pa.Schema,
    workers: int,
):
    """Have Ray's workers do the parts; yields each that is done.

    Workers that are lost are replaced; raises ``RuntimeError`` with what the work raised.
    """
    try:
        import ray
        from ray.data import ActorPoolStrategy, DataContext
    except ImportError as error:
        raise RuntimeError("engine 'ray' needs Ray: pip install 'lskd_nb[ray]'") from error
    if not ray.is_initialized():
        _join(ray, workers)
    cluster = ray.cluster_resources()
    gpus = int(cluster.get("GPU", 0))
    workers = min(workers or gpus or max(int(cluster.get("CPU", 1)) // 2, 1), len(starts))
    context = DataContext.get_current()
    context.enable_progress_bars, context.print_on_execution_start = False, False
    parts = ray.data.from_items(starts, override_num_blocks=len(starts)).map_batches(
        Worker,
        fn_constructor_args=(folder.resolve(), part, load, schema),
        batch_size=1,
        compute=ActorPoolStrategy(size=workers),
        num_cpus=1,
        num_gpus=1 if gpus else 0,
    )
    for row in parts.iter_rows():
        if row["error"]:
            raise RuntimeError(
                f"a worker failed in the part that starts with row {row['start']}: {row['error']}"
            )
        yield int(row["start"])


def _join(ray, workers: int) -> None:
    """Join the cluster that RAY_ADDRESS names, or start one of this machine."""
    address = os.environ.get("RAY_ADDRESS")
    quiet = dict(log_to_driver=False, logging_level="ERROR")
    if address:
        ray.init(address=address, **quiet)
    else:
        ray.init(
            address="local",
            num_cpus=max(workers + 1, os.cpu_count() or 1),
            include_dashboard=False,
            **quiet,
        )
