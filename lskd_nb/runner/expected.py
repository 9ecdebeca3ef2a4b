"""What each stage of a run will take, before anything is spent: hours, memory, requests, dollars.

Rates are measured ones, with their source: ``outputs/gpu.json`` has those of one GPU with BLIP-2
ViT-G in its published sizes and random weights (``tests/benchmarks/gpu.py``). What nobody has
measured is said to be missing or is left out. Models of less than a gigabyte take minutes on CPUs,
and nothing is said of them.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lskd_nb.runner.disk import (
    BENCHMARK_VIEWS,
    bytes_below,
    images,
    requests_of_one,
    triples_of_one,
)
from lskd_nb.runner.findings import Finding, Given
from lskd_nb.runner.stops import triples_there

RATES = "outputs/gpu.json"
# rows of that file
ENCODING = "encoding 64 images, bf16"
SCORING = "04: critic, 64 images with 6 triples each, bf16"
STEP = "05: a training step of 64, ITC + ITM + LM, bf16"
FLOAT32_STEP = "05: a training step of 64, ITC + ITM + LM, float32"
SMALL = 1e9  # bytes of a model of which nothing is said
# tokens of a request of the paper's kind, in and out: ``teacher.estimate``'s rule on its prompt and
# the words about an image of Visual Genome (six regions, five answers); three triples back
TOKENS = (1_040, 160)
PICTURE_TOKENS = 630  # more, where a picture of 512 pixels goes along, at most
REQUESTS_A_MINUTE = 10_000  # OpenAI's limit of the upper tiers, for the smaller models
HOUR = 3600


@dataclass(frozen=True)
class Rates:
    """What one GPU has done a second, and which GPU it was."""

    a_second: Mapping[str, float]
    gib: Mapping[str, float]
    source: str


def read_rates(root: Path) -> Rates | None:
    """The measured rates; None where there is no readable file of them."""
    try:
        text = (root / RATES).read_text(encoding="utf-8")
        as_list = text.lstrip().startswith("[")
        return rates_of(json.loads(text) if as_list else list(map(json.loads, text.splitlines())))
    except (OSError, ValueError, TypeError):
        return None


def rates_of(rows: Sequence[Mapping]) -> Rates | None:
    """The rates of a GPU's record; None where it has none."""
    try:
        told = {row["what"]: row for row in rows}
        machine = told["machine"]
        return Rates(
            {
                what: row.get("images_per_second") or row["samples_per_second"]
                for what, row in told.items()
                if "images_per_second" in row or "samples_per_second" in row
            },
            {what: row["peak_gib"] for what, row in told.items() if "peak_gib" in row},
            f"one {machine['device']}, {RATES}, {machine['date']}",
        )
    except (KeyError, TypeError):
        return None


def expected(given: Given, root: Path, gpus: int = 0, rates: Rates | None = None) -> list[Finding]:
    """A note for each stage of which something can be said. ``gpus``: so many share the work;
    ``rates`` are those of the project's record if no others are given.
    """
    found, rates = [], rates or read_rates(root)
    base = str(given.get("05", given.get("03", {})).get("base", ""))
    folder = root / base
    small = bool(base) and folder.is_dir() and bytes_below(folder) < SMALL
    counted = images(given.get("01", {}), root)
    if "02" in given and given["02"].get("base_url"):
        found.append(_asking(given["02"], counted, root))
    if small or "05" not in given:
        return found
    if rates is None:
        told = f"hours are not known: {root / RATES} has no measured rates"
        return [*found, Finding("expected", None, told)]
    total = 0.0
    for number, seconds, how in _on_gpus(given, counted, root, rates):
        total += seconds
        share = f", {seconds / HOUR / gpus:,.1f} hours on {gpus} such GPUs" if gpus > 1 else ""
        told = f"about {seconds / HOUR:,.1f} GPU hours{share}: {how}"
        found.append(Finding(f"{number} takes", None, told))
    whole = f"about {total / HOUR:,.0f} GPU hours for all that was counted, by rates of"
    return [*found, Finding("expected", None, f"{whole} {rates.source}")]


