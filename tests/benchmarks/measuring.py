"""What every benchmark returns, and how two ways of doing the same are timed beside each other."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Measured:
    """One line of the table: ``ours`` beside ``other``, both in ``unit``; ``aim`` is what was hoped
    for, ``ratio`` how many times better ours is.

    ``other`` is None where there is nothing to stand beside, and the aim is then one of ``ours``
    (``ratio`` None).
    """

    part: str  # drawing | encoding | training | sampling | corpus
    what: str
    ours: float
    unit: str  # seconds, requests/s, GiB, ...
    aim: str
    reached: bool
    other: float | None = None
    beside: str = ""  # what ``other`` is
    ratio: float | None = None
    note: str = ""


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
    part: str, what: str, ours: float, other: float, beside: str, aim: float, note: str = ""
) -> Measured:
    """A line about seconds: ``other`` / ``ours`` is hoped to be ``aim`` or more."""
    ratio = other / ours
    return Measured(part, what, ours, "s", f"≥ {aim:g} ×", ratio >= aim, other, beside, ratio, note)
