"""Figures of the notebooks: each takes data and returns a Figure or HTML.

Colours of charts can be told apart with any of the usual kinds of colour vision, and are dark
enough for lines on white. Each figure has a text that says in words what it shows.
"""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from lskd_nb.critic.filtering import Point
from lskd_nb.viewing.alt_text import describe as describe
from lskd_nb.viewing.alt_text import show_with_alt_text
from lskd_nb.viewing.result_table import COLUMNS as COLUMNS
from lskd_nb.viewing.result_table import PAPER as PAPER
from lskd_nb.viewing.result_table import result_table as result_table

STAGES = ("verbalization", "prompting", "critic", "filtering", "distillation", "evaluation")
INK, BLUE, ORANGE = "#2b2d42", "#0072b2", "#d55e00"
GREEN, PURPLE, GREY = "#00664a", "#aa3377", "#8a8a8a"
SYSTEM_COLORS = {"base": GREY, "unfiltered": ORANGE, "lskd": BLUE}
# of further systems, each with a dash of its own
OTHER_COLORS = ((GREEN, "--"), (PURPLE, "-."), (INK, ":"))


def style() -> None:
    """The quiet look that all figures share, with alt text in notebooks."""
    sns.set_theme(
        context="notebook",
        style="whitegrid",
        rc={
            "axes.edgecolor": "#c8ccd2",
            "axes.labelcolor": INK,
            "text.color": INK,
            "xtick.color": INK,
            "ytick.color": INK,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "grid.color": "#eceef1",
            "figure.dpi": 80,
            "savefig.dpi": 80,
            "figure.constrained_layout.use": True,
        },
    )
    show_with_alt_text()


def pipeline_strip(active: int) -> str:
    """The six stages as a strip of SVG with one lit (1 to 6; 0 lights all, 7 none)."""
    parts = []
    for number, name in enumerate(STAGES, 1):
        x, lit = (number - 1) * 122, active in (0, number)
        fill, ink = (BLUE, "#fff") if lit else ("#eef1f4", "#667")
        parts.append(
            f'<rect x="{x}" y="2" width="110" height="30" rx="6" fill="{fill}"/><text x="{x + 55}"'
            f' y="21" font-size="12" text-anchor="middle" fill="{ink}">{number} {name}</text>'
        )
        if number < len(STAGES):
            parts.append(
                f'<path d="M{x + 112} 17 h7 m-3 -3 l3 3 l-3 3" stroke="#889" fill="none"/>'
            )
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="The six stages,'
        f' {STAGES[active - 1] if 0 < active < 7 else "all"} lit" viewBox="0 0 724 34" width="724"'
        f' height="34" font-family="sans-serif">{"".join(parts)}</svg>'
    )


# ------------------------------------------------------------------------------------------- curves


def _percent(value: Mapping[str, float]) -> str:
    return f"{100 * value['mean']:.0f}% ({100 * value['low']:.0f} to {100 * value['high']:.0f})"


def error_bars(rates: Mapping[str, Mapping[str, float]]) -> Figure:
    """How often each verbalizer is wrong about what it speaks of."""
    flat = [
        (f"{verbalizer}: {name}", rate)
        for verbalizer, names in rates.items()
        for name, rate in names.items()
    ]
    figure, ax = plt.subplots(figsize=(6.4, 0.32 * len(flat) + 1.1))
    ax.barh([n for n, _ in flat][::-1], [100 * r for _, r in flat][::-1], color=BLUE)
    ax.set(
        xlabel="lines that are wrong (%)", xlim=(0, max([100 * r for _, r in flat] + [10]) * 1.15)
    )
    for place, (_, rate) in enumerate(flat[::-1]):
        ax.text(100 * rate + 0.4, place, f"{100 * rate:.0f}", va="center", fontsize=9)
    ax.grid(axis="y", visible=False)
    return describe(
        figure,
        "Bars: lines that are wrong, by verbalizer and what is spoken of. "
        + "; ".join(f"{n} {100 * r:.0f}%" for n, r in flat),
    )


