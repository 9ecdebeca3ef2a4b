"""What the models look at: an image, resized first, with its regions drawn on it afterwards.

Drawing comes after every geometric transform, so no referent is cropped away and left stays left.
The vision encoder is frozen, hence the features of a view never change: where views are fixed (the
mini profile) they are computed once, kept in one memory-mapped file, and read by every training and
scoring process.

    View: image file               its regions, boxes xyxy in pixels of the file
        | resized to S x S             | resize_regions
        v                              v
    square (S, S, 3) uint8 <- highlight: fill and outline in the colour of each id
        | stacked
        v
    drawn_BSS3 uint8
        | normalised, on the model's device
        v
    pixels_B3SS float32
        | encode_drawn: the frozen vision encoder
        v
    features_BPD                 P = (S / patch)² + 1; FrozenFeatures keeps them, (rows, P, D) bf16
"""

import hashlib
import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from PIL import Image
from torch import Tensor

from lskd_nb.records import atomic_path, place_for
from lskd_nb.regions import (
    NO_IMAGE,
    Region,
    as_rgb,
    highlight,
    highlight_pixels,
    image_file,
    resize_regions,
)
from lskd_nb.students.blip2 import PIXEL_MEAN, PIXEL_STD, Student, autocast


@dataclass(frozen=True)
class View:
    """An image file (relative to the image root) and the regions drawn on it, in its pixels."""

    image: str
    regions: tuple[Region, ...] = ()

    @property
    def key(self) -> str:
        boxes = [(r.id, *(round(float(v), 2) for v in r.box)) for r in self.regions]
        return hashlib.sha256(json.dumps([self.image, boxes]).encode()).hexdigest()[:24]


def open_image(image_root: str | Path, path: str) -> Image.Image:
    """The image as RGB; links below the root are followed (``regions.image_file``).

    Raises ``ValueError`` for a path that leaves the root or a file that is no image.
    """
    return _decoded(image_root, path)[0]


def _decoded(
    image_root: str | Path, path: str, least: int | None = None
) -> tuple[Image.Image, tuple[int, int]]:
    """The image as RGB, and its size in pixels (width, height).

    A JPEG may be decoded at a half, a quarter or an eighth of its size, as long as ``least`` pixels
    are left each way: several times faster, and further from the whole image by less than another
    filter for resizing would be.
    """
    file = image_file(image_root, path)
    try:
        with Image.open(file) as image:
            size = image.size
            if least is not None:
                image.draft("RGB", (least, least))
            return as_rgb(image), size
    except FileNotFoundError:
        raise FileNotFoundError(f"no image {path!r} under {image_root}") from None
    except NO_IMAGE as error:
        raise ValueError(f"{file} is not a readable image: {error}") from error


def draw(view: View, image_root: str | Path, size: int) -> Image.Image:
    """A view as the model sees it: resized to a square of ``size`` pixels, then highlighted."""
    return Image.fromarray(drawn_pixels([view], image_root, size)[0].numpy())


def draw_on(image: Image.Image, regions: Sequence[Region], size: int) -> Image.Image:
    """The same for an image in memory: resized to a square of ``size`` pixels, then highlighted."""
    square = image.resize((size, size), Image.Resampling.BICUBIC)
    return highlight(square, resize_regions(regions, image.size, (size, size)))


def drawn_pixels(
    views: Sequence[View], image_root: str | Path, size: int, each: Callable = map
) -> Tensor:
    """Views as the model sees them, (B, S, S, 3) uint8; ``each`` may be the map of a pool.

    Resized pixels are copied once, to their place in the batch, and regions drawn on them there.
    """
    drawn_BSS3 = np.empty((len(views), size, size, 3), np.uint8)

    def draw_at(place: int, view: View) -> None:
        image, whole = _decoded(image_root, view.image, size)
        drawn_BSS3[place] = image.resize((size, size), Image.Resampling.BICUBIC)
        regions = resize_regions(view.regions, whole, image.size)
        highlight_pixels(drawn_BSS3[place], resize_regions(regions, image.size, (size, size)))

    list(each(draw_at, range(len(views)), views))
    return torch.from_numpy(drawn_BSS3)


def normalised(drawn: Tensor) -> Tensor:
    """(B, S, S, 3) uint8 -> (B, 3, S, S) float32, as BLIP-2 was trained on.

    On the model's device, to move a quarter of the bytes there.
    """
    mean = torch.tensor(PIXEL_MEAN, device=drawn.device)[:, None, None]
    std = torch.tensor(PIXEL_STD, device=drawn.device)[:, None, None]
    return drawn.permute(0, 3, 1, 2).contiguous().float().div_(255).sub_(mean).div_(std)


@torch.no_grad()
def encode_drawn(student: Student, drawn: Tensor, bf16: bool = True) -> Tensor:
    """(B, S, S, 3) uint8 of views that are drawn already -> (B, P, D) features."""
    with autocast(student.device, bf16):
        return student.encode_images(normalised(drawn.to(student.device, non_blocking=True)))


def encode_seen(student: Student, seen: Tensor, bf16: bool = True) -> Tensor:
    """``FrozenFeatures.stored_or_drawn``'s views -> (B, P, D) features on the student's device."""
    if seen.dtype == torch.uint8:
        return encode_drawn(student, seen, bf16)
    return seen.to(student.device)


