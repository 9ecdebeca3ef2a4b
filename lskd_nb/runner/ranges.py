"""What a parameter may be, beyond its type: a rule by its name, for all notebooks.

A learning rate of NaN, no request at a time or a mode called "Batch" would fail hours into a run,
or not at all. A new parameter whose default is a number must have a rule: ``BY_NAME`` is the place
to add one, unless it ends as one of ``BY_ENDING``.
"""

import math
import re
from argparse import ArgumentTypeError
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lskd_nb.teacher.dialect import Dialect
from lskd_nb.teacher.prompts import SEES, sees_of
from lskd_nb.verbalization.images import SETS, sources_of


@dataclass(frozen=True)
class Rule:
    """``holds`` says whether a value of the right type is allowed, ``allowed`` what is."""

    allowed: str
    holds: Callable[..., bool]


def _one_of(*choices: str) -> Rule:
    return Rule(f"one of {', '.join(choices)}", lambda value: value in choices)


def _some_of(*choices: str, at_least: int = 1) -> Rule:
    return Rule(
        f"a list of some of {', '.join(choices)}, each once" + ("" if at_least else ", or []"),
        lambda values: (
            len(values) >= at_least
            and _are(values, str, lambda value: value in choices)
            and len(set(values)) == len(values)
        ),
    )


def _are(values: list, kind: type | tuple[type, ...], holds: Callable[..., bool]) -> bool:
    return all(isinstance(v, kind) and not isinstance(v, bool) and holds(v) for v in values)


def _accepted_by(check: Callable[..., object]) -> Callable[..., bool]:
    """Whether ``check`` raises nothing for a value."""

    def holds(value: object) -> bool:
        try:
            check(value)
        except (TypeError, ValueError):
            return False
        return True

    return holds


def _is_judge(value: Mapping) -> bool:
    texts = all(isinstance(value.get(name, ""), str) for name in ("model", "base_url"))
    known = value.keys() <= {"model", "base_url", "max_cost_usd"}
    return not value or (known and texts and bool(value.get("model")))


COUNT = Rule("1 or more", lambda value: value >= 1)
NOT_NEGATIVE = Rule("0 or more", lambda value: value >= 0)
ABOVE_0 = Rule("above 0", lambda value: value > 0)
SHARE = Rule("from 0 to 1", lambda value: 0 <= value <= 1)
KEPT = Rule("above 0 and no more than 1", lambda value: 0 < value <= 1)
PART = Rule("above 0 and below 1", lambda value: 0 < value < 1)
TEXTS = Rule("a list of texts", lambda values: _are(values, str, bool))
SHARES = Rule(
    "a list of shares above 0 and no more than 1, no two of the same percent",
    lambda values: (
        bool(values)
        and _are(values, (int, float), lambda value: 0 < value <= 1)
        and len({round(100 * value) for value in values}) == len(values)
    ),
)
TWO_COUNTS = Rule(
    "two numbers of 1 or more",
    lambda values: len(values) == 2 and _are(values, int, lambda value: value >= 1),
)
ADDRESS = Rule(
    "empty, or an address like http://host:8000/v1",
    lambda value: not value or re.match(r"https?://[^/\s]+", value) is not None,
)