def question_variety(triples: Sequence[Mapping]) -> Figure:
    """How often questions are worded alike, regions aside (of the family "id" where there is one),
    and how many regions a triple mentions.
    """
    frame = pd.DataFrame(triples, columns=["family", "question", "regions"])
    by_id = frame[frame.family == "id"]
    asked = (by_id if len(by_id) else frame).question.astype(str).str.lower()
    wordings = asked.str.replace(r"\[\d+\]", "…", regex=True).value_counts().head(10)
    mentioned = frame.regions.map(len).value_counts().sort_index()
    figure, axes = plt.subplots(1, 2, figsize=(9.5, 3.4), gridspec_kw=dict(width_ratios=(2, 1)))
    if len(frame):
        wordings[::-1].plot.barh(ax=axes[0], color=BLUE)
        mentioned.plot.bar(ax=axes[1], color=ORANGE, rot=0)
    axes[0].set(xlabel="triples", ylabel="")
    axes[1].set(xlabel="regions mentioned", ylabel="triples")
    often = "; ".join(f"“{text}” {number:,} times" for text, number in wordings.head(5).items())
    several = "; ".join(f"{number:,} mention {regions}" for regions, number in mentioned.items())
    return describe(
        figure,
        f"Bars, left: the {len(wordings)} most frequent questions, {often or 'none'}. Right:"
        f" triples by how many regions they mention, {several}",
    )


def precision_recall(accepted: np.ndarray, probability: np.ndarray) -> Figure:
    """The critic's precision against its recall; the share of accepts is what guessing gives."""
    from sklearn.metrics import auc, precision_recall_curve

    precision, recall, _ = precision_recall_curve(accepted, probability)
    figure, ax = plt.subplots(figsize=(4.6, 4))
    ax.plot(
        recall, precision, color=BLUE, lw=2, label=f"critic (area {auc(recall, precision):.2f})"
    )
    ax.axhline(
        np.mean(accepted), color=GREY, ls="--", lw=1.2, label=f"guessing ({np.mean(accepted):.2f})"
    )
    ax.set(
        xlabel="recall: accepted triples found",
        ylabel="precision: found triples accepted",
        xlim=(0, 1.01),
        ylim=(0, 1.02),
    )
    ax.legend(frameon=False, loc="lower left")
    at = ", ".join(
        f"{precision[np.flatnonzero(recall >= r)[-1]]:.2f} where {100 * r:.0f}% are found"
        for r in (0.1, 0.5, 0.9, 1.0)
    )
    return describe(
        figure,
        f"Curve: the critic's precision against its recall, {at}; area"
        f" {auc(recall, precision):.2f}. A dashed line at"
        f" {np.mean(accepted):.2f} is what guessing gives",
    )


def calibration(accepted: np.ndarray, probability: np.ndarray, bins: int = 8) -> Figure:
    """Share accepted against predicted probability, in bins of equally many triples."""
    from sklearn.calibration import calibration_curve

    true, predicted = calibration_curve(accepted, probability, n_bins=bins, strategy="quantile")
    figure, ax = plt.subplots(figsize=(4.6, 4))
    ax.plot([0, 1], [0, 1], color=GREY, ls="--", lw=1.2, label="perfectly calibrated")
    ax.plot(predicted, true, "o-", color=BLUE, lw=2, label="critic")
    ax.set(
        xlabel="predicted probability of accept",
        ylabel="share accepted by annotators",
        xlim=(0, 1),
        ylim=(0, 1),
    )
    ax.legend(frameon=False, loc="upper left")
    points = ", ".join(f"{t:.2f} at {p:.2f}" for p, t in zip(predicted, true, strict=True))
    return describe(
        figure,
        f"Curve: share accepted by annotators at the critic's predicted probability, {points}. The"
        " dashed diagonal is perfect calibration",
    )


def threshold_curves(
    by_share: Sequence[Point], by_threshold: Sequence[Point], chosen: float
) -> Figure:
    """Acceptability against the share kept, and against the threshold, with 95% intervals."""
    figure, axes = plt.subplots(1, 2, figsize=(9.2, 3.8), sharey=True)
    for ax, points, x in ((axes[0], by_share, "share"), (axes[1], by_threshold, "threshold")):
        shown = [p for p in points if p.kept]
        xs = [100 * p.share if x == "share" else p.threshold for p in shown]
        ax.plot(xs, [100 * p.mean for p in shown], "o-", color=BLUE, ms=4)
        ax.fill_between(
            xs,
            [100 * p.low for p in shown],
            [100 * p.high for p in shown],
            color=BLUE,
            alpha=0.18,
            lw=0,
        )
    axes[0].axvline(100 * chosen, color=ORANGE, ls="--", lw=1.4)
    axes[0].annotate(
        "kept",
        (100 * chosen, axes[0].get_ylim()[0]),
        textcoords="offset points",
        xytext=(5, 6),
        color=ORANGE,
    )
    axes[0].set(xlabel="share of triples kept (%)", ylabel="acceptable among the kept (%)")
    axes[1].set(xlabel="critic's probability at least")
    return describe(figure, _threshold_words(by_share, by_threshold, chosen))


