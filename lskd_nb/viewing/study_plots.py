"""Figures of what the filter is worth: to the corpus, and to the students that learn from it.

Each takes figures as ``evaluation.studies`` and ``critic.filtering`` have them, and says in words
what it shows. ``source`` is of whom the figures are, as a title.
"""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lskd_nb.critic.filtering import Point
from lskd_nb.viewing.alt_text import describe
from lskd_nb.viewing.plots import BLUE, GREEN, GREY, INK, PURPLE, SYSTEM_COLORS

Interval = Mapping[str, float]
COLORS = SYSTEM_COLORS | {"truth": GREEN, "plain": INK, "plain_lskd": PURPLE}
NAMES = {
    "lskd": "LSKD",
    "truth": "perfect critic",
    "plain": "plain base",
    "plain_lskd": "plain base + LSKD",
}
PARTS = {"q_a": ("Q→A", 25), "qa_r": ("QA→R", 25), "q_ar": ("Q→AR", 6.25)}
PARTS |= {"grounding": ("grounding", 50)}


def rank_bars(points: Sequence[Point]) -> Figure:
    """How much is acceptable in each part of the critic's ranking, the best on the left."""
    figure, ax = plt.subplots(figsize=(6.4, 3.2))
    names = [f"{n}" for n in range(1, len(points) + 1)]
    values = [dict(mean=p.mean, low=p.low, high=p.high) for p in points]
    _bars(ax, range(len(points)), values, [BLUE] * len(points), 0.8)
    ax.set_xticks(range(len(points)), names)
    ax.set(xlabel="tenth of the ranking, the best first", ylabel="acceptable (%)", ylim=(0, 100))
    told = "; ".join(f"{n} {_percent(v)}" for n, v in zip(names, values, strict=True))
    return describe(
        figure,
        "Bars: how much is acceptable in each tenth of the critic's ranking, the best first, 95%"
        f" intervals in brackets. {told or 'No triples to measure with'}",
    )


def filter_curves(
    thresholds: Sequence[Mapping] | None,
    ceiling: Mapping | None,
    base: Interval | None = None,
    sources: Sequence[str] = (),
) -> Figure:
    """Students of as many triples each: left by the share of the ranking that these were drawn
    from, right unfiltered, filtered by the critic, and by the truth. Either may be missing.
    """
    panels = [name for name, has in (("thresholds", thresholds), ("ceiling", ceiling)) if has]
    size = (4.6 * max(len(panels), 1), 3.8)
    figure, axes = plt.subplots(1, max(len(panels), 1), figsize=size, squeeze=False, sharey=True)
    told = []
    for ax, panel, source in zip(axes[0], panels, [*sources, "", ""], strict=False):
        if panel == "thresholds":
            told.append(_by_share(ax, thresholds))
        else:
            told.append(_by_critic(ax, ceiling))
        if base:
            ax.axhline(100 * base["mean"], color=GREY, ls="--", lw=1.2, label="base student")
            ax.legend(frameon=False, loc="best", fontsize=9)
        ax.set_title(source, fontsize=10)
    axes[0][0].set_ylabel("VCR Q→AR (%)")
    if not told:
        axes[0][0].set_xlabel("no such student was trained")
        return describe(figure, "An empty panel: no student for it was trained")
    if base:
        told.append(f"The base student, dashed: {100 * base['mean']:.0f}%")
    said = ". ".join(source for source in dict.fromkeys(sources) if source)
    start = f"VCR Q→AR{f', {said}' if said else ''}, 95% intervals in brackets. "
    return describe(figure, start + ". ".join(told))


def _by_share(ax: Axes, points: Sequence[Mapping]) -> str:
    xs = np.arange(len(points))
    means, spread = _means([p["q_ar"] for p in points])
    ax.errorbar(xs, means, yerr=spread, fmt="o-", color=BLUE, capsize=3, lw=2)
    ax.set_xticks(xs, [_share(p) for p in points])
    ax.set_xlim(-0.4, len(points) - 0.6)
    number = points[0]["triples"]
    ax.set(xlabel=f"best part of the ranking, {number:,} triples each")
    told = "; ".join(f"{_percent(p['q_ar'])} from {_words(p)}" for p in points)
    return f"Curve by how strict the filter is, {number:,} triples for each student: {told}"


def _share(point: Mapping) -> str:
    return "all" if point["share"] == 1 else f"{100 * point['share']:g}%"


