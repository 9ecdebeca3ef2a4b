"""The stage's data sets, and what records are made of."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from lskd_nb.rehearsal.data_sets import write_data_sets
from lskd_nb.run_folder import find_root
from lskd_nb.sources.refcoco import read_plain_pickle

SAMPLES = find_root().parent / "shared" / "samples"
Shape = dict[str, set[str]]


@pytest.fixture(scope="session")
def project(tmp_path_factory) -> Path:
    """A project's folder, the data sets in its ``data/``."""
    return tmp_path_factory.mktemp("rehearsal")


@pytest.fixture(scope="session")
def written(project) -> dict[str, int]:
    return write_data_sets(project / "data")


@pytest.fixture(scope="session")
def data(project, written) -> Path:
    return project / "data"


def read(path: Path) -> object:
    """The content of a file of a data set."""
    if path.suffix == ".p":
        return read_plain_pickle(path)
    text = path.read_text()
    return (
        [json.loads(x) for x in text.splitlines()] if path.suffix == ".jsonl" else json.loads(text)
    )


@pytest.fixture(scope="session")
def content(data) -> Callable[[str], object]:
    return lambda name: read(data / name)


@pytest.fixture(scope="session")
def sample() -> Callable[[str], object]:
    def make(name: str) -> object:
        path = SAMPLES / name
        if not path.exists():
            pytest.skip(f"no sample {name} beside the project")
        return read(path)

    return make


def shape_of(value: object) -> Shape:
    """Every place in a record, and the JSON types found there: "inputs.bboxes[].left" -> int.

    Where one of several objects lacks a key that another has, "absent" is among its types.
    """
    found: Shape = {}
    _walk([value], "", found)
    return found


def _walk(values: Iterable[object], place: str, found: Shape) -> None:
    values = list(values)
    if not values:
        return
    found.setdefault(place, set()).update(type(v).__name__ for v in values)
    objects = [v for v in values if isinstance(v, dict)]
    for key in dict.fromkeys(k for v in objects for k in v):
        below = f"{place}.{key}" if place else key
        if any(key not in v for v in objects):
            found.setdefault(below, set()).add("absent")
        _walk([v[key] for v in objects if key in v], below, found)
    lists = [v for v in values if isinstance(v, list)]
    _walk([e for v in lists for e in v], f"{place}[]", found)


@pytest.fixture(scope="session")
def shape() -> Callable[[object], Shape]:
    return shape_of
