"""Past one machine, by the guide's own commands: two hosts with a cable between them do what one
does, also where one of them is lost on the way.

Hosts are namespaces of this machine (two_hosts.py), so there are no GPUs and no NCCL, and the
folder that they share is the machine's own.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from lskd_nb.records import SCORES, VERBALIZATIONS, read_parquet
from lskd_nb.run_folder import find_root
from lskd_nb.students.loading import load_student
from lskd_nb.training import distillation, launch

TESTS = Path(__file__).parent
HOSTS = SimpleNamespace(**run_path(str(TESTS / "two_hosts.py")))
DISTRIBUTED = SimpleNamespace(**run_path(str(TESTS / "training" / "test_distributed.py")))
world = DISTRIBUTED.world  # the fixture: images, a corpus, a tiny base
ROOT = find_root()
GUIDE = (ROOT / "notebooks/guide/gpu-boxes-and-clusters.md").read_text(encoding="utf-8")
PATIENCE = 600  # seconds after which something hangs
MISSING = HOSTS.why_not()
pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)


def commands(section: str, number: int = 0) -> str:
    """An indented block of a section of the guide, as it is typed."""
    text = GUIDE.split(f"\n## {section}\n")[1].split("\n## ")[0]
    return re.findall(r"(?:^    .*\n)+", text, re.MULTILINE)[number].replace("\n    ", "\n")[4:]


def changed(text: str, *instead: tuple[str, str]) -> str:
    """A text with other words in some places, each of which must be there."""
    for old, new in instead:
        assert old in text, f"no longer there: {old!r}"
        text = text.replace(old, new)
    return text


def wait_until(holds: Callable[[], bool], *running: subprocess.Popen) -> None:
    """Wait until something holds, which it will as long as these are ``running``."""
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        assert all(process.poll() is None for process in running), "it ended before"
        time.sleep(0.01)


@pytest.fixture
def hosts(tmp_path) -> Iterator[tuple]:
    """Two hosts whose users have the same home."""
    (tmp_path / "home").mkdir()
    with HOSTS.two_hosts(
        HOME=str(tmp_path / "home"),
        PYTHONPATH=os.pathsep.join(filter(None, sys.path)),
        RAY_USAGE_STATS_ENABLED="0",
        CUDA_VISIBLE_DEVICES="",  # both would take the same
        XDG_CACHE_HOME=os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache")),
    ) as two:
        yield two


def test_nothing_is_left_of_hosts_whose_test_is_killed():
    told = (
        f"from runpy import run_path\nwith run_path({str(TESTS / 'two_hosts.py')!r})['two_hosts']()"
        " as hosts:\n print(*(host.first_process for host in hosts), flush=True)\n input()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", told], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    first_processes = [Path("/proc", number) for number in process.stdout.readline().split()]
    assert len(first_processes) == 2 and all(path.exists() for path in first_processes)
    process.kill()
    process.communicate()
    wait_until(lambda: not any(path.exists() for path in first_processes))


# ------------------------------------------------------------------------------------------ by Ray

PART, PARTS = 3, 30  # images of a shard, and how many shards
BY_RAY = "Past one machine: Ray"


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """The notebooks and the smoke profile, with shards of a few images and a few triples."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "notebooks").mkdir()
    calls = {"01": "loaded=loaded, engine=workers", "04": "    shards.Engine(engine)"}
    for notebook in ROOT.glob("notebooks/*.ipynb"):
        text = notebook.read_text(encoding="utf-8")
        if call := calls.get(notebook.name.split("_")[0]):
            text = changed(text, (f"{call})", f"{call}, part={PART})"))
        (folder / "notebooks" / notebook.name).write_text(text, encoding="utf-8")
    shutil.copytree(ROOT / "params/smoke", folder / "params/smoke")
    (folder / "lskd_nb").symlink_to(ROOT / "lskd_nb")
    return folder