def _words(point: Mapping) -> str:
    return "all" if point["share"] == 1 else f"the best {_share(point)}"


def _by_critic(ax: Axes, ceiling: Mapping) -> str:
    of = ceiling["q_ar"]
    names = [NAMES.get(s, s) for s in of]
    _bars(ax, range(len(of)), list(of.values()), [COLORS[s] for s in of], 0.6)
    ax.set_xticks(range(len(of)), names)
    ax.set(xlabel=f"{ceiling['triples']:,} triples each")
    ax.grid(axis="x", visible=False)
    told = "; ".join(f"{n} {_percent(v)}" for n, v in zip(names, of.values(), strict=True))
    return f"Bars by who chose the triples, {ceiling['triples']:,} for each student: {told}"


def base_bars(found: Mapping, source: str = "") -> Figure:
    """VCR and grounding of two bases and of their LSKD students, with the chance levels."""
    systems = [s for s in ("base", "lskd", "plain", "plain_lskd") if s in found]
    parts = [part for part in PARTS if all(part in found[s] for s in systems)]
    figure, ax = plt.subplots(figsize=(7.2, 3.8))
    for place, system in enumerate(systems):
        xs = np.arange(len(parts)) + (place - (len(systems) - 1) / 2) * 0.2
        values = [found[system][part] for part in parts]
        bars = _bars(ax, xs, values, COLORS[system], 0.18)
        bars.set_label(NAMES.get(system, system))
    for x, part in enumerate(parts):
        label = None if x else "chance"
        ax.plot([x - 0.42, x + 0.42], [PARTS[part][1]] * 2, color=INK, ls=":", lw=1.4, label=label)
    ax.set_xticks(range(len(parts)), [PARTS[part][0] for part in parts])
    ax.set(ylabel="accuracy (%)", ylim=(0, 100))
    ax.set_title(source, fontsize=10)
    ax.legend(frameon=False, ncols=5, loc="upper center", fontsize=9)
    ax.grid(axis="x", visible=False)
    told = "; ".join(
        f"{PARTS[part][0]}: "
        + ", ".join(f"{NAMES.get(s, s)} {_percent(found[s][part])}" for s in systems)
        + f", chance {PARTS[part][1]:g}%"
        for part in parts
    )
    start = f"Bars{f', {source}' if source else ''}, 95% intervals in brackets. "
    return describe(figure, start + told)


def typical_bars(found: Mapping[str, Interval]) -> Figure:
    """How often each system takes the teacher's typical answer for the right one; half is what
    knows neither.
    """
    order = ("base", "unfiltered", "lskd", "truth")
    systems = [s for s in order if s in found]
    names = [NAMES.get(s, s) for s in systems]
    figure, ax = plt.subplots(figsize=(4.6, 3.4))
    if not systems:
        ax.set(xlabel="not measured", ylabel="takes the typical answer (%)")
        return describe(figure, "An empty panel: typical answers were not measured")
    _bars(ax, range(len(systems)), [found[s] for s in systems], [COLORS[s] for s in systems], 0.6)
    ax.axhline(50, color=INK, ls=":", lw=1.4, label="a coin")
    ax.set_xticks(range(len(systems)), names)
    ax.set(ylabel="takes the typical answer (%)", ylim=(0, 100))
    ax.grid(axis="x", visible=False)
    ax.legend(frameon=False, loc="best", fontsize=9)
    told = "; ".join(f"{n} {_percent(found[s])}" for n, s in zip(names, systems, strict=True))
    return describe(
        figure,
        "Bars: how often the typical answer is preferred to the right one, 95% intervals in"
        f" brackets. {told}; a coin 50%",
    )


def _bars(ax: Axes, xs: Sequence[float], values: Sequence[Interval], color: object, width: float):
    means, spread = _means(values)
    return ax.bar(list(xs), means, width, yerr=spread, capsize=2.5, color=color, ecolor="#444")


def _means(values: Sequence[Interval]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Means in percent, and how far the interval reaches below and above."""
    means, low, high = (
        100 * np.array([v[end] for v in values], float) for end in ("mean", "low", "high")
    )
    return means, [means - low, high - means]


def _percent(value: Interval) -> str:
    return f"{100 * value['mean']:.0f}% ({100 * value['low']:.0f} to {100 * value['high']:.0f})"
