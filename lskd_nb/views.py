"""What the models look at: an image, resized first, with its regions drawn on it afterwards.

Drawing comes after every geometric transform, so no referent is cropped away and left stays left. The vision encoder is
frozen, hence the features of a view never change: where views are fixed (the mini profile) they are computed once, kept in
one memory-mapped file, and read by every training and scoring process.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from lskd_nb.records import atomic_path
from lskd_nb.regions import Region, highlight, resize_regions
from lskd_nb.student import Student, autocast, pixels


@dataclass(frozen=True)
class View:
    """An image file (relative to the image root) and the regions drawn on it, boxes in pixels of the file."""

    image: str
    regions: tuple[Region, ...] = ()

    @property
    def key(self) -> str:
        boxes = [(r.id, *(round(float(v), 2) for v in r.box)) for r in self.regions]
        return hashlib.sha256(json.dumps([self.image, boxes]).encode()).hexdigest()[:24]


def open_image(image_root: str | Path, path: str) -> Image.Image:
    """The image as RGB. Raises ``ValueError`` for a path that leaves the root or a file that is no image."""
    root = Path(image_root).resolve()
    full = (root / path).resolve()
    if not full.is_relative_to(root):
        raise ValueError(f"image path {path!r} leaves the image root {root}")
    try:
        with Image.open(full) as image:
            return image.convert("RGB")
    except FileNotFoundError:
        raise FileNotFoundError(f"no image {path!r} under {root}") from None
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(f"{full} is not a readable image: {error}") from error


def draw(view: View, image_root: str | Path, size: int) -> Image.Image:
    """A view as the model sees it: resized to a square of ``size`` pixels, then highlighted."""
    image = open_image(image_root, view.image)
    square = image.resize((size, size), Image.Resampling.BICUBIC)
    return highlight(square, resize_regions(view.regions, image.size, (size, size)))


class FrozenViews:
    """Features of views by a frozen vision encoder: computed on demand, or all at once into ``folder`` and shared.

    ``features(views)`` gives (B, patches + 1, width) in bf16.
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
        self._rows = json.loads((self.folder / "index.json").read_text())
        self._stored = np.memmap(self.folder / "views.bf16", dtype=np.int16, mode="r").reshape(-1, *self.shape)

    def encode(self, views: Sequence[View]) -> Tensor:
        """Draw and encode, nothing kept."""
        size, device = self.student.image_size, self.student.device
        with ThreadPoolExecutor(2) as readers:  # decoding and resizing release Python's lock
            stacked = np.stack(list(readers.map(lambda view: pixels(draw(view, self.image_root, size), size), views)))
        with autocast(device):
            return self.student.encode_images(torch.from_numpy(stacked).to(device)).to(torch.bfloat16)

    def prepare(self, views: Iterable[View], batch: int = 64) -> int:
        """Compute what is missing into the folder; return how many views were. A killed call leaves the old index."""
        if self.folder is None:
            raise ValueError("FrozenViews was made without a folder: features are computed on demand")
        missing = list({v.key: v for v in views if v.key not in self._rows}.values())
        if not missing:
            return 0
        self.folder.mkdir(parents=True, exist_ok=True)
        row_bytes = 2 * int(np.prod(self.shape))
        rows = dict(self._rows)
        with open(self.folder / "views.bf16", "r+b" if rows else "wb") as store:
            store.truncate(len(rows) * row_bytes)
            store.seek(0, os.SEEK_END)
            for start in range(0, len(missing), batch):
                part = missing[start : start + batch]
                store.write(self.encode(part).cpu().view(torch.int16).numpy().tobytes())
                rows.update({v.key: len(rows) + i for i, v in enumerate(part)})
        with atomic_path(self.folder / "index.json") as temporary:
            temporary.write_text(json.dumps(rows))
        self._open()
        return len(missing)

    def features(self, views: Sequence[View]) -> Tensor:
        """(B, patches + 1, width) bf16, from the store where it has them."""
        if self._stored is None or any(v.key not in self._rows for v in views):
            return self.encode(views)
        rows = self._stored[[self._rows[v.key] for v in views]]
        return torch.from_numpy(rows).view(torch.bfloat16).to(self.student.device)
