"""A picture for a teacher that sees: the image with its regions drawn and numbered, made small.

Regions have the outlines and fills that the student sees (``regions.highlight``), and a tag with
their number, as a language model has never learned what the colours mean ("set of marks"). The
picture goes along in the request as a data URL; what it costs in tokens is known beforehand.
"""

import base64
import hashlib
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from lskd_nb.regions import (
    NO_IMAGE,
    Box,
    Region,
    as_rgb,
    highlight,
    highlight_colors,
    resize_regions,
    text_color,
)

DRAWN = 2  # the version of how pictures are drawn
QUALITY = 90  # of a JPEG
TAG = 15  # pixels, the height of a number
TILE, PATCH, FINE_PATCH = 512, 32, 16  # pixels of what is counted as one
BASE, PER_TILE, PER_PATCH = 85, 170, 2.46
MINI_BASE, MINI_PER_TILE = 2833, 5667  # gpt-4o-mini's
OPENAI = ("gpt-", "chatgpt-", "o1", "o3", "o4")  # how the names of its models begin


@dataclass(frozen=True)
class Picture:
    """An image file with the regions that are offered (boxes xyxy in its pixels), whose longer side
    is at most ``bound`` pixels in the request.
    """

    file: Path
    regions: tuple[Region, ...]
    bound: int

    def identity(self) -> str:
        """What the picture shows, 24 hexadecimal digits: of the file's bytes, the boxes, the bound
        and how they are drawn, and not of the JPEG, which another Pillow writes otherwise.
        """
        boxes = [(r.id, *(round(float(v), 2) for v in r.box)) for r in self.regions]
        try:
            state = self.file.stat()
            content = _content(self.file, state.st_size, state.st_mtime_ns)
        except OSError as error:
            raise ValueError(f"{self.file}: no picture for the teacher ({error})") from None
        told = json.dumps([DRAWN, self.bound, boxes, content])
        return hashlib.sha256(told.encode()).hexdigest()[:24]

    def drawn(self) -> Image.Image:
        """As the teacher sees it, RGB. Raises ``ValueError`` naming a file that is no image."""
        try:
            with Image.open(self.file) as image:
                small, whole = as_rgb(image), image.size
        except NO_IMAGE as error:
            raise ValueError(f"{self.file}: no picture for the teacher ({error})") from None
        small.thumbnail((self.bound, self.bound), Image.Resampling.LANCZOS)
        regions = resize_regions(self.regions, whole, small.size)
        return numbered(highlight(small, regions), regions)

    def data_url(self) -> str:
        """The drawn picture as a JPEG in a data URL."""
        buffer = io.BytesIO()
        self.drawn().save(buffer, "JPEG", quality=QUALITY, subsampling=0)  # thin, in colour
        return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"

    def tokens(self, model: str = "") -> int:
        """The most tokens that the picture counts as.

        OpenAI's models count tiles of 512 pixels or patches of 32 (its guide on images); of both
        rules, whichever is more. gpt-4o-mini counts tiles for 33 times as much. A model elsewhere
        is taken to count each patch of 16 pixels and the end of each row, as Pixtral does. One that
        cuts a picture into tiles of its own may count more, InternVL up to 3,328: the text's bound,
        a token for each byte, leaves room for most of that.
        """
        name = model.rpartition("/")[2]
        tiles = math.ceil(self.bound / TILE) ** 2
        if name.startswith("gpt-4o-mini"):
            return MINI_BASE + MINI_PER_TILE * tiles
        patches = math.ceil(self.bound / PATCH) ** 2
        most = max(BASE + PER_TILE * tiles, math.ceil(PER_PATCH * patches))
        if not name or name.startswith(OPENAI):
            return most
        rows = math.ceil(self.bound / FINE_PATCH)
        return max(most, rows * (rows + 1))


@lru_cache(maxsize=4096)
def _content(file: Path, size: int, changed: int) -> str:
    """The hash of a file, which several prompts are about, as long as it stays as it is."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def numbered(image: Image.Image, regions: Sequence[Region]) -> Image.Image:
    """Tags with the regions' numbers at their boxes, on an image on which they are drawn."""
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(TAG - 2)
    for region, tag in zip(regions, tags(regions, image.size), strict=True):
        color = highlight_colors(region.id)[1][:3]
        x0, y0, x1, y1 = tag
        pen.rectangle(tag, fill=color)
        pen.text(
            ((x0 + x1) / 2, (y0 + y1) / 2),
            str(region.id),
            fill=text_color([c / 255 for c in color]),
            font=font,
            anchor="mm",
        )
    return image


def tags(regions: Sequence[Region], size: tuple[int, int]) -> list[Box]:
    """Where the number of each region stands, in an image of ``size``: at its box, where it hides
    no other number and the least of what is in the boxes. The smallest box has the first choice.
    """
    font, placed = ImageFont.load_default(TAG - 2), {}
    areas = [max((x1 - x0) * (y1 - y0), 1.0) for x0, y0, x1, y1 in (r.box for r in regions)]
    for place in sorted(range(len(regions)), key=areas.__getitem__):
        width = math.ceil(font.getlength(str(regions[place].id))) + 6

        def hides(tag: Box) -> float:
            shares = (_common(tag, r.box) / area for r, area in zip(regions, areas, strict=True))
            return sum(shares) + len(regions) * sum(_common(tag, t) > 0 for t in placed.values())

        placed[place] = min(_places(regions[place].box, width, size), key=hides)
    return [placed[place] for place in range(len(regions))]


def _places(box: Box, width: int, size: tuple[int, int]) -> list[Box]:
    """Tags about a box, the usual place first, all in the image: above it, below, beside it, and
    inside at its corners.
    """
    x0, y0, x1, y1 = box
    inner = (x0, x1 - width, (x0 + x1 - width) / 2)
    corners = [(x, y) for y in (y0 - TAG, y1) for x in (*inner, x0 - width, x1)]
    corners += [(x, y) for x in (x0 - width, x1) for y in (y0, y1 - TAG)]
    corners += [(x, y) for y in (y0, y1 - TAG) for x in inner]
    found = []
    for x, y in corners:
        left = round(min(max(x, 0), size[0] - width))
        top = round(min(max(y, 0), size[1] - TAG))
        found.append((left, top, left + width - 1, top + TAG - 1))
    return found


def _common(one: Box, other: Box) -> float:
    """The area that two boxes have in common, in pixels."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(width, 0.0) * max(height, 0.0)
