"""What a run was made of: versions, parameters, and hashes of everything read and written.

A notebook's *fingerprint* covers its source, its parameters, the package's code and the content of the files it reads; as long as
it and the outputs stay the same, running the notebook again would give what is already there.
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

import nbformat

from lskd_nb.records import atomic_path

PACKAGES = ("torch", "transformers", "openai", "numpy", "pandas", "pyarrow", "duckdb", "scikit-learn", "pillow", "papermill", "salesforce-lavis")


@dataclass(frozen=True)
class Stage:
    """A notebook as the fingerprint sees it. ``reads`` and ``writes`` are relative to the run's folder, or "param:NAME"."""

    notebook: Path
    parameters: Mapping[str, object]
    defaults: Mapping[str, object]
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    run_dir: Path
    root: Path

    def resolve(self, entry: str) -> Path | None:
        """The path behind an entry; None where a path parameter is not set."""
        if entry.startswith("param:"):
            value = {**self.defaults, **self.parameters}.get(entry.removeprefix("param:"))
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
        """Hash of a file's content, or of a folder's names and contents; None where there is nothing."""
        if path.is_dir():
            digest = hashlib.sha256()
            for file in sorted(p for p in path.rglob("*") if p.is_file()):
                digest.update(f"{file.relative_to(path)}\0{self.of(file)}\0".encode())
            return digest.hexdigest()
        if not path.exists():
            return None
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
    """The cells of a notebook, outputs and injected parameters aside."""
    cells = nbformat.read(path, as_version=4).cells
    kept = [c for c in cells if "injected-parameters" not in c.metadata.get("tags", [])]
    return json.dumps([[c.cell_type, c.source, sorted(t for t in c.metadata.get("tags", []))] for c in kept])


def code_hash() -> str:
    """Hash of the package: its modules, prompts and weights."""
    folder, digest = Path(__file__).parent, hashlib.sha256()
    for file in sorted(p for p in folder.rglob("*") if p.suffix in (".py", ".txt", ".yaml", ".safetensors", ".json")):
        digest.update(str(file.relative_to(folder)).encode() + file.read_bytes())
    return digest.hexdigest()


def fingerprint(stage: Stage, hashes: Hashes) -> dict:
    """``digest`` of everything the stage depends on, and the hashes of its ``inputs``."""
    inputs = {}
    for entry in stage.reads:
        path = stage.resolve(entry)
        if path is not None:
            inputs[entry] = hashes.of(path)
    parameters = {k: v for k, v in stage.parameters.items() if k != "run_dir"}
    parts = [notebook_source(stage.notebook), json.dumps(parameters, sort_keys=True, default=str), code_hash(), json.dumps(inputs, sort_keys=True)]
    return dict(digest=hashlib.sha256("\0".join(parts).encode()).hexdigest(), inputs=inputs)


def written(stage: Stage, hashes: Hashes) -> dict[str, str | None]:
    return {entry: hashes.of(stage.resolve(entry)) for entry in stage.writes}


def is_current(record: Mapping, stage: Stage, hashes: Hashes) -> bool:
    """Whether the last run of this stage was good, of the same fingerprint, and left what is still there."""
    entry = record["notebooks"].get(stage.notebook.stem)
    if not entry or entry["status"] != "done" or not (stage.run_dir / "notebooks" / stage.notebook.name).exists():
        return False
    if fingerprint(stage, hashes)["digest"] != entry["fingerprint"]:
        return False
    now = written(stage, hashes)
    return now == entry["outputs"] and None not in now.values()


def open_manifest(run_dir: Path, profile: str, root: Path) -> dict:
    """The manifest of a run's folder, brought up to date; made where there is none."""
    path = run_dir / "manifest.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        record = {"notebooks": {}}
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is damaged ({error}); remove it to run everything again") from None
    record |= dict(
        profile=profile, started=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), git=git_state(root), python=platform.python_version(),
        platform=platform.platform(), cpus=os.cpu_count(), packages={name: _version(name) for name in PACKAGES})
    return record


def save(record: Mapping, run_dir: Path) -> None:
    with atomic_path(run_dir / "manifest.json") as temporary:
        temporary.write_text(json.dumps(record, indent=1, default=str) + "\n", encoding="utf-8")


def git_state(root: Path) -> dict:
    """The commit and whether the tree differs from it; empty where there is no git."""
    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "changed": bool(git("status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.CalledProcessError):
        return {}


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
