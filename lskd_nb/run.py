"""``lskd``: run the notebooks of a profile headless, strictly, and only as far as something has changed.

A notebook runs with papermill in a process of its own, under time limits. Its parameters are the profile's YAML and ``-p``
overrides, each checked against the notebook's parameters cell: papermill itself only warns of unknown names. A notebook is
skipped when its source, its parameters, the package and every file it reads are those of its last good run, and what it wrote
is still there unchanged. ``manifest.json`` says what ran with what; ``metrics.json`` gathers what the notebooks measured.
"""

import argparse
import ast
import contextlib
import difflib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import nbformat
import yaml
from filelock import FileLock, Timeout

from lskd_nb import manifest
from lskd_nb.records import atomic_path

LIMITS = {"smoke": (300, 600), "mini": (900, 1800)}  # seconds a notebook and a run may take; else a week
LAST_CELL = "lskd-last-cell"


class RunError(Exception):
    """What went wrong, in one line for the terminal."""


@dataclass(frozen=True)
class Notebook:
    """A notebook of the series: its file, its declared parameters with their defaults, what it reads and writes."""

    path: Path
    defaults: Mapping[str, object]
    reads: tuple[str, ...]
    writes: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def number(self) -> str:
        return self.name.split("_")[0]


def find_root() -> Path:
    """The folder that holds notebooks/ and params/: above the package, or above the working directory."""
    for start in (Path(__file__).resolve().parent, Path.cwd().resolve()):
        for folder in (start, *start.parents):
            if (folder / "notebooks").is_dir() and (folder / "params").is_dir():
                return folder
    raise RunError("no folder with notebooks/ and params/ above the package or the working directory")


def read_notebook(path: Path) -> Notebook:
    """Read a notebook and its parameters cell. Raises ``RunError`` where it has none or a default is no literal."""
    book = nbformat.read(path, as_version=4)
    cells = [c for c in book.cells if "parameters" in c.metadata.get("tags", [])]
    if len(cells) != 1:
        raise RunError(f"{path.name} has {len(cells)} cells tagged 'parameters', expected one")
    defaults: dict[str, object] = {}
    for node in ast.parse(cells[0].source).body:
        if isinstance(node, (ast.Assign, ast.AnnAssign)):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            try:
                defaults[target.id] = ast.literal_eval(node.value)
            except (ValueError, AttributeError):
                raise RunError(f"{path.name}: parameter in line {node.lineno} of the parameters cell is no literal") from None
    told = book.metadata.get("lskd", {})
    return Notebook(path, defaults, tuple(told.get("reads", ())), tuple(told.get("writes", ())))


def check_parameters(notebook: Notebook, given: Mapping[str, object], where: str) -> dict[str, object]:
    """``given`` if the notebook declares every name with a default of that type. Raises ``RunError`` naming what is wrong."""
    for name, value in given.items():
        if name not in notebook.defaults:
            close = difflib.get_close_matches(name, notebook.defaults, 1)
            hint = f"; did you mean {close[0]!r}?" if close else f"; it has {sorted(notebook.defaults)}"
            raise RunError(f"{where}: {notebook.name} has no parameter {name!r}{hint}")
        default = notebook.defaults[name]
        fits = default is None or value is None or type(value) is type(default) or (type(default) is float and type(value) is int)
        if not fits:
            raise RunError(f"{where}: {notebook.name}.{name} must be {type(default).__name__} like {default!r}, not {value!r}")
    return {n: float(v) if type(notebook.defaults[n]) is float and type(v) is int else v for n, v in given.items()}


def profile_parameters(root: Path, profile: str, notebook: Notebook) -> dict[str, object]:
    path = root / "params" / profile / f"{notebook.name}.yaml"
    if not path.exists():
        raise RunError(f"no {path}: the profile {profile!r} has no parameters for {notebook.name}")
    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise RunError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(given, dict):
        raise RunError(f"{path} must be a mapping of parameter names to values")
    return check_parameters(notebook, given, str(path))


def parse_overrides(overrides: Sequence[str], notebooks: Sequence[Notebook]) -> dict[str, dict[str, object]]:
    """``NN.key=value`` options by notebook, values read as YAML."""
    found: dict[str, dict[str, object]] = {}
    for option in overrides:
        place, equals, value = option.partition("=")
        number, dot, key = place.partition(".")
        matching = [n for n in notebooks if number in (n.number, n.name)]
        if not equals or not dot or not matching:
            raise RunError(f"-p {option}: expected NN.key=value with NN one of {[n.number for n in notebooks]}")
        found.setdefault(matching[0].name, {}).update(check_parameters(matching[0], {key: yaml.safe_load(value)}, f"-p {option}"))
    return found


