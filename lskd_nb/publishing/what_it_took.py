"""What a run has used, by stage: hours of processor and GPU, memory, tokens, dollars."""

from collections.abc import Mapping, Sequence

from lskd_nb.publishing.renderings import look_up
from lskd_nb.publishing.report_text import table

NOTE = (
    "Each stage as it was last executed: what earlier attempts took is not counted, but what the"
    " teacher was paid is."
)


def what_it_took(notebooks: Mapping[str, Mapping], metrics: Mapping) -> list[dict]:
    """One row for each notebook that manifest.json has, in order; None where nobody knows.

    Hours are those of all processes together; memory is the most at once, in GiB.
    """
    rows = []
    for name, entry in sorted(notebooks.items()):
        cpu, asked = entry.get("cpu_seconds"), name.startswith("02")
        rows.append(
            dict(
                notebook=name,
                hours=_hours(entry.get("seconds")),
                cpu_hours=_hours(cpu),
                gib=entry.get("peak_gib"),
                gpu_hours=entry.get("gpu_hours"),
                gpu_gib=entry.get("gpu_peak_gib"),
                tokens=look_up(metrics, "teacher.tokens") if asked else None,
                usd=look_up(metrics, "teacher.usd") if asked else None,
            )
        )
    return rows


def what_it_took_markdown(rows: Sequence[Mapping]) -> str:
    """The same as a table; a sentence where nothing is known."""
    known = [row for row in rows if row["hours"] is not None]
    if not known:
        return "Not known: manifest.json tells of no finished notebook."
    names = ("stage", "hours", "of processors", "of GPUs", "memory", "of a GPU", "tokens", "USD")
    cells = [
        (
            row["notebook"].replace("_", " "),
            _number(row["hours"], "{:.2f}"),
            _number(row["cpu_hours"], "{:.2f}"),
            _number(row["gpu_hours"], "{:.2f}"),
            _number(row["gib"], "{:.1f} GiB"),
            _number(row["gpu_gib"], "{:.1f} GiB"),
            "{:,} in, {:,} out".format(*row["tokens"]) if row["tokens"] else "–",
            _number(row["usd"], "{:,.2f}"),
        )
        for row in known
    ]
    return f"{table(names, cells)}\n\n{NOTE}"


def _hours(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds / 3600, 4)


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)
