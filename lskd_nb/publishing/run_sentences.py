"""What a run's figures say, in tables and sentences made of its ``metrics.json``.

A sentence that somebody wrote beside a table stays when the table changes; these can't.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from lskd_nb.publishing.aims import (
    aims,
    by_seed,
    chance,
    duration,
    listed,
    mean_of,
    percent,
    processor,
    processor_seconds,
    seed_leads,
)
from lskd_nb.publishing.renderings import PLOT, look_up
from lskd_nb.viewing import plots
from lskd_nb.viewing.alt_text import alt_of
from lskd_nb.viewing.result_table import COLUMNS, FITTED, PAPER

SYSTEMS = {
    "clip": "mini CLIP (a verbalizer)",
    "base": "mini BLIP-2",
    "unfiltered": "mini + unfiltered triples, same number",
    "lskd": "**mini + LSKD**",
}
GROUNDING = {"grounding accuracy": "grounding.{}"}


# ---------------------------------------------------------------------------- tables and sentences


def result_table(
    metrics: Mapping, systems: Sequence[str], papers: Sequence[str], full: bool
) -> str:
    """The run's figures above the paper's, as Markdown; ``full``: all six benchmarks."""
    vcr = list(COLUMNS)[:3]
    columns = {name: COLUMNS[name] for name in vcr} | GROUNDING
    if full:
        at = list(COLUMNS).index("SNLI-VE") + 1
        columns |= {name: COLUMNS[name] for name in list(COLUMNS)[3:at]}
        columns |= FITTED | {name: COLUMNS[name] for name in list(COLUMNS)[at:]}
    lines = [f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for system in systems:
        cells = [percent(look_up(metrics, place.format(system))) for place in columns.values()]
        lines.append(f"| {SYSTEMS[system]} | {' | '.join(cells)} |")
    for name in papers:
        paper = dict(zip(COLUMNS, map(str, PAPER[name]), strict=True))
        cells = [paper.get(column, "") for column in columns]
        lines.append(f"| paper: {name} | " + "".join(f"{c} | " if c else "| " for c in cells))
    return "\n".join(line.rstrip() for line in lines)


def what_was_asked(metrics: Mapping) -> str:
    """How many questions about how many images, and over how many seeds they are pooled."""
    told = look_up(metrics, "vcr.lskd.q_ar") or {}
    seeds = len(metrics.get("seeds", (0,)))
    return (
        f"{told.get('n', 0) // seeds:,} VCR-format questions about {told.get('clusters', 0):,}"
        f" held-out images, {seeds} seed{'s' if seeds != 1 else ''} of critic and students pooled,"
        " in brackets 95% bootstrap intervals over images"
    )


def scaling_plot(metrics: Mapping, up: str = "") -> str:
    """The picture of Q→AR by the size of the corpus, with its words; ``up`` leads to the root."""
    import matplotlib.pyplot as plt

    drawn = plots.scaling_curve(metrics["scaling"], look_up(metrics, "vcr.base.q_ar"))
    words = alt_of(drawn)
    plt.close(drawn)
    return f"![{words}]({up}outputs/mini/{PLOT})"


def by_size(metrics: Mapping) -> str:
    points = [f"{p['triples']:,} triples {percent(p['q_ar'])}" for p in metrics.get("scaling", ())]
    return "Q→AR by size of the corpus: " + ("; ".join(points) or "not measured")


def differences(metrics: Mapping) -> str:
    """LSKD's leads in Q→AR with their aims, pooled and seed by seed."""
    told = aims(metrics)
    base, unfiltered = (str(told[n]).replace(" in Q→AR", "") for n in ("base", "unfiltered"))
    found = f"Paired differences in Q→AR: {base}; {unfiltered}."
    if told["seeds"].reached is None:
        return f"{found} Seed by seed they were not recorded."
    leads = seed_leads(metrics)
    short = [seed for seed, lead in leads.items() if chance(lead) != 1]
    where = "in every seed" if not short else f"not in every seed (not in {listed(short)})"
    means = listed([percent(mean_of(lead)) for lead in leads.values()])
    return f"{found} The latter is above 0 {where}: {means}."


def beside_unfiltered(metrics: Mapping, figures: bool) -> str:
    """Where else filtering makes a difference, and where none is seen; with ``figures`` or not."""
    places = {"Q→A": "vcr.q_a", "QA→R": "vcr.qa_r", "grounding accuracy": "grounding"}
    sides: dict[int, list[str]] = {1: [], -1: [], 0: []}
    for name, place in places.items():
        value = look_up(metrics, f"difference.{place}.lskd_minus_unfiltered")
        if (side := chance(value)) is not None:
            sides[side].append(f"{name} ({percent(value)})" if figures else name)
    words = {1: "ahead", -1: "behind", 0: "not different beyond chance"}
    clauses = [f"{words[side]} in {listed(names)}" for side, names in sides.items() if names]
    return f"Beside unfiltered triples, LSKD is {', '.join(clauses)}." if clauses else ""


