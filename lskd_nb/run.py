"""``lskd``: run the notebooks of a profile headless, strictly, and only as far as something has changed.

Each notebook is executed with papermill, in a process of its own and under time limits, with the profile's parameters. It is skipped
when its source, its parameters, the package and every file it reads are those of its last good run, and what it wrote is still
there unchanged. ``manifest.json`` says what ran with what; ``metrics.json`` gathers what the notebooks measured.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout

from lskd_nb import book, manifest
from lskd_nb.execution import end_processes, execute
from lskd_nb.parameters import Notebook, RunError, parse_overrides, profile_parameters, read_notebooks
from lskd_nb.records import atomic_path
from lskd_nb.sharing import add_commands as add_sharing_commands

WEEK = 7 * 86_400.0
LIMITS = {"smoke": (300.0, 600.0), "mini": (1800.0, 3600.0)}  # seconds a notebook and a run may take, by profile; else a week

Say = Callable[[str], None]
Tick = Callable[[str], None]  # shows a line that the next one replaces


def find_root() -> Path:
    """The folder that holds notebooks/ and params/: $LSKD_ROOT, or above the package, or above the working directory."""
    if told := os.environ.get("LSKD_ROOT"):
        return Path(told).resolve()
    for start in (Path(__file__).resolve().parent, Path.cwd().resolve()):
        for folder in (start, *start.parents):
            if (folder / "notebooks").is_dir() and (folder / "params").is_dir():
                return folder
    raise RunError("no folder with notebooks/ and params/ above the package or the working directory; set LSKD_ROOT")


def choose(notebooks: Sequence[Notebook], only: Sequence[str], start: str | None) -> list[Notebook]:
    """The notebooks that ``only`` names, or those from ``start`` on, or all; optional ones only where they are named.

    Raises ``RunError`` for a name that is nobody's.
    """
    for name in (*only, *([start] if start else ())):
        if not any(n.is_called(name) for n in notebooks):
            raise RunError(f"there is no notebook {name!r}, only {', '.join(n.name for n in notebooks)}")
    first = next((i for i, n in enumerate(notebooks) if start and n.is_called(start)), 0)
    named = {n.name for n in notebooks if any(n.is_called(name) for name in only)}
    return [n for n in notebooks[first:] if n.name in named or not (only or n.optional)]


@contextmanager
def locked(run_dir: Path) -> Iterator[None]:
    """Hold a run's folder, free of what a killed run may have left running. Raises ``RunError`` where another run holds it."""
    run_dir.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(run_dir / ".lock", timeout=0):
            end_processes(run_dir)
            yield
    except Timeout:
        raise RunError(f"another run is writing to {run_dir}") from None


def run_profile(
    profile: str, root: Path, run_dir: Path, only: Sequence[str] = (), start: str | None = None, overrides: Sequence[str] = (),
    limits: tuple[float | None, float | None] = (None, None), say: Say = print, tick: Tick | None = None,
) -> dict:
    """Run a profile's notebooks in order; returns the manifest.

    ``limits`` are the seconds a notebook and the whole run may take (None: the profile's own). Every parameter is checked before
    anything runs. Raises ``RunError`` for a parameter that does not fit, and at the first notebook that fails, naming its cell.
    """
    run_dir = run_dir.resolve()
    notebooks = read_notebooks(root)
    chosen = choose(notebooks, only, start)
    changed = parse_overrides(overrides, notebooks)
    place = {"run_dir": str(run_dir)}
    given = {n.name: profile_parameters(root, profile, n) | changed.get(n.name, {}) | (place if "run_dir" in n.defaults else {})
             for n in chosen}
    per_notebook, whole = (own or usual for own, usual in zip(limits, LIMITS.get(profile, (WEEK, WEEK)), strict=True))
    end = time.monotonic() + whole
    with locked(run_dir):
        record = manifest.open_manifest(run_dir, profile, root)
        hashes = manifest.Hashes(run_dir)
        for count, notebook in enumerate(chosen, 1):
            title = f"[{count}/{len(chosen)}] {notebook.name} …"
            stage = manifest.Stage(notebook, given[notebook.name], run_dir, root)
            if manifest.is_current(record, stage, hashes):
                say(f"{title} nothing it reads has changed")
                continue
            limit = min(per_notebook, end - time.monotonic())
            if limit <= 0:
                raise RunError(f"FAILED {notebook.name}: not started, the run has used up its {whole:.0f} s")
            (run_dir / "metrics.json").unlink(missing_ok=True)  # what is there was measured by a run that ended
            say(f"{title} {_run_stage(record, stage, hashes, limit, tick and partial(_show, tick, title))}")
        write_metrics(run_dir, record, notebooks)
    return record


