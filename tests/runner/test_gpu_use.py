"""What notebooks use of the GPUs, with a program in nvidia-smi's place that prints the same."""

import os
import sys
import time

import pytest

from lskd_nb.runner.gpu_use import GpuUse, counted, watched

SMI = """#!{python}
import sys, time
assert sys.argv[1:] == ["--query-gpu=index,uuid,memory.used", "--format=csv,noheader,nounits",
                        "-l", "5"], sys.argv
used = [0, 30_000, 61_440, 10]
while True:
    for gpu in (0, 1):
        print(f"{{gpu}}, GPU-{{gpu}}a-b, {{500 + (used[0] if gpu else 0)}}", flush=True)
    used.append(used.pop(0))
    time.sleep(0.05)
"""


@pytest.fixture
def smi(tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    program.write_text(SMI.format(python=sys.executable))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return monkeypatch


@pytest.mark.parametrize(
    ("visible", "seen"), [(None, True), ("1", True), ("GPU-1a", True), ("0", False)]
)
def test_a_gpu_counts_while_its_memory_is_above_the_start(smi, visible, seen):
    smi.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        smi.setenv("CUDA_VISIBLE_DEVICES", visible)
    with watched() as use:
        time.sleep(1.0)
    assert use.peak_gib == (60.0 if seen else 0.0)
    assert (0.3 < use.hours * 3600 < 0.8) == seen, "two looks of four"


def test_without_gpus_nothing_is_used(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with watched() as use:
        pass
    assert use == GpuUse()


def test_words_of_a_driver_that_fails_are_no_use():
    told = "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n"
    assert counted(told, 10) == GpuUse() == counted("0, GPU-a, [N/A]\n" * 3, 10)
