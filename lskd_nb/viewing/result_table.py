"""The run's results beside the paper's, as a table: what was measured, on how many items, and what
was not measured.
"""

import html
from collections.abc import Collection, Mapping

from lskd_nb.critic import UNFILTERED

# zero-shot, table 2 of the paper: VCR Q→A, QA→R, Q→AR, Sherlock, VisualCOMET, A-OKVQA, SNLI-VE,
# Visual7W
PAPER = {
    "CLIP ViT-B-16": (54.8, 48.6, 26.6, 9.9, 33.0, 58.3, 36.0, 65.9),
    "CLIP ViT-L-14x336": (56.3, 51.3, 29.9, 10.9, 34.8, 61.0, 31.9, 66.7),
    "BLIP-2 ViT-L": (52.3, 48.1, 25.3, 18.7, 36.7, 65.0, 31.7, 73.6),
    "BLIP-2 ViT-G": (56.1, 49.8, 28.0, 19.5, 39.0, 68.0, 33.4, 77.1),
    "BLIP-2 ViT-G + LSKD": (59.0, 56.4, 33.4, 29.7, 40.3, 68.9, 40.3, 79.5),
}
COLUMNS = {  # heading -> where a system's figure is in the metrics, in the order of PAPER
    "VCR Q→A": "vcr.{}.q_a",
    "QA→R": "vcr.{}.qa_r",
    "Q→AR": "vcr.{}.q_ar",
    "Sherlock": "sherlock.{}",
    "VisualCOMET": "visualcomet.{}",
    "A-OKVQA": "nonlocalized.aokvqa.{}",
    "SNLI-VE": "nonlocalized.snli_ve.{}",
    "Visual7W": "nonlocalized.visual7w.{}",
}
FITTED = {  # beside the zero-shot figure, which is the one to compare with the paper's
    "SNLI-VE, fitted thresholds (not zero-shot)": "nonlocalized.snli_ve_fitted.{}"
}
STUDENTS = {"base": "BLIP-2", "unfiltered": "+ unfiltered, same size", "lskd": "+ LSKD"}


UNFILTERED_STUDENTS = STUDENTS | {
    "unfiltered": f"+ all triples ({UNFILTERED})",
    "lskd": f"+ the same triples ({UNFILTERED})",
}


def result_table(metrics: Mapping, without: Collection[str] = (), filtered: bool = True) -> str:
    """The run's results on the six benchmarks with intervals, beside the paper's own, as HTML.

    Where ``metrics`` has them: the items of each set and how many records were left out
    (``benchmarks``), the pixels that each system saw (``systems``). What was not measured is said.
    ``without`` are systems that have no row: they answered VCR alone. Where no critic has
    ``filtered`` the triples, the students' names say so.
    """
    columns = dict(COLUMNS)
    place = list(columns).index("SNLI-VE") + 1
    columns = dict(
        [*list(columns.items())[:place], *FITTED.items(), *list(columns.items())[place:]]
    )

    def cell(path: str) -> str:
        value = metrics
        for part in path.split("."):
            value = value.get(part, {})
        if not value:
            return "–"
        return (
            f'{100 * value["mean"]:.1f} <small style="opacity:.7">[{100 * value["low"]:.1f},'
            f" {100 * value['high']:.1f}]</small>"
        )

    def row(system: str, name: str) -> tuple[str, list[str]]:
        side = metrics.get("systems", {}).get(system, {}).get("pixels")
        seen = f' <small style="opacity:.7">{side} px</small>' if side else ""
        return html.escape(name) + seen, [cell(p.format(system)) for p in columns.values()]

    smaller = {p["system"] for p in metrics.get("scaling", ())} | {
        s for s in metrics.get("vcr", {}) if s.startswith("lskd_")
    }
    others = dict.fromkeys((*metrics.get("systems", ()), *metrics.get("vcr", ())))
    rows = [row(s, s) for s in others if s not in STUDENTS and s not in {*smaller, *without}]
    names = STUDENTS if filtered else UNFILTERED_STUDENTS
    rows += [row(system, name) for system, name in names.items()]
    if counts := metrics.get("benchmarks"):
        rows.append(("items", [_items(counts, path) for path in columns.values()]))
    papers = {name: list(map(str, values)) for name, values in PAPER.items()}
    rows += [
        (f"paper: {n}", [*v[:place], *"–" * len(FITTED), *v[place:]]) for n, v in papers.items()
    ]
    head = "".join(f"<th>{h}</th>" for h in ("", *columns))
    body = "".join(
        f'<tr><td style="text-align:left">{name}</td>'
        + "".join(f"<td>{c}</td>" for c in cells)
        + "</tr>"
        for name, cells in rows
    )
    notes = "".join(f"<br/>{html.escape(note)}" for note in _notes(metrics))
    return (
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table><small>{notes}</small>"
    )


def _items(counts: Mapping[str, Mapping], path: str) -> str:
    """How many items a column's figures rest on, and how many records were left out."""
    name = path.removeprefix("nonlocalized.").split(".")[0].removesuffix("_fitted")
    told = counts.get(name, {"items": 0, "left_out": 0})
    if not told["items"] + told["left_out"]:
        return "–"
    return f"{told['items']:,} ({told['left_out']:,} left out)"


def _notes(metrics: Mapping) -> list[str]:
    told = [
        f"{name}: {of['why']}" for name, of in metrics.get("benchmarks", {}).items() if of["why"]
    ]
    if metrics.get("vcr") and not metrics.get("grounding"):
        told.append(
            "Grounding: not measured, as VCR's files do not say which wrong answer is true of"
            " another region (the mini world's do)."
        )
    return told
