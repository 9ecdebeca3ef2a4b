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
# uses up so many seconds of the processor
BURN = "import time\nend = time.process_time() + {}\nwhile time.process_time() < end:\n    pass"


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
    tiny("01_sleep", SLEEPER, BURN.format(4), "time.sleep(300)")
    begin = time.monotonic()
    with pytest.raises(RunError) as failed:
        run_tiny(tmp_path, limits=(30, 300))
    assert str(failed.value).endswith(
        "FAILED 01_sleep, cell [5] (code: time.sleep(300)): TimeoutError: it took longer than its"
        " 30 s"
    )
    assert time.monotonic() - begin < 250, "it was not left to end by itself"
    assert executing(tmp_path / "run") == []
    entry = json.loads((tmp_path / "run" / "manifest.json").read_text())["notebooks"]["01_sleep"]
    assert entry["cpu_seconds"] > 4, "the kernel was killed together with who would wait for it"


def test_processor_time_is_that_of_all_that_a_notebook_started(run_tiny, tiny, tmp_path):
    """Its kernel, processes that the kernel started and ended, and theirs; not another notebook's.
    What is executed later changes nothing of it.
    """
    scripts = {
        "burn": BURN.format(1),
        "launcher": "import subprocess, sys\nsubprocess.run([sys.executable, 'burn.py'])",
        "server": "import burn, time\nprint('ready', flush=True)\ntime.sleep(300)",
    }
    for name, text in scripts.items():
        (tmp_path / f"{name}.py").write_text(text)
    launched = "import subprocess, sys\n_ = subprocess.run([sys.executable, 'launcher.py'])"
    served = (
        "server = subprocess.Popen([sys.executable, 'server.py'], stdout=subprocess.PIPE)\n"
        "assert server.stdout.readline()\nserver.terminate()\n_ = server.wait()"
    )
    pooled = (
        "from concurrent.futures import ProcessPoolExecutor\nwith ProcessPoolExecutor(1) as pool:\n"
        "    pool.submit(exec, open('burn.py').read(), {}).result()"
    )
    tiny("01_none", "1")
    tiny("02_all", launched, served, pooled, scripts["burn"])
    said: list[str] = []
    record = run_tiny(tmp_path, said.append)["notebooks"]
    none, everything = record["01_none"], record["02_all"]
    assert 3.7 < everything["cpu_seconds"] - none["cpu_seconds"] < 8, "four burnt a second each"
    assert 0.3 < none["cpu_seconds"] < 20 and 0 < none["runner_cpu_seconds"] < 5
    assert f" s, of the processor {everything['cpu_seconds']:.0f} s (cells 6/6)" in said[-1]

    again = run_tiny(tmp_path, overrides=["01.seed=1"])["notebooks"]
    assert again["02_all"] == everything and again["01_none"] != none
    told = json.loads((tmp_path / "run" / "metrics.json").read_text())
    runner = sum(entry["runner_cpu_seconds"] for entry in again.values())
    assert told["cpu_seconds"] == {
        "01_none": again["01_none"]["cpu_seconds"],
        "02_all": everything["cpu_seconds"],
        "runner": pytest.approx(runner, abs=0.06),
    }
    assert told["seconds"].keys() == {"01_none", "02_all"}


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
