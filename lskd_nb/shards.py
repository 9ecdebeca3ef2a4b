"""Long work, done in parts: a killed call goes on with the first part that is not written yet, and
parts may be done by many machines.

A part is a shard: so many rows of a Parquet file in, a Parquet file of results and one of rejects
out, each there only when it is whole. The ``local`` engine does them one after the other in this
process. The ``gpus`` engine hands them to worker processes, one for each GPU of this machine, each
with its models loaded once. The ``ray`` engine has Ray Data hand them to workers on
this machine or on those of a cluster that share the folder. Parts of a worker that is lost are done
again by others. Each engine finds what is done already, and the results are the same.
"""

import json
import os
import pickle
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from tempfile import TemporaryFile
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from lskd_nb.records import REJECTS, atomic_path, read_parquet, write_parquet

# rows of the input -> results, rejects
Work = Callable[[pa.Table], tuple[pa.Table | list[dict], list[dict]]]
INPUT = "input.parquet"
TRIES = 3  # of a part, each by a new worker process
CHILD = "from lskd_nb.shards import do_parts; do_parts()"
LONGEST_WORDS = 2000  # characters, of what a lost process left in its log


@dataclass(frozen=True)
class Engine:
    """Who does the parts: "local"; "gpus" or "ray" with so many ``workers`` (0: one for each GPU of
    this machine, or of the cluster; where there is none, two, or one for each two of its cores).
    """

    name: str = "local"
    workers: int = 0

    def __post_init__(self) -> None:
        if self.name not in ENGINES:
            raise ValueError(f"engine is {self.name!r}; expected one of {', '.join(ENGINES)}")


ENGINES = ("local", "gpus", "ray")
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
    do; for workers it must be picklable. ``on_progress`` is told how many rows are done, of how
    many. Raises what the work raised; where workers did it, ``RuntimeError`` with its words.
    """
    starts = range(0, table.num_rows, part)
    left = [start for start in starts if not _shard(folder, start).exists()]

    def tell() -> None:
        done = table.num_rows - sum(min(part, table.num_rows - start) for start in left)
        on_progress(done, table.num_rows)

    if left and engine.name != "local":
        with atomic_path(folder / INPUT) as temporary:
            pq.write_table(table, temporary, row_group_size=part)
        done_by = _by_ray if engine.name == "ray" else _by_processes
        for start in done_by(list(left), folder, part, load, schema, engine.workers):
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


# ------------------------------------------------------------------------------------------ workers


class Worker:
    """Does parts: its models are loaded with its first. An actor of Ray's calls it with a batch.

    What it gives back are only the parts it has written.
    """

    def __init__(self, folder: Path, part: int, load: Callable[[], Work], schema: pa.Schema):
        self.folder, self.part, self.load, self.schema = folder, part, load, schema
        self.work: Work | None = None

    def do(self, start: int) -> str:
        """Do the part that starts with this row; "", or what the work raised."""
        try:
            self.work = self.work or self.load()
            if not _shard(self.folder, start).exists():
                rows = pq.ParquetFile(self.folder / INPUT).read_row_group(start // self.part)
                _write(self.work(rows), self.folder, start, self.schema)
        except Exception as error:  # the work's own
            return f"{type(error).__name__}: {error}"
        return ""

    def __call__(self, batch: dict) -> dict:
        (start,) = batch["item"].tolist()
        return {"start": [start], "error": [self.do(start)]}


def gpus_here() -> list[str]:
    """The GPUs of this machine that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    number = torch.cuda.device_count()
    told = os.environ.get("CUDA_VISIBLE_DEVICES")
    return told.split(",")[:number] if told else [str(n) for n in range(number)]


