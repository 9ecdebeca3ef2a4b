"""Items, predictions, and judgements that count by hand."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from lskd_nb.evaluation import choices
from lskd_nb.evaluation import items as benchmark_items
from lskd_nb.evaluation import preference as p
from lskd_nb.regions import LocatedImage, Region
from lskd_nb.sources import MultipleChoice


@pytest.fixture(scope="session")
def image() -> Callable[..., LocatedImage]:
    def make(number: int, *regions: Region) -> LocatedImage:
        return LocatedImage(f"m{number}", f"{number}.jpg", 100, 100, regions, "x", "val")

    return make


@pytest.fixture(scope="session")
def item(image) -> Callable[..., MultipleChoice]:
    def make(
        number: int,
        choices: tuple[str, ...] = ("a", "b", "c", "d"),
        label: int | None = 0,
        task: str = "vcr.q_a",
        slice: str = "why",
    ) -> MultipleChoice:
        return MultipleChoice(f"i{number}", image(number // 2), "Why?", choices, label, task, slice)

    return make


@pytest.fixture(scope="session")
def predict() -> Callable[..., pa.Table]:
    def make(
        items: list[MultipleChoice], scores: list, system: str = "base", seed: int = 0
    ) -> pa.Table:
        return choices.predictions(
            benchmark_items.student_items(items),
            [np.asarray(s, float) for s in scores],
            system,
            seed,
        )

    return make


@pytest.fixture(scope="session")
def with_scores() -> Callable[..., pa.Table]:
    """A table of predictions with one row's scores replaced: what a file may hold."""

    def make(table: pa.Table, place: int, scores: list[float]) -> pa.Table:
        rows = table.to_pylist()
        rows[place]["scores"] = scores
        return pa.Table.from_pylist(rows, schema=table.schema)

    return make


@pytest.fixture(scope="session")
def mean() -> Callable[..., float]:
    def make(rows: pd.DataFrame) -> float:
        return choices.accuracy(rows)["mean"]

    return make


@pytest.fixture(scope="session")
def judgement() -> Callable[..., dict]:
    def make(pair_id: str, annotator: str, choice: str) -> dict:
        return dict(pair_id=pair_id, annotator=annotator, choice=choice)

    return make


@pytest.fixture(scope="session")
def judged(judgement) -> Callable[..., pa.Table]:
    def make(rows: list[tuple[str, str, str]]) -> pa.Table:
        return pa.Table.from_pylist([judgement(*row) for row in rows], schema=p.JUDGEMENTS)

    return make
