"""When labels are too few, or say too little, to trust what comes of them: the thresholds, and the
words that notebooks 03 and 04, ``lskd labels status``, ``lskd run`` and the cards have for it.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

from lskd_nb.critic.filtering import Point

FEW_LABELS = 300  # below, a critic learns little
POOR_AUC = 0.6  # below, its order of the triples is hardly better than chance's
FEW_MEASURED = 30  # labels below which a share is not told
TAIL = 0.025  # of each side of a 95% interval


def labels_warnings(accepted: Sequence[bool], learns: bool = True) -> list[str]:
    """What speaks against labels that say this; nothing where there is none. ``learns``: a critic
    is to learn from them, else they only measure one.
    """
    told, number = [], len(accepted)
    if 0 < number < FEW_LABELS:
        few = f"{_labels(number)} {'is' if number == 1 else 'are'} few: below {FEW_LABELS}"
        why = "a critic learns little, and " if learns else ""
        told.append(f"{few} {why}what is measured with {'some of ' * learns}them is hardly known")
    if number and len(set(map(bool, accepted))) == 1:
        why = "a critic learns nothing of the other kind, and " if learns else ""
        said = "accept" if accepted[0] else "reject"
        told.append(f"{_all_say(number, said)}: {why}AUC is not a number")
    return told


def critic_warnings(
    accepted: Sequence[bool], measured: Mapping, held_out: int, learns: bool = True
) -> list[str]:
    """All that notebook 03 warns of: labels that say this, and ``measured``, which has ``auc`` on
    so many held-out labels where there was anything to measure.
    """
    told = labels_warnings(accepted, learns)
    return told + (auc_warnings(measured["auc"], held_out) if "auc" in measured else [])


def auc_warnings(auc: float, held_out: int) -> list[str]:
    """What speaks against a critic of this AUC on so many held-out labels; NaN where they all say
    the same.
    """
    if math.isnan(auc):
        return [f"AUC is not a number: {_all_say(held_out, 'the same', ' held out')}"]
    if auc < POOR_AUC:
        return [
            f"AUC on {_labels(held_out)} held out is {auc:.2f}, below {POOR_AUC}: the critic orders"
            " triples hardly better than chance"
        ]
    return []


def measured_warnings(measured: Mapping[str, Mapping]) -> list[str]:
    """What is not known of shares that are measured on too few labels; ``measured`` has the ``n``
    of "raw" and of "kept", where there are any.
    """
    what = {"raw": "all triples", "kept": "what was kept"}
    numbers = {name: int(measured.get(name, {}).get("n", 0)) for name in what}
    return [
        f"how much of {what[name]} is acceptable can't be said: {_labels(number)} measured it,"
        f" and {FEW_MEASURED} are needed"
        for name, number in numbers.items()
        if number < FEW_MEASURED
    ]


def cautious(measured: Mapping[str, Mapping]) -> dict[str, dict]:
    """Shares with intervals (``mean``, ``low``, ``high``, ``n``, ``clusters``) as they may be told:
    those of fewer than FEW_MEASURED labels are left out, only their numbers stay.

    Where all labels say the same, resampling knows no interval; it is then the exact binomial one
    of as many images.
    """
    found = {}
    for name, told in measured.items():
        if told["n"] < FEW_MEASURED:
            found[name] = {k: v for k, v in told.items() if k in ("n", "clusters")}
            continue
        found[name] = dict(told)
        if told["mean"] in (0, 1):
            wide = 1 - TAIL ** (1 / told["clusters"])
            found[name] |= dict(high=wide) if told["mean"] == 0 else dict(low=1 - wide)
    return found


def told_points(points: Iterable[Point]) -> list[Point]:
    """The points of a curve that rest on enough labels to be shown."""
    return [point for point in points if point.kept >= FEW_MEASURED]


def run_warnings(metrics: Mapping) -> list[str]:
    """All that the notebooks of a run have warned of, as its metrics.json has it."""
    told = metrics.get("warnings", {})
    return [f"{number}: {line}" for number in sorted(told) for line in told[number]]


def _labels(number: int) -> str:
    return f"{number:,} label{'' if number == 1 else 's'}"


def _all_say(number: int, what: str, where: str = "") -> str:
    if number == 1:
        return f"the only label{where} says {what}"
    return f"all {number:,} labels{where} say {what}"