# by name, or by number and name where notebooks mean different things by it
BY_NAME: Mapping[str, Rule] = {
    "accumulation": COUNT,
    "base_share": SHARE,
    "base_url": ADDRESS,
    "baselines": TEXTS,
    "batch": COUNT,
    "beta2": PART,
    "clip_norm": NOT_NEGATIVE,
    "concurrency": COUNT,
    "drawn_at_most": NOT_NEGATIVE,
    "embedding_lr": ABOVE_0,
    "03.embedding_lr": NOT_NEGATIVE,  # 0: frozen, as published
    "exchanges": SHARE,
    "families": _some_of("id", "description", "words"),
    "head_hidden": NOT_NEGATIVE,
    "held_out": PART,
    "01b.held_out": COUNT,
    "08.held_out": NOT_NEGATIVE,
    "itc": NOT_NEGATIVE,
    "judge": Rule("{}, or {model, base_url, max_cost_usd}", _is_judge),
    "keep": KEPT,
    "labels": COUNT,
    "limit": NOT_NEGATIVE,
    "lm": NOT_NEGATIVE,
    "lm_conditioned": NOT_NEGATIVE,
    "lora_rank": NOT_NEGATIVE,
    "lr": ABOVE_0,
    "max_tokens": NOT_NEGATIVE,
    "max_regions": COUNT,
    "min_lr": NOT_NEGATIVE,
    "near_misses": SHARE,
    "noise": SHARE,
    "offers": _some_of("all", "any", "people"),
    "processes": NOT_NEGATIVE,
    "questions": NOT_NEGATIVE,
    "08.questions": COUNT,
    "ranked_units": NOT_NEGATIVE,
    "scene": NOT_NEGATIVE,
    "seed": NOT_NEGATIVE,
    "shares": SHARES,
    "shuffles": NOT_NEGATIVE,
    "sources": Rule(
        f"{{}}, or paths of some of {', '.join(SETS)}; {{annotations: path, images: folder}} in"
        " place of one where the pictures lie elsewhere",
        _accepted_by(lambda value: sources_of(value, ".")),
    ),
    "steps": COUNT,
    "studies": _some_of("sizes", "lm", "thresholds", "truth", "plain_base", at_least=0),
    "swaps": SHARE,
    "takes": Rule("{}, or what teacher/dialect.py has", _accepted_by(Dialect().told)),
    "threads": NOT_NEGATIVE,
    "temperature": Rule("from 0 to 2", lambda value: 0 <= value <= 2),
    "threshold_shares": SHARES,
    "triples": COUNT,
    "views": NOT_NEGATIVE,
    "warmup": NOT_NEGATIVE,
    "workers": NOT_NEGATIVE,
    "world": TWO_COUNTS,
    "mode": _one_of("async", "batch"),
    "image_bound": Rule("64 or more", lambda value: value >= 64),
    "teacher_sees": Rule(f"some of {', '.join(SEES)}, with commas between", _accepted_by(sees_of)),
    "engine": _one_of("local", "gpus", "ray"),
    "backend": _one_of("hf", "lavis"),
    "view": _one_of("highlight", "crop"),
}
# of names that are not above: generous, as they are meant for what is not there yet
BY_ENDING: Mapping[str, Rule] = {
    "_every": COUNT,
    "_limit": NOT_NEGATIVE,
    "_lr": ABOVE_0,
    "_rank": NOT_NEGATIVE,
    "_requests": NOT_NEGATIVE,
    "_share": SHARE,
    "_size": NOT_NEGATIVE,
    "_steps": NOT_NEGATIVE,
    "_tokens": NOT_NEGATIVE,
    "_usd": NOT_NEGATIVE,
}


def rule_of(number: str, name: str) -> Rule | None:
    """The rule for a parameter of the notebook with that number; None where there is none."""
    for known in (f"{number}.{name}", name):
        if known in BY_NAME:
            return BY_NAME[known]
    return next((rule for end, rule in BY_ENDING.items() if name.endswith(end)), None)


def what_is_allowed(number: str, name: str, value: object) -> str | None:
    """What the parameter may be, where ``value`` (of the right type) is not that; else None."""
    if not _finite(value):
        return "finite"
    rule = rule_of(number, name)
    return None if rule is None or rule.holds(value) else rule.allowed


def _finite(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, Mapping):
        return all(map(_finite, value.values()))
    return not isinstance(value, list) or all(map(_finite, value))


# ------------------------------------------------------------------------------ numbers of commands


def seconds(text: str) -> float:
    """A time limit. Raises ``ArgumentTypeError``."""
    if not 0 < (found := float(text)) < math.inf:
        raise ArgumentTypeError(f"{text} is no time, expected seconds above 0")
    return found


def count(text: str) -> int:
    """At least one. Raises ``ArgumentTypeError``."""
    if (found := int(text)) < 1:
        raise ArgumentTypeError(f"{text} is none, expected 1 or more")
    return found
