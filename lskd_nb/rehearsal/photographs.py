"""The world's scenes in the shapes that photographs and film stills have.

The mini world draws 320 x 240 pixels. Here one scene is cut and scaled to another size, or two are
set beside or above each other: a widescreen still, a portrait, a picture with ten things in it.
What the scenes then hold is what can still be seen, with boxes in the new picture's pixels.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from lskd_nb.mini.drawing.render import render
from lskd_nb.mini.scenes.world import HEIGHT, WIDTH, Entity, Scene
from lskd_nb.regions import Box

VISIBLE = 0.6  # share of a thing's box that must be in the picture for it to be spoken of
STEP = 8  # pixels between the windows that are tried
LEFT_OUT = "missing"
FORMS = ("plain", "grey", "cmyk", "turned", "truncated", LEFT_OUT)


@dataclass(frozen=True)
class Photograph:
    """A picture that can be drawn, and the truth about what is seen in it.

    ``scenes`` hold the visible entities, boxes in pixels of ``size`` (width, height). ``window``
    is the part of the drawn scenes that is shown.
    """

    scenes: tuple[Scene, ...]
    size: tuple[int, int]
    drawn: tuple[Scene, ...]
    stacked: bool
    window: tuple[int, int, int, int]

    @property
    def scene(self) -> Scene:
        """The only scene, or the first of two."""
        return self.scenes[0]

    @property
    def entities(self) -> list[tuple[int, int, Entity]]:
        """Everything that is seen: number of its scene, number within the scene, and itself."""
        return [
            (s, i, e) for s, scene in enumerate(self.scenes) for i, e in enumerate(scene.entities)
        ]

    def image(self) -> Image.Image:
        """The picture, RGB."""
        columns, rows = _grid(len(self.drawn), self.stacked)
        canvas = Image.new("RGB", (columns * WIDTH, rows * HEIGHT))
        for number, scene in enumerate(self.drawn):
            canvas.paste(render(scene), _offset(number, self.stacked))
        x, y, w, h = self.window
        return canvas.crop((x, y, x + w, y + h)).resize(self.size, Image.Resampling.BICUBIC)


def photograph(scenes: Sequence[Scene], size: tuple[int, int], stacked: bool = False) -> Photograph:
    """``scenes`` side by side, or ``stacked``, cut to the shape of ``size`` and scaled to it.

    Of the windows that fit, the one that shows most things whole is taken; the ground stays in.
    """
    columns, rows = _grid(len(scenes), stacked)
    width, height = columns * WIDTH, rows * HEIGHT
    ratio = size[0] / size[1]
    w, h = min(width, round(height * ratio)), min(height, round(width / ratio))
    y = height - h
    lefts = range(0, width - w + 1, STEP)
    windows = [(x, y, w, h) for x in sorted(lefts, key=lambda x: abs(x - (width - w) / 2))]

    def whole(window: tuple[int, int, int, int]) -> float:
        boxes = [
            _moved(e.box, _offset(n, stacked)) for n, s in enumerate(scenes) for e in s.entities
        ]
        return sum(_share(box, window) >= 0.99 for box in boxes)

    window = max(windows, key=whole)
    seen = tuple(
        replace(scene, entities=_seen(scene, _offset(n, stacked), window, size))
        for n, scene in enumerate(scenes)
    )
    return Photograph(seen, size, tuple(scenes), stacked, window)


def _grid(number: int, stacked: bool) -> tuple[int, int]:
    return (1, number) if stacked else (number, 1)


def _offset(number: int, stacked: bool) -> tuple[int, int]:
    return (0, number * HEIGHT) if stacked else (number * WIDTH, 0)


def _moved(box: Box, offset: tuple[int, int]) -> Box:
    return box[0] + offset[0], box[1] + offset[1], box[2] + offset[0], box[3] + offset[1]


def _cut(box: Box, window: tuple[int, int, int, int]) -> Box:
    x, y, w, h = window
    return max(box[0], x), max(box[1], y), min(box[2], x + w), min(box[3], y + h)


def _share(box: Box, window: tuple[int, int, int, int]) -> float:
    """Share of a box that is inside the window."""
    x0, y0, x1, y1 = _cut(box, window)
    area = (box[2] - box[0]) * (box[3] - box[1])
    return max(x1 - x0, 0) * max(y1 - y0, 0) / area


def _seen(
    scene: Scene, offset: tuple[int, int], window: tuple[int, int, int, int], size: tuple[int, int]
) -> tuple[Entity, ...]:
    across, down = size[0] / window[2], size[1] / window[3]
    found = []
    for entity in scene.entities:
        box = _moved(entity.box, offset)
        if _share(box, window) >= VISIBLE:
            x0, y0, x1, y1 = _cut(box, window)
            x, y = window[:2]
            cut = ((x0 - x) * across, (y0 - y) * down, (x1 - x) * across, (y1 - y) * down)
            found.append(replace(entity, box=tuple(round(v, 2) for v in cut)))
    return tuple(found)


def part_of(box: Box, left: float, top: float, right: float, bottom: float) -> Box:
    """A part of a box, in shares of its width and height."""
    x0, y0, x1, y1 = box
    w, h = x1 - x0, y1 - y0
    return x0 + left * w, y0 + top * h, x0 + right * w, y0 + bottom * h


def whole_pixels(box: Box, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """A box inside its picture as x, y, width and height in whole pixels."""
    x, y = int(box[0]), int(box[1])
    return x, y, max(min(round(box[2]), size[0]) - x, 1), max(min(round(box[3]), size[1]) - y, 1)


def outline(box: Box) -> list[tuple[float, float]]:
    """Eight corners of a shape inside a box: what a mask's polygon looks like."""
    shares = ((0.3, 0), (0.7, 0), (1, 0.3), (1, 0.8), (0.8, 1), (0.2, 1), (0, 0.8), (0, 0.3))
    x0, y0, x1, y1 = box
    return [(x0 + a * (x1 - x0), y0 + b * (y1 - y0)) for a, b in shares]


def save(picture: Photograph, path: Path, form: str = "plain") -> None:
    """Write a JPEG, in one of ``FORMS``.

    Downloads hold them all: greyscale and CMYK pictures, a camera's note that the picture is to be
    turned (boxes are of the pixels as stored), a file that ends early, one that never came.
    """
    if form == LEFT_OUT:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    image = picture.image()
    if form in ("grey", "cmyk"):
        image = image.convert({"grey": "L", "cmyk": "CMYK"}[form])
    options: dict[str, object] = {}
    if form == "turned":
        exif = Image.Exif()
        exif[0x0112] = 6  # Orientation: turn by 90 degrees when shown
        options["exif"] = exif
    written = io.BytesIO()
    image.save(written, "JPEG", quality=90, **options)
    data = written.getvalue()
    path.write_bytes(data[: len(data) // 3] if form == "truncated" else data)
