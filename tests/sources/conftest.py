"""The mini world's files, copies of them to spoil, real excerpts, and records changed at random."""

import copy
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import strategies as st

from lskd_nb.mini.files.world_files import write_world
from lskd_nb.run_folder import find_root

TRAIN, VAL, SEED = 20, 12, 5  # images of the world, and its seed
SAMPLES = find_root().parent / "shared" / "samples"


@pytest.fixture(scope="session")
def world(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sources") / "world"
    write_world(folder, TRAIN, VAL, SEED, workers=1)
    return folder


@pytest.fixture
def world_copy(world, tmp_path) -> Path:
    return Path(shutil.copytree(world, tmp_path / "world"))


@pytest.fixture(scope="session")
def edit() -> Callable[..., None]:
    """Change the records of a JSON or JSONL file."""

    def make(path: Path, change: Callable[[list], None]) -> None:
        lines = path.suffix == ".jsonl"
        text = path.read_text()
        records = [json.loads(x) for x in text.splitlines()] if lines else json.loads(text)
        change(records)
        path.write_text("\n".join(map(json.dumps, records)) if lines else json.dumps(records))

    return make


@pytest.fixture(scope="session")
def small_world(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("benchmarks") / "world"
    write_world(folder, 10, 12, 5, workers=1)
    return folder


@pytest.fixture
def small_copy(small_world, tmp_path) -> Path:
    return Path(shutil.copytree(small_world, tmp_path / "world"))


@pytest.fixture(scope="session")
def sample() -> Callable[..., list[dict]]:
    def make(name: str) -> list[dict]:
        path = SAMPLES / name
        if not path.exists():
            pytest.skip(f"no sample {name} beside the project")
        return json.loads(path.read_text())

    return make


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5),
    st.sampled_from([10**400, -1.5, 1e308, math.nan, math.inf, 12**12]),
    st.text(max_size=4),
    st.sampled_from(["3", "\ud800", "a/../../b", "x" * 300]),
    st.just([]),
    st.just({}),
    st.just([[]]),
    st.just(["", 2]),
)


@pytest.fixture(scope="session")
def mutation() -> Callable[..., st.SearchStrategy]:
    """A record with one place of it removed or replaced, and the fields that lead there or were
    there.
    """

    @st.composite
    def make(draw, record: dict) -> tuple[dict, set[str]]:
        record = copy.deepcopy(record)
        place, fields = record, set()
        while True:
            key = draw(
                st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place)))
            )
            fields |= {key} if isinstance(key, str) else set()
            if isinstance(place[key], dict | list) and place[key] and draw(st.booleans()):
                place = place[key]
                continue
            fields |= fields_of(place[key])
            if draw(st.booleans()):
                del place[key]
            else:
                place[key] = draw(VALUES)
            return record, fields

    return make


def fields_of(value: object) -> set[str]:
    below = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return set(value if isinstance(value, dict) else ()).union(*map(fields_of, below))


@pytest.fixture(scope="session")
def check_reject() -> Callable[..., None]:
    """A reject names the file, the element and the field."""

    def make(reject, fields: set[str], file: str, element: int) -> None:
        assert reject.record == f"{file}, element {element}"
        assert any(field in reject.detail for field in fields), (fields, reject)

    return make


REPLACEMENTS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5),
    st.sampled_from([10**400, -1.5, 1e308, math.nan, math.inf]),
    st.text(max_size=3),
    st.sampled_from(["../../x", "x" * 300, "\ud800"]),
    st.just([]),
    st.just({}),
    st.just([[]]),
    st.just(["", 2]),
)


@pytest.fixture(scope="session")
def sample_file() -> Callable[..., Path]:
    def make(name: str) -> Path:
        path = SAMPLES / name
        if not path.exists():
            pytest.skip(f"no sample {name} beside the project")
        return path

    return make


@pytest.fixture(scope="session")
def changed_content() -> Callable[..., st.SearchStrategy]:
    """The content with one place of it removed or replaced, and the way to that place."""

    @st.composite
    def make(draw, content: object) -> tuple[object, tuple]:
        content, way = copy.deepcopy(content), []
        place = content
        while True:
            way.append(
                draw(
                    st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place)))
                )
            )
            if (
                isinstance(place[way[-1]], dict | list)
                and place[way[-1]]
                and draw(st.integers(0, 3))
            ):
                place = place[way[-1]]
                continue
            if draw(st.booleans()):
                del place[way[-1]]
            else:
                place[way[-1]] = draw(REPLACEMENTS)
            return content, tuple(way)

    return make


@pytest.fixture(scope="session")
def cut() -> Callable[..., tuple]:
    """A box of x, y, width and height as it should come out."""

    def make(xywh: list, width: int, height: int) -> tuple:
        x, y, w, h = xywh
        return max(x, 0), max(y, 0), min(x + w, width), min(y + h, height)

    return make