class Cluster:
    """The two hosts with Ray on both, started as the guide says."""

    def __init__(self, hosts: tuple, project: Path, logs: Path):
        self.hosts, self.project, self.logs = hosts, project, logs
        token, self.mode, head, join, self.run = commands(BY_RAY).splitlines()
        assert self.start(0, token).wait(PATIENCE) == 0
        self.began(0, head)
        self.began(1, join)

    def start(self, host: int, command: str) -> subprocess.Popen:
        told = dict(HOST=self.hosts[0].address, LSKD_ROOT=str(self.project), OMP_NUM_THREADS="1")
        return self.hosts[host].start(command, self.logs / f"log{host}", **told)

    def began(self, host: int, command: str) -> None:
        """Start Ray, again on a fresh host where it has given up after its 30 seconds: a machine
        with other work is slower.
        """
        for _ in range(5):
            running = self.start(host, f"{self.mode}; {command}")
            while not self.is_up(host) and running.poll() is None:
                time.sleep(0.05)
            if self.is_up(host):
                return
            self.hosts[host].lose()
            self.hosts[host].boot()
        raise AssertionError(self.said(host)[-3000:])

    def is_up(self, host: int) -> bool:
        return "Ray runtime started" in self.said(host)

    def said(self, host: int) -> str:
        return (self.logs / f"log{host}").read_text()

    def shards_of(self, run: Path, name: str) -> tuple[list[Path], list[Path]]:
        """The shards that are written, by the host that wrote them."""
        found = sorted(run.glob(f"{name}.parts/*/{'[0-9]' * 7}.parquet"))
        return tuple([shard for shard in found if h.has_written(shard)] for h in self.hosts)


def close(mine: Path, ours: Path, schema: pa.Schema, scores: tuple[str, ...], atol: float) -> int:
    """That two files have the same rows, and nearly the same scores; how many rows."""
    one, other = (read_parquet(path, schema) for path in (mine, ours))
    assert one.drop_columns(scores).equals(other.drop_columns(scores))
    for name in scores:
        values = (np.nan_to_num(table[name].to_numpy()) for table in (one, other))
        np.testing.assert_allclose(*values, atol=atol)
    return one.num_rows


@pytest.mark.parametrize(
    "silently",
    [False, pytest.param(True, marks=pytest.mark.endurance)],
    ids=["killed", "falls silent"],
)
def test_two_hosts_verbalize_as_one_does_though_one_is_lost(hosts, project, tmp_path, silently):
    here, there = tmp_path / "here", tmp_path / "there"
    world = f"-p '01.world=[{PART * PARTS}, 6]'"
    run = changed(
        commands(BY_RAY).splitlines()[-1], ("run a100", f"run smoke --out {there} {world}")
    )
    of_one = changed(run, (" -p 01.engine=ray", ""), (str(there), str(here)))
    alone = subprocess.Popen(
        ["bash", "-c", of_one],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ
        | hosts[0].environment
        | {"LSKD_ROOT": str(project), "PATH": f"{HOSTS.BIN}:{os.environ['PATH']}"},
    )
    cluster = Cluster(hosts, project, tmp_path)
    running = cluster.start(0, f"{cluster.mode}; {run}")
    wait_until(lambda: all(cluster.shards_of(there, "verbalizations")), running)
    hosts[1].lose(silently)
    done = cluster.shards_of(there, "verbalizations")
    assert running.wait(PATIENCE) == 0, cluster.said(0)[-3000:]
    by_first, by_second = cluster.shards_of(there, "verbalizations")
    assert len(by_first) + len(by_second) == PARTS
    assert by_second == done[1] and len(by_first) > len(done[0]), "it came too late to be a proof"
    assert alone.wait(PATIENCE) == 0
    files = (run / "verbalizations.parquet" for run in (here, there))
    assert close(*files, VERBALIZATIONS, ("score",), 1e-3) > PART * PARTS * 3


