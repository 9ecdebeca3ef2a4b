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


def changed(text: str, **instead: str) -> str:
    """A command with other words in some places, each of which must be there."""
    for old, new in instead.items():
        assert old in text, f"the guide no longer says {old}: {text}"
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


# -------------------------------------------------------------------------------------- a training


def begin(hosts: tuple, config: Path) -> list[subprocess.Popen]:
    """Start a training on both hosts, a process on each."""
    typed = commands("Past one machine: training")
    for old, new in (
        ("--num_processes 8", "--num_processes 2"),
        ("outputs/runs/a100/student/lskd.json", str(config)),
    ):
        assert old in typed
        typed = typed.replace(old, new)
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
    HOSTS.connect(*hosts)
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
