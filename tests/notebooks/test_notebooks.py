"""The notebooks: stored clean, built by one plan, run small for real, and equal to what readers
are shown in outputs/mini/.
"""

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import nbformat
import numpy as np
import pytest

from lskd_nb.publishing.renderings import LARGEST, look_up
from lskd_nb.run_folder import find_root
from lskd_nb.runner.manifest import notebook_source
from lskd_nb.runner.parameters import profile_parameters, read_notebook, read_notebooks

ROOT = find_root()
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SHOWN = ROOT / "outputs" / "mini"
SERIES = {p.stem for p in NOTEBOOKS if not read_notebook(p).optional}
PROFILES = ("smoke", "mini", "a100")
FORBIDDEN = re.compile(r"\bpip3? install\b|^[!%]\s*pip\b|\bsys\.path\b|autoreload", re.MULTILINE)
MARKUP = re.compile(r"<svg.*?</svg>|<[^>]+>", re.DOTALL)  # pictures and tags are no prose
INTERVAL = ("mean", "low", "high")
MEASURED = [  # what metrics.json must hold
    *(
        f"vcr.{s}.{t}.{i}"
        for s in ("base", "unfiltered", "lskd")
        for t in ("q_a", "qa_r", "q_ar")
        for i in INTERVAL
    ),
    *(f"acceptability.{s}.{i}" for s in ("raw", "kept") for i in INTERVAL),
    *(f"critic.{name}" for name in ("precision", "recall", "f1", "auc")),
    *(f"grounding.{s}.{i}" for s in ("base", "lskd") for i in INTERVAL),
    *(
        f"{t}.{s}.{i}"
        for t in ("sherlock", "visualcomet")
        for s in ("base", "lskd", "clip")
        for i in INTERVAL
    ),
    *(
        f"nonlocalized.{t}.{s}.{i}"
        for t in ("snli_ve", "visual7w", "aokvqa")
        for s in ("base", "lskd")
        for i in INTERVAL
    ),
]


def by_name(paths) -> dict:
    return dict(argnames="path", argvalues=paths, ids=[p.stem for p in paths])


def cells(path: Path, tag: str) -> list:
    return [c for c in nbformat.read(path, as_version=4).cells if tag in c.metadata.get("tags", [])]


# ---------------------------------------------------------------------------------------- as stored


@pytest.mark.parametrize(**by_name(NOTEBOOKS))
def test_stored_without_traces_of_a_run(path):
    book = nbformat.read(path, as_version=4)
    nbformat.validate(book)
    assert not {"papermill", "widgets"} & book.metadata.keys()
    for cell in book.cells:
        assert (
            not cell.get("outputs")
            and cell.get("execution_count") is None
            and not {"papermill", "execution"} & cell.metadata.keys()
        )
    assert not cells(path, "injected-parameters")


@pytest.mark.parametrize(**by_name(NOTEBOOKS))
def test_built_by_the_plan(path):
    book = nbformat.read(path, as_version=4)
    code = [c.source for c in book.cells if c.cell_type == "code"]
    prose = sum(len(MARKUP.sub("", c.source)) for c in book.cells if c.cell_type == "markdown")
    assert 18 <= len(book.cells) <= 30
    assert max(len(source.splitlines()) for source in code) <= 20
    assert prose >= sum(map(len, code)), (
        f"{prose:,} characters of prose explain {sum(map(len, code)):,} of code"
    )
    assert not [source for source in code if FORBIDDEN.search(source)]
    assert book.cells[0].cell_type == "markdown" and book.cells[0].source.startswith("# ")
    assert len(cells(path, "parameters")) == 1
    assert cells(path, "nbval-check-output"), "no cell states facts that nbval can check"


