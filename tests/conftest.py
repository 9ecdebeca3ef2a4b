"""Small notebooks to run, and the smoke run that the tests of the real notebooks share."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import nbformat
import pytest
import yaml
from PIL import Image

from lskd_nb.parameters import read_notebooks
from lskd_nb.records import REGIONS, TRIPLES, write_parquet
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


@pytest.fixture
def small_run(tmp_path) -> Path:
    """A run's folder with four images of two regions each, and three triples about each: m0-0, m0-1, …"""
    folder = tmp_path / "run"
    (folder / "images").mkdir(parents=True)
    (folder / "image_root.txt").write_text(str(folder / "images"))
    boxes = [dict(id=0, box=[2.0, 2.0, 20.0, 28.0], label="dog", score=None), dict(id=1, box=[22.0, 3.0, 38.0, 25.0], label="man", score=None)]
    for number in range(4):
        Image.new("RGB", (40, 30), (60 * number, 120, 90)).save(folder / "images" / f"m {number}.png")
    write_parquet([dict(image_id=f"m{n}", image=f"m {n}.png", width=40, height=30, source="s", split="train", regions=boxes) for n in range(4)],
                  folder / "regions.parquet", REGIONS)
    write_parquet([dict(triple_id=f"m{n}-{k}", image_id=f"m{n}", family="id", question=f"Why is [{k % 2}] <b>here</b>?", answer="To rest & play.",
                        rationale="[0] is <script>x</script> near [1].", regions=[0, 1], regions_offered=[0, 1], model="w", prompt="p", request="r")
                   for n in range(4) for k in range(3)], folder / "triples.parquet", TRIPLES)
    return folder


@pytest.fixture(scope="session")
def smoke(lskd, tmp_path_factory) -> Path:
    """The folder of a finished smoke run of the real notebooks, the optional ones too."""
    run_dir = tmp_path_factory.mktemp("smoke") / "run"
    optional = [f"--only={n.number}" for n in read_notebooks(ROOT) if n.optional]
    for named in ([], optional) if optional else ([],):
        done = lskd(ROOT, "run", "smoke", "--out", str(run_dir), *named, timeout=900)
        assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return run_dir
