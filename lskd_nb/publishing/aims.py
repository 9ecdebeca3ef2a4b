"""What the mini world was built to show, and whether it does: each aim beside what was measured.

Of an aim it is said that it was reached, that it was not, or that nobody measured it: whoever
writes the sentence by hand is tempted to leave one of these out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lskd_nb.publishing.renderings import look_up

TASKS = {  # not about regions: what is not trained on is to be kept
    "A-OKVQA": "aokvqa",
    "SNLI-VE": "snli_ve",
    "SNLI-VE, fitted thresholds": "snli_ve_fitted",
    "Visual7W": "visual7w",
}
WHY = {  # what is known of an aim that was missed
    "SNLI-VE": (
        "The answers *entailment*, *neutral* and *contradiction* are words that no text of the"
        " mini world has."
    ),
    "Visual7W": "What is not trained on is not quite kept.",
    "clock": (
        "Reader, critic and student are trained one after the other, each in one thread: a second"
        " thread makes a step a quarter faster, and costs a quarter more of the processor."
    ),
}


@dataclass(frozen=True)
class Aim:
    """What the mini world was built to show, beside what was measured."""

    what: str
    measured: str
    aim: str
    reached: bool | None  # None: not measured
    why: str = ""

    def __str__(self) -> str:
        if self.reached is None:
            return f"{self.what}: not measured ({self.aim} is aimed at)"
        if self.reached:
            return f"{self.what} {self.measured} ({self.aim} was aimed at)"
        return f"{self.what} {self.measured}, where {self.aim} was aimed at"


# --------------------------------------------------------------------------------- figures as text


def mean_of(value: object) -> float | None:
    """Of a figure with its interval, or a plain number; None where nothing was measured."""
    if isinstance(value, Mapping):
        value = value.get("mean")
    return float(value) if isinstance(value, (int, float)) else None


def percent(value: object) -> str:
    """In per cent, with the interval in brackets where there is one."""
    if (mean := mean_of(value)) is None:
        return "not measured"
    interval = ""
    if isinstance(value, Mapping) and {"low", "high"} <= value.keys():
        interval = f" [{100 * value['low']:.1f}, {100 * value['high']:.1f}]"
    return f"{100 * mean:.1f}{interval}"


def chance(value: object) -> int | None:
    """1 for a difference whose interval is above 0, -1 below, 0 where 0 is within. A number
    without an interval is taken at its word.
    """
    if (mean := mean_of(value)) is None:
        return None
    low, high = (
        (value.get("low", mean), value.get("high", mean))
        if isinstance(value, Mapping)
        else (mean, mean)
    )
    return (low > 0) - (high < 0)


def duration(seconds: float) -> str:
    """As people say it: 47 s, 9 min 50 s."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def listed(names: Sequence[str]) -> str:
    """Names as people list them: a, b and c."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def processor(model: str | None, cores: int | None, avx512: bool | None) -> str:
    """A processor in words; what was not recorded is said."""
    if not model:
        return "a processor that was not recorded"
    shown = f"{cores} core{'s' if cores != 1 else ''} of {model}" if cores else model
    has = {True: "with AVX-512", False: "without AVX-512", None: "AVX-512 not recorded"}[avx512]
    return f"{shown}, {has}"


# --------------------------------------------------------------------------------------- the aims


def by_seed(metrics: Mapping) -> dict[str, Mapping]:
    """Each seed's own figures, as far as they are recorded: in a list, or by the seed."""
    told = metrics.get("by_seed") or {}
    if isinstance(told, Mapping):
        return {str(seed): figures for seed, figures in told.items()}
    return {str(figures.get("seed", n)): figures for n, figures in enumerate(told)}


def processor_seconds(metrics: Mapping) -> float | None:
    """Of the whole run; None unless they are known of every notebook that ran."""
    used = metrics.get("cpu_seconds") or {}
    if not used or metrics.get("seconds", {}).keys() - used.keys():
        return None
    return sum(used.values())


def seed_leads(metrics: Mapping, other: str = "unfiltered") -> dict[str, object]:
    """LSKD's lead in Q→AR in each seed's own run, as far as it is recorded."""
    found = {}
    for seed, told in by_seed(metrics).items():
        for path in ("difference.q_ar", "difference.vcr.q_ar"):
            if (value := look_up(told, f"{path}.lskd_minus_{other}")) is not None:
                found[seed] = value
    return found


def _at_least(what: str, value: object, least: float) -> Aim:
    mean = mean_of(value)
    reached = None if mean is None else 100 * mean >= least
    return Aim(what, percent(value), f"{least:g}", reached)


def _each_seed(metrics: Mapping) -> Aim:
    leads = seed_leads(metrics)
    short = [seed for seed, lead in leads.items() if chance(lead) != 1]
    shown = listed([percent(lead) for lead in leads.values()])
    if short:
        shown += f" (seed {listed(short)}: not above chance)"
    whole = leads and len(leads) >= max(len(by_seed(metrics)), len(metrics.get("seeds", ())))
    what, reached = "The same in each seed's own run", not short if whole else None
    return Aim(what, shown, "above 0 in every seed", reached)


def _not_lost(metrics: Mapping, name: str, task: str) -> Aim:
    lskd, base = (look_up(metrics, f"nonlocalized.{task}.{s}") for s in ("lskd", "base"))
    means = mean_of(lskd), mean_of(base)
    reached = None if None in means else round(100 * (means[1] - means[0]), 6) <= 1
    shown = f"{percent(lskd)} after the base's {percent(base)}"
    return Aim(name, shown, "at most 1 point of loss", reached, WHY.get(name, ""))


def aims(metrics: Mapping) -> dict[str, Aim]:
    """All that the mini world is to show, by a short name, in the order in which it is told."""
    minus = "difference.vcr.q_ar.lskd_minus_{}"
    raw = look_up(metrics, "acceptability.raw")
    auc = mean_of(look_up(metrics, "critic.auc_truth"))
    spent, clock = processor_seconds(metrics), sum(metrics.get("seconds", {}).values())
    return {
        "base": _at_least("LSKD minus base in Q→AR", look_up(metrics, minus.format("base")), 25),
        "unfiltered": _at_least(
            "LSKD minus unfiltered in Q→AR", look_up(metrics, minus.format("unfiltered")), 8
        ),
        "seeds": _each_seed(metrics),
        "pointing": _at_least("Grounding accuracy", look_up(metrics, "grounding.lskd"), 85),
        "raw": Aim(
            "Acceptable of the raw triples",
            percent(raw),
            "40 to 60",
            None if mean_of(raw) is None else 0.4 <= mean_of(raw) <= 0.6,
        ),
        "kept": _at_least("Acceptable of those kept", look_up(metrics, "acceptability.kept"), 88),
        "critic": Aim(
            "Critic AUC, against the truth",
            f"{auc or 0:.3f}",
            "0.88",
            None if auc is None else auc >= 0.88,
        ),
        **{task: _not_lost(metrics, name, task) for name, task in TASKS.items()},
        "time": Aim(
            "Processor time of `make mini`",
            duration(spent or 0),
            "at most 10 minutes",
            None if spent is None else spent <= 600,
        ),
        "clock": Aim(
            "Its time by the clock",
            duration(clock),
            "at most 6 minutes",
            clock <= 360 if clock else None,
            WHY["clock"],
        ),
    }
