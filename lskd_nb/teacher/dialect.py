"""What a server takes of a request, found out by asking it once.

Servers of OpenAI's protocol take different parts of it. Some know no schemas for a reply, or only
that it is JSON; reasoning models want ``max_completion_tokens`` and no temperature; Mistral's has a
``random_seed``. So one small request goes out before all others, with every field that the run will
send; of what is refused, the next best is tried. What a server takes is remembered in the cache, by
server and model.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lskd_nb.teacher.refusals import Refusal

FORMATS = ("json_schema", "json_object", "words")  # each is less than the one before
CHOICES: dict[str, tuple[object, ...]] = {
    "response_format": FORMATS,
    "limit": ("max_tokens", "max_completion_tokens", ""),
    "seed": ("seed", "random_seed", ""),
    "temperature": (True, False),
    "reasoning_effort": (True, False),
}
# the words by which refusals name what they refuse
NAMED: dict[str, tuple[str, ...]] = {
    "limit": ("max_tokens", "max_completion_tokens"),
    "temperature": ("temperature",),
    "seed": ("seed",),
    "reasoning_effort": ("reasoning_effort", "reasoning effort", "reasoning.effort"),
    "response_format": (
        "response_format", "response format", "json_schema", "json_object", "schema",
        "structured output", "guided", "grammar", "json mode",
    ),
}  # fmt: skip
MOST_TRIES = 9  # requests to find it out


@dataclass(frozen=True)
class Dialect:
    """The fields that a server takes; "" or False where it takes none of that kind.

    ``limit`` is what the longest reply is called. The format "words" is none: the prompt says it.
    """

    response_format: str = "json_schema"
    limit: str = "max_tokens"
    seed: str = "seed"
    temperature: bool = True
    reasoning_effort: bool = True

    def told(self, takes: Mapping[str, object]) -> "Dialect":
        """This, but for what is known. Raises ``ValueError`` naming what no server has."""
        for name, value in takes.items():
            if name not in CHOICES or not any(
                value == c and type(value) is type(c) for c in CHOICES[name]
            ):
                expected = "; ".join(
                    f"{n}: {', '.join(map(repr, choices))}" for n, choices in CHOICES.items()
                )
                raise ValueError(f"takes has {name}: {value!r}; expected some of {expected}")
        return replace(self, **takes)

    def __str__(self) -> str:
        formats = {"words": "the form in words"}
        fields = [formats.get(self.response_format, self.response_format), self.limit, self.seed]
        fields += [n for n in ("temperature", "reasoning_effort") if getattr(self, n)]
        return ", ".join(field for field in fields if field)


async def find_dialect(
    ask: Callable[[Dialect], Awaitable["Refusal | None"]],
    takes: Mapping[str, object],
    sent: Iterable[str],
) -> "Dialect | Refusal":
    """The best dialect that a server takes, by asking it; or why it refuses every one.

    ``ask`` sends a small request and returns the refusal, if it is one. What ``takes`` says is not
    tried otherwise, nor is a field that is not among those ``sent``.
    """
    dialect = Dialect().told(takes)
    open_fields = [n for n in NAMED if n not in takes and n in {*sent, "response_format"}]
    for _ in range(MOST_TRIES):
        refusal = await ask(dialect)
        if refusal is None or refusal.of_one_prompt:
            return dialect
        if not refusal.may_be_a_field:
            return refusal
        blamed = refused_field(refusal, dialect, open_fields)
        if blamed is None:
            return refusal
        dialect = replace(dialect, **{blamed: following(dialect, blamed)})
    return refusal


def refused_field(refusal: "Refusal", dialect: Dialect, open_fields: Iterable[str]) -> str | None:
    """The field that a refusal names, or else the one that servers lack most often; None where
    nothing is left to be tried.
    """
    left = [name for name in open_fields if following(dialect, name) is not None]
    words = refusal.words.lower()
    for name in left:
        if any(word in words for word in NAMED[name]):
            return name
    return next((n for n in ("response_format", *left) if n in left), None)


def following(dialect: Dialect, name: str) -> object | None:
    """The next best choice of a field; None after the last."""
    choices = CHOICES[name]
    place = choices.index(getattr(dialect, name)) + 1
    return choices[place] if place < len(choices) else None