def _asking(values: Mapping[str, object], counted: int, root: Path) -> Finding:
    """Requests, raw triples, tokens and dollars of a whole set of prompts."""
    from lskd_nb.teacher.budget import price_of
    from lskd_nb.teacher.requests import TeacherSettings

    ways, each = requests_of_one(values), int(values.get("triples") or 3)
    sees = str(values.get("teacher_sees") or "words").split(",")
    into = TOKENS[0] + PICTURE_TOKENS * any("words" not in one for one in sees)
    requests = counted * ways * len(sees)
    told = f"about {requests:,} requests, {requests * each:,} raw triples: {counted:,} images"
    told += f" x {ways * len(sees)} requests x {each} triples"
    prices = root / str(values["prices"]) if values.get("prices") else None
    mode = str(values.get("mode") or "async")
    try:
        price = price_of(
            TeacherSettings(str(values["base_url"]), str(values["model"]), mode=mode, prices=prices)
        )
    except (ValueError, OSError):
        return Finding("02 takes", None, told)
    if price.known and not price.free:
        usd = price.of((requests * into, requests * TOKENS[1]))
        told += f"; about {usd:,.0f} USD by a rule of {into:,} tokens in and {TOKENS[1]} out"
        told += ", until replies are there to measure (lskd estimate)"
        hours = requests / REQUESTS_A_MINUTE / 60
        told += f"; {hours:,.1f} hours at {REQUESTS_A_MINUTE:,} requests a minute"
    return Finding("02 takes", None, told)


def _on_gpus(
    given: Given, counted: int, root: Path, rates: Rates
) -> Iterator[tuple[str, float, str]]:
    """Stages: notebook, seconds of one GPU, and how that was counted."""
    run_dir = root / str(given.get("01", {}).get("run_dir", "outputs"))
    triples = triples_there(run_dir) or counted * triples_of_one(given.get("02", {}))
    encoded, scored, learned = (rates.a_second.get(n) for n in (ENCODING, SCORING, STEP))
    if "01" in given and encoded:
        views = counted * (1 + int(given["01"].get("max_regions") or 10))
        how = f"{views:,} views through ViT-G at {encoded:,.0f} a second, at the least: how long"
        yield "01", views / encoded, f"{how} the language models speak has not been measured"
    if "03" in given and learned and given["03"].get("critic", "train") == "train":
        values = given["03"]
        rows = (int(values["steps"]) + int(values["adapt_steps"])) * int(values["batch"])
        how = f"{rows:,} rows at {learned:,.0f} a second, a step of notebook 5's"
        yield "03", rows / learned, how
    if "04" in given and scored:
        yield "04", triples / scored, f"{triples:,} triples at {scored:,.0f} a second"
    if "05" in given and learned:
        values = given["05"]
        step = STEP if values.get("bf16", True) else FLOAT32_STEP
        rate, trainings = rates.a_second.get(step, learned), _trainings(values)
        rows = trainings * int(values["steps"]) * int(values["batch"])
        how = f"{rows:,.0f} rows at {rate:,.0f} a second, of {trainings:.1f} whole trainings"
        if step in rates.gib:
            how += f"; {rates.gib[step]:.0f} GiB for 64 rows a GPU"
        yield "05", rows / rate, how
    if "06" in given and encoded and given["06"].get("vcr_folder"):
        systems = 3 + len(given["06"].get("baselines") or ())
        how = f"{BENCHMARK_VIEWS:,} views for each of {systems} systems, at {encoded:,.0f} a second"
        yield "06", systems * BENCHMARK_VIEWS / encoded, how


def _trainings(values: Mapping[str, object]) -> float:
    """How many trainings of full length notebook 5 does: a smaller corpus has fewer steps, by the
    square root of its size.
    """
    studies, shares = values.get("studies") or (), [float(s) for s in values.get("shares") or ()]
    smaller = [s for s in shares if s < 1]
    total = 2.0  # unfiltered, LSKD
    if "sizes" in studies:
        total += sum(s**0.5 for s in smaller)
    if "lm" in studies:
        total += min(smaller, default=1.0) ** 0.5 if "sizes" in studies else 1.0
    if "thresholds" in studies:
        total += len(values.get("threshold_shares") or ())
    return total + sum(study in studies for study in ("truth", "plain_base"))
