"""A corpus report in one figure: what the filter prefers, sizes of regions, words about people."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lskd_nb.viewing.alt_text import describe
from lskd_nb.viewing.plots import BLUE, GREY, ORANGE


def report_figure(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Question types and person attributes, raw beside kept with 95% intervals, around the sizes
    of mentioned regions; ``tables`` are ``report_tables``.
    """
    figure, (asked, sizes, people) = plt.subplots(
        1, 3, figsize=(12.5, 3.8), gridspec_kw=dict(width_ratios=(1, 1.1, 1))
    )
    said = tables["attributes"]
    if len(said):  # an empty corpus has not even the columns
        said = said[said["raw_mean"] + said["kept_mean"] > 0]
    words = [
        _raw_and_kept(asked, tables["question_types"], "questions that begin with"),
        _sizes(sizes, tables["region_sizes"]),
        _raw_and_kept(people, said, "words about people"),
    ]
    if asked.get_legend_handles_labels()[0]:
        asked.legend(frameon=False, loc="best", fontsize=9)
    return describe(figure, " ".join(words))


def _raw_and_kept(ax: plt.Axes, table: pd.DataFrame, title: str) -> str:
    """Two marks with intervals for each row; returns what is to be seen, in words."""
    if table.empty:
        ax.set(xlabel="of the triples (%)", xlim=(0, None), yticks=[])
        ax.set_title(title, fontsize=11, loc="left")
        return f"{title.capitalize()}: none."
    shown = table.iloc[:8][::-1]
    places = np.arange(len(shown))
    for part, shift, color, mark in (("raw", 0.14, GREY, "s"), ("kept", -0.14, BLUE, "o")):
        means, low, high = (
            100 * shown[f"{part}_{name}"].to_numpy(dtype=float) for name in ("mean", "low", "high")
        )
        ax.errorbar(
            means,
            places + shift,
            xerr=[np.maximum(means - low, 0), np.maximum(high - means, 0)],
            fmt=mark,
            color=color,
            capsize=3,
            label=part,
        )
    ax.set_yticks(places, [str(name).replace("_", " ") for name in shown.index])
    ax.set(xlabel="of the triples (%)", xlim=(0, None), ylim=(-0.6, len(shown) - 0.4))
    ax.set_title(title, fontsize=11, loc="left")
    told = ", ".join(
        f"{name} {100 * row.raw_mean:.0f}% raw and {100 * row.kept_mean:.0f}% kept"
        for name, row in table.iloc[:8].iterrows()
    )
    return f"{title.capitalize()}: {told or 'none'}."


def _sizes(ax: plt.Axes, table: pd.DataFrame) -> str:
    """How many mentioned regions there are of each size; returns that in words."""
    ax.set_title("regions pointed at", fontsize=11, loc="left")
    ax.set(xlabel="share of the image, up to (%)", ylabel="mentioned regions")
    if table.empty:
        return "The sizes of regions are not known."
    ax.bar(range(len(table)), table["count"], color=ORANGE, width=0.8)
    ax.set_xticks(range(len(table)), [f"{100 * upper:g}" for upper in table["up_to"]], fontsize=9)
    ax.grid(axis="x", visible=False)
    largest = table.loc[table["count"].idxmax()]
    return (
        f"Of the regions pointed at, most cover up to {100 * largest['up_to']:g}% of their"
        f" image ({int(largest['count'])} of {int(table['count'].sum())})."
    )