def _run_stage(record: dict, stage: manifest.Stage, hashes: manifest.Hashes, limit: float, tick) -> str:
    """Execute a notebook, on the record from its start; returns what to say of it. Raises ``RunError`` when it fails."""
    name, out = stage.notebook.name, stage.run_dir / "notebooks" / stage.notebook.path.name
    before = manifest.fingerprint(stage, hashes)
    entry = manifest.begun(stage, before)
    record["notebooks"][name] = entry
    manifest.save(record, stage.run_dir)
    ended = execute(stage.notebook.path, stage.parameters, out, limit, stage.run_dir, stage.root, tick)
    entry |= dict(status="failed" if ended.failed else "done", seconds=round(ended.seconds, 1), peak_gib=ended.peak_gib)
    if ended.failed:
        entry["error"] = ended.failed
    else:
        entry["outputs"] = manifest.written(stage, hashes)
    manifest.save(record, stage.run_dir)
    hashes.save()
    if ended.failed:
        raise RunError(f"the notebook as far as it came: {out}\nFAILED {ended.failed}")
    return f"{ended.seconds:.0f} s (cells {ended.cells[0]}/{ended.cells[1]})"


def _show(tick: Tick, title: str, seconds: float, cells: tuple[int, int]) -> None:
    tick(f"{title} {seconds:.0f} s" + (f" (cells {cells[0]}/{cells[1]})" if cells[1] else ""))


def write_metrics(run_dir: Path, record: Mapping, notebooks: Sequence[Notebook]) -> dict:
    """``metrics.json``: what the finished notebooks measured, merged, and the seconds each took when it last ran."""
    merged: dict = {}
    done = {name: entry for name, entry in record["notebooks"].items() if entry["status"] == "done"}
    for notebook in (n for n in notebooks if n.name in done):
        path = run_dir / f"{notebook.name}.metrics.json"
        try:
            _merge(merged, json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            continue
        except (json.JSONDecodeError, AttributeError) as error:
            raise RunError(f"{path}, written by {notebook.name}, must hold a JSON object: {error}") from None
    merged["seconds"] = {n.name: done[n.name]["seconds"] for n in notebooks if n.name in done}
    with atomic_path(run_dir / "metrics.json") as temporary:
        temporary.write_text(json.dumps(merged, indent=1) + "\n", encoding="utf-8")
    return merged


def _merge(into: dict, new: Mapping) -> None:
    for key, value in new.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


# ------------------------------------------------------------------------------------------- command line


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the last line printed says what failed, if anything."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments[:2] == ["mini", "pretrain"]:
        from lskd_nb.mini.pretrain import main as pretrain

        pretrain(arguments[2:])
        return 0
    options = _parser().parse_args(arguments)
    try:
        return options.command(options, find_root())
    except (RunError, OSError, ValueError) as error:
        print(_shown(""), error, sep="", file=sys.stderr, flush=True)
        return 1
    except KeyboardInterrupt:
        print(_shown(""), "stopped: run it again to go on from here", sep="", file=sys.stderr, flush=True)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lskd", description="Run the notebooks of Localized Symbolic Knowledge Distillation.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="run the notebooks of a profile, as far as something has changed", epilog=(
        "example: lskd run mini --from 05 -p 05.steps=100 -p 05.lr=1e-3"))
    run.add_argument("profile", help="smoke, mini, a100, or another folder of params/")
    run.add_argument("--only", action="append", default=[], metavar="NN", help="this notebook alone; may be repeated")
    run.add_argument("--from", dest="start", metavar="NN", help="from this notebook on")
    run.add_argument("-p", dest="overrides", action="append", default=[], metavar="NN.key=value", help="set a parameter; may be repeated")
    run.add_argument("--out", type=Path, help="the run's folder, default outputs/runs/PROFILE")
    _add_limits(run)
    run.set_defaults(command=_run_command)
    replicate = commands.add_parser("replicate", help="run the learning stages with several seeds and pool their figures")
    replicate.add_argument("profile")
    replicate.add_argument("--seeds", type=int, default=3, help="how many, the profile's own among them (default 3)")
    _add_limits(replicate)
    replicate.set_defaults(command=_replicate_command)
    renderings = commands.add_parser("renderings", help="promote a finished run's notebooks to outputs/PROFILE/, for readers")
    renderings.add_argument("profile")
    renderings.set_defaults(command=_renderings_command)
    check = commands.add_parser("check", help="look at every path, model, key, GPU and the disk that a profile needs, before anything is spent")
    check.add_argument("profile")
    check.set_defaults(command=_check_command)
    estimate = commands.add_parser("estimate", help="what notebook 02 would ask, and what that would cost; nothing is sent")
    estimate.add_argument("profile")
    estimate.add_argument("-p", dest="overrides", action="append", default=[], metavar="02.key=value", help="set a parameter; may be repeated")
    estimate.add_argument("--out", type=Path, help="the run's folder, default outputs/runs/PROFILE")
    estimate.set_defaults(command=_estimate_command)
    add_sharing_commands(commands, _say)
    book.add_command(commands, _say)
    mini = commands.add_parser("mini", help="the mini world").add_subparsers(required=True, metavar="COMMAND")
    mini.add_parser("pretrain", help="make its weights: the base student and the verbalizers")
    return parser