def steps(metrics: Mapping) -> str:
    """What each stage gives, as a list."""
    told = aims(metrics)
    raw, kept = (look_up(metrics, f"acceptability.{name}") for name in ("raw", "kept"))
    if isinstance(raw, Mapping) and isinstance(kept, Mapping) and raw.get("n"):
        share = f"Acceptable of the {100 * kept.get('n', 0) / raw['n']:.0f}% kept"
        told["kept"] = replace(told["kept"], what=share)
    critic = [str(told["critic"])]
    for name in ("precision", "recall"):
        if (value := look_up(metrics, f"critic.{name}")) is not None:
            critic.append(f"{name} {value:.2f}")
    lines = [
        differences(metrics),
        beside_unfiltered(metrics, figures=True),
        f"{told['raw']}; the paper's: 45.",
        f"{told['kept']}; the paper's: about 70.",
        f"{', '.join(critic)}: on held-out labels, some of them wrong on purpose.",
        f"{by_size(metrics)}.",
    ]
    return "\n".join(f"- {line}" for line in lines if line)


def how_many_reached(metrics: Mapping) -> str:
    """One sentence about all aims; the page of results has them one by one."""
    told = [aim.reached for aim in aims(metrics).values()]
    unknown = f", {n} not measured" if (n := told.count(None)) else ""
    return f"Of {len(told)} aims, {told.count(True)} are reached{unknown}."


def what_falls_short(metrics: Mapping) -> str:
    """The aims that were missed, then the others, and what had no aim but is near chance."""
    told = list(aims(metrics).values())
    missed = [
        f"- {str(aim).replace(aim.what, f'**{aim.what}**', 1)}. {aim.why}".rstrip()
        for aim in told
        if aim.reached is False
    ]
    paragraphs = ["\n".join(missed) or "Nothing that was measured falls short of its aim."]
    if reached := [str(aim) for aim in told if aim.reached]:
        paragraphs.append(f"Reached: {'; '.join(reached)}.")
    if unknown := [str(aim) for aim in told if aim.reached is None]:
        paragraphs.append(f"{'; '.join(unknown)}.")
    base, lskd = (look_up(metrics, f"visualcomet.{s}") for s in ("base", "lskd"))
    if mean_of(lskd) is not None:
        paragraphs.append(
            "No aim was set for VisualCOMET, whose wording no student has been taught: base"
            f" {percent(base)}, LSKD {percent(lskd)}; guessing among 50 candidates gives 2."
        )
    return "\n\n".join(paragraphs)


def seed_table(metrics: Mapping) -> str:
    """What each seed's own run shows, a row each."""
    if not (seeds := by_seed(metrics)):
        return "What each seed's own run shows was not recorded."
    places = {
        "Q→AR": "vcr.lskd.q_ar",
        "grounding accuracy": "grounding.lskd",
        "acceptable, raw": "acceptability.raw",
        "acceptable, kept": "acceptability.kept",
    }
    over = {other: seed_leads(metrics, other) for other in ("base", "unfiltered")}
    head = ("seed", *places, "Q→AR by size", *(f"LSKD minus {o} in Q→AR" for o in over))
    lines = [f"| {' | '.join((*head, 'critic AUC'))} |", "|---" * (len(head) + 1) + "|"]
    for seed, told in seeds.items():
        sizes = [percent(mean_of(point.get("q_ar"))) for point in told.get("scaling", ())]
        auc = mean_of(look_up(told, "critic.auc_truth"))
        cells = [
            seed,
            *(percent(look_up(told, place)) for place in places.values()),
            " → ".join(sizes) or "not measured",
            *(percent(leads.get(seed)) for leads in over.values()),
            "not measured" if auc is None else f"{auc:.3f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


# ------------------------------------------------------------------------------------------ time


def _where(metrics: Mapping) -> str:
    cpu = metrics.get("cpu") or {}
    return processor(cpu.get("model"), cpu.get("cores"), cpu.get("avx512"))


def took(metrics: Mapping) -> str:
    """What one run takes of a processor, or of the clock where only that was recorded."""
    clock, spent = sum(metrics.get("seconds", {}).values()), processor_seconds(metrics)
    if spent is None:
        return f"The last `make mini` took {duration(clock)} of the clock, on {_where(metrics)}."
    aim = aims(metrics)["time"]
    beside = f"({aim.aim})" if aim.reached else f"(aimed at: {aim.aim})"
    return (
        f"The last `make mini` took {duration(spent)} of processor time {beside} and"
        f" {duration(clock)} of the clock, on {_where(metrics)}."
    )


def took_by_notebook(metrics: Mapping) -> str:
    """The same, a notebook at a time."""
    known = processor_seconds(metrics) is not None
    told = metrics.get("cpu_seconds" if known else "seconds", {})
    parts = [f"{name.split('_')[0]} {seconds:.0f} s" for name, seconds in told.items()]
    return f"{took(metrics)} By notebook: {', '.join(parts)}."