def _threshold_words(
    by_share: Sequence[Point], by_threshold: Sequence[Point], chosen: float
) -> str:
    shares = sorted((p for p in by_share if p.kept), key=lambda p: p.share)
    thresholds = [p for p in by_threshold if p.kept]
    if not shares or not thresholds:
        return "Two empty panels: nothing is kept"
    near = min(shares, key=lambda p: abs(p.share - chosen))
    left = ", ".join(
        f"{100 * p.mean:.0f}% where {100 * p.share:.0f}% are kept"
        for p in dict.fromkeys((shares[0], near, shares[-1]))
    )
    right = ", ".join(
        f"{100 * p.mean:.0f}% from {p.threshold:.2f} on" for p in (thresholds[0], thresholds[-1])
    )
    return (
        "Two curves of what is acceptable among the kept, with 95% bands. Left, by the share kept:"
        f" {left}; a dashed line marks the chosen {100 * chosen:.0f}%."
        f" Right, by the critic's probability: {right}"
    )


def loss_curves(histories: Mapping[str, Sequence[Mapping[str, float]]], smooth: int = 15) -> Figure:
    """Losses by step of several trainings: one panel a loss, running means; a training may lack
    some of the losses, or have no step yet.
    """
    names = list(
        dict.fromkeys(
            k
            for lines in histories.values()
            for k in (lines[0] if lines else ())
            if k not in ("step", "seconds")
        )
    ) or [""]
    style()
    size = (3.3 * len(names), 3.1)
    figure, axes = plt.subplots(1, len(names), figsize=size, squeeze=False, layout="constrained")
    others = [s for s in histories if s not in SYSTEM_COLORS]
    looks = {s: (color, "-") for s, color in SYSTEM_COLORS.items()} | {
        s: OTHER_COLORS[n % len(OTHER_COLORS)] for n, s in enumerate(others)
    }
    told = []
    for ax, name in zip(axes[0], names, strict=True):
        for system, lines in histories.items():
            if not lines or name not in lines[0]:
                continue
            values = np.array([line[name] for line in lines])
            width = min(smooth, len(values))
            mean = np.convolve(values, np.ones(width) / width, mode="valid")
            ax.plot(
                np.arange(len(mean)) + width,
                mean,
                label=system,
                color=looks[system][0],
                ls=looks[system][1],
                lw=1.6,
            )
            told.append(
                f"{name} of {system} from {mean[0]:.2f} to {mean[-1]:.2f} at step {len(values)}"
            )
        told_as = name.replace("_", " ").removesuffix("loss").strip()
        ax.set(xlabel="step", ylabel=f"{told_as} loss".strip())
    if axes[0][0].lines:
        axes[0][0].legend(frameon=False, fontsize=9)
    return describe(
        figure, "Curves of the losses by step, running means: " + ("; ".join(told) or "none yet")
    )


def scaling_curve(
    points: Sequence[Mapping], base: Mapping[str, float] | None = None, source: str = ""
) -> Figure:
    """VCR Q→AR against the number of triples distilled, with 95% intervals; ``source`` is of whom
    the figures are, as a title.
    """
    figure, ax = plt.subplots(figsize=(5, 3.8))
    ax.set_title(source, fontsize=10)
    if not points:
        ax.set(xlabel="VCR: not evaluated", ylabel="VCR Q→AR (%)")
        return describe(figure, "An empty panel: no student was evaluated on VCR")
    xs, means = [p["triples"] for p in points], np.array([p["q_ar"]["mean"] for p in points]) * 100
    low, high = (np.array([p["q_ar"][end] for p in points]) * 100 for end in ("low", "high"))
    spread = [means - low, high - means]
    ax.errorbar(
        xs, means, yerr=spread, fmt="o-", color=BLUE, capsize=3, lw=2, label="student + LSKD"
    )
    if base:
        ax.axhline(100 * base["mean"], color=GREY, ls="--", label="base student")
    ax.set_xscale("log", base=2)
    ax.set_xticks(xs, [f"{x:,}" for x in xs])
    ax.minorticks_off()
    ax.set(xlabel="triples in the corpus", ylabel="VCR Q→AR (%)")
    ax.legend(frameon=False, loc="best")
    told = "; ".join(f"{_percent(p['q_ar'])} with {p['triples']:,} triples" for p in points)
    dashed = f". The base student, dashed: {100 * base['mean']:.0f}%" if base else ""
    return describe(
        figure,
        f"Curve{f', {source}' if source else ''}: VCR Q→AR by the number of triples distilled (95%"
        f" intervals in brackets), {told}{dashed}",
    )


