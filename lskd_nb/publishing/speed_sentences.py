"""What the benchmarks measured, in tables and sentences made of their records:
``outputs/benchmarks.json`` of ``make bench``, and ``outputs/gpu.json`` of the one for a GPU.

Every row of the first carries its machine. Rows of another machine than the others say so here,
whoever has put them together. Without the second record the pages say that no GPU has run this;
with one, they can't.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from lskd_nb.publishing.aims import listed, processor

Rows = Sequence[Mapping]
QUIET = 0.5  # processes that want a core while nothing is measured, at most
GPU_COMMAND = "python tests/benchmarks/gpu.py > outputs/gpu.json"
GPU_PARTS = {  # what begins a line of the record -> what it is
    "encoding": "encoding images",
    "pointing": "pointing",
    "03:": "a step of the critic",
    "04:": "the critic's scores",
    "05:": "a step of distillation",
    "06:": "the scoring of a benchmark",
    "08:": "a step of FlanT5-XXL",
    "lskd run smoke": "the notebooks of the smoke profile",
}


# ------------------------------------------------------------------------------------ benchmarks


def machine_of(row: Mapping) -> str:
    """What a row was measured on, in words."""
    gpu = f"and a GPU ({row['gpu']})" if row.get("gpu") else "no GPU"
    return f"{processor(row.get('cpu'), row.get('cores'), row.get('avx512'))}, {gpu}"


def most_rows(rows: Rows) -> str:
    """The machine that most rows were measured on."""
    return Counter(map(machine_of, rows)).most_common(1)[0][0]


def measured_ratio(row: Mapping) -> str:
    return f"{row['ratio']:.1f} ×" if row["ratio"] is not None else ""


def benchmark_table(rows: Rows) -> str:
    """The rows as Markdown, the machine in each that is not of the machine of most."""
    most, several = most_rows(rows), len(set(map(machine_of, rows))) > 1
    columns = ["what", "here", "beside it", "ratio", "aim", "reached"]
    columns += ["measured on"] if several else []
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for row in rows:
        beside = row["beside"]
        if row["other"] is not None:
            beside = f"{_three_digits(row['other'])} {row['unit']} {beside}"
        cells = [
            f"{row['what']} ({row['note']})" if row["note"] else row["what"],
            f"{_three_digits(row['ours'])} {row['unit']}",
            beside,
            measured_ratio(row),
            row["aim"],
            "yes" if row["reached"] else "**no**",
        ]
        if several:
            cells.append("**another**: " + machine_of(row) if machine_of(row) != most else "")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def benchmark_machine(rows: Rows) -> str:
    """When and on what the rows were measured; which are of another machine."""
    dates = sorted({row["date"] for row in rows if row.get("date")})
    when = f", {' to '.join(dict.fromkeys((dates[0], dates[-1])))}" if dates else ""
    most = most_rows(rows)
    others = [row["what"] for row in rows if machine_of(row) != most]
    versions = listed(sorted({f"PyTorch {row['torch']}" for row in rows if row.get("torch")}))
    whole = f"{len(rows) - len(others)} of {len(rows)} rows" if others else "all rows"
    found = (
        f"`make bench`, each row measured beside the other in one run{when}: {whole} on {most}"
        f"{f'; {versions}' if versions else ''}."
    )
    if others:
        verb = "is" if len(others) == 1 else "are"
        found += (
            f" **{len(others)} {verb} of another machine, or of one not known to be the same**: the"
            " last column has it, and they can't be compared with the others."
        )
    if busy := [row["load"] for row in rows if row.get("load", 0) > QUIET]:
        found += (
            f" **{len(busy)} of {len(rows)} were measured while the machine did something else**:"
            f" its load was up to {max(busy):.1f} before."
        )
    return found


def benchmarks_short(rows: Rows) -> str:
    """The rows that miss their aim, with what is known of the reason; how many reach it."""
    short = [row for row in rows if not row["reached"]]
    told = [f"{len(rows) - len(short)} of {len(rows)} rows reach their aim."]
    if short:
        told = [f"{told[0]} The others:", ""]
    for row in short:
        found = (
            measured_ratio(row)
            if "×" in row["aim"]
            else f"{_three_digits(row['ours'])} {row['unit']}"
        )
        line = f"- **{row['what']}**: {found or row['beside']}, where {row['aim']} was aimed at."
        told.append(f"{line} {row.get('why', '')}".rstrip())
    return "\n".join(told)


# ----------------------------------------------------------------------------------------- a GPU


def read_gpu_record(path: Path) -> list[dict]:
    """The lines of a GPU's record, as the benchmark prints them or as one JSON list; none where no
    GPU has been measured. Raises ``ValueError`` naming what is no such record.
    """
    if not path.exists() or not (text := path.read_text(encoding="utf-8").strip()):
        return []
    try:
        lines = (
            json.loads(text) if text.startswith("[") else list(map(json.loads, text.splitlines()))
        )
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path} is no record of a GPU ({error}): make it by {GPU_COMMAND}"
        ) from None
    if not isinstance(lines, list) or not all(isinstance(x, dict) and "what" in x for x in lines):
        raise ValueError(f'{path} has lines without "what": make it by {GPU_COMMAND}')
    if lines[0]["what"] != "machine" or lines[0].get("device", "CPU") == "CPU":
        raise ValueError(f"{path} does not begin with the GPU it was measured on")
    return lines


def _line(gpu: Rows, what: str) -> Mapping:
    return next((line for line in gpu if line["what"] == what), {})


def gpu_machine(gpu: Rows) -> str:
    """The GPU, the network, and the day."""
    if not gpu:
        return f"No GPU has run this yet. With one at hand: `{GPU_COMMAND}`."
    machine, student = gpu[0], _line(gpu, "student")
    memory = f" of {machine['memory_gib']:.0f} GiB" if machine.get("memory_gib") else ""
    when = f", {machine['date']}" if machine.get("date") else ""
    sizes = (
        f" ({student['weights'] / 1e9:.2f} billion weights, {student['trained'] / 1e6:.0f} million"
        " of them trained)"
        if student
        else ""
    )
    return (
        f"On one {machine['device']}{memory} with PyTorch {machine['torch']}{when}: BLIP-2 ViT-G in"
        f" its published sizes{sizes}, random weights, 480 pixels, data in memory. Medians of"
        f" two to five calls: `{GPU_COMMAND}`, [outputs/gpu.json](../../outputs/gpu.json)."
    )


def gpu_table(gpu: Rows) -> str:
    """A row for each line that has seconds."""
    lines = ["| what | seconds | a second | TFLOP/s | peak memory |", "|---|---|---|---|---|"]
    for line in gpu:
        if line["what"] in ("machine", "student", "end") or "seconds" not in line:
            continue
        rate, flops = (line.get(name) for name in ("samples_per_second", "tflops"))
        rate = line.get("images_per_second", rate)
        cells = [
            line["what"],
            f"{line['seconds']:.2g}" if line["seconds"] < 10 else f"{line['seconds']:.0f}",
            "" if rate is None else f"{rate:.0f}",
            "" if flops is None else f"{flops:.0f}",
            f"{memory:.1f} GiB" if (memory := line.get("peak_gib")) else "",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def gpu_remarks(gpu: Rows) -> str:
    """What else the record says; what failed; what the script measures and the record lacks."""
    told = []
    if (
        apart := _line(gpu, "bf16 beside float32, features").get("relative_difference")
    ) is not None:
        told.append(
            f"Features in bf16 differ from those in float32 by {apart:.1%} of their length."
        )
    if hours := next((line["hours_per_million"] for line in gpu if "hours_per_million" in line), 0):
        told.append(f"A million triples take the critic {60 * hours:.0f} minutes.")
    if by_hand := _line(gpu, "by hand").get("said"):
        told.append(f"Tried by hand besides: {by_hand}.")
    for line in gpu:
        if line.get("error"):
            told.append(f"Failed: {line['what']} ({' '.join(str(line['error']).split())}).")
    whats = [line["what"] for line in gpu if not line.get("error")]
    if lacking := [
        name for part, name in GPU_PARTS.items() if not any(w.startswith(part) for w in whats)
    ]:
        told.append(f"Not in this record, though the script measures them: {listed(lacking)}.")
    return " ".join(told)


def on_a_gpu(gpu: Rows) -> str:
    """All of it, for the page about speed."""
    return "\n\n".join(
        [gpu_machine(gpu), gpu_table(gpu), gpu_remarks(gpu)] if gpu else [gpu_machine(gpu)]
    )


def gpu_memory(gpu: Rows) -> str:
    """What distillation takes of a GPU's memory."""
    steps = [line for line in gpu if line["what"].startswith("05:") and line.get("peak_gib")]
    if not steps:
        return "No step in the published sizes has been measured on a GPU yet."
    shown = "; ".join(
        f"{line['what'].removeprefix('05: ')}: {line['peak_gib']:.0f} GiB" for line in steps
    )
    return f"Measured on one {gpu[0]['device']}, ViT-G at 480 pixels, random weights: {shown}."


def what_a_gpu_has_run(gpu: Rows) -> str:
    """Of the real run, for the page about GPU boxes."""
    if not gpu:
        return f"Of these, no GPU has run anything yet. With one at hand: `{GPU_COMMAND}`."
    ran = [
        name
        for part, name in GPU_PARTS.items()
        if any(line["what"].startswith(part) and not line.get("error") for line in gpu)
    ]
    lacking = [name for name in GPU_PARTS.values() if name not in ran]
    found = (
        f"Of these, one {gpu[0]['device']} has run the real sizes with random weights"
        f" ([speed](speed.md#on-a-gpu)): {listed(ran)}."
    )
    if by_hand := _line(gpu, "by hand").get("said"):
        found += f" By hand: {by_hand}."
    if lacking:
        found += f" Not yet on a GPU: {listed(lacking)}."
    return found


def _three_digits(number: float) -> str:
    """Three digits that count, and no power of ten: 0.0837, 1,060."""
    return f"{float(f'{number:.3g}'):,.0f}" if number >= 1000 else f"{number:.3g}"
