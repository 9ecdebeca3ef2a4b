"""Small notebooks to run, and the smoke run that the tests of the real notebooks share."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import nbformat
import pytest
import yaml

from lskd_nb.parameters import read_notebooks
from lskd_nb.run import find_root

ROOT = find_root()


@pytest.fixture(scope="session")
def root() -> Path:
    """The folder that holds the notebooks under test."""
    return ROOT


@pytest.fixture(scope="session")
def lskd() -> Callable[..., subprocess.CompletedProcess]:
    """Call ``lskd`` on the notebooks under a root, in a process of its own."""

    def call(root: Path, *arguments: str, timeout: float = 120, **environment: str) -> subprocess.CompletedProcess:
        return subprocess.run([sys.executable, "-m", "lskd_nb.run", *arguments], env=os.environ | {"LSKD_ROOT": str(root)} | environment,
                              cwd=root, capture_output=True, text=True, timeout=timeout)

    return call


@pytest.fixture
def tiny(tmp_path) -> Callable[..., Path]:
    """Write a notebook NN_name of given code cells under ``tmp_path``, with the parameters file of a profile "tiny"."""

    def write(name: str, *cells: str, parameters: str = 'run_dir: str = "."\nseed: int = 0', reads: Sequence[str] = (),
              writes: Sequence[str] = (), profile: dict | None = None) -> Path:
        book = nbformat.v4.new_notebook(metadata={
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
            "lskd": {"reads": list(reads), "writes": list(writes)}})
        declared = nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})
        book.cells = [nbformat.v4.new_markdown_cell(f"# {name}"), declared, *(nbformat.v4.new_code_cell(c) for c in cells)]
        path = tmp_path / "notebooks" / f"{name}.ipynb"
        told = tmp_path / "params" / "tiny" / f"{name}.yaml"
        for place in (path, told):
            place.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(book, path)
        told.write_text(yaml.safe_dump(profile or {}))
        return path

    return write


@pytest.fixture(scope="session")
def smoke(lskd, tmp_path_factory) -> Path:
    """The folder of a finished smoke run of the real notebooks, the optional ones too."""
    run_dir = tmp_path_factory.mktemp("smoke") / "run"
    optional = [f"--only={n.number}" for n in read_notebooks(ROOT) if n.optional]
    for named in ([], optional) if optional else ([],):
        done = lskd(ROOT, "run", "smoke", "--out", str(run_dir), *named, timeout=900)
        assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return run_dir
