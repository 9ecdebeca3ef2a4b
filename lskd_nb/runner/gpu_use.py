"""What notebooks use of the GPUs, hours and memory: ``nvidia-smi`` looks every few seconds.

A GPU is in use while its memory is above what it was at the start. What other people's programs
take meanwhile on the same GPUs can't be told apart. Tried with a stand-in for ``nvidia-smi`` that
prints what it prints; not on a machine with GPUs.
"""

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

EVERY = 5  # seconds between two looks
LEAST = 200  # MiB above the start: less is a desktop's
QUERY = ("--query-gpu=index,uuid,memory.used", "--format=csv,noheader,nounits", "-l", str(EVERY))


@dataclass
class GpuUse:
    """So far: GPU hours of all GPUs together, and the most memory of one of them, GiB. Both are 0
    where there is no GPU.
    """

    hours: float = 0.0
    peak_gib: float = 0.0


@contextlib.contextmanager
def watched() -> Iterator[GpuUse]:
    """Watch the GPUs that CUDA_VISIBLE_DEVICES leaves while the block runs; the use is complete
    when it has ended.
    """
    use, program = GpuUse(), shutil.which("nvidia-smi")
    if program is None:
        yield use
        return
    with tempfile.NamedTemporaryFile("r") as said:
        begin = time.monotonic()
        with open(said.name, "w") as out:
            looking = subprocess.Popen(
                [program, *QUERY], stdout=out, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL
            )
        try:
            yield use
        finally:
            looking.terminate()
            looking.wait()
            seconds = time.monotonic() - begin
            told = counted(Path(said.name).read_text(errors="replace"), seconds, visible())
            use.hours, use.peak_gib = told.hours, told.peak_gib


def counted(lines: str, seconds: float, of: frozenset[str] | None = None) -> GpuUse:
    """Looks in the order of time, each GPU in one line of a look: "index, uuid, MiB used", taken
    in ``seconds``; of the GPUs of these indices or uuids, None: of all.

    >>> counted("0, GPU-a, 100\\n1, GPU-b, 90\\n0, GPU-a, 20580\\n1, GPU-b, 95\\n", 7200)
    GpuUse(hours=1.0, peak_gib=20.0)
    """
    looks: dict[str, list[int]] = {}
    for line in lines.splitlines():
        parts = [part.strip() for part in line.split(",")]
        if len(parts) == 3 and parts[2].isdigit():
            index, uuid, used = parts
            if of is None or index in of or any(uuid.startswith(name) for name in of if name):
                looks.setdefault(uuid, []).append(int(used))
    hours, most = 0.0, 0
    for used in looks.values():
        above = [more for value in used if (more := value - used[0]) >= LEAST]
        hours += seconds / 3600 * len(above) / len(used)
        most = max([most, *above])
    return GpuUse(round(hours, 4), round(most / 1024, 2))


def visible() -> frozenset[str] | None:
    """The GPUs that CUDA_VISIBLE_DEVICES names; None where it names none in particular."""
    told = os.environ.get("CUDA_VISIBLE_DEVICES")
    return None if told is None else frozenset(part.strip() for part in told.split(","))