@dataclass
class _Process:
    """A worker process: parts go in, one by one, and come out done or with what went wrong."""

    job: bytes  # a pickled Worker
    gpu: str | None
    log: IO[bytes] = field(default_factory=TemporaryFile)
    running: subprocess.Popen | None = None

    def ask(self, start: int) -> str:
        """Have it do a part, started first where need be; "", or why it is not done. After that
        the process is gone: an error on a GPU stays with the process that had it.
        """
        running = self.running or self._started()
        with suppress(OSError):  # it is gone: its answer will be missing
            running.stdin.write(pickle.dumps(start))
            running.stdin.flush()
        answer = running.stdout.readline()
        if answer.endswith(b"\n"):
            told = json.loads(answer)
        else:
            told = f"its process ended with {running.wait()}: {self._last_words()}"
        if told:
            self.end()
        return told

    def _started(self) -> subprocess.Popen:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        if self.gpu is not None:
            environment["CUDA_VISIBLE_DEVICES"] = self.gpu
        pipe = subprocess.PIPE
        self.running = subprocess.Popen(
            [sys.executable, "-c", CHILD], stdin=pipe, stdout=pipe, stderr=self.log, env=environment
        )
        with suppress(OSError):
            self.running.stdin.write(self.job)
        return self.running

    def _last_words(self) -> str:
        self.log.seek(0, os.SEEK_END)
        self.log.seek(max(self.log.tell() - LONGEST_WORDS, 0))
        return self.log.read().decode("utf-8", "replace").strip() or "(no words)"

    def end(self) -> None:
        running, self.running = self.running, None
        if running is not None:
            running.kill()
            running.wait()
            for pipe in (running.stdin, running.stdout):
                with suppress(OSError):  # something was on its way
                    pipe.close()


def _by_processes(
    starts: list[int],
    folder: Path,
    part: int,
    load: Callable[[], Work],
    schema: pa.Schema,
    workers: int,
) -> Iterator[int]:
    """Have worker processes do the parts, one for each GPU; yields each that is done.

    A part whose worker raises or is lost is asked of new ones, ``TRIES`` times in all; raises
    ``RuntimeError`` with what the last one said.
    """
    gpus = gpus_here()
    number = min(workers or len(gpus) or 2, len(starts))
    try:
        job = pickle.dumps(Worker(folder.resolve(), part, load, schema))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise RuntimeError(f"engine 'gpus' can't hand this work to processes: {error}") from error
    todo, done, stopped = SimpleQueue(), SimpleQueue(), threading.Event()
    for start in starts:
        todo.put(start)

    def attend(process: _Process) -> None:
        start = -1
        try:
            while not stopped.is_set():
                start, told = todo.get_nowait(), "not done"
                for _ in range(TRIES):
                    if told and not stopped.is_set():
                        told = process.ask(start)
                done.put((start, told))
        except Empty:
            pass
        except Exception as error:  # no process can be started, say
            done.put((start, f"{type(error).__name__}: {error}"))

    processes = [_Process(job, gpus[n % len(gpus)] if gpus else None) for n in range(number)]
    threads = [threading.Thread(target=attend, args=(p,), daemon=True) for p in processes]
    for thread in threads:
        thread.start()
    try:
        for _ in starts:
            start, told = done.get()
            if told:
                raise RuntimeError(
                    f"workers failed {TRIES} times in the part that starts with row {start}: {told}"
                )
            yield start
    finally:
        stopped.set()
        for process, thread in zip(processes, threads, strict=True):
            while thread.is_alive():  # one may have been starting a process
                process.end()
                thread.join(0.05)
            process.end()


def do_parts() -> None:
    """A worker process: reads a Worker, then parts, and says what became of each.

    What the work prints goes to the log.
    """
    told = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    worker: Worker = pickle.load(sys.stdin.buffer)  # its parent's, from the pipe between them
    while True:
        try:
            start = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        told.write(json.dumps(worker.do(start)) + "\n")
        told.flush()


# ---------------------------------------------------------------------------------------------- Ray


def _by_ray(
    starts: list[int],
    folder: Path,
    part: int,
    load: Callable[[], Work],
    schema: pa.Schema,
    workers: int,
) -> Iterator[int]:
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
    """Join the cluster that RAY_ADDRESS names, or start one of this machine.

    Raises ``RuntimeError`` where there is no such cluster, or it does not let this process in.
    """
    address = os.environ.get("RAY_ADDRESS")
    quiet = dict(log_to_driver=False, logging_level="ERROR")
    if address:
        try:
            if re.fullmatch(r"[^/]+:\d+", address):  # Ray itself would go on trying
                host, _, port = address.rpartition(":")
                socket.create_connection((host.strip("[]"), int(port)), timeout=20).close()
            ray.init(address=address, **quiet)
        except (OSError, RuntimeError) as error:
            why = str(error.__cause__ or error).strip().splitlines()[-1].split(". ")[0].rstrip(".")
            raise RuntimeError(
                f"RAY_ADDRESS is {address}, and Ray can't join a cluster there: {why}."
                " Expected a head started by `ray start --head` that this machine reaches; where it"
                " wants a token, RAY_AUTH_MODE=token and the head's ~/.ray/auth_token here too"
            ) from error
    else:
        ray.init(
            address="local",
            num_cpus=max(workers + 1, os.cpu_count() or 1),
            include_dashboard=False,
            **quiet,
        )
