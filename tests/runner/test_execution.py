"""A notebook's kernel: limits, death, and what a killed run leaves behind."""

import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from lskd_nb.run_folder import RunError
from lskd_nb.runner.execution import MARK

COPY = (
    'from pathlib import Path\nhome = Path(run_dir)\n_ = (home / "b.txt").write_text((home /'
    ' "a.txt").read_text() + str(seed))'
)
SLEEPER = (
    "import subprocess, sys, time\nhelper = subprocess.Popen([sys.executable, '-c', 'import time;"
    " time.sleep(300)'])"
)


def executing(run_dir) -> list[psutil.Process]:
    """The processes that execute a notebook for ``run_dir``: papermill, the kernel and what it
    started.
    """
    found = []
    for process in psutil.process_iter():
        try:
            if (
                process.environ().get(MARK) == str(run_dir)
                and process.status() != psutil.STATUS_ZOMBIE
            ):
                found.append(process)
        except psutil.Error:
            continue
    return found


def wait_for(condition, seconds: float = 1800):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)
    return found


def test_a_time_limit_ends_the_notebook_and_all_it_started(run_tiny, tiny, tmp_path):
    tiny("01_sleep", SLEEPER, "time.sleep(300)")
    begin = time.monotonic()
    with pytest.raises(RunError) as failed:
        run_tiny(tmp_path, limits=(30, 300))
    assert str(failed.value).endswith(
        "FAILED 01_sleep, cell [4] (code: time.sleep(300)): TimeoutError: it took longer than its"
        " 30 s"
    )
    assert time.monotonic() - begin < 250, "it was not left to end by itself"
    assert executing(tmp_path / "run") == []


def test_a_run_that_is_out_of_time_starts_nothing_more(run_tiny, tiny, tmp_path):
    tiny("01_one", "1")
    with pytest.raises(RunError, match="FAILED 01_one: not started, the run has used up its 0 s"):
        run_tiny(tmp_path, limits=(10, 1e-9))


def test_a_kernel_that_dies_is_reported(run_tiny, tiny, tmp_path):
    tiny("01_die", "import os\nos.kill(os.getpid(), 9)")
    with pytest.raises(
        RunError, match=r"FAILED 01_die, cell \[3\] \(code: import os\): DeadKernelError"
    ):
        run_tiny(tmp_path)


def test_a_killed_run_leaves_nothing_running_and_goes_on(run_tiny, tiny, tmp_path):
    """SIGKILL of the runner ends its kernels; the next run keeps what was finished and runs the
    rest.
    """
    tiny(
        "01_write",
        'from pathlib import Path\n_ = (Path(run_dir) / "a.txt").write_text("x")',
        writes=["a.txt"],
    )
    wait = (
        'from pathlib import Path\nwhile not (Path(run_dir) / "go").exists():\n    time.sleep(0.1)'
    )
    tiny("02_copy", SLEEPER, wait, COPY, "helper.kill()", reads=["a.txt"], writes=["b.txt"])
    run = tmp_path / "run"
    command = [sys.executable, "-m", "lskd_nb.cli", "run", "tiny", "--out", str(run)]
    runner = subprocess.Popen(
        command,
        env=os.environ | {"LSKD_ROOT": str(tmp_path)},
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_for(lambda: len(executing(run)) == 3 and (run / "a.txt").exists())
        with pytest.raises(RunError, match="another run is writing to"):
            run_tiny(tmp_path)
        assert len(executing(run)) == 3
    finally:
        os.killpg(runner.pid, signal.SIGKILL)
        runner.wait()
    wait_for(lambda: executing(run) == [])
    entries = json.loads((run / "manifest.json").read_text())["notebooks"]
    assert (entries["01_write"]["status"], entries["02_copy"]["status"]) == ("done", "running")

    (run / "go").touch()
    leftover = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(300)"], env=os.environ | {MARK: str(run)}
    )
    said: list[str] = []
    run_tiny(tmp_path, said.append)
    assert "nothing it reads has changed" in said[0] and "cells" in said[1]
    assert (run / "b.txt").read_text() == "x0"
    leftover.wait(1800)  # what a killed run left running is ended before anything else