@pytest.mark.parametrize(**by_name(NOTEBOOKS))
def test_says_what_it_reads_and_writes(path):
    told = nbformat.read(path, as_version=4).metadata.get("lskd", {})
    assert told.keys() - {"optional"} == {"reads", "writes"} and all(
        isinstance(entry, str) for entry in told["reads"] + told["writes"]
    )
    read_notebook(path)  # and every param:NAME is declared


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(**by_name(NOTEBOOKS))
def test_profiles_fit(path, profile):
    """Also under plain papermill, which knows no run folder but the one in the file."""
    notebook = read_notebook(path)
    given = profile_parameters(ROOT, profile, notebook)
    if profile == "mini":
        assert {k: notebook.defaults[k] for k in given} == given, (
            "the notebook's own values are those of mini"
        )
        assert notebook.defaults.keys() - given.keys() <= {"run_dir"}
    if "run_dir" in notebook.defaults:
        assert (notebook.defaults | given)["run_dir"] == f"outputs/runs/{profile}"


def test_profiles_have_no_other_files():
    known = {f"{path.stem}.yaml" for path in NOTEBOOKS}
    assert {p.name for profile in PROFILES for p in (ROOT / "params" / profile).iterdir()} == known


# ------------------------------------------------------------------------------ as shown to readers


RENDERINGS = sorted(SHOWN.glob("*.ipynb"))


@pytest.mark.parametrize(**by_name(NOTEBOOKS if RENDERINGS else []))
def test_rendering_is_of_this_source(path):
    rendering = SHOWN / path.name
    assert rendering.exists(), "make renderings"
    assert notebook_source(rendering) == notebook_source(path), (
        f"{path.name} has moved on: make mini renderings"
    )


@pytest.mark.parametrize(**by_name(RENDERINGS))
def test_rendering_is_fit_to_read(path):
    assert path.stat().st_size <= LARGEST and (ROOT / "notebooks" / path.name).exists()
    book = nbformat.read(path, as_version=4)
    assert not {"papermill", "widgets"} & book.metadata.keys()
    assert str(ROOT) not in path.read_text(encoding="utf-8")
    ran = [c for c in book.cells if c.cell_type == "code" and c.source.strip()]
    assert all(c.execution_count for c in ran)
    assert not [o for c in ran for o in c.outputs if o.output_type == "error"]
    for cell in cells(path, "nbval-check-output"):
        assert cell.outputs and all(
            o.output_type == "stream" or set(o.data) == {"text/plain"} for o in cell.outputs
        )


@pytest.mark.skipif(not (SHOWN / "metrics.json").exists(), reason="no pooled figures yet")
def test_pooled_figures_are_whole():
    metrics = json.loads((SHOWN / "metrics.json").read_text(encoding="utf-8"))
    assert [path for path in MEASURED if look_up(metrics, path) is None] == []
    assert len(metrics["scaling"]) >= 3 and set(metrics["seconds"]) == SERIES


# ---------------------------------------------------------------------------------------- run small


@pytest.mark.slow
def test_smoke_run_measures_everything(smoke):
    metrics = json.loads((smoke / "metrics.json").read_text(encoding="utf-8"))
    assert [path for path in MEASURED if not isinstance(look_up(metrics, path), (int, float))] == []
    assert (
        all({"triples", "q_ar"} <= point.keys() for point in metrics["scaling"])
        and len(metrics["scaling"]) >= 3
    )
    assert set(metrics["seconds"]) == {p.stem for p in NOTEBOOKS}
    told = json.loads((smoke / "manifest.json").read_text(encoding="utf-8"))["notebooks"]
    missing = {
        name: [
            o
            for o, found in entry["outputs"].items()
            if found is None and not o.endswith(".metrics.json")
        ]
        for name, entry in told.items()
    }
    assert not any(missing.values()), f"declared but not written: {missing}"


@pytest.mark.slow
def test_stated_facts_still_hold(smoke, tmp_path):
    """nbval runs each rendering with the smoke run's parameters: no cell fails, and tagged cells
    print what readers see.
    """
    if not RENDERINGS:
        pytest.skip("no renderings yet")
    for path in RENDERINGS:
        book = nbformat.read(path, as_version=4)
        (injected,) = cells(smoke / "notebooks" / path.name, "injected-parameters")
        for cell in book.cells:
            if "injected-parameters" in cell.metadata.get("tags", []):
                cell.source = injected.source
        nbformat.write(book, tmp_path / path.name)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--nbval-lax",
        "--nbval-current-env",
        "--nbval-cell-timeout=300",
        "-p",
        "no:cacheprovider",
        "-q",
        "-x",
        "--tb=short",
        str(tmp_path),
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]


