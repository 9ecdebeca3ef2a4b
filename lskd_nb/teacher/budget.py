"""What requests cost, and a budget that is never overdrawn.

Before a request goes out, the most it can cost is reserved: a token is at least one byte, so a body
of n bytes is at most n tokens of input, and a reply is at most as long as ``max_tokens`` or the
model allow. When it has been answered, what its usage says is booked and the rest is free again. An
attempt of which nothing is heard (a timeout, a cut connection) may be on the bill: its reservation
stays.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from lskd_nb.teacher.requests import TeacherSettings, is_loopback, is_own

MILLION = 1e6
PRICES = Path(__file__).with_name("prices.yaml")


class BudgetExceeded(Exception):
    """What is left of the budget does not cover the most that a request can cost."""


@dataclass(frozen=True)
class Price:
    """USD per million tokens of input and output, as they are paid (a batch's discount taken
    off), and the longest reply in tokens; ``shutdown``: the day (2027-01-14) from which OpenAI's
    own server does not have the model, and what it recommends ``instead``.
    """

    input: float
    output: float
    max_output: int
    date: str = ""
    shutdown: str = ""
    instead: str = ""
    known: bool = True

    @property
    def free(self) -> bool:
        return self.known and not (self.input or self.output)

    def of(self, usage: Sequence[float]) -> float:
        """USD of [input, output] tokens."""
        return (usage[0] * self.input + usage[1] * self.output) / MILLION

    def worst(self, size: int, max_tokens: int | None) -> float:
        """The most USD that a request of ``size`` bytes can cost."""
        return self.of((size, max_tokens or self.max_output))


FREE = Price(0.0, 0.0, 0)
UNKNOWN = Price(0.0, 0.0, 0, known=False)


def price_of(settings: TeacherSettings) -> Price:
    """What the teacher costs: what the price file says; a server on this machine, and one of one's
    own network with a model that is not in the file, cost nothing.

    Raises ``ValueError`` naming the price file where it is damaged, or has no price for the model
    although a limit in USD is to be held.
    """
    if is_loopback(settings.base_url) and not settings.budget_usd:
        return FREE
    path = Path(settings.prices or PRICES)
    try:
        told = yaml.safe_load(path.read_text(encoding="utf-8"))
        date = str(told["date"])
        discount = float(told["batch_discount"])
        models = dict(told["models"])
        if not 0 <= discount < 1:
            raise ValueError("batch_discount must be 0 or more and less than 1")
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"price file {path}: expected date,"
            f" batch_discount and models ({type(error).__name__}: {error})"
        ) from None
    if settings.model not in models and not (settings.budget_usd or settings.max_cost_usd):
        return FREE if is_own(settings.base_url) else UNKNOWN
    if settings.model not in models:
        raise ValueError(
            f"{path} has no price for the model {settings.model!r}: add it there (0 where nothing"
            f" is paid); it has {', '.join(models)}"
        )
    return _price(
        models[settings.model],
        1 - discount if settings.mode == "batch" else 1.0,
        date,
        f"{path}, model {settings.model}",
    )


def _price(told: object, share: float, date: str, where: str) -> Price:
    names = ("input", "output", "max_output")
    numbers = [told.get(name) if isinstance(told, Mapping) else None for name in names]
    if any(
        isinstance(n, bool) or not isinstance(n, int | float) or not 0 <= n < MILLION
        for n in numbers
    ):
        raise ValueError(
            f"{where}: expected input and output in USD per million tokens"
            f" and max_output in tokens, not {told!r}"
        )
    shutdown, instead = (str(told.get(name) or "") for name in ("shutdown", "instead"))
    return Price(numbers[0] * share, numbers[1] * share, int(numbers[2]), date, shutdown, instead)


@dataclass
class Budget:
    """What has been, may have been, and may be paid for a set of prompts; in USD."""

    price: Price = FREE
    limit: float | None = None
    paid: float = 0.0
    unsure: float = 0.0
    reserved: float = 0.0
    _under_way: int = 0
    _settled: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def spent(self) -> float:
        """What is paid or may be."""
        return self.paid + self.unsure

    def take(self, worst: float) -> bool:
        """Reserve ``worst`` if that is left."""
        if self.limit is not None and self.spent + self.reserved + worst > self.limit:
            return False
        self.hold(worst)
        return True

    def hold(self, worst: float) -> None:
        """Reserve ``worst`` for what is under way already, left or not."""
        self.reserved += worst
        self._under_way += 1

    async def reserve(self, worst: float) -> None:
        """Reserve ``worst``, after requests under way have been settled where need be.

        Raises ``BudgetExceeded`` when none is left that could free it.
        """
        while not self.take(worst):
            if not self._under_way:
                raise BudgetExceeded
            await self._settled.wait()

    def settle(self, worst: float, cost: float | None) -> None:
        """Book what a request cost in place of its reservation; None: nobody knows."""
        self._under_way -= 1
        self.reserved = self.reserved - worst if self._under_way else 0.0  # no rest of rounding
        if cost is None:
            self.unsure += worst
        else:
            self.paid += cost
        if self.limit is not None:
            self._settled.set()  # all that wait look again
            self._settled = asyncio.Event()
