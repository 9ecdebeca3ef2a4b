"""The notebooks run small, for real: what a run measures, what it states as fact, and what is left
of it when it is killed.
"""

import json
import os
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

from lskd_nb.publishing.renderings import look_up
from lskd_nb.run_folder import find_root
from lskd_nb.runner.parameters import read_notebook, read_notebooks
from lskd_nb.runner.replication import EFFECTS

ROOT = find_root()
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SHOWN = ROOT / "outputs" / "mini"
RENDERINGS = sorted(SHOWN.glob("*.ipynb"))
SERIES = {p.stem for p in NOTEBOOKS if not read_notebook(p).optional}
PATIENCE = 1800  # seconds after which something hangs
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
        for t in ("snli_ve", "snli_ve_fitted", "visual7w", "aokvqa")
        for s in ("base", "lskd")
        for i in INTERVAL
    ),
]


def tagged(path: Path, tag: str) -> list:
    return [c for c in nbformat.read(path, as_version=4).cells if tag in c.metadata.get("tags", [])]


@pytest.mark.skipif(not (SHOWN / "metrics.json").exists(), reason="no pooled figures yet")
def test_pooled_figures_are_whole():
    metrics = json.loads((SHOWN / "metrics.json").read_text(encoding="utf-8"))
    assert [path for path in MEASURED if look_up(metrics, path) is None] == []
    assert len(metrics["scaling"]) >= 3 and set(metrics["seconds"]) == SERIES
    assert set(metrics["cpu_seconds"]) == SERIES | {"runner"}
    assert {"thresholds", "ceiling", "plain_base", "typical"} <= metrics.keys()
    by_seed = metrics["by_seed"]
    assert len(metrics["seeds"]) >= 5 and [s["seed"] for s in by_seed] == metrics["seeds"]
    for told in by_seed:
        assert {*EFFECTS, "critic", "scaling", "thresholds", "ceiling"} <= told.keys()


@pytest.mark.slow
def test_smoke_run_measures_everything(smoke):
    metrics = json.loads((smoke / "metrics.json").read_text(encoding="utf-8"))
    assert [p for p in MEASURED if not isinstance(look_up(metrics, p), (int, float))] == []
    assert all({"triples", "q_ar"} <= point.keys() for point in metrics["scaling"])
    assert len(metrics["scaling"]) >= 2
    assert [p["system"] for p in metrics["thresholds"]] == ["top_20"]
    assert set(metrics["ceiling"]["q_ar"]) == {"unfiltered", "lskd", "truth"}
    assert {"plain", "plain_lskd", "difference"} <= metrics["plain_base"].keys()
    assert set(metrics["seconds"]) == {p.stem for p in NOTEBOOKS}
    told = json.loads((smoke / "manifest.json").read_text(encoding="utf-8"))["notebooks"]
    missing = {
        name: [
            output
            for output, found in entry["outputs"].items()
            if found is None and not output.endswith(".metrics.json")
        ]
        for name, entry in told.items()
    }
    assert not any(missing.values()), f"declared but not written: {missing}"


# --------------------------------------------------------------------------- what is stated as fact


def stated(path: Path) -> list[tuple[str, str]]:
    """Source and output of each cell that states facts, as nbval compares them."""
    return [
        (cell.source, "".join(o.get("text") or o.data["text/plain"] for o in cell.outputs))
        for cell in tagged(path, "nbval-check-output")
    ]


@pytest.mark.slow
def test_the_estimate_of_a_finished_run_finds_every_reply_that_notebook_2_has_kept(smoke, lskd):
    done = lskd(ROOT, "estimate", "smoke", "--out", str(smoke))
    assert done.returncode == 0 and done.stdout.startswith("0 requests to "), done.stdout
    assert f"({replies(smoke)} are answered in the cache)" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("path", RENDERINGS, ids=[p.stem for p in RENDERINGS])
def test_what_readers_see_as_fact_holds_in_the_smoke_run_too(smoke, path):
    shown = stated(path)
    assert shown and stated(smoke / "notebooks" / path.name) == shown


@pytest.mark.slow
@pytest.mark.skipif(not RENDERINGS, reason="no renderings yet")
def test_nbval_agrees(smoke, tmp_path):
    """nbval runs renderings with the smoke run's parameters: no cell fails, and tagged cells
    print what readers see. One of them here; all with LSKD_NBVAL=all, as ``make endurance`` has it.
    """
    wanted = os.environ.get("LSKD_NBVAL", "04_filtering").split()
    for path in (p for p in RENDERINGS if "all" in wanted or p.stem in wanted):
        book = nbformat.read(path, as_version=4)
        (injected,) = tagged(smoke / "notebooks" / path.name, "injected-parameters")
        for cell in book.cells:
            if "injected-parameters" in cell.metadata.get("tags", []):
                cell.source = injected.source
        nbformat.write(book, tmp_path / path.name)
    assert list(tmp_path.iterdir())
    options = ["--nbval-lax", "--nbval-current-env", f"--nbval-cell-timeout={PATIENCE}"]
    command = [sys.executable, "-m", "pytest", *options, "-p", "no:cacheprovider", "-q", "-x"]
    command += ["--tb=short", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]


# ------------------------------------------------------------------------ killed, and started again


def kill_when(condition: Callable[[], bool], *arguments: str, may_end: bool = False) -> bool:
    """Start ``lskd`` with these arguments and kill it with SIGKILL as soon as ``condition``
    holds; False where it ended before, if it may.
    """
    command = [sys.executable, "-m", "lskd_nb.cli", *arguments]
    runner = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, start_new_session=True)
    end = time.monotonic() + PATIENCE
    try:
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


