"""The figures that README and guide show: blocks between marks, each written anew from the file it
comes from, so that no sentence outlives what it says.

A block is ``<!-- figures: NAME -->`` … ``<!-- /figures -->`` on lines of their own. What stands
elsewhere on these pages must be no figure: ``loose_figures`` finds what looks like one, unless
``<!-- by hand: WHY -->`` … ``<!-- /by hand -->`` says why it can't go stale.
``make figures``, ``make renderings`` and ``make bench`` write the blocks anew.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from lskd_nb.publishing import run_sentences as run
from lskd_nb.publishing import speed_sentences as speed
from lskd_nb.records import atomic_path
from lskd_nb.run_folder import find_root

BLOCK = re.compile(r"<!-- figures: (\S+) -->\n(.*?)\n?<!-- /figures -->", re.DOTALL)
BY_HAND = re.compile(r"<!-- by hand: [^>]+ -->.*?<!-- /by hand -->", re.DOTALL)
CODE = re.compile(r"^```.*?^```|^ {4}.*?$|`[^`\n]+`|\]\([^)\s]*\)", re.DOTALL | re.MULTILINE)
LOOSE = re.compile(
    r"""\d\s?%                                       # a share
    | \[-?\d+(?:\.\d+)?,\s-?\d+(?:\.\d+)?\]          # an interval
    | \d\s×(?!\s?\d)                                 # a ratio, not a size in pixels
    | \b0\.\d\d+\b                                   # an area under a curve, a precision
    | \b\d[\d.]*\s(?:GiB|TFLOP)                      # a GPU's memory and work
    | \b\d[\d.]*\s(?:ms|s|min|seconds|minutes)\b     # a time
    | \bNVIDIA\b | \bno\sGPU\b | \bnot\sbeen\srun\son\sa\sGPU\b""",
    re.VERBOSE | re.IGNORECASE,
)


@dataclass(frozen=True)
class Records:
    """What was measured: a run's figures, the benchmarks' rows, a GPU's lines if there are any."""

    metrics: Mapping
    benchmarks: speed.Rows
    gpu: speed.Rows


def read_records(root: Path) -> Records:
    """The records below outputs/; raises ``ValueError`` for one that is not there."""
    found = {}
    for name, command in (
        ("mini/metrics.json", "lskd replicate mini"),
        ("benchmarks.json", "make bench"),
    ):
        path = root / "outputs" / name
        if not path.exists():
            raise ValueError(f"{path} is not there: {command} writes it")
        found[name] = json.loads(path.read_text(encoding="utf-8"))
    gpu = speed.read_gpu_record(root / "outputs" / "gpu.json")
    return Records(found["mini/metrics.json"], found["benchmarks.json"]["rows"], gpu)


# ---------------------------------------------------------------------------------------- the pages


def _readme_results(told: Records) -> str:
    metrics = told.metrics
    return "\n\n".join(
        [
            run.result_table(
                metrics,
                ("base", "unfiltered", "lskd"),
                ("BLIP-2 ViT-G", "BLIP-2 ViT-G + LSKD"),
                full=False,
            ),
            f"Per cent, zero-shot. Mini: {run.what_was_asked(metrics)}; paper: real images."
            " *Grounding accuracy*: of two answers true of different regions of one image, how"
            " often the pointed one's is preferred; guessing gives 50.",
            run.scaling_plot(metrics),
            f"{run.differences(metrics)} {run.beside_unfiltered(metrics, figures=False)}"
            f" {run.how_many_reached(metrics)}",
        ]
    )


def _all_benchmarks(told: Records) -> str:
    papers = ("CLIP ViT-B-16", "BLIP-2 ViT-G", "BLIP-2 ViT-G + LSKD")
    table = run.result_table(told.metrics, tuple(run.SYSTEMS), papers, full=True)
    return f"Per cent. Mini: {run.what_was_asked(told.metrics)}.\n\n{table}"


PAGES: dict[str, dict[str, Callable[[Records], str]]] = {
    "README.md": {"time": lambda told: run.took(told.metrics), "results": _readme_results},
    "notebooks/guide/results.md": {
        "results": _all_benchmarks,
        "steps": lambda told: run.steps(told.metrics),
        "seeds": lambda told: run.seed_table(told.metrics),
        "scaling": lambda told: run.scaling_plot(told.metrics, "../../"),
        "time": lambda told: run.took_by_notebook(told.metrics),
        "short": lambda told: run.what_falls_short(told.metrics),
    },
    "notebooks/guide/speed.md": {
        "benchmarks": lambda told: (
            f"{speed.benchmark_machine(told.benchmarks)}\n\n{speed.benchmark_table(told.benchmarks)}"
        ),
        "short": lambda told: speed.benchmarks_short(told.benchmarks),
        "gpu": lambda told: speed.on_a_gpu(told.gpu),
    },
    "notebooks/guide/gpu-boxes-and-clusters.md": {
        "memory": lambda told: speed.gpu_memory(told.gpu),
        "gpu": lambda told: speed.what_a_gpu_has_run(told.gpu),
    },
}


# --------------------------------------------------------------------------------------- the blocks


def renewed(page: str, text: str, told: Records) -> str:
    """A page's text, its blocks written anew; raises ``ValueError`` where the page has other
    blocks than are made for it, or marks that don't pair.
    """
    makers = PAGES[page]
    names = [name for name, _ in BLOCK.findall(text)]
    if sorted(names) != sorted(makers):
        raise ValueError(
            f"{page} has the blocks {', '.join(names) or 'none'};"
            f" those made for it are {', '.join(makers)}: see PAGES in {__name__}"
        )
    if text.count("<!-- figures:") != len(names) or text.count("<!-- /figures -->") != len(names):
        raise ValueError(f"{page}: a mark of a block has no other mark")
    return BLOCK.sub(
        lambda found: f"<!-- figures: {found[1]} -->\n{makers[found[1]](told)}\n<!-- /figures -->",
        text,
    )


def renew_pages(root: Path) -> list[Path]:
    """Write the blocks of README and guide anew; returns the pages that changed."""
    told, changed = read_records(root), {}
    for page in PAGES:
        text = (root / page).read_text(encoding="utf-8")
        if (new := renewed(page, text, told)) != text:
            changed[root / page] = new
    for path, new in changed.items():
        with atomic_path(path) as temporary:
            temporary.write_text(new, encoding="utf-8")
    return list(changed)


def loose_figures(text: str) -> list[str]:
    """Lines with a figure that stands in no block and could go stale, the figure first."""
    kept = CODE.sub(" ", BY_HAND.sub(" ", BLOCK.sub(" ", text)))
    return [
        f"{found[0]}: {line.strip()}" for line in kept.splitlines() if (found := LOOSE.search(line))
    ]


if __name__ == "__main__":
    for page in renew_pages(find_root()):
        print(f"written anew: {page}")