def _add_limits(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--limit", type=float, metavar="SECONDS", help="that a notebook may take")
    parser.add_argument("--run-limit", type=float, metavar="SECONDS", help="that a whole run may take")


def _run_command(options: argparse.Namespace, root: Path) -> int:
    from lskd_nb.results import result_lines

    run_dir = options.out or root / "outputs" / "runs" / options.profile
    limits = (options.limit, options.run_limit)
    run_profile(options.profile, root, run_dir, options.only, options.start, options.overrides, limits, _say, _tick())
    for line in result_lines(run_dir.resolve(), root / "outputs" / options.profile / "metrics.json"):
        _say(line)
    return 0


def _replicate_command(options: argparse.Namespace, root: Path) -> int:
    from lskd_nb.replication import replicate

    out = replicate(options.profile, root, options.seeds, (options.limit, options.run_limit), _say, _tick())
    _say(f"the pooled figures are in {out}")
    return 0


def _renderings_command(options: argparse.Namespace, root: Path) -> int:
    from lskd_nb.results import promote

    run_dir = root / "outputs" / "runs" / options.profile
    with locked(run_dir):
        for path in promote(run_dir, root, root / "outputs" / options.profile):
            _say(str(path))
    if options.profile == "mini":
        from lskd_nb.mini.teaser import draw_teaser

        draw_teaser(teaser := root / "outputs" / "mini" / "teaser.png")
        _say(str(teaser))
    return 0


def _check_command(options: argparse.Namespace, root: Path) -> int:
    from lskd_nb.readiness import check, report

    findings = check(options.profile, root)
    for line in report(findings):
        _say(line)
    return 1 if any(f.ok is False for f in findings) else 0


def _estimate_command(options: argparse.Namespace, root: Path) -> int:
    from lskd_nb.estimating import estimate_profile

    (notebook,) = choose(notebooks := read_notebooks(root), ["02"], None)
    changed = parse_overrides(options.overrides, notebooks).get(notebook.name, {})
    values = dict(notebook.defaults) | profile_parameters(root, options.profile, notebook) | changed
    run_dir = options.out or root / "outputs" / "runs" / options.profile
    _say(str(estimate_profile(values | {"run_dir": str(run_dir.resolve())}, root)))
    return 0


def _shown(line: str) -> str:
    """``line`` in the place of one that ``_tick`` has shown."""
    return f"\r\x1b[K{line}" if sys.stdout.isatty() else line


def _say(line: str) -> None:
    print(_shown(line), flush=True)


def _tick() -> Tick | None:
    return (lambda line: print(_shown(line), end="", flush=True)) if sys.stdout.isatty() else None


if __name__ == "__main__":
    sys.exit(main())
