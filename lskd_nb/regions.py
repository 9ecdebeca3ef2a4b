"""Regions: boxes that a text points at as ``[0]``, ``[1]``, …, drawn so that a model sees which.

A region is highlighted with a two-pixel outline and a translucent fill in the colour of its id
(LSKD, section 3.3; the colours of ids 0 to 4 are those of the released models). Nothing but the
colour tells the ids apart for the model, so no two ids share an outline.
"""

import colorsys
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image, UnidentifiedImageError

from lskd_nb.records import REGIONS

Box = tuple[float, float, float, float]
Color = tuple[int, int, int, int]

AT_ONCE = 1000  # images, of which rows are Python objects
VG_FOLDERS = ("VG_100K", "VG_100K_2")  # of Visual Genome's pictures

# what Pillow raises for damaged files of all kinds
NO_IMAGE = (
    UnidentifiedImageError,
    OSError,
    EOFError,
    SyntaxError,
    ValueError,
    Image.DecompressionBombError,
)

COLOR_NAMES = ("green", "blue", "purple", "orange", "red")  # of the outlines of ids 0 to 4
PUBLISHED = (  # (fill, outline) RGBA of the reference release
    ("ff05cd20", "05ff37ff"),
    ("ff800020", "99ccffff"),
    ("862d2d20", "cc99ffff"),
    ("ff800020", "f5ad42ff"),
    ("862d2d20", "f55d42ff"),
)
MENTION = re.compile(r"\[\s*(\d+(?:\s*,\s*\d+)*)\s*\]")
# what stands at the word before it: marks, and the second half of "[0]'s" and "don't"
_AT_THE_LEFT = re.compile(r"[?.!,;:%)”’]|n['’]t\b|'\w")
_APART = re.compile(f" (?={_AT_THE_LEFT.pattern})")  # a space of the tokens, not of the text
_AT_THE_RIGHT = frozenset("($#“‘")  # what stands at the word after it
_UNDECIDED = frozenset("'\"’")  # what its neighbours or its partner decide
_ENDINGS = ("s", "t", "d", "m", "re", "ve", "ll")  # of words with an apostrophe


@dataclass(frozen=True)
class Region:
    """A box, xyxy in pixels of its image, that texts mention by ``id``."""

    id: int
    box: Box
    label: str = ""
    score: float | None = None


@dataclass(frozen=True)
class LocatedImage:
    """An image file (relative to an image root), its size in pixels, and its regions."""

    image_id: str
    path: str
    width: int
    height: int
    regions: tuple[Region, ...]
    source: str
    split: str


def mentions(text: str) -> list[int]:
    """Region ids mentioned in a text, in order of first appearance.

    >>> mentions("[2] gives [0, 1] a book that [2] has read")
    [2, 0, 1]
    """
    found = [int(i) for group in MENTION.findall(text) for i in group.split(",")]
    return list(dict.fromkeys(found))


# fmt: off
PEOPLE = frozenset((
    "person", "people", "man", "men", "woman", "women", "child", "children", "kid", "kids", "boy",
    "boys", "girl", "girls", "guy", "guys", "lady", "ladies", "baby", "toddler", "player",
    "players", "skier", "surfer", "skateboarder", "snowboarder", "rider", "bicyclist", "pedestrian",
    "couple", "crowd",
))
# fmt: on


def is_person(label: str) -> bool:
    """Whether a region's label names a person, or people.

    >>> is_person("Woman"), is_person("woman's hat")
    (True, False)
    """
    return label.strip().lower() in PEOPLE


def renumber(text: str, mapping: Mapping[int, int]) -> str:
    """Replace every mentioned id by ``mapping``.

    Raises ``ValueError`` naming an id that has no mapping.

    >>> renumber("Why does [2] look at [0,1]?", {0: 1, 1: 0, 2: 2})
    'Why does [2] look at [1, 0]?'
    """

    def replaced(match: re.Match) -> str:
        ids = [int(i) for i in match[1].split(",")]
        missing = [i for i in ids if i not in mapping]
        if missing:
            raise ValueError(
                f"region {missing[0]} is mentioned in {text!r} but is not among {sorted(mapping)}"
            )
        return "[" + ", ".join(str(mapping[i]) for i in ids) + "]"

    return MENTION.sub(replaced, text)


def tokens_to_text(tokens: Sequence[str | Sequence[int]]) -> str:
    """VCR's and LCK's token lists to text, spaced as people write.

    VCR's tokens cut off every mark and cut words at their apostrophe. Marks go back to their word,
    quotation marks in pairs; a mark whose partner is missing stays between two spaces.

    >>> tokens_to_text(["Why", "is", [0, 1], "here", "?"])
    'Why is [0, 1] here?'
    >>> tokens_to_text([[0], "'", "s", "coat", "does", "n't", "fit", "."])
    "[0]'s coat doesn't fit."
    """
    words = [t if type(t) is str else f"[{', '.join(map(str, t))}]" for t in tokens]
    if _AT_THE_RIGHT.isdisjoint(words) and _UNDECIDED.isdisjoint(words):  # nearly always
        return _APART.sub("", " ".join(words))
    left, right = _glued(words)
    spaced = (
        word if place == 0 or place in left or place - 1 in right else f" {word}"
        for place, word in enumerate(words)
    )
    return "".join(spaced)


