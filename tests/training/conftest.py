"""A corpus of twelve triples about four images, and a tiny base to learn from it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lskd_nb.mini.pretraining.base import fresh_student
from lskd_nb.records import CORPUS, write_parquet


def _triple(number: int, region: int, regions: int = 3) -> dict:
    box = [[2.0, 2.0, 20.0, 30.0], [22.0, 4.0, 40.0, 30.0], [44.0, 6.0, 62.0, 40.0]]
    return dict(
        triple_id=f"t{number}",
        image_id=f"m{number % 4}",
        family="id",
        question=f"What is [{region}] about to do?",
        answer="Throw the ball for the dog.",
        rationale=f"[{region}] is holding a ball and [{(region + 1) % regions}] is a dog.",
        regions=[region],
        regions_offered=list(range(regions)),
        model="m",
        prompt="p",
        request="r",
        score=0.9,
        image=f"m{number % 4}.png",
        width=64,
        height=48,
        source="mini",
        split="train",
        references=[dict(id=i, box=box[i], label="thing", score=1.0) for i in range(regions)],
    )


@pytest.fixture(scope="session")
def triple() -> Callable[..., dict]:
    """A row of a corpus: (number, region, regions)."""
    return _triple


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    rng = np.random.default_rng(0)
    for i in range(4):
        Image.fromarray(rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)).save(
            folder / f"m{i}.png"
        )
    write_parquet([_triple(n, n % 3) for n in range(12)], folder / "corpus.parquet", CORPUS)
    fresh_student(0, hidden=32, layers=2, vision_width=24, vision_layers=1, image_size=32).save(
        folder / "base"
    )
    return folder
