"""Notebooks' own cells over tables of the paper's size (``paper_scale``), those that need a model
left out: how much memory and how long a stage takes where a model is no matter.

Each stage runs in a process of its own, with the values of the a100 profile, in the order of the
series: 02 plans, 03 splits labels and draws the unfiltered corpus, 04 filters and writes the
corpus, 07 looks at it and reports on it.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from measuring import Measured
from paper_scale import PAPER, Size, benchmark, write_run

from lskd_nb.run_folder import find_root

STAGES = {  # notebook -> its cells, in their order
    "02": "02-02 02-04 02-05 02-07 02-26 02-09 02-13",
    "03": "03-02 03-04 03-05 03-07 03-26 03-11 03-13",
    "04": "04-02 04-04 04-05 04-09 04-11 04-12 04-25 04-26 04-14 04-14b 04-15 04-17 04-18 04-20"
    " 04-21 04-22",
    "07": "07-02 07-04 07-05 07-07 07-09 07-13 07-14 07-19 07-20 07-22 07-23 07-25 07-27",
}
NO_MODEL = {"07": {"toxicity_model": ""}, "04": {"engine": "local"}}
MOST_GIB, MOST_SECONDS, EMPTY_GIB = 8.0, 300.0, 0.8  # the last before there is any table
WHY = (
    "Most of it is the report: regular expressions over five million triples, and a million"
    " wordings hashed twice, by one core."
)
BENCHMARK_ITEMS = 26_534  # VCR's validation


@dataclass(frozen=True)
class Taken:
    """What a stage took: GiB at most, and how many of them after its imports; seconds by the
    clock and of the processor.
    """

    stage: str
    gib: float
    grown: float
    seconds: float
    cpu: float


def cells(root: Path, stage: str) -> dict[str, str]:
    """The code of a notebook's cells that a stage is made of, by their ids, in order."""
    (path,) = (root / "notebooks").glob(f"{stage}_*.ipynb")
    of = {
        cell["id"]: "".join(cell["source"])
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]
    }
    return {name: of[name] for name in STAGES[stage].split()}


def run_cells(folder: Path, stage: str, left_out: Collection[str] = ()) -> list[float]:
    """Run them here, as a kernel would, and return the peak GiB after each. How long each took goes
    to stderr.
    """
    os.environ.setdefault("MPLBACKEND", "agg")
    from IPython.core.interactiveshell import InteractiveShell

    root = find_root()
    (told,) = (root / "params" / "a100").glob(f"{stage}_*.yaml")
    values = yaml.safe_load(told.read_text()) | NO_MODEL.get(stage, {})
    values |= {"run_dir": str(folder)}
    if stage == "03":
        values["labels_file"] = str(folder / "labels_by_people.parquet")
    shell, peaks = InteractiveShell.instance(), []
    for name, source in cells(root, stage).items():
        if name in left_out:
            continue
        begin, cpu = time.perf_counter(), time.process_time()
        shell.run_cell(source).raise_error()
        if name.endswith("-04"):
            shell.user_ns.update(values)
        if name == "04-05":  # the cell after it loads the critic, and says where views are kept
            shell.user_ns |= {"store": None, "source": folder / "critic"}
        if name == "07-05":
            vcr = benchmark(BENCHMARK_ITEMS), folder / "images"
            shell.user_ns["benchmarks"] = {"vcr": vcr}
        peaks.append(peak := _peak())
        spent = f"{time.perf_counter() - begin:.1f} s, cpu {time.process_time() - cpu:.1f} s"
        print(f"{name}: {spent}, peak {peak:.2f} GiB", file=sys.stderr, flush=True)
    return peaks


def _peak() -> float:
    """The most memory that this process has had, in GiB; ``getrusage`` would count its parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 2**20


def lay_scores(folder: Path) -> None:
    """The critic's scores, laid where notebook 04 finds them done, part by part."""
    import pyarrow.parquet as pq

    from lskd_nb.critic import scoring
    from lskd_nb.records import REJECTS, SCORES, write_parquet

    (critic := folder / "critic").mkdir(exist_ok=True)
    (critic / "config.json").write_text("{}")
    files = folder / "regions.parquet", critic, (folder / "image_root.txt").read_text()
    columns = ["triple_id", "image_id", "answer"]
    table = pq.read_table(folder / "triples.parquet", columns=columns)
    lying = scoring.shards_of(table, *files, folder / "scores.parquet")
    judged = pq.read_table(folder / "judged.parquet").take(lying.order)
    for start in range(0, table.num_rows, scoring.PART):
        part = lying.folder / f"{start:07d}.parquet"
        write_parquet([], part.with_suffix(".rejects.parquet"), REJECTS)
        write_parquet(judged.slice(start, scoring.PART), part, SCORES)


def run_stage(folder: Path, stage: str, left_out: Sequence[str] = ()) -> Taken:
    """Run a stage ("03"), or several one after the other ("03+04"), but for some of the cells, in a
    process of its own; before 04, scores are laid (``lay_scores``). Raises ``RuntimeError`` where
    it fails.
    """
    begin = time.perf_counter()
    call = [sys.executable, __file__, str(folder), stage, *left_out]
    with tempfile.TemporaryFile("w+") as said:
        running = subprocess.Popen(call, stdout=said)
        _, status, used = os.wait4(running.pid, 0)
        running.returncode = os.waitstatus_to_exitcode(status)
        if status:
            raise RuntimeError(f"stage {stage} ended with {running.returncode}")
        said.seek(0)
        imports, gib = map(float, said.read().split()[-2:])
    seconds = time.perf_counter() - begin
    return Taken(stage, gib, gib - imports, seconds, used.ru_utime + used.ru_stime)


def run_stages(size: Size) -> list[Taken]:
    """All stages, one after the other, on tables made for them."""
    with tempfile.TemporaryDirectory() as place:
        write_run(Path(place), size)
        lay_scores(Path(place))
        return [run_stage(Path(place), stage) for stage in STAGES]


def rows_of(taken: Sequence[Taken], size: Size) -> list[Measured]:
    """Two lines for each stage; of a part of the paper's run, a part of its seconds is aimed at."""
    share = size.triples / PAPER.triples
    rows = []
    for one in taken:
        what = (
            f"notebook {one.stage} where no model is needed: {size.images:,} images,"
            f" {size.triples:,} triples"
        )
        seconds, gib = MOST_SECONDS * share, MOST_GIB * share + EMPTY_GIB * (1 - share)
        spent = f"of the processor {one.cpu:.0f} s"
        rows += [
            Measured(
                *("paper_stages", what, one.seconds, "s", f"≤ {seconds:.0f} s"),
                *(one.seconds <= seconds,),
                note=spent,
                why=WHY if one.stage == "07" and one.seconds > seconds else "",
            ),
            Measured(
                *("paper_stages", f"memory of that, notebook {one.stage}", one.gib, "GiB"),
                *(f"≤ {gib:.1f} GiB", one.gib <= gib),
            ),
        ]
    return rows


def measure() -> list[Measured]:
    """Over a fifth of the paper's run, or the share of it that LSKD_PAPER_SHARE is."""
    size = PAPER.part(float(os.environ.get("LSKD_PAPER_SHARE", "0.2")))
    return rows_of(run_stages(size), size)


if __name__ == "__main__":
    run, told, *left_out = sys.argv[1:]
    peaks = [peak for one in told.split("+") for peak in run_cells(Path(run), one, left_out)]
    print(f"\n{peaks[0]} {peaks[-1]}", flush=True)
