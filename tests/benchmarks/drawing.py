"""Drawing regions, and the whole way from a file to what the model takes: beside one full-image
overlay for each box, and a sample at a time.
"""

import os
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch
from measuring import Measured, side_by_side, times_faster
from PIL import Image, ImageDraw
from torch.utils.data import DataLoader

from lskd_nb.regions import Region, highlight, highlight_colors, pixel_box, resize_regions
from lskd_nb.students.blip2 import PIXEL_MEAN, PIXEL_STD
from lskd_nb.students.views import View, drawn_pixels, normalised, open_image

SIZE, BATCH, SAMPLES = (640, 480), 32, 512
# 4, 10 and 25% of the image: median, mean and ninth decile of Visual Genome's described regions
REGIONS = tuple(
    Region(i, box)
    for i, box in enumerate(
        ((40.0, 60.0, 150.0, 172.0), (150.0, 100.0, 325.0, 276.0), (300.0, 140.0, 577.0, 417.0))
    )
)


def overlays(image: Image.Image, regions: tuple[Region, ...]) -> Image.Image:
    """One full-image RGBA overlay a box, composited in order, as is usual."""
    canvas = image.convert("RGBA")
    for region in regions:
        x0, y0, x1, y1 = pixel_box(region.box, *image.size)
        fill, outline = highlight_colors(region.id)
        overlay = Image.new("RGBA", image.size, (0, 0, 0, 0))
        ImageDraw.Draw(overlay).rectangle(
            [x0, y0, x1 - 1, y1 - 1], fill=fill, outline=outline, width=2
        )
        canvas = Image.alpha_composite(canvas, overlay)
    return canvas.convert("RGB")


def photographs(folder: Path, number: int) -> list[str]:
    """JPEG files of photographic smoothness."""
    rng, names = np.random.default_rng(0), []
    for n in range(number):
        small = Image.fromarray(rng.integers(0, 255, (30, 40, 3), dtype=np.uint8)).resize(
            SIZE, Image.Resampling.BICUBIC
        )
        grain = rng.integers(-12, 12, (SIZE[1], SIZE[0], 3))
        names.append(f"{n}.jpg")
        Image.fromarray((np.asarray(small) + grain).clip(0, 255).astype(np.uint8)).save(
            folder / names[-1], quality=90
        )
    return names


def usual(folder: Path, name: str, size: int) -> torch.Tensor:
    """Decode, one overlay a box, resize, to a tensor, normalise: one sample."""
    drawn = overlays(open_image(folder, name), REGIONS).resize(
        (size, size), Image.Resampling.BICUBIC
    )
    tensor = torch.from_numpy(np.array(drawn)).permute(2, 0, 1).float().div(255)
    mean, std = (torch.tensor(v)[:, None, None] for v in (PIXEL_MEAN, PIXEL_STD))
    return (tensor - mean) / std


class Batches(torch.utils.data.Dataset):
    """Batches of drawn views, as training reads them."""

    def __init__(self, folder: Path, names: list[str], size: int):
        self.folder, self.size = folder, size
        self.batches = [names[k : k + BATCH] for k in range(0, len(names), BATCH)]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> torch.Tensor:
        return drawn_pixels(
            [View(name, REGIONS) for name in self.batches[number]], self.folder, self.size
        )


def measure() -> list[Measured]:
    torch.set_num_threads(1)
    image = Image.fromarray(
        np.random.default_rng(0).integers(0, 255, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
    )
    assert np.array_equal(
        np.asarray(highlight(image, REGIONS)), np.asarray(overlays(image, REGIONS))
    )
    ours, other = side_by_side(
        partial(highlight, image, REGIONS), partial(overlays, image, REGIONS), 40
    )
    rows = [
        times_faster(
            "drawing",
            "drawing 3 regions on 640 × 480 pixels",
            ours,
            other,
            "an overlay a box",
            15,
            "pixel for pixel equal",
        )
    ]
    square = image.resize((224, 224))
    small = resize_regions(REGIONS, SIZE, (224, 224))
    ours, other = side_by_side(
        partial(highlight, square, small), partial(overlays, image, REGIONS), 40
    )
    rows.append(
        times_faster(
            "drawing",
            "the same where it is done, after resizing to 224 × 224",
            ours,
            other,
            "an overlay a box, before",
            15,
        )
    )
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        names = photographs(folder, SAMPLES)
        for size in (224, 480):
            loader = DataLoader(
                Batches(folder, names, size),
                None,
                num_workers=os.cpu_count() or 1,
                prefetch_factor=4,
                persistent_workers=True,
            )
            ours, other = side_by_side(
                lambda loader=loader: [normalised(drawn) for drawn in loader],
                lambda size=size: [usual(folder, name, size) for name in names],
                3,
            )
            rows.append(
                times_faster(
                    "drawing",
                    f"a sample from JPEG to the model's {size} × {size}, 3 regions",
                    ours / SAMPLES,
                    other / SAMPLES,
                    "drawn on the whole image, no workers",
                    5,
                    f"{os.cpu_count()} workers",
                )
            )
            del loader
    return rows
