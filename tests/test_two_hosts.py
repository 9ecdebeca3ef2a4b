"""Past one machine, by the guide's own commands: two hosts with a cable between them do what one
does, also where one of them is lost on the way.

Hosts are namespaces of this machine (two_hosts.py), so there are no GPUs and no NCCL, and the
folder that they share is the machine's own.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import numpy as np
import pytest

from lskd_nb.records import VERBALIZATIONS, read_parquet
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
        XDG_CACHE_HOME=os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache")),
    ) as two:
        yield two


# -------------------------------------------------------------------------------------- words, by Ray

PART, PARTS = 3, 30  # images of a shard, and how many shards


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """The notebooks and the smoke profile, with shards of a few images."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "notebooks").mkdir()
    for notebook in ROOT.glob("notebooks/*.ipynb"):
        text = notebook.read_text(encoding="utf-8")
        if notebook.name.startswith("01_"):
            call = "loaded=loaded, engine=workers"
            text = changed(text, (f"{call})", f"{call}, part={PART})"))
        (folder / "notebooks" / notebook.name).write_text(text, encoding="utf-8")
    shutil.copytree(ROOT / "params/smoke", folder / "params/smoke")
    (folder / "lskd_nb").symlink_to(ROOT / "lskd_nb")
    return folder


def shards(run: Path) -> list[Path]:
    """Those that are written, of verbalization."""
    return sorted(run.glob(f"verbalizations.parts/*/{'[0-9]' * 7}.parquet"))


@pytest.mark.parametrize(
    "silently",
    [False, pytest.param(True, marks=pytest.mark.endurance)],
    ids=["killed", "falls silent"],
)
def test_two_hosts_verbalize_as_one_does_though_one_is_lost(hosts, project, tmp_path, silently):
    first, second = hosts
    token, mode, head, join, run = commands("Past one machine: Ray").splitlines()
    there = tmp_path / "there"
    world = f"-p '01.world=[{PART * PARTS}, 6]'"
    run = changed(run, ("run a100", f"run smoke --out {there} {world}"))
    here = changed(run, (" -p 01.engine=ray", ""), (str(there), str(tmp_path / "here")))

    def start(host, command: str) -> subprocess.Popen:
        log = tmp_path / f"log{host.number}"
        told = dict(HOST=first.address, LSKD_ROOT=str(project), OMP_NUM_THREADS="1")
        return host.start(command, log, **told)

    def says(host, words: str) -> Callable[[], bool]:
        return lambda: words in (tmp_path / f"log{host.number}").read_text()

    alone = start(first, here)
    assert start(first, token).wait(PATIENCE) == 0
    heads = start(first, f"{mode}; {head}")
    wait_until(says(first, "Ray runtime started"), heads)
    joined = start(second, f"{mode}; {join}")
    wait_until(says(second, "Ray runtime started"), heads, joined)
    running = start(first, f"{mode}; {run}")

    def of(host) -> list[Path]:
        return [shard for shard in shards(there) if host.has_written(shard)]

    wait_until(lambda: of(first) and of(second), running)
    second.lose(silently)
    done = shards(there)
    assert running.wait(PATIENCE) == 0, (tmp_path / "log1").read_text()[-3000:]
    assert len(done) < len(shards(there)) == PARTS, "it came too late to prove anything"
    assert of(second) and set(of(second)) <= set(done)

    assert alone.wait(PATIENCE) == 0
    mine, ours = (
        read_parquet(tmp_path / run / "verbalizations.parquet", VERBALIZATIONS)
        for run in ("here", "there")
    )
    assert mine.num_rows > PART * PARTS * 3
    assert mine.drop_columns("score").equals(ours.drop_columns("score"))
    scores = (np.nan_to_num(rows["score"].to_numpy()) for rows in (mine, ours))
    np.testing.assert_allclose(*scores, atol=1e-3)


# -------------------------------------------------------------------------------------- a training


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
