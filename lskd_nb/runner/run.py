"""Run the notebooks of a profile headless, strictly, and only as far as something has changed.

Each notebook is executed with papermill, in a process of its own and under time limits, with the
profile's parameters. It is skipped when its source, its parameters, what it can reach of the
package and every file it reads are those of its last good run, and what it wrote is still there
unchanged. ``manifest.json`` says what ran with what; ``metrics.json`` gathers what the notebooks
measured.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout

from lskd_nb.records import atomic_path
from lskd_nb.run_folder import RunError
from lskd_nb.runner import manifest
from lskd_nb.runner.execution import end_processes, execute
from lskd_nb.runner.findings import when
from lskd_nb.runner.parameters import (
    Notebook,
    choose,
    parse_overrides,
    profile_notebooks,
    profile_parameters,
)
from lskd_nb.runner.readiness import look
from lskd_nb.runner.stops import keep_what_was_imported, require_files

WEEK = 7 * 86_400.0
# seconds a notebook and a run may take, by profile; else a week
LIMITS = {"smoke": (300.0, 600.0), "mini": (1800.0, 3600.0)}

Say = Callable[[str], None]
Tick = Callable[[str], None]  # shows a line that the next one replaces


@contextmanager
def locked(run_dir: Path) -> Iterator[None]:
    """Hold a run's folder, free of what a killed run may have left running.

    Raises ``RunError`` where another run holds it.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(run_dir / ".lock", timeout=0):
            end_processes(run_dir)
            yield
    except Timeout:
        raise RunError(f"another run is writing to {run_dir}") from None


def run_profile(
    profile: str,
    root: Path,
    run_dir: Path,
    only: Sequence[str] = (),
    start: str | None = None,
    overrides: Sequence[str] = (),
    limits: tuple[float | None, float | None] = (None, None),
    say: Say = print,
    tick: Tick | None = None,
) -> dict:
    """Run a profile's notebooks in order; returns the manifest.

    ``limits`` are the seconds a notebook and the whole run may take (None: the profile's own).
    Every parameter is checked before anything runs, and what this machine lacks for the notebooks
    to come is told when the first of them starts. Raises ``RunError`` for a parameter that does
    not fit, for a notebook that can't start, and at the first that fails, naming its cell.
    """
    own, run_dir = time.process_time(), run_dir.resolve()
    named = (*only, *([start] if start else ()))
    notebooks = profile_notebooks(root, profile, named, say)
    chosen = choose(notebooks, only, start)
    changed = parse_overrides(overrides, notebooks)
    place = {"run_dir": str(run_dir)}
    given = {
        n.name: (
            profile_parameters(root, profile, n)
            | changed.get(n.name, {})
            | (place if "run_dir" in n.defaults else {})
        )
        for n in chosen
    }
    per_notebook, whole = (
        own or usual for own, usual in zip(limits, LIMITS.get(profile, (WEEK, WEEK)), strict=True)
    )
    end = time.monotonic() + whole
    with locked(run_dir):
        keep_what_was_imported(chosen, given, run_dir)
        record = manifest.open_manifest(run_dir, profile, root)
        hashes = manifest.Hashes(run_dir)
        told = False
        for count, notebook in enumerate(chosen, 1):
            title = f"[{count}/{len(chosen)}] {notebook.name} …"
            stage = manifest.Stage(notebook, given[notebook.name], run_dir, root)
            require_files(stage, profile, notebooks, say)
            agreed = manifest.agreed(record, stage)
            before = manifest.fingerprint(agreed, hashes)
            if manifest.is_current(record, stage, hashes, before):
                say(f"{title} nothing it reads has changed")
                continue
            limit = min(per_notebook, end - time.monotonic())
            if limit <= 0:
                raise RunError(
                    f"FAILED {notebook.name}: not started, the run has used up its {whole:.0f} s"
                )
            _require_needs(profile, chosen[count - 1 :], given, root, None if told else say)
            told = True
            # what is there was measured by a run that ended
            (run_dir / "metrics.json").unlink(missing_ok=True)
            if agreed is not stage:
                before = manifest.fingerprint(stage, hashes)
            show = tick and partial(_show, tick, title)
            say(f"{title} {_run_stage(record, stage, hashes, before, limit, own, show)}")
            own = time.process_time()
        write_metrics(run_dir, record, notebooks)
    return record


