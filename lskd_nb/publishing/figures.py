"""The figures that README and guide show: blocks between marks, each written anew from the file it
comes from, so that no sentence outlives what it says.

A block is ``<!-- figures: NAME -->`` … ``<!-- /figures -->`` on lines of their own. What stands
elsewhere on these pages must be no figure: ``loose_figures`` finds what looks like one, unless
``<!-- by hand: WHY -->`` … ``<!-- /by hand -->`` says why it can't go stale.
``make figures``, ``make renderings`` and ``make bench`` write the blocks anew.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lskd_nb.publishing import run_sentences as run
from lskd_nb.publishing import speed_sentences as speed
from lskd_nb.publishing.renderings import figure_text
from lskd_nb.records import atomic_path
from lskd_nb.run_folder import find_root
from lskd_nb.runner.expected import expected, rates_of
from lskd_nb.runner.parameters import given_values, read_notebooks

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
    """What was measured: a run's figures, the benchmarks' rows, a row for each imitated server,
    what teachers made of words and pictures and what a small one is worth, a GPU's lines if there
    are any.
    """

    metrics: Mapping
    benchmarks: speed.Rows
    servers: Sequence[Mapping]
    sees: Mapping
    local: Mapping
    gpu: speed.Rows


def read_records(root: Path) -> Records:
    """The records below outputs/; raises ``ValueError`` for one that is not there."""
    found = {}
    for name, command in (
        ("mini/metrics.json", "lskd replicate mini"),
        ("benchmarks.json", "make bench"),
        ("servers.json", "tests/teacher/measure_servers.py --write"),
        ("teacher_sees.json", "tests/benchmarks/teacher_sees.py"),
        ("local_teacher.json", "tests/benchmarks/local_teacher.py"),
    ):
        path = root / "outputs" / name
        if not path.exists():
            raise ValueError(f"{path} is not there: {command} writes it")
        found[name] = json.loads(path.read_text(encoding="utf-8"))
    gpu = speed.read_gpu_record(root / "outputs" / "gpu.json")
    benchmarks = found["benchmarks.json"]["rows"]
    teachers = found["servers.json"], found["teacher_sees.json"], found["local_teacher.json"]
    return Records(found["mini/metrics.json"], benchmarks, *teachers, gpu)


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


def _servers(told: Records) -> str:
    """What is sent to each server and kept of it, then how a run ends where none goes on."""
    answered = [row for row in told.servers if not row["message"]]
    ended = [row for row in told.servers if row["message"]]
    table = ["| server | what it is sent | valid triples kept |", "|---|---|---|"]
    table += [
        f"| {row['server']} | {row['sent']} | {row['kept']} of {row['offered']} |"
        for row in answered
    ]
    table += ["", "| set-up | requests | what the run ends with |", "|---|---|---|"]
    for row in ended:
        said = row["message"].partition(": ")[2].replace("|", "\\|").replace("<", "&lt;")
        table.append(f"| {row['server']} | {row['requests']} | {said} |")
    return "\n".join(table)


def _sees(told: Records) -> str:
    """What triples are worth by what the teacher was told."""
    named = {"words": "words", "image": "the picture", "both": "both"}
    table = ["| the mini teacher was given | acceptable triples | triples |", "|---|---|---|"]
    table += [
        f"| {named[sees]} | {figure_text(of['acceptable']).strip()} % |"
        f" {of['acceptable']['n']:,} of {of['acceptable']['clusters']} images |"
        for sees, of in told.sees["seen"].items()
    ]
    return "\n".join(table)


def _local(told: Records) -> str:
    """What a small language model is worth as a teacher."""
    named = {"smollm2": "SmolLM2-135M", "mini-rule-based-writer": "the rule-based writer"}
    heads = ("teacher", "triples asked for", "valid", "of them understood", "accepted by the truth")
    heads += ("why not valid",)
    table = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name, of in told.local["teachers"].items():
        valid, accepted = (f"{figure_text(of[share]).strip()} %" for share in ("valid", "accepted"))
        understood = f"{of['understood']} of {round(of['valid']['mean'] * of['asked_for'])}"
        reasons = of["rejects"] | {"never written": of["never_written"]}
        why = [f"{reason}: {number}" for reason, number in reasons.items() if number]
        table.append(
            f"| {named[name]} | {of['asked_for']}, of {told.local['images']} images | {valid} |"
            f" {understood} | {accepted} | {'; '.join(why) or '–'} |"
        )
    table += ["", f"A reply had at most {told.local['longest_reply']} tokens."]
    return "\n".join(table)


def _hours(told: Records) -> str:
    """What each stage of the paper's run will take."""
    root, rates = find_root(), rates_of(told.gpu)
    if rates is None:
        return "Hours are not known: nobody has recorded rates of a GPU."
    given = {
        n.number: given_values(root, "a100", n) for n in read_notebooks(root) if not n.optional
    }
    told_of = [f for f in expected(given, root, 4, rates) if f.notebook]
    table = ["| stage | will take |", "|---|---|"]
    table += [
        f"| {f.notebook} | {f.detail.removeprefix('about ')} |"
        for f in sorted(told_of, key=lambda f: f.notebook)
    ]
    table += ["", f"Rates are those of {rates.source}."]
    return "\n".join(table)


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
    "notebooks/guide/teachers-and-prices.md": {"servers": _servers, "sees": _sees, "local": _local},
    "notebooks/guide/gpu-boxes-and-clusters.md": {
        "memory": lambda told: speed.gpu_memory(told.gpu)
    },
    "notebooks/guide/reproduce-the-paper.md": {
        "hours": _hours,
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
