"""The benchmark for a machine with a GPU walks through here, with tiny networks on the CPU."""

import json
import sys
from runpy import run_path

import torch

from lskd_nb.run_folder import find_root

BENCHMARKS = find_root() / "tests" / "benchmarks"


def test_every_part_of_it_ends_well(capsys, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    before = torch.get_rng_state()
    status = run_path(str(BENCHMARKS / "gpu.py"))["main"](["--tiny"])
    torch.set_rng_state(before)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert not [line for line in lines if line.get("error")] and lines[-1]["failed"] == []
    assert status == 0 and lines[0]["what"] == "machine"
    measured = {line["what"][:2] for line in lines if line.get("samples_per_second", 0) > 0}
    assert measured == {"03", "04", "05", "06", "08"}
