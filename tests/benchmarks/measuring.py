"""What every benchmark returns, how two ways of doing the same are timed beside each other, and
what they are timed on.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from lskd_nb.runner.manifest import processor


@dataclass(frozen=True)
class Measured:
    """One line of the table: ``ours`` beside ``other``, both in ``unit``; ``aim`` is what was hoped
    for, ``ratio`` how many times better ours is.

    ``other`` is None where there is nothing to stand beside, and the aim is then one of ``ours``
    (``ratio`` None). ``why`` is said where the aim is missed.
    """

    part: str  # a module of this folder
    what: str
    ours: float
    unit: str  # seconds, requests/s, GiB, ...
    aim: str
    reached: bool
    other: float | None = None
    beside: str = ""  # what ``other`` is
    ratio: float | None = None
    note: str = ""
    why: str = ""


def side_by_side(
    ours: Callable[[], object],
    other: Callable[[], object],
    rounds: int = 5,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[float, float]:
    """Median seconds of both, each called once to warm up and then in turns, so that whatever
    else the machine does falls on both. ``clock`` may be ``time.process_time``.
    """
    ours(), other()
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for place, call in enumerate((ours, other)):
            begin = clock()
            call()
            seconds[place].append(clock() - begin)
    return median(seconds[0]), median(seconds[1])


def times_faster(
    part: str,
    what: str,
    ours: float,
    other: float,
    beside: str,
    aim: float,
    note: str = "",
    why: str = "",
) -> Measured:
    """A line about seconds: ``other`` / ``ours`` is hoped to be ``aim`` or more."""
    ratio, told = other / ours, f"≥ {aim:g} ×"
    return Measured(part, what, ours, "s", told, ratio >= aim, other, beside, ratio, note, why)


def machine() -> dict[str, object]:
    """What a line holds on: processor, cores, 512-bit arithmetic or not (None: not known), memory,
    the GPU or None, PyTorch.
    """
    import torch

    known = processor()
    return dict(
        cpu=known["model"],
        cores=known["cores"],
        memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        avx512=known["avx512"],
        gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        torch=torch.__version__,
    )
