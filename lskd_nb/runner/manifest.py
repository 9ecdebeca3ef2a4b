"""What a run was made of: versions, parameters, and hashes of everything read and written.

A notebook's *fingerprint* covers its source, its parameters, what it can reach of the package
(``reach``) and the files it reads, those that its parameters name included; as long as it and the
outputs stay the same, running the notebook again would give what is already there. Environment
variables, where keys live, are never recorded.
"""

import contextlib
import hashlib
import importlib.metadata
import json
import os
import platform
import stat
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lskd_nb.records import atomic_path
from lskd_nb.run_folder import imported_from
from lskd_nb.runner.parameters import Notebook
from lskd_nb.runner.reach import SHOWS, code_hash
from lskd_nb.verbalization.images import sources_of

# a folder beyond this is known by the names, sizes and times of its files, not by their content
MOST_FILES, MOST_BYTES = 10_000, 10e9
NO_INPUT = ("run_dir", "prices")  # parameters whose files have no say in a result
CONSENT = "max_cost_usd"


@dataclass(frozen=True)
class Stage:
    """A notebook about to run with ``parameters`` in ``run_dir``.

    What it reads and writes are files, folders or glob patterns relative to the run's folder, or
    "param:NAME" for the path that a parameter holds, relative to ``root``.
    """

    notebook: Notebook
    parameters: Mapping[str, object]
    run_dir: Path
    root: Path

    def resolve(self, entry: str) -> Path | None:
        """The path behind an entry; None where a path parameter is not set."""
        if entry.startswith("param:"):
            value = self.values[entry.removeprefix("param:")]
            return (self.root / str(value)) if value else None
        return self.run_dir / entry

    @property
    def values(self) -> dict[str, object]:
        """All parameters: those given, the others as the notebook has them."""
        return {**self.notebook.defaults, **self.parameters}

    def _pictures(self, sources: Mapping) -> list[Path]:
        """The folders of notebook 1's pictures, unless they hold the run itself."""
        found = dict.fromkeys(source.pictures for source in sources_of(sources, self.root))
        return [p for p in found if p.is_dir() and not self.run_dir.is_relative_to(p.resolve())]

    def inputs(self) -> dict[str, list[Path]]:
        """What the stage reads: its entries, and every file or folder that a parameter names."""
        found = {e: [path] for e in self.notebook.reads if (path := self.resolve(e)) is not None}
        for name, value in self.values.items():
            entry = f"param:{name}"
            if name not in NO_INPUT and entry not in found:
                paths = [self.root / v for v in _texts_in(value) if _is_there(v, self)]
                paths += self._pictures(value) if name == "sources" else []
                found |= {entry: list(dict.fromkeys(paths))} if paths else {}
        return found


def _texts_in(value: object) -> Iterator[str]:
    """The texts that a parameter's value holds, each of which may name a file."""
    if isinstance(value, str) and value:
        yield value
    elif isinstance(value, Mapping | list):
        for one in value.values() if isinstance(value, Mapping) else value:
            yield from _texts_in(one)


def _is_there(name: str, stage: Stage) -> bool:
    try:
        return (stage.root / name).exists()
    except OSError:  # a text too long for a path
        return False


