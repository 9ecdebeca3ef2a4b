"""A report (``report``) in words: Markdown for readers and cards, tables for figures.

Corpus texts are shown as code, so none is taken for markup.
"""

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from lskd_nb.critic import UNFILTERED

RAW_IS_KEPT = (
    "Raw and kept are the same here: the corpus was imported, and what its makers' filter dropped"
    " is not in the file. So nothing is known of what it changed."
)


def report_markdown(report: Mapping, level: int = 2) -> str:
    """The whole report as Markdown, its headings from ``level`` on."""
    parts = (
        composition_markdown(report["kept"]),
        repeats_markdown(report["repeats"]),
        attributes_markdown(report["raw_and_kept"]),
        contamination_markdown(report.get("contamination")),
        toxicity_markdown(report.get("toxicity")),
    )
    titles = (
        "What it is made of",
        "What is said again",
        "What the filter changed",
        "Contamination of benchmarks",
        "Toxicity",
    )
    told = [f"{'#' * level} {title}\n\n{text}" for title, text in zip(titles, parts, strict=True)]
    if origin := report.get("imported"):
        told[2] += f"\n\n{RAW_IS_KEPT}"
        told = [origin, *told]
    elif not report.get("filtered", True):
        told.insert(0, f"**{UNFILTERED}**: nothing was scored, and all triples were kept.")
    return "\n\n".join(told)


def report_tables(report: Mapping) -> dict[str, pd.DataFrame]:
    """What is worth drawing, by name: ``question_types`` and ``attributes`` (raw, kept, their
    intervals), ``regions_per_triple``, ``region_sizes`` (share of the image, upper end of each
    bin), ``lengths`` (words), ``pointing``, ``contamination``.
    """
    kept = report["kept"]
    figures = [
        (part, figure)
        for part in ("raw", "kept", "difference")
        for figure in ("mean", "low", "high")
    ]
    changed = {
        name: (
            pd.DataFrame(
                {
                    key: {f"{part}_{figure}": value[part][figure] for part, figure in figures}
                    for key, value in report["raw_and_kept"][name].items()
                }
            ).T
        )
        for name in ("question_types", "attributes")
    }
    lengths = pd.DataFrame(
        [
            dict(text=text, **row)
            for text, told in kept["lengths"].items()
            for row in told["histogram"]
        ]
    )
    leaked = [
        dict(
            benchmark=name,
            items=told["items"],
            same_image=told["image"]["share"],
            same_text=told["text"]["exact_share"],
            near_text=told["text"]["near_share"],
            same_text_and_image=told["both"]["share"],
        )
        for name, told in (report.get("contamination") or {}).items()
    ]
    return changed | dict(
        regions_per_triple=pd.DataFrame(kept["regions_per_triple"]),
        lengths=lengths,
        pointing=pd.DataFrame(kept["pointing"]),
        contamination=pd.DataFrame(leaked),
        region_sizes=pd.DataFrame((kept["region_sizes"] or {}).get("histogram", [])),
    )


def composition_markdown(made_of: Mapping) -> str:
    """What a corpus is made of."""
    pointing = [
        (
            code(p["family"]),
            f"{p['triples']:,}",
            f"{p['mentions']:,}",
            _percent(p["share"]),
            _percent(p["triples_with_a_description"]),
        )
        for p in made_of["pointing"]
    ]
    openings = [
        (code(o["value"]), f"{o['count']:,}", _percent(o["share"]))
        for o in made_of["openings"][:12]
    ]
    regions = [
        (r["value"], f"{r['count']:,}", _percent(r["share"])) for r in made_of["regions_per_triple"]
    ]
    lengths = [
        (name, f"{n['mean']:.1f}", f"{n['median']:.0f}", f"{n['p95']:.0f}", n["max"])
        for name, n in made_of["lengths"].items()
        if n["max"] is not None
    ]
    lines = [
        f"{made_of['triples']:,} triples about {made_of['images']:,} images.",
        "",
        table(
            (
                "prompt family",
                "triples",
                "mentions",
                "described in the text",
                "triples with a description",
            ),
            pointing,
        ),
        "",
        table(("questions that begin with", "triples", "share"), openings),
        "",
        table(("regions mentioned", "triples", "share"), regions),
        "",
        table(("words", "mean", "median", "95th percentile", "most"), lengths),
    ]
    if sizes := made_of["region_sizes"]:
        small, medium, large = (
            _percent(sizes[name] / max(sizes["mentioned"], 1))
            for name in ("small", "medium", "large")
        )
        if sizes["median_share"] is None:
            median = "sizes of the images are unknown"
        else:
            median = f"the median covers {_percent(sizes['median_share'])} of its image"
        told = (
            f"Mentioned regions, in COCO's sizes: {small} small (below 32² pixels),"
            f" {medium} medium, {large} large (96² or more); {median}."
        )
        if sizes["unmeasured"]:
            told += f" {sizes['unmeasured']:,} more have boxes that are no numbers."
        lines += ["", told]
    return "\n".join(lines)