def _require_needs(
    profile: str,
    left: Sequence[Notebook],
    given: Mapping[str, Mapping[str, object]],
    root: Path,
    say: Say | None,
) -> None:
    """Return where the first of the notebooks that are ``left`` can start; what the later ones
    lack is said.

    Raises ``RunError`` with all that the first one lacks.
    """
    first = left[0].number
    values = {n.number: dict(n.defaults) | given[n.name] for n in (left if say else left[:1])}
    missing = [f for f in look(profile, values, root) if f.ok is False]
    if say and (later := [f for f in missing if f.notebook != first]):
        say("\n".join(f"{when(f.notebook, first=False)} you will need: {f.detail}" for f in later))
    if now := [f for f in missing if f.notebook == first]:
        lines = "\n".join(f"  {f.subject}: {f.detail}" for f in now)
        raise RunError(f"FAILED {left[0].name}: not started, it needs what is not there:\n{lines}")


def _run_stage(
    record: dict,
    stage: manifest.Stage,
    hashes: manifest.Hashes,
    before: Mapping,
    limit: float,
    own: float,
    tick,
) -> str:
    """Execute a notebook, on the record from its start; returns what to say of it. ``own`` is the
    runner's processor time when it turned to this notebook.

    Raises ``RunError`` when it fails.
    """
    name, out = stage.notebook.name, stage.run_dir / "notebooks" / stage.notebook.path.name
    entry = manifest.begun(stage, before)
    record["notebooks"][name] = entry
    manifest.save(record, stage.run_dir)
    ended = execute(
        stage.notebook.path, stage.parameters, out, limit, stage.run_dir, stage.root, tick
    )
    entry |= dict(
        status="failed" if ended.failed else "done",
        seconds=round(ended.seconds, 1),
        cpu_seconds=round(ended.cpu_seconds, 1),
        peak_gib=ended.peak_gib,
    )
    if ended.gpus.hours:
        entry |= dict(gpu_hours=ended.gpus.hours, gpu_peak_gib=ended.gpus.peak_gib)
    if ended.failed:
        entry["error"] = ended.failed
    else:
        entry["outputs"] = manifest.written(stage, hashes)
    entry["runner_cpu_seconds"] = round(time.process_time() - own, 2)
    manifest.save(record, stage.run_dir)
    hashes.save()
    if ended.failed:
        raise RunError(f"the notebook as far as it came: {out}\nFAILED {ended.failed}")
    cells = f"(cells {ended.cells[0]}/{ended.cells[1]})"
    return f"{ended.seconds:.0f} s, of the processor {ended.cpu_seconds:.0f} s {cells}"


def _show(tick: Tick, title: str, seconds: float, cells: tuple[int, int]) -> None:
    tick(f"{title} {seconds:.0f} s" + (f" (cells {cells[0]}/{cells[1]})" if cells[1] else ""))


def write_metrics(run_dir: Path, record: Mapping, notebooks: Sequence[Notebook]) -> dict:
    """``metrics.json``: what the finished notebooks measured, and the seconds each took last."""
    merged: dict = {}
    done = [n for n in notebooks if record["notebooks"].get(n.name, {}).get("status") == "done"]
    for notebook in done:
        path = run_dir / f"{notebook.name}.metrics.json"
        try:
            _merge(merged, json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            continue
        except (json.JSONDecodeError, AttributeError) as error:
            raise RunError(
                f"{path}, written by {notebook.name}, must hold a JSON object: {error}"
            ) from None
    merged |= seconds_of(record, [n.name for n in done])
    with atomic_path(run_dir / "metrics.json") as temporary:
        temporary.write_text(json.dumps(merged, indent=1) + "\n", encoding="utf-8")
    return merged


def seconds_of(record: Mapping, names: Sequence[str]) -> dict[str, dict[str, float]]:
    """What these notebooks took when each was last executed: ``seconds`` by the clock,
    ``cpu_seconds`` of the processor, where they and "runner", what it cost to look after them, add
    up to all of a run's.
    """
    entries = {name: record["notebooks"][name] for name in names}
    # a manifest of earlier days has none
    known = {name: entry for name, entry in entries.items() if "cpu_seconds" in entry}
    runner = round(sum(entry["runner_cpu_seconds"] for entry in known.values()), 1)
    return dict(
        seconds={name: entry["seconds"] for name, entry in entries.items()},
        cpu_seconds={name: e["cpu_seconds"] for name, e in known.items()} | {"runner": runner},
    )


def _merge(into: dict, new: Mapping) -> None:
    for key, value in new.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value
