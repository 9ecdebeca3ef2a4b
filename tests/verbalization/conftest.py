"""Three images of two regions each."""

import numpy as np
import pytest
from PIL import Image

from lskd_nb.regions import LocatedImage, Region


@pytest.fixture
def images(tmp_path) -> list[LocatedImage]:
    for name in "abc":
        Image.fromarray(
            np.random.default_rng(ord(name)).integers(0, 255, (40, 60, 3), dtype=np.uint8)
        ).save(tmp_path / f"{name}.png")
    regions = (Region(0, (1, 1, 30, 30), "dog"), Region(1, (20, 5, 58, 38), "man"))
    return [LocatedImage(n, f"{n}.png", 60, 40, regions, "t", "train") for n in "abc"]