# ------------------------------------------------------------------------------------------- executing


def execute(notebook: Notebook, parameters: Mapping[str, object], out: Path, limit: float, root: Path) -> tuple[str | None, float]:
    """Run one notebook in a child process group; returns None or the line that says where it failed, and its peak GiB."""
    out.parent.mkdir(parents=True, exist_ok=True)
    running = out.with_name(f".{out.name}.running")
    job = json.dumps([str(notebook.path), str(running), dict(parameters), limit])
    environment = os.environ | {"LSKD_HEADLESS": "1", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    process = subprocess.Popen([sys.executable, "-m", "lskd_nb.run", LAST_CELL, job], cwd=root, env=environment, start_new_session=True,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        said, _ = process.communicate(timeout=limit + 30)
    except subprocess.TimeoutExpired:
        said = f"{notebook.name}: did not end within {limit:.0f} s"
    except BaseException:
        _end(process)
        raise
    _end(process)
    if running.exists():
        os.replace(running, out)
    if process.returncode == 0:
        told = json.loads(said.strip().splitlines()[-1])
        return None, told["gib"]
    lines = [line for line in said.strip().splitlines() if line.strip()]
    return (lines[-1] if lines else f"{notebook.name}: ended with status {process.returncode}"), 0.0


def _end(process: subprocess.Popen) -> None:
    """Leave nothing of a notebook's process group running."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _execute_here(job: str) -> int:
    """In the child: papermill, then one line of JSON, or one line that names the failing cell."""
    import resource
    import warnings

    warnings.simplefilter("ignore")
    import papermill
    from papermill.exceptions import PapermillExecutionError

    source, out, parameters, limit = json.loads(job)
    name = Path(source).stem
    try:
        papermill.execute_notebook(source, out, parameters=parameters, cwd=os.getcwd(), progress_bar=False, log_output=False,
                                   execution_timeout=int(limit), store_widget_state=False)
    except PapermillExecutionError as error:
        first = error.source.strip().splitlines()[0] if error.source.strip() else ""
        message = " ".join(str(error.evalue).split())[:400]
        print(f"{name}, cell {error.cell_index} ({first[:60]}): {error.ename}: {message}")
        return 1
    except Exception as error:
        print(f"{name}: {type(error).__name__}: {' '.join(str(error).split())[:400]}")
        return 1
    print(json.dumps({"gib": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20, 2)}))
    return 0


def run_profile(
    profile: str, root: Path, run_dir: Path, only: Sequence[str] = (), start: str | None = None, overrides: Sequence[str] = (),
    limits: tuple[float, float] | None = None, say: Callable[[str], None] = print,
) -> dict:
    """Run a profile's notebooks in order; returns the manifest. Raises ``RunError`` at the first that fails."""
    notebooks = [read_notebook(p) for p in sorted((root / "notebooks").glob("[0-9]*.ipynb"))]
    chosen = [n for n in notebooks if (not only or n.number in only or n.name in only) and (start is None or n.number >= start)]
    if not chosen:
        raise RunError(f"no notebook is chosen; there are {[n.number for n in notebooks]}")
    changed = parse_overrides(overrides, notebooks)
    given = {n.name: profile_parameters(root, profile, n) | changed.get(n.name, {}) for n in chosen}
    per_notebook, whole = limits or LIMITS.get(profile, (7 * 86_400, 7 * 86_400))
    run_dir.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(run_dir / ".lock", timeout=0):
            return _run_chosen(profile, root, run_dir, notebooks, chosen, given, per_notebook, whole, say)
    except Timeout:
        raise RunError(f"another run is writing to {run_dir}") from None


def _run_chosen(profile, root, run_dir, notebooks, chosen, given, per_notebook, whole, say) -> dict:
    record = manifest.open_manifest(run_dir, profile, root)
    hashes = manifest.Hashes(run_dir)
    begin = time.time()
    for place, notebook in enumerate(chosen, 1):
        parameters = given[notebook.name] | ({"run_dir": str(run_dir)} if "run_dir" in notebook.defaults else {})
        title = f"[{place}/{len(chosen)}] {notebook.name}"
        paths = manifest.Stage(notebook.path, parameters, notebook.defaults, notebook.reads, notebook.writes, run_dir, root)
        if manifest.is_current(record, paths, hashes):
            say(f"{title}: nothing it reads has changed")
            continue
        say(f"{title} …")
        before = manifest.fingerprint(paths, hashes)
        started = time.time()
        limit = min(per_notebook, max(whole - (started - begin), 1))
        failed, gib = execute(notebook, parameters, run_dir / "notebooks" / notebook.path.name, limit, root)
        seconds = time.time() - started
        entry = dict(status="failed" if failed else "done", seconds=round(seconds, 1), peak_gib=gib, parameters=parameters,
                     seed=(notebook.defaults | parameters).get("seed"), fingerprint=before["digest"], inputs=before["inputs"])
        if not failed:
            entry["outputs"] = manifest.written(paths, hashes)
        record["notebooks"][notebook.name] = entry
        manifest.save(record, run_dir)
        hashes.save()
        if failed:
            raise RunError(f"FAILED {failed}")
        say(f"{title}: {seconds:.0f} s")
    write_metrics(run_dir, record, notebooks)
    return record


def write_metrics(run_dir: Path, record: Mapping, notebooks: Sequence[Notebook]) -> dict:
    """``metrics.json``: what the notebooks measured, merged, and the seconds each took."""
    merged: dict = {}
    for notebook in notebooks:
        path = run_dir / f"{notebook.name}.metrics.json"
        if path.exists():
            _merge(merged, json.loads(path.read_text(encoding="utf-8")))
    merged["seconds"] = {name: entry["seconds"] for name, entry in sorted(record["notebooks"].items())}
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
    if arguments[:1] == [LAST_CELL]:
        return _execute_here(arguments[1])
    if arguments[:2] == ["mini", "pretrain"]:
        from lskd_nb.mini.pretrain import main as pretrain

        pretrain(arguments[2:])
        return 0
    options = _parser().parse_args(arguments)
    try:
        root = find_root()
        return options.command(options, root)
    except (RunError, FileNotFoundError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lskd", description="Run the notebooks of Localized Symbolic Knowledge Distillation.")
    commands = parser.add_subparsers(required=True)
    run = commands.add_parser("run", help="run the notebooks of a profile (smoke, mini, a100)")
    run.add_argument("profile")
    run.add_argument("--only", action="append", default=[], metavar="NN", help="this notebook alone; may be repeated")
    run.add_argument("--from", dest="start", metavar="NN", help="from this notebook on")
    run.add_argument("-p", dest="overrides", action="append", default=[], metavar="NN.key=value", help="set a parameter; may be repeated")
    run.add_argument("--out", type=Path, help="the run's folder, default outputs/runs/PROFILE")
    run.add_argument("--limit", type=float, help="seconds a notebook may take")
    run.add_argument("--run-limit", type=float, help="seconds the whole run may take")
    run.set_defaults(command=_run_command)
    replicate = commands.add_parser("replicate", help="run the learning stages with several seeds and pool the figures")
    replicate.add_argument("profile")
    replicate.add_argument("--seeds", type=int, default=3)
    replicate.set_defaults(command=_replicate_command)
    renderings = commands.add_parser("renderings", help="promote a finished run's notebooks to outputs/PROFILE/")
    renderings.add_argument("profile")
    renderings.set_defaults(command=_renderings_command)
    commands.add_parser("mini", help="`lskd mini pretrain` makes the weights of the mini world")
    return parser


def _run_command(options, root: Path) -> int:
    from lskd_nb.results import result_lines

    run_dir = (options.out or root / "outputs" / "runs" / options.profile).resolve()
    per_notebook, whole = LIMITS.get(options.profile, (7 * 86_400, 7 * 86_400))
    limits = (options.limit or per_notebook, options.run_limit or whole)
    run_profile(options.profile, root, run_dir, options.only, options.start, options.overrides, limits)
    for line in result_lines(run_dir, root / "outputs" / options.profile / "metrics.json"):
        print(line)
    return 0


def _replicate_command(options, root: Path) -> int:
    from lskd_nb.replication import replicate

    replicate(options.profile, root, options.seeds)
    return 0


def _renderings_command(options, root: Path) -> int:
    from lskd_nb.results import promote

    promote(root / "outputs" / "runs" / options.profile, root / "outputs" / options.profile)
    return 0


if __name__ == "__main__":
    sys.exit(main())