def scoring_passes(
    keys: Sequence[str], lengths: Sequence[int], at_once: int
) -> Iterator[tuple[list[int], list[list[int]]]]:
    """How to score many texts about few views so that each view is encoded once: rows are texts,
    ``keys`` the views they are about.

    Yields B views, each by the number of one of its rows, and the passes over their texts: row
    numbers, as many of each view, those of one view next to each other, ``at_once`` in a pass or B.
    A view that has fewer texts than the others it goes with repeats its last. Views with as many
    texts of like length go together; ``lengths`` are those of the texts, in any unit.
    """
    rows_of: dict[str, list[int]] = {}
    for row in sorted(range(len(keys)), key=lambda r: lengths[r]):
        rows_of.setdefault(keys[row], []).append(row)
    left = deque(sorted(rows_of.values(), key=lambda rows: (len(rows), lengths[rows[-1]])))
    while left:
        fewest, together = len(left[0]), [left.popleft()]
        while left and len(left[0]) <= fewest * 5 / 4:
            if (len(together) + 1) * len(left[0]) > at_once:
                break
            together.append(left.popleft())
        most = len(together[-1])
        padded = [rows + rows[-1:] * (most - len(rows)) for rows in together]
        each = max(at_once // len(together), 1)
        passes = [
            [row for rows in padded for row in rows[start : start + each]]
            for start in range(0, most, each)
        ]
        yield [rows[0] for rows in together], passes


class FrozenFeatures:
    """Features of views: computed on demand, or all at once into ``folder`` and shared.

    ``features(views)`` gives (B, P, D): bf16 from the folder, else as the encoder computes them.
    """

    def __init__(self, student: Student, image_root: str | Path, folder: str | Path | None = None):
        self.student, self.image_root = student, image_root
        vision = student.blip2.config.vision_config
        self.shape = ((vision.image_size // vision.patch_size) ** 2 + 1, vision.hidden_size)
        self.folder = Path(folder) / self._fingerprint() if folder is not None else None
        self._rows: dict[str, int] = {}
        self._stored: np.ndarray | None = None
        if self.folder is not None and (self.folder / "index.json").exists():
            self._open()

    def _fingerprint(self) -> str:
        digest = hashlib.sha256(str(self.shape).encode())
        for name, weight in sorted(self.student.blip2.vision_model.state_dict().items()):
            digest.update(name.encode() + weight.detach().float().cpu().numpy().tobytes())
        return digest.hexdigest()[:12]

    def _open(self) -> None:
        """Open the store; one that is shorter than its index says is passed over, and made anew."""
        rows = json.loads((self.folder / "index.json").read_text())
        store = self.folder / "views.bf16"
        whole = len(rows) * int(np.prod(self.shape))
        if rows and store.exists() and store.stat().st_size >= 2 * whole:
            values = np.memmap(store, dtype=np.int16, mode="r")
            self._rows, self._stored = rows, values[:whole].reshape(-1, *self.shape)

    def encode(self, views: Sequence[View]) -> Tensor:
        """Draw and encode, nothing kept."""
        with ThreadPoolExecutor(2) as readers:  # decoding and resizing release Python's lock
            size = self.student.image_size
            drawn_BSS3 = drawn_pixels(views, self.image_root, size, readers.map)
            return encode_drawn(self.student, drawn_BSS3)

    def prepare(self, views: Iterable[View], batch: int = 64) -> int:
        """Compute what is missing into the folder; return how many views were.

        A killed call leaves the old index. Of several processes that store into one folder each
        waits for the one before it, and goes on from what that has stored.
        """
        if self.folder is None:
            raise ValueError(
                "FrozenFeatures was made without a folder: features are computed on demand"
            )
        wanted = {v.key: v for v in views}
        if wanted.keys() <= self._rows.keys():
            return 0
        with place_for(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / "store.lock"):
            if (self.folder / "index.json").exists():
                self._open()
            missing = [view for key, view in wanted.items() if key not in self._rows]
            return self._add(missing, batch) if missing else 0

    def _add(self, missing: Sequence[View], batch: int) -> int:
        file, row_bytes = self.folder / "views.bf16", 2 * int(np.prod(self.shape))
        rows = dict(self._rows)
        with place_for(file), open(file, "r+b" if rows else "wb") as store:
            store.truncate(len(rows) * row_bytes)
            store.seek(0, os.SEEK_END)
            for start in range(0, len(missing), batch):
                part = missing[start : start + batch]
                features_BPD = self.encode(part).to(torch.bfloat16).cpu()
                store.write(features_BPD.view(torch.int16).numpy().tobytes())
                rows.update({v.key: len(rows) + i for i, v in enumerate(part)})
        with atomic_path(self.folder / "index.json") as temporary:
            temporary.write_text(json.dumps(rows))
        self._open()
        return len(missing)

    def features(self, views: Sequence[View]) -> Tensor:
        """(B, P, D), from the store where it has them all."""
        stored = self.stored(views)
        return self.encode(views) if stored is None else stored.to(self.student.device)

    def stored_or_drawn(self, views: Sequence[View]) -> Tensor:
        """(B, P, D) from the store where it has them all, else (B, S, S, 3) uint8, still to be
        encoded.
        """
        stored_BPD = self.stored(views)
        if stored_BPD is not None:
            return stored_BPD
        return drawn_pixels(views, self.image_root, self.student.image_size)

    def stored(self, views: Sequence[View]) -> Tensor | None:
        """Features from the store; None where it lacks some."""
        if self._stored is None or any(v.key not in self._rows for v in views):
            return None
        rows = self._stored[[self._rows[v.key] for v in views]]
        return torch.from_numpy(rows).view(torch.bfloat16)