def repeats_markdown(told: Mapping) -> str:
    """What is said again."""
    exact, near = told["exact"], told["near"]
    lines = [
        f"Case and ids aside, {_percent(exact['share'])} of the triples repeat another one's"
        f" wording: {exact['distinct']:,} distinct wordings in {exact['triples']:,} triples. Of the"
        f" distinct ones, {_percent(near['share'])} are near to an earlier one (Jaccard similarity"
        f" of their word pairs at least {near['threshold']}), in {near['clusters']:,} clusters, the"
        f" largest of {near['largest']}; {near['left']:,} are left then."
    ]
    if exact["examples"]:
        lines += [
            "",
            table(
                ("times", "wording"), [(e["times"], code(e["wording"])) for e in exact["examples"]]
            ),
        ]
    if near["examples"]:
        clusters = [
            (e["wordings"], e["jaccard"], code(e["one"]), code(e["other"]))
            for e in near["examples"]
        ]
        lines += ["", table(("cluster of", "similarity", "one", "another"), clusters)]
    return "\n".join(lines)


def attributes_markdown(told: Mapping) -> str:
    """Person attributes, question types and families, raw and kept."""
    parts = []
    for title, name in (
        ("triples that speak of", "attributes"),
        ("questions that begin with", "question_types"),
        ("family", "families"),
    ):
        rows = [
            (
                key if name == "attributes" else code(key),
                interval(v["raw"]),
                interval(v["kept"]),
                interval(v["difference"]),
            )
            for key, v in told[name].items()
            if v["count"]["raw"]
        ]
        never = [
            key if name == "attributes" else code(key)
            for key, v in told[name].items()
            if not v["count"]["raw"]
        ]
        parts.append(
            table((title, "raw, %", "kept, %", "kept minus raw"), rows)
            + (f"\n\nNot found: {', '.join(never)}." if never else "")
        )
    parts.append(
        "95% bootstrap intervals over images. Attributes are words of"
        " `corpus/person_attributes.yaml`, counted wherever they stand."
    )
    return "\n\n".join(parts)


def contamination_markdown(told: Mapping | None) -> str:
    """What of the benchmarks the corpus has shown."""
    if not told:
        return "Not measured: no benchmark was given."
    rows = []
    for name, t in told.items():
        texts = (
            (t["text"]["exact"], t["text"]["exact_share"]),
            (t["text"]["near"], t["text"]["near_share"]),
            (t["both"]["items"], t["both"]["share"]),
        )
        if t["text"]["compared"]:
            compared = [_count(*figures) for figures in texts]
        else:
            compared = ["no right answers"] * 3
        rows.append(
            (name, f"{t['items']:,}", _count(t["image"]["items"], t["image"]["share"]), *compared)
        )
    lines = [
        table(
            (
                "benchmark",
                "items",
                "image in the corpus",
                "same question and answer",
                "nearly the same",
                "same, about the same picture",
            ),
            rows,
        )
    ]
    unread = {
        name: t["image"]["unreadable"] for name, t in told.items() if t["image"]["unreadable"]
    }
    if unread:
        lines += [
            "",
            "Images that could not be read and were known by name only: "
            + ", ".join(f"{name} {n}" for name, n in unread.items())
            + ".",
        ]
    examples = [
        (
            name,
            code(e["benchmark"]),
            code(e["corpus"]),
            "name" if e["bits"] is None else f"picture ({e['bits']} of 256 bits differ)",
        )
        for name, t in told.items()
        for e in t["image"]["examples"][:2]
    ]
    texts = [
        (name, code(e["item"]), code(e["triple"]), code(e["wording"]))
        for name, t in told.items()
        for e in t["text"]["examples"][:2]
    ]
    if examples:
        lines += ["", table(("benchmark", "its image", "the corpus's", "known by"), examples)]
    if texts:
        lines += ["", table(("benchmark", "item", "triple", "wording"), texts)]
    return "\n".join(lines)


def toxicity_markdown(told: Mapping | None) -> str:
    """What a classifier finds toxic."""
    if not told:
        return "Not measured: no classifier was named."
    lines = [
        table(
            ("triples", "sampled", "toxic, %", "highest"),
            [
                (part, f"{t['sample']:,} of {t['of']:,}", interval(t["share"]), f"{t['max']:.3f}")
                for part, t in told.items()
            ],
        )
    ]
    one = next(iter(told.values()))
    return "\n".join(
        [
            *lines,
            "",
            (
                f"By {code(one['model'])}, label {code(one['label'])}, probability at least"
                f" {one['threshold']}; 95% intervals over images."
            ),
        ]
    )


# ----------------------------------------------------------------------------------------- Markdown


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def code(text: object) -> str:
    """A corpus text as a code span of one line, which Markdown and tables read as no more.

    >>> code("a `b` | c")
    "`a 'b' ¦ c`"
    """
    plain = " ".join(str(text).split()).replace("`", "'").replace("|", "¦")
    return f"`{plain}`" if plain else ""


def interval(value: Mapping) -> str:
    """A share in percent with its interval."""
    if value["mean"] is None:
        return "–"
    return f"{100 * value['mean']:.1f} [{100 * value['low']:.1f}, {100 * value['high']:.1f}]"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def _count(number: int, share: float) -> str:
    return f"{number:,} ({_percent(share)})"