class Hashes:
    """SHA-256 of files and folders, remembered by size and time of change."""

    def __init__(self, run_dir: Path):
        self.run_dir, self.path = run_dir, run_dir / ".hashes.json"
        try:
            self._known = json.loads(self.path.read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            self._known = {}

    def of(self, path: Path) -> str | None:
        """Hash of a file's content, or of the names and contents in a folder or of a glob
        pattern; None where there is nothing. Of a huge folder: of names, sizes and times.
        """
        if path.is_dir():
            return self._of_all(path, _files_below(path, self.run_dir))
        if path.is_file():
            return self._of_file(path)
        if any(sign in path.name for sign in "*?["):
            found = [p for p in path.parent.glob(path.name) if p.is_file()]
            return self._of_all(path.parent, {p: p.stat() for p in found}) if found else None
        return None

    def of_each(self, paths: Sequence[Path]) -> str | None:
        """Of one path as ``of``, of several a hash of their hashes."""
        found = [self.of(path) for path in paths]
        return found[0] if len(found) == 1 else hashlib.sha256(repr(found).encode()).hexdigest()

    def _of_all(self, folder: Path, files: Mapping[Path, os.stat_result | None]) -> str:
        digest = hashlib.sha256()
        states = [state for state in files.values() if state]
        huge = len(states) > MOST_FILES or sum(s.st_size for s in states) > MOST_BYTES
        for file in sorted(files):
            state = files[file]
            if state is None:
                told = str(file.resolve())
            elif huge:
                told = f"{state.st_size} {state.st_mtime_ns}"
            else:
                told = self._of_file(file)
            digest.update(f"{file.relative_to(folder)}\0{told}\0".encode())
        return digest.hexdigest()

    def _of_file(self, path: Path) -> str:
        state = path.stat()
        seen = [state.st_size, state.st_mtime_ns, state.st_ino]
        known = self._known.get(str(path))
        if known is None or known[:3] != seen:
            with open(path, "rb") as file:
                known = [*seen, hashlib.file_digest(file, "sha256").hexdigest()]
            self._known[str(path)] = known
        return known[3]

    def save(self) -> None:
        with atomic_path(self.path) as temporary:
            temporary.write_text(json.dumps(self._known))


def _files_below(folder: Path, run_dir: Path) -> dict[Path, os.stat_result | None]:
    """The files below a folder, links followed; a run's folder in it is none of its input.

    A link to a folder that has been walked already stands for itself (None).
    """
    found: dict[Path, os.stat_result | None] = {}
    walked = {run_dir}
    for place, folders, names in os.walk(folder, followlinks=True):
        here = Path(place)
        real = here.resolve()
        if real in walked:
            folders.clear()
            if real != run_dir:
                found[here] = None
            continue
        walked.add(real)
        folders.sort()  # which of two links is walked must not depend on the disk
        for name in names:
            with contextlib.suppress(OSError):  # a link to nowhere
                state = os.stat(os.path.join(place, name))
                if stat.S_ISREG(state.st_mode):
                    found[here / name] = state
    return found


def notebook_source(path: Path) -> str:
    """The cells of a notebook as text, outputs and injected parameters aside."""
    import nbformat

    cells = nbformat.read(path, as_version=4).cells
    kept = [c for c in cells if "injected-parameters" not in c.metadata.get("tags", [])]
    return json.dumps([[c.cell_type, c.source, sorted(c.metadata.get("tags", []))] for c in kept])


def code_cells(path: Path) -> list[str]:
    """The sources of a notebook's code cells, without those that hold parameters."""
    import nbformat

    return [
        cell.source
        for cell in nbformat.read(path, as_version=4).cells
        if cell.cell_type == "code"
        and not {"parameters", "injected-parameters"} & set(cell.metadata.get("tags", []))
    ]


def fingerprint(stage: Stage, hashes: Hashes) -> dict:
    """``digest`` of everything the stage depends on, and the hashes of its ``inputs``."""
    inputs = {entry: hashes.of_each(paths) for entry, paths in stage.inputs().items()}
    parameters = {k: v for k, v in stage.parameters.items() if k != "run_dir"}
    parts = [
        notebook_source(stage.notebook.path),
        json.dumps(parameters, sort_keys=True, default=str),
        code_hash(code_cells(stage.notebook.path), shows=stage.notebook.number in SHOWS),
        json.dumps(inputs, sort_keys=True),
    ]
    return dict(digest=hashlib.sha256("\0".join(parts).encode()).hexdigest(), inputs=inputs)


def agreed(record: Mapping, stage: Stage) -> Stage:
    """The stage as its last good run was agreed to: who has paid for it need not agree again.

    A higher ``max_cost_usd`` than then counts, since it may pay for what was not sent.
    """
    entry = record["notebooks"].get(stage.notebook.name, {})
    before = entry.get("parameters", {}).get(CONSENT)
    if entry.get("status") != "done" or not before or stage.parameters.get(CONSENT, 0) > before:
        return stage
    return replace(stage, parameters=dict(stage.parameters) | {CONSENT: before})


def written(stage: Stage, hashes: Hashes) -> dict[str, str | None]:
    """Hashes of what the stage has written: all it declares (None: not there), and its metrics."""
    return {
        entry: hashes.of(stage.resolve(entry))
        for entry in (*stage.notebook.writes, f"{stage.notebook.name}.metrics.json")
    }


def begun(stage: Stage, before: Mapping) -> dict:
    """A notebook's entry in the manifest when it starts; ``before`` is its fingerprint."""
    parameters = dict(stage.parameters)
    return dict(
        status="running",
        parameters=parameters,
        seed=(stage.notebook.defaults | parameters).get("seed"),
        started=_now(),
        fingerprint=before["digest"],
        inputs=before["inputs"],
    )


def is_current(record: Mapping, stage: Stage, hashes: Hashes, before: Mapping) -> bool:
    """Whether this stage's last run was good, of the fingerprint that it has ``before`` running
    again, and left what is there.
    """
    entry = record["notebooks"].get(stage.notebook.name)
    if (
        not entry
        or entry["status"] != "done"
        or not (stage.run_dir / "notebooks" / stage.notebook.path.name).exists()
    ):
        return False
    return before["digest"] == entry["fingerprint"] and written(stage, hashes) == entry["outputs"]


def open_manifest(run_dir: Path, profile: str, root: Path) -> dict:
    """The manifest of a run's folder, brought up to date; made where there is none.

    Of an imported run it has the record of that, as ``imported``. Raises ``ValueError`` for a
    damaged one.
    """
    path, imported = run_dir / "manifest.json", imported_from(run_dir)
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        record = {"notebooks": {}}
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path} is damaged ({error}); remove it to run everything again"
        ) from None
    if imported:
        record["imported"] = dict(imported)
    packages = {d.metadata["Name"] or "": d.version for d in importlib.metadata.distributions()}
    return record | dict(
        profile=profile,
        started=_now(),
        git=git_state(root),
        python=platform.python_version(),
        platform=platform.platform(),
        cpus=os.cpu_count(),
        cpu=processor(),
        packages=dict(sorted(packages.items(), key=lambda item: item[0].lower())),
    )


def processor() -> dict[str, str | int | bool | None]:
    """The processor's name, its cores, and whether it computes 512 bits at once (None: not known),
    which seconds depend on.
    """
    told: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            told.setdefault(key.strip(), value.strip())
    return dict(
        model=told.get("model name") or platform.processor() or platform.machine(),
        cores=os.cpu_count(),
        avx512="avx512f" in told["flags"].split() if "flags" in told else None,
    )


def save(record: Mapping, run_dir: Path) -> None:
    with atomic_path(run_dir / "manifest.json") as temporary:
        temporary.write_text(json.dumps(record, indent=1, default=str) + "\n", encoding="utf-8")


def git_state(root: Path) -> dict:
    """The commit and whether the tree differs from it; empty where there is no git."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=root, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return {
            "commit": git("rev-parse", "HEAD"),
            "changed": bool(git("status", "--porcelain", "--untracked-files=no")),
        }
    except (OSError, subprocess.CalledProcessError):
        return {}


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