def _glued(words: Sequence[str]) -> tuple[set[int], set[int]]:
    """The places of words that stand at the one before them, and at the one after."""
    left = {place for place, word in enumerate(words) if _AT_THE_LEFT.match(word)}
    right = {place for place, word in enumerate(words) if word in _AT_THE_RIGHT}
    quotes: dict[str, list[int]] = {'"': [], "'": []}
    for place, word in enumerate(words):
        before, after = words[place - 1 : place], words[place + 1 : place + 2]
        if word in ("'", "’") and before and after and after[0].lower() in _ENDINGS:
            left.add(place)
            right.add(place)
        elif word in quotes:
            quotes[word].append(place)
    for mark, places in quotes.items():
        if len(places) % 2 and mark == "'":  # the girls' mother
            owners = [p for p in places if p and re.search(r"(s|\d\])$", words[p - 1])]
            left.update(owners[:1])
            places = [p for p in places if p not in owners[:1]]
        if len(places) % 2 == 0:
            right.update(places[::2])
            left.update(places[1::2])
    return left, right


def text_to_tokens(text: str) -> list[str | list[int]]:
    """The inverse, up to spacing: words, marks, and lists of ids.

    >>> text_to_tokens("Why is [0, 1]'s dog well-fed?")
    ['Why', 'is', [0, 1], "'s", 'dog', 'well-fed', '?']
    """
    parts = re.findall(r"\[\s*\d+(?:\s*,\s*\d+)*\s*\]|(?<=[\w\]])'\w+|\w+(?:-\w+)*|[^\w\s]", text)
    return [[int(i) for i in re.findall(r"\d+", p)] if MENTION.fullmatch(p) else p for p in parts]


def image_file(image_root: str | Path, path: str) -> Path:
    """The file of an image, by its path below the image root; it need not be there.

    Links are followed: whoever keeps the folder made them. A path is data, and may not leave it.
    A picture of Visual Genome that is not in the folder its path names is looked for in the other:
    VG_100K or VG_100K_2. Raises ``ValueError`` for an absolute path or one with "..".
    """
    parts = re.split(r"[/\\]", path)
    if ".." in parts or os.path.isabs(path):
        raise ValueError(f"image path {path!r} leaves the image root {image_root}")
    file = Path(image_root, path)
    if file.parent.name in VG_FOLDERS and not os.path.isfile(file):
        other = VG_FOLDERS[file.parent.name == VG_FOLDERS[0]]
        elsewhere = file.parent.with_name(other) / file.name
        if os.path.isfile(elsewhere):
            return elsewhere
    return file


def picture_bytes(image_root: str | Path, paths: Iterable[str]) -> list[int]:
    """How many bytes each picture has, 0 where it is not there: under one name there may be another
    picture than before.
    """
    found = []
    for path in paths:
        try:
            found.append(os.stat(image_file(image_root, path)).st_size)
        except (OSError, ValueError):
            found.append(0)
    return found


def as_rgb(image: Image.Image) -> Image.Image:
    """Eight bits of red, green and blue; of 16-bit greys the upper eight.

    Raises ``ValueError`` for pixels that are numbers without a scale.
    """
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode == "RGB":
        image.load()
        return image
    if image.mode in ("F", "I"):
        raise ValueError(
            f"its pixels are numbers without a scale (mode {image.mode}):"
            " save it with 8 bits a channel"
        )
    return image.convert("RGB")


def clamp(box: Sequence[float], width: int, height: int) -> Box:
    """Cut a box (xyxy pixels) to its image. Raises ``ValueError`` when no area is left."""
    x0, y0, x1, y1 = (float(v) for v in box[:4])
    x0, x1 = (min(max(x, 0.0), width) for x in (x0, x1))
    y0, y1 = (min(max(y, 0.0), height) for y in (y0, y1))
    if not (x1 - x0 > 0 and y1 - y0 > 0):
        raise ValueError(
            f"box {tuple(box)} has no area inside an image of {width} x {height} pixels"
        )
    return x0, y0, x1, y1


def resize_regions(
    regions: Iterable[Region], old: tuple[int, int], new: tuple[int, int]
) -> tuple[Region, ...]:
    """Regions of an image of ``old`` size (width, height), for the image resized to ``new``."""
    x, y = new[0] / old[0], new[1] / old[1]
    return tuple(
        replace(r, box=(r.box[0] * x, r.box[1] * y, r.box[2] * x, r.box[3] * y)) for r in regions
    )


