"""The rate limit: how many requests may be under way, found out while asking.

Additive increase, multiplicative decrease, as TCP shares a line: every answer lets a little more
through, a 429 halves it, and what the server's headers say (``retry-after``,
``x-ratelimit-remaining-*``, ``x-ratelimit-reset-*``) is obeyed before it has to say 429.
"""

import asyncio
import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from time import monotonic

START = 32  # requests under way at the beginning, if so many are allowed at all
LONGEST_PAUSE = 120.0  # seconds; the client library, too, takes no longer retry-after at its word
BUSY = (429, 503)  # too many requests; overloaded
_UNITS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "": 1.0}


@dataclass
class RateLimiter:
    """Admits requests: ``async with limiter`` around each attempt, then ``saw`` with what came
    back. At most ``most`` are under way.
    """

    most: int
    allowed: float = 0.0  # how many may be under way now: 1 to ``most``
    under_way: int = 0
    throttled: int = 0  # answers that said "too many"
    not_before: float = 0.0  # monotonic time at which the next one may go out
    _doubling: bool = True  # until the first sign of a limit, as in TCP's slow start
    _lowered: float = float("-inf")
    _queue: deque[asyncio.Future] = field(default_factory=deque)

    def __post_init__(self) -> None:
        if self.most < 1:
            raise ValueError(f"concurrency must be at least 1, not {self.most}")
        self.allowed = float(min(self.most, START))

    async def __aenter__(self) -> "RateLimiter":
        while True:
            pause = self.not_before - monotonic()
            if pause > 0:
                await asyncio.sleep(pause)
            elif self.under_way >= int(self.allowed):
                turn = asyncio.get_running_loop().create_future()
                self._queue.append(turn)
                await turn
            else:
                self.under_way += 1
                return self

    async def __aexit__(self, *_: object) -> None:
        self.under_way -= 1
        self._admit()

    def saw(self, status: int, headers: Mapping[str, str], sent: float, tokens: int = 1) -> None:
        """An attempt sent at ``sent`` (monotonic) was answered.

        ``tokens`` is about what one such request takes.
        """
        if status in BUSY:
            self.throttled += 1
            # those sent before the last decrease say nothing about what is allowed since
            if sent > self._lowered:
                self._lower(self.allowed / 2)
            self._pause(wait_of(headers))
        elif status < 400:
            self.allowed = min(
                self.most, self.allowed + (1.0 if self._doubling else 1.0 / self.allowed)
            )
        for kind, need in (("requests", 1), ("tokens", max(tokens, 1))):
            self._obey(headers, kind, need)
        self._admit()

    def _obey(self, headers: Mapping[str, str], kind: str, need: int) -> None:
        """Of what remains of a limit, no more is taken; where one request is too much, wait
        until as much has come back.
        """
        remaining = _number(headers.get(f"x-ratelimit-remaining-{kind}"))
        if remaining is None:
            return
        if remaining // need < self.allowed:
            self._lower(remaining // need)
        if remaining < need:
            limit = _number(headers.get(f"x-ratelimit-limit-{kind}"))
            reset = seconds_of(headers.get(f"x-ratelimit-reset-{kind}"))
            share = 1.0
            if limit is not None and limit > need:  # reset: until all of it is back
                share = (need - remaining) / (limit - remaining)
            self._pause(reset and reset * share)

    def _lower(self, allowed: float) -> None:
        self.allowed = min(max(1.0, allowed), self.most)
        self._doubling = False
        self._lowered = monotonic()

    def _pause(self, seconds: float | None) -> None:
        if seconds:
            self.not_before = max(self.not_before, monotonic() + min(seconds, LONGEST_PAUSE))

    def _admit(self) -> None:
        """Wake as many of those that wait as there is room for; each looks again for itself."""
        room = int(self.allowed) - self.under_way
        while room > 0 and self._queue:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(None)
                room -= 1


def wait_of(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait by ``retry-after-ms`` or ``retry-after``; a date is the client library's."""
    milliseconds = _number(headers.get("retry-after-ms"))
    return milliseconds / 1000 if milliseconds is not None else _number(headers.get("retry-after"))


def seconds_of(text: str | None) -> float | None:
    """Seconds of a duration as OpenAI writes it, or of a bare number; None for anything else.

    >>> seconds_of("6m0s"), seconds_of("1.5"), seconds_of("20ms"), seconds_of("soon")
    (360.0, 1.5, 0.02, None)
    """
    text = (text or "").strip().lower()
    if not re.fullmatch(r"(\d+(\.\d+)?(ms|s|m|h|d))+|\d+(\.\d+)?", text, re.ASCII):
        return None
    found = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|)", text)
    return sum(float(number) * _UNITS[unit] for number, unit in found)


def _number(text: str | None) -> float | None:
    found = re.fullmatch(r"\d{1,15}(\.\d{1,9})?", (text or "").strip(), re.ASCII)
    return float(text) if found else None