def preference_bars(found: Mapping[str, Mapping]) -> Figure:
    """Win, tie and lose shares against other systems, 95% intervals (``preference.preference``)."""
    figure, ax = plt.subplots(figsize=(6.4, 1.9))
    for name, color in zip(("win", "tie", "lose"), (BLUE, GREY, ORANGE), strict=True):
        value = found.get(name, dict(mean=0.0, low=0.0, high=0.0))
        spread = [[100 * (value["mean"] - value["low"])], [100 * (value["high"] - value["mean"])]]
        ax.barh(name, 100 * value["mean"], xerr=spread, color=color, capsize=3)
    ax.invert_yaxis()
    alpha = found.get("alpha")
    ax.set(
        xlabel="of the judgements (%)",
        xlim=(0, 100),
        title=f"{found.get('pairs', 0)} pairs"
        + (f", alpha {alpha:.2f}" if alpha is not None else ""),
    )
    told = "; ".join(
        f"{name} {_percent(found[name])}" for name in ("win", "tie", "lose") if name in found
    )
    return describe(
        figure, f"Bars, {ax.get_title()}, 95% intervals in brackets: {told or 'no judgements'}"
    )


def accuracy_bars(metrics: Mapping, grounding: Mapping | None = None) -> Figure:
    """VCR's three accuracies by system, with intervals and the chance levels; and ``grounding``,
    half of which is chance. Where there is none of it the figure says so.
    """
    systems = [s for s in SYSTEM_COLORS if s in metrics]
    names = {s: {"lskd": "LSKD"}.get(s, s) for s in systems}
    groups = [  # name, chance in percent, figures by system
        (name, chance, {s: metrics[s][part] for s in systems})
        for part, name, chance in (("q_a", "Q→A", 25), ("qa_r", "QA→R", 25), ("q_ar", "Q→AR", 6.25))
        if systems
    ]
    missing = "" if systems else "VCR: not evaluated"
    if grounding:
        groups.append(("grounding", 50, {s: grounding[s] for s in systems if s in grounding}))
    elif systems:
        missing = "grounding: not measured"
    figure, ax = plt.subplots(figsize=(6.6, 3.8))
    for place, system in enumerate(systems):
        shown = [(x, of[system]) for x, (_, _, of) in enumerate(groups) if system in of]
        means = np.array([100 * v["mean"] for _, v in shown])
        ax.bar(
            [x + (place - (len(systems) - 1) / 2) * 0.26 for x, _ in shown],
            means,
            0.24,
            yerr=[
                means - [100 * v["low"] for _, v in shown],
                [100 * v["high"] for _, v in shown] - means,
            ],
            capsize=2.5,
            color=SYSTEM_COLORS[system],
            label=names[system],
        )
    for x, (_, chance, _) in enumerate(groups):
        ax.plot(
            [x - 0.42, x + 0.42],
            [chance, chance],
            color=INK,
            ls=":",
            lw=1.4,
            label="chance" if x == 0 else None,
        )
    ax.set_xticks(range(len(groups)), [name for name, _, _ in groups])
    ax.set(ylabel="accuracy (%)", ylim=(0, 100), xlabel=missing)
    if groups:
        ax.legend(frameon=False, ncols=4, loc="upper center", fontsize=9)
    ax.grid(axis="x", visible=False)
    told = [
        f"{name}: "
        + ", ".join(f"{names[s]} {_percent(v)}" for s, v in of.items())
        + f", chance {chance}%"
        for name, chance, of in groups
    ] + ([missing] if missing else [])
    return describe(
        figure, f"Bars: VCR's accuracies by student, 95% intervals in brackets. {'; '.join(told)}"
    )