def kill_when(condition: Callable[[], bool], *arguments: str, may_end: bool = False) -> bool:
    """Start ``lskd`` with these arguments and kill it with SIGKILL as soon as ``condition``
    holds; False where it ended before, if it may.
    """
    command = [sys.executable, "-m", "lskd_nb.cli", *arguments]
    runner = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        end = time.monotonic() + 300
        while not condition():
            if runner.poll() == 0 and may_end:
                return False
            assert runner.poll() is None, "the run ended before it could be killed"
            assert time.monotonic() < end, "waited in vain"
            time.sleep(0.02)
    finally:
        if runner.poll() is None:
            os.killpg(runner.pid, signal.SIGKILL)
        runner.wait()
    return True


def kill_at_random(times: int, longest: float, rng: np.random.Generator, *arguments: str) -> int:
    """Start and kill ``lskd`` again and again, each time after 1 to ``longest`` seconds; how
    often, which is less where it came to its end.
    """
    for killed in range(times):
        end = time.monotonic() + rng.uniform(1, longest)
        if not kill_when(lambda end=end: time.monotonic() > end, *arguments, may_end=True):
            return killed
    return times


def replies(run_dir: Path) -> int:
    """How many of the teacher's replies are stored."""
    try:
        with sqlite3.connect(f"file:{run_dir / 'teacher_cache.sqlite'}?mode=ro", uri=True) as cache:
            return cache.execute("SELECT count(*) FROM replies").fetchone()[0]
    except sqlite3.OperationalError:
        return 0


@pytest.mark.slow
def test_killed_at_twenty_moments_in_02_04_and_05_a_run_ends_with_the_same_figures(
    smoke, tmp_path, lskd
):
    """And asks the teacher for nothing twice: after the first kill, its budget is what had not
    been answered.
    """
    run_dir, rng = tmp_path / "run", np.random.default_rng(0)
    kept = [entry for n in read_notebooks(ROOT) if n.number < "02" for entry in n.writes]
    for entry in (
        *kept,
        *(f"{n.name}.metrics.json" for n in read_notebooks(ROOT) if n.number < "02"),
        "manifest.json",
        "notebooks",
    ):
        source = smoke / entry
        if source.exists():
            (
                shutil.copytree(source, run_dir / entry)
                if source.is_dir()
                else shutil.copy2(source, run_dir / entry)
            )
    whole = replies(smoke)
    command = ("run", "smoke", "--out", str(run_dir), "-p", "02.concurrency=1")
    kill_when(lambda: replies(run_dir) > 0, *command)
    answered = replies(run_dir)
    assert 0 < answered < whole, "the kill came too late to prove anything"
    frugal = (*command, "-p", f"02.budget_requests={whole - answered}")
    kills = 1 + kill_at_random(4, 5, rng, *frugal, "--only", "02")
    assert lskd(ROOT, *frugal, "--only", "02", "--only", "03").returncode == 0
    kills += kill_at_random(6, 6, rng, *frugal, "--only", "04")
    assert lskd(ROOT, *frugal, "--only", "04").returncode == 0
    kill_when(lambda: any((run_dir / "student").glob("*.training/metrics.jsonl")), *frugal)
    kills += 1 + kill_at_random(20 - kills - 1, 9, rng, *frugal, "--only", "05")
    assert kills == 20 and not (run_dir / "metrics.json").exists()
    done = lskd(ROOT, *frugal, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (
        "02_prompting … nothing it reads has changed" in done.stdout and replies(run_dir) == whole
    )
    once, again = (
        json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        for folder in (smoke, run_dir)
    )
    optional = [smoke / f"{n.name}.metrics.json" for n in read_notebooks(ROOT) if n.optional]
    besides = {"seconds"}.union(
        *(json.loads(path.read_text(encoding="utf-8")) for path in optional)
    )
    assert {k: v for k, v in again.items() if k not in besides} == {
        k: v for k, v in once.items() if k not in besides
    }
    assert {"vcr", "critic", "acceptability", "scaling"} <= again.keys() - besides
