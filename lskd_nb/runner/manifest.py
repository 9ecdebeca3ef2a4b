"""What a run was made of: versions, parameters, and hashes of everything read and written.

A notebook's *fingerprint* covers its source, its parameters, the package's code and the content of
the files it reads; as long as it and the outputs stay the same, running the notebook again would
give what is already there. Environment variables, where keys live, are never recorded.
"""

import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lskd_nb.records import atomic_path
from lskd_nb.runner.parameters import Notebook

PACKAGE = Path(__file__).parent.parent
CODE = (".py", ".txt", ".yaml", ".json", ".safetensors")


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
            value = {**self.notebook.defaults, **self.parameters}[entry.removeprefix("param:")]
            return (self.root / str(value)) if value else None
        return self.run_dir / entry


class Hashes:
    """SHA-256 of files and folders, remembered by size and time of change."""

    def __init__(self, run_dir: Path):
        self.path = run_dir / ".hashes.json"
        try:
            self._known = json.loads(self.path.read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            self._known = {}

    def of(self, path: Path) -> str | None:
        """Hash of a file's content, or of the names and contents in a folder or of a glob
        pattern; None where there is nothing.
        """
        if path.is_dir():
            return self._of_all(path, sorted(p for p in path.rglob("*") if p.is_file()))
        if path.is_file():
            return self._of_file(path)
        if any(sign in path.name for sign in "*?["):
            found = sorted(p for p in path.parent.glob(path.name) if p.is_file())
            return self._of_all(path.parent, found) if found else None
        return None

    def _of_all(self, folder: Path, files: list[Path]) -> str:
        digest = hashlib.sha256()
        for file in files:
            digest.update(f"{file.relative_to(folder)}\0{self._of_file(file)}\0".encode())
        return digest.hexdigest()

    def _of_file(self, path: Path) -> str:
        stat = path.stat()
        seen = [stat.st_size, stat.st_mtime_ns, stat.st_ino]
        known = self._known.get(str(path))
        if known is None or known[:3] != seen:
            with open(path, "rb") as file:
                known = [*seen, hashlib.file_digest(file, "sha256").hexdigest()]
            self._known[str(path)] = known
        return known[3]

    def save(self) -> None:
        with atomic_path(self.path) as temporary:
            temporary.write_text(json.dumps(self._known))


def notebook_source(path: Path) -> str:
    """The cells of a notebook as text, outputs and injected parameters aside."""
    import nbformat

    cells = nbformat.read(path, as_version=4).cells
    kept = [c for c in cells if "injected-parameters" not in c.metadata.get("tags", [])]
    return json.dumps([[c.cell_type, c.source, sorted(c.metadata.get("tags", []))] for c in kept])


def code_hash() -> str:
    """Hash of the package: its modules, prompts, vocabularies and weights."""
    digest = hashlib.sha256()
    for file in sorted(
        p for p in PACKAGE.rglob("*") if p.suffix in CODE and "__pycache__" not in p.parts
    ):
        digest.update(
            f"{file.relative_to(PACKAGE)}\0".encode() + hashlib.sha256(file.read_bytes()).digest()
        )
    return digest.hexdigest()


def fingerprint(stage: Stage, hashes: Hashes) -> dict:
    """``digest`` of everything the stage depends on, and the hashes of its ``inputs``."""
    paths = {entry: stage.resolve(entry) for entry in stage.notebook.reads}
    inputs = {entry: hashes.of(path) for entry, path in paths.items() if path is not None}
    parameters = {k: v for k, v in stage.parameters.items() if k != "run_dir"}
    parts = [
        notebook_source(stage.notebook.path),
        json.dumps(parameters, sort_keys=True, default=str),
        code_hash(),
        json.dumps(inputs, sort_keys=True),
    ]
    return dict(digest=hashlib.sha256("\0".join(parts).encode()).hexdigest(), inputs=inputs)


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


def is_current(record: Mapping, stage: Stage, hashes: Hashes) -> bool:
    """Whether this stage's last run was good, of the same fingerprint, and left what is there."""
    entry = record["notebooks"].get(stage.notebook.name)
    if (
        not entry
        or entry["status"] != "done"
        or not (stage.run_dir / "notebooks" / stage.notebook.path.name).exists()
    ):
        return False
    return (
        written(stage, hashes) == entry["outputs"]
        and fingerprint(stage, hashes)["digest"] == entry["fingerprint"]
    )


def open_manifest(run_dir: Path, profile: str, root: Path) -> dict:
    """The manifest of a run's folder, brought up to date; made where there is none.

    Raises ``ValueError`` for a damaged one.
    """
    path = run_dir / "manifest.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        record = {"notebooks": {}}
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path} is damaged ({error}); remove it to run everything again"
        ) from None
    packages = {d.metadata["Name"] or "": d.version for d in importlib.metadata.distributions()}
    return record | dict(
        profile=profile,
        started=_now(),
        git=git_state(root),
        python=platform.python_version(),
        platform=platform.platform(),
        cpus=os.cpu_count(),
        packages=dict(sorted(packages.items(), key=lambda item: item[0].lower())),
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
