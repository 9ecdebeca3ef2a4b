"""Trainings as processes of their own: started as ``accelerate launch`` would, and followed.

A notebook that trains in its own kernel loses everything with the kernel, and holds one GPU. Here
the notebook only looks on: it can be closed, run again, and finds each training where it is.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np
import psutil

from lskd_nb.records import CORPUS, atomic_path, read_parquet, write_parquet
from lskd_nb.students.blip2 import Student
from lskd_nb.students.views import FrozenFeatures
from lskd_nb.training.batches import corpus_rows, fixed_view, rehearsal_rows
from lskd_nb.training.loop import METRICS, trained

Curves = dict[str, list[dict]]  # the metrics of each training, a line a step


class TrainingConfig(Protocol):
    """A training's configuration, a dataclass that ``python -m module CONFIG.json`` reads.

    ``out`` is the folder of what is trained, ``threads`` how many each process may use (0: as many
    as there are), ``identity()`` all that the result depends on (``loop.trained``).
    """

    __dataclass_fields__: ClassVar[dict]
    module: ClassVar[str]

    @property
    def out(self) -> str: ...

    @property
    def threads(self) -> int: ...

    def identity(self) -> str: ...


def command(config: str | Path, module: str, processes: int = 1, threads: int = 1) -> list[str]:
    """What starts a training of ``config`` (JSON) by ``module`` on this machine, on its GPUs where
    it has some.

    For several machines see the guide's page on GPU boxes and clusters.

    A single process on CPUs is started as it is: a launcher, an interpreter of its own, would take
    seconds to set one variable. ``accelerate launch`` starts no more than one there (several need
    MPI); what it calls for GPUs, ``torch.distributed.run``, does.
    """
    import torch

    gpu = torch.cuda.is_available()
    training = ["-m", module, str(config)]
    if processes == 1 and not gpu:
        return [sys.executable, *training]
    if not gpu:
        return [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc-per-node",
            str(processes),
            *training,
        ]
    if processes > 1:
        how = ["--multi_gpu", "--main_process_port", "0"]
    else:
        how = []
    return [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        *how,
        "--num_processes",
        str(processes),
        "--num_machines",
        "1",
        "--mixed_precision",
        "no",
        "--dynamo_backend",
        "no",
        "--num_cpu_threads_per_process",
        str(threads),
        *training,
    ]


def finished(config: TrainingConfig) -> bool:
    """Whether ``config.out`` holds what this very configuration trains from these very files."""
    return trained(config.out, config.identity())


def loss_curve(config: TrainingConfig) -> list[dict]:
    """The metrics that a training has written so far, finished or not."""
    out = Path(config.out)
    for log in (out.with_name(out.name + ".training") / METRICS, out / METRICS):
        if log.exists():
            # the last may be half written
            return [json.loads(line) for line in log.read_text().splitlines() if line.endswith("}")]
    return []


def train_all(
    configs: Mapping[str, TrainingConfig],
    at_once: int = 1,
    processes: int = 1,
    on_steps: Callable[[Curves], None] = lambda curves: None,
    look: float = 2.0,
) -> Curves:
    """Train those of ``configs`` that are not trained yet, ``at_once`` side by side, each in
    ``processes`` processes; returns all their metrics.

    ``on_steps`` is told the metrics so far, every ``look`` seconds while they grow. A configuration
    and what its training says lie beside its ``out``. Raises ``RuntimeError`` with a training's
    last words where one fails; one that is whole has not, however its processes ended. The others
    end with it, as they do when the caller is interrupted.
    """
    waiting = [name for name, config in configs.items() if not finished(config)]
    running: dict[str, subprocess.Popen] = {}
    steps = -1
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                running[name] = _start(configs[name := waiting.pop(0)], processes)
            for name in [name for name, process in running.items() if process.poll() is not None]:
                status = running.pop(name).returncode
                if status != 0 and not finished(configs[name]):
                    raise RuntimeError(
                        f"training {name!r} ended"
                        f" with status {status}: {_last_words(configs[name])}"
                    )
            curves = {name: loss_curve(config) for name, config in configs.items()}
            if steps != (steps := sum(map(len, curves.values()))):
                on_steps(curves)
            _pause(running, look)
    finally:
        for process in running.values():
            _end(process)
    return {name: loss_curve(config) for name, config in configs.items()}


def train_one(
    config: TrainingConfig,
    processes: int = 1,
    on_steps: Callable[[Curves], None] = lambda curves: None,
) -> list[dict]:
    """One training, in ``processes`` processes, waited for; returns its metrics, a line a step.

    Raises as ``train_all`` does.
    """
    name = Path(config.out).name
    return train_all({name: config}, 1, processes, on_steps)[name]


def _beside(config: TrainingConfig, suffix: str) -> Path:
    return Path(config.out).with_name(Path(config.out).name + suffix)


def _start(config: TrainingConfig, processes: int) -> subprocess.Popen:
    path = _beside(config, ".json")
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(asdict(config), indent=1))
    with open(_beside(config, ".log"), "w") as log:
        threads = config.threads or max((os.cpu_count() or 1) // processes, 1)
        return subprocess.Popen(
            command(path, config.module, processes, threads),
            stdout=log,
            stderr=log,
            env=os.environ | {"OMP_NUM_THREADS": str(threads)},
        )


def _last_words(config: TrainingConfig) -> str:
    """The line of a training's log that names its error: a process's own, or the signal that
    ``torch.distributed.run`` tells of; else its last one that has a word.
    """
    lines = _beside(config, ".log").read_text(errors="replace").splitlines()
    own = [re.sub(r"^\[rank\d+\]:\s*", "", line).strip() for line in lines]
    named = [
        line
        for line in own
        if line.split(":")[0].rsplit(".")[-1].endswith("Error")
        and "ChildFailed" not in line
        and "CalledProcess" not in line
    ]
    signals = [line for line in own if re.search(r"\bSignal \d+ \(SIG\w+\)", line)]
    last = [line for line in own if re.search(r"\w", line)][-1:]
    return (named or signals or last or ["nothing was said"])[0][:400]


def _pause(running: Mapping[str, subprocess.Popen], look: float) -> None:
    """Wait ``look`` seconds, or until one of the trainings ends."""
    until = time.monotonic() + look
    while (
        running
        and time.monotonic() < until
        and all(process.poll() is None for process in running.values())
    ):
        time.sleep(0.1)


def _end(process: subprocess.Popen) -> None:
    """End a launcher and what it has launched."""
    try:
        family = [
            *psutil.Process(process.pid).children(recursive=True),
            psutil.Process(process.pid),
        ]
    except psutil.NoSuchProcess:
        return
    for member in family:
        if member.is_running():
            member.kill()
    process.wait()


# ------------------------------------------------------------------------------ what trainings read


@dataclass(frozen=True)
class CorpusSubset:
    """A random subset of a corpus, as a file of its own: a ``share`` of it, so many ``triples``."""

    corpus: Path
    share: float
    triples: int


def corpus_subsets(
    corpus: str | Path, folder: str | Path, shares: Sequence[float], seed: int
) -> dict[str, CorpusSubset]:
    """Nested random subsets of a corpus (Parquet), for the scaling curve.

    They are files in ``folder``, here by the name of the system that learns from them; each larger
    one has all of the smaller. The whole is ``lskd``, a half of it ``lskd_50``. Rows stay in their
    order. Raises ``ValueError`` for shares that are none, and a corpus without triples.
    """
    if not shares or not all(0 < share <= 1 for share in shares):
        raise ValueError(f"shares is {list(shares)}: expected some above 0, up to 1")
    whole = read_parquet(corpus, CORPUS)
    if not whole.num_rows:
        raise ValueError(f"{corpus} holds no triples: there is nothing to learn from")
    order = np.random.default_rng([seed, 10]).permutation(whole.num_rows)
    subsets = {}
    for share in shares:
        name = "lskd" if share == 1.0 else f"lskd_{100 * share:g}"
        triples = max(round(share * whole.num_rows), 1)
        path = Path(folder) / f"{name}.parquet"
        write_parquet(whole.take(np.sort(order[:triples])), path, CORPUS)
        subsets[name] = CorpusSubset(path, share, triples)
    return subsets


def store_features(
    student: Student,
    image_root: str | Path,
    store: str | Path,
    corpora: Iterable[str | Path],
    views: int,
    rehearsal: str | Path | None = None,
) -> None:
    """Compute once the frozen features of all that some trainings will see.

    That is ``views`` fixed views of each row of the ``corpora``, and the images of the pairs to
    rehearse.
    """
    needed = [
        fixed_view(row, which)
        for corpus in corpora
        for row in corpus_rows(corpus)
        for which in range(views)
    ]
    plain = rehearsal_rows(rehearsal) if rehearsal else []
    FrozenFeatures(student, image_root, store).prepare(
        needed + [fixed_view(row, 0) for row in plain]
    )