def replies(run_dir: Path) -> int:
    """How many of the teacher's replies are stored."""
    try:
        with sqlite3.connect(f"file:{run_dir / 'teacher_cache.sqlite'}?mode=ro", uri=True) as cache:
            return cache.execute("SELECT count(*) FROM replies").fetchone()[0]
    except sqlite3.OperationalError:
        return 0


def delete(run_dir: Path, *names: str) -> None:
    for name in names:
        for path in run_dir.glob(name):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.fixture
def half_done(smoke, tmp_path) -> Path:
    """A copy of the smoke run in which 02, 03's critic, 04 and the LSKD student of 05 have yet to
    be done.
    """
    run_dir = shutil.copytree(smoke, tmp_path / "run", ignore=shutil.ignore_patterns(".lock"))
    delete(run_dir, "triples.parquet", "rejects_02.parquet", "teacher_cache.sqlite", "metrics.json")
    delete(run_dir, "critic", "critic.*", "labels*.parquet", "scores.*", "corpus.*")
    delete(run_dir, "student/lskd", "student/lskd.*", "0[2-5]_*.metrics.json")
    manifest = run_dir / "manifest.json"
    told = json.loads(manifest.read_text(encoding="utf-8"))
    told["notebooks"] = {
        n: e for n, e in told["notebooks"].items() if n[:3] not in ("02_", "03_", "04_", "05_")
    }
    manifest.write_text(json.dumps(told))
    return run_dir


def ask_until_killed_midway(run_dir: Path, whole: int, *command: str) -> int:
    """Kill notebook 02 while the teacher is answering; how many replies there are then. Where
    the kill came after the last of them, 02 is begun again.
    """
    for _ in range(20):
        kill_when(lambda: replies(run_dir) > 0, *command)
        if (answered := replies(run_dir)) < whole:
            return answered
        delete(run_dir, "teacher_cache.sqlite*", "triples.parquet")
    raise AssertionError("every kill came too late to prove anything")


@pytest.mark.endurance
def test_killed_while_asking_scoring_and_training_a_run_ends_with_the_same_student(
    smoke, half_done, lskd
):
    """And asks the teacher for nothing twice: after the first kill, its budget is what had not been
    answered. ``make endurance`` has twenty kills at random moments."""
    run_dir, whole = half_done, replies(smoke)
    command = (
        "run",
        "smoke",
        "--out",
        str(run_dir),
        "--limit",
        str(PATIENCE),
        "--run-limit",
        str(4 * PATIENCE),
    )
    command += ("-p", "02.concurrency=1")
    answered = ask_until_killed_midway(run_dir, whole, *command)
    frugal = (*command, "-p", f"02.budget_requests={whole - answered}")
    kill_when((run_dir / "critic.training" / "checkpoint.pt").exists, *frugal)
    assert replies(run_dir) == whole and not (run_dir / "critic").exists()
    kill_when(lambda: (run_dir / "scores.parts").exists(), *frugal)
    kill_when(lambda: any((run_dir / "student").glob("lskd.training/metrics.jsonl")), *frugal)
    assert not (run_dir / "metrics.json").exists() and not (run_dir / "student" / "lskd").exists()
    done = lskd(ROOT, *frugal, "--only", "02", "--only", "03", "--only", "04", "--only", "05")
    assert done.returncode == 0, done.stderr[-2000:]
    for skipped in ("02_prompting", "03_critic_training", "04_filtering"):
        assert f"{skipped} … nothing it reads has changed" in done.stdout
    trained = [f"{folder}/model.safetensors" for folder in ("critic", "student/lskd")]
    for name in ("scores.parquet", "corpus.parquet", "labels_held_out.parquet", *trained):
        assert (run_dir / name).read_bytes() == (smoke / name).read_bytes(), name
    assert replies(run_dir) == whole


def figures(run_dir: Path) -> dict:
    """What a run measured; not how long it took, nor what the optional notebooks added."""
    metrics = json.loads((run_dir / "metrics.json").read_text(encoding="utf-8"))
    optional = {n.name for n in read_notebooks(ROOT) if n.optional}
    besides = {"seconds", "cpu_seconds"}.union(
        *(
            json.loads(path.read_text(encoding="utf-8"))
            for path in run_dir.glob("*.metrics.json")
            if path.name.removesuffix(".metrics.json") in optional
        )
    )
    assert {"vcr", "critic", "acceptability", "scaling"} <= metrics.keys() - besides
    return {k: v for k, v in metrics.items() if k not in besides}


@pytest.mark.slow
@pytest.mark.endurance
def test_killed_at_twenty_random_moments_a_run_ends_with_the_same_figures(smoke, half_done, lskd):
    run_dir, rng, kills = half_done, np.random.default_rng(0), 0
    command = ("run", "smoke", "--out", str(run_dir), "-p", "02.concurrency=1")
    for number, times, longest in (("02", 5, 5), ("03", 5, 12), ("04", 5, 6), ("05", 5, 9)):
        for _ in range(times):
            end = time.monotonic() + rng.uniform(1, longest)
            if not kill_when(
                lambda end=end: time.monotonic() > end, *command, "--only", number, may_end=True
            ):
                break
            kills += 1
        assert lskd(ROOT, *command, "--only", number).returncode == 0
    assert kills >= 15, "most kills came too late to prove anything"
    assert lskd(ROOT, *command, timeout=4 * PATIENCE).returncode == 0
    assert figures(run_dir) == figures(smoke)