@pytest.mark.endurance
def test_two_hosts_score_as_one_does(hosts, project, tmp_path):
    cluster = Cluster(hosts, project, tmp_path)
    here, there = tmp_path / "here", tmp_path / "there"
    stages = " ".join(f"--only {number}" for number in ("01", "02", "03", "04"))
    assert cluster.start(0, f"lskd run smoke --out {here} {stages}").wait(PATIENCE) == 0
    shutil.copytree(here, there)
    for old in ("scores.parts", "scores.parquet"):
        path = there / old
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    typed = next(line for line in commands(BY_RAY, 2).splitlines() if "04.engine=ray" in line)
    typed = changed(typed, ("run a100", f"run smoke --out {there}"))
    running = cluster.start(0, f"{cluster.mode}; {typed}")
    assert running.wait(PATIENCE) == 0, cluster.said(0)[-3000:]
    assert all(cluster.shards_of(there, "scores"))
    scores = ("score", "qa_score", "rationale_score")
    assert close(here / "scores.parquet", there / "scores.parquet", SCORES, scores, 5e-3) > 30


# -------------------------------------------------------------------------------------- trainings


def begin(hosts: tuple, config: Path) -> list[subprocess.Popen]:
    """Start a training on both hosts, a process on each."""
    typed = changed(
        commands("Past one machine: training"),
        ("--num_processes 8", "--num_processes 2"),
        ("outputs/runs/a100/student/lskd.json", str(config)),
    )
    told = dict(HOST=hosts[0].address, LSKD_LOST_AFTER="20")
    return [
        host.start(typed, config.with_suffix(f".log{n}"), RANK=str(n), **told)
        for n, host in enumerate(hosts)
    ]


def said(config: Path) -> str:
    return "".join(log.read_text()[-3000:] for log in sorted(config.parent.glob("*.log?")))


STEPS = 16


@pytest.fixture(scope="module")
def alone(world) -> Path:
    """What one process learns from the whole batches."""
    return distillation.train(DISTRIBUTED.config(world, world / "alone", steps=STEPS))


@pytest.mark.parametrize(
    "lost, silently",
    [
        (1, False),
        pytest.param(0, False, marks=pytest.mark.endurance),
        pytest.param(1, True, marks=pytest.mark.endurance),
    ],
    ids=["the second is killed", "the first is killed", "the second falls silent"],
)
def test_two_hosts_train_to_the_losses_of_one_though_a_host_is_lost(
    hosts, world, alone, tmp_path, lost, silently
):
    told = DISTRIBUTED.config(world, tmp_path / "both", steps=STEPS)
    (config := tmp_path / "both.json").write_text(json.dumps(asdict(told)))
    running = begin(hosts, config)
    wait_until(lambda: len(launch.loss_curve(told)) >= 5, *running)
    hosts[lost].lose(silently)
    before = launch.loss_curve(told)
    began = time.monotonic()
    assert running[1 - lost].wait(PATIENCE) == 1 and not Path(told.out).exists()
    waited = time.monotonic() - began
    assert waited < 120, f"the other host went on for {waited:.0f} s"
    running[lost].wait(PATIENCE)

    hosts[lost].boot()
    for process in begin(hosts, config):
        assert process.wait(PATIENCE) == 0, said(config)
    curve = launch.loss_curve(told)
    assert curve[:4] == before[:4], "what the checkpoint held was done again"
    one = DISTRIBUTED.losses(launch.loss_curve(DISTRIBUTED.config(world, alone)))
    np.testing.assert_allclose(DISTRIBUTED.losses(curve), one, atol=2e-4)
    assert len(one) == STEPS and len(np.unique(one[:, 0])) == STEPS
    assert launch.finished(told), "notebook 5 would train it again"
    mine, ours = (load_student(str(out)).state_dict() for out in (alone, told.out))
    for name, weight in mine.items():
        np.testing.assert_allclose(weight, ours[name], atol=2e-4, rtol=1e-2, err_msg=name)