@cache
def highlight_colors(region: int) -> tuple[Color, Color]:
    """(fill, outline) of an id: the published colours of 0 to 4, then hues a golden angle apart.

    Raises ``ValueError`` for one below 0.
    """
    if region < 0:
        raise ValueError(f"region {region}: ids begin at 0")
    if region < len(PUBLISHED):
        return tuple(tuple(bytes.fromhex(color)) for color in PUBLISHED[region])
    hue = (0.57 + (region - len(PUBLISHED)) * 0.618034) % 1.0
    shade = (region // 7) % 3
    rgb = colorsys.hsv_to_rgb(hue, (1.0, 0.65, 0.85)[shade], (1.0, 1.0, 0.75)[shade])
    color = tuple(round(255 * c) for c in rgb)
    return (*color, 0x20), (*color, 0xFF)


def text_color(color: Sequence[float]) -> str:
    """Black on a colour (RGB, 0 to 1), white where it is dark: contrast at least 4.5 (WCAG 2)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in color[:3]]
    return "black" if np.dot(linear, (0.2126, 0.7152, 0.0722)) > 0.179 else "white"


def highlight(image: Image.Image, regions: Sequence[Region], outline_px: int = 2) -> Image.Image:
    """Draw regions on an image, in order: exactly what the models see, without id tags.

    Equals one full-image overlay per box, pixel for pixel.
    """
    canvas = np.array(image.convert("RGB"))
    highlight_pixels(canvas, regions, outline_px)
    return Image.fromarray(canvas)


def highlight_pixels(canvas: np.ndarray, regions: Iterable[Region], outline_px: int = 2) -> None:
    """The same on (H, W, 3) uint8 pixels in one piece, which are changed: those of the boxes
    only.
    """
    height, width = canvas.shape[:2]
    rows, n = canvas.view().reshape(height, 3 * width), outline_px
    for region in regions:
        x0, y0, x1, y1 = pixel_box(region.box, width, height)
        fill, outline = highlight_colors(region.id)
        alpha, inside = fill[3], rows[y0:y1, 3 * x0 : 3 * x1]
        mixed = inside * np.uint16(255 - alpha)
        mixed += np.tile(np.array(fill[:3], np.uint16) * alpha + 127, x1 - x0)
        mixed //= np.uint16(255)
        inside[...] = mixed
        box = canvas[y0:y1, x0:x1]
        box[:n] = box[-n:] = box[:, :n] = box[:, -n:] = outline[:3]


def pixel_box(box: Box, width: int, height: int) -> tuple[int, int, int, int]:
    """The pixels a box covers, at least one each way, as half-open ranges x0, y0, x1, y1.

    Raises ``ValueError`` where a side is no number.
    """
    if not np.isfinite(box).all():
        raise ValueError(f"box {tuple(box)}: expected four numbers")
    x0, y0 = min(max(int(box[0]), 0), width - 1), min(max(int(box[1]), 0), height - 1)
    return x0, y0, max(min(round(box[2]), width), x0 + 1), max(min(round(box[3]), height), y0 + 1)


def shuffle_ids(
    regions: Sequence[Region],
    mentioned: Sequence[int],
    rng: np.random.Generator,
    share_mentioned: float = 0.5,
) -> tuple[tuple[Region, ...], dict[int, int]]:
    """The paper's augmentation: half the time the mentioned regions alone, in random order.

    Returns the regions to draw, numbered 0, 1, … in that order, and the mapping from old to new
    ids.
    """
    chosen = list(regions)
    if mentioned and rng.random() < share_mentioned:
        chosen = [r for r in regions if r.id in mentioned]
    order = [chosen[i] for i in rng.permutation(len(chosen))]
    mapping = {r.id: new for new, r in enumerate(order)}
    return tuple(replace(r, id=mapping[r.id]) for r in order), mapping


def regions_table(images: Iterable[LocatedImage]) -> pa.Table:
    """Located images as the REGIONS table."""
    rows = [
        dict(
            image_id=i.image_id,
            image=i.path,
            width=i.width,
            height=i.height,
            source=i.source,
            split=i.split,
            regions=[
                dict(id=r.id, box=list(r.box), label=r.label, score=r.score) for r in i.regions
            ],
        )
        for i in images
    ]
    return pa.Table.from_pylist(rows, schema=REGIONS)


def located_images(table: pa.Table) -> list[LocatedImage]:
    """The REGIONS table as located images."""
    return [
        LocatedImage(
            row["image_id"],
            row["image"],
            row["width"],
            row["height"],
            tuple(region_of(r) for r in row["regions"]),
            row["source"],
            row["split"],
        )
        for batch in table.to_batches(max_chunksize=AT_ONCE)
        for row in batch.to_pylist()
    ]


def region_of(row: Mapping) -> Region:
    """A region from its Arrow struct."""
    return Region(row["id"], tuple(row["box"]), row["label"] or "", row["score"])


def regions_of(row: Mapping, mentioned_only: bool = False) -> list[Region]:
    """The regions of a corpus row; only those its texts mention if asked."""
    ids = set(mentions(" ".join((row["question"], row["answer"], row["rationale"]))))
    return [
        Region(r["id"], tuple(r["box"]), r["label"] or "")
        for r in row["references"]
        if not mentioned_only or r["id"] in ids
    ]
