"""Data sets on disk, one module each: files to located images, human texts or benchmark items.

The modules know file formats and nothing of models. A file that is missing or damaged is an error
naming it; a single bad record in a large set becomes a ``Rejected`` with its reason, which the
caller writes beside the results and counts. A bad part of a good record (one of several boxes, one
of several sentences) is left out and counted in the same way; the rest of the record is read.

A picture may be a smaller or larger copy of the one that was annotated: where its shape is that of
the stated size, to a pixel of rounding, the boxes are scaled to it. Any other difference rejects
the record. Readers that take ``counts`` say there how many boxes were cut to their image
(``clamped``), for how many records boxes were scaled (``scaled``), and how many name the other
folder of Visual Genome's two (``other_folder``).
"""

import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from lskd_nb.regions import Box, LocatedImage, clamp, image_file


@dataclass(frozen=True)
class MultipleChoice:
    """One benchmark item.

    ``label`` is the index of the right choice, None where the set withholds it.
    """

    item_id: str
    image: LocatedImage
    question: str
    choices: tuple[str, ...]
    label: int | None
    task: str  # e.g. vcr.q_a, snli_ve
    slice: str  # question type


@dataclass(frozen=True)
class Rejected:
    """A record that was left out, or a part of one: which, why (a few fixed words, to count by),
    what was found.
    """

    record: str
    reason: str
    detail: str


class BadRecord(ValueError):
    """What is wrong with one record; readers turn it into a ``Rejected``."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail

    def of(self, record: str) -> Rejected:
        return Rejected(record, self.reason, self.detail)


def count_reasons(rejects: Iterable[Rejected]) -> dict[str, int]:
    """How many records, or parts, were left out for each reason, most frequent first."""
    return dict(Counter(r.reason for r in rejects).most_common())


def reject_rows(rejects: Iterable[Rejected], stage: str) -> list[dict]:
    """Rejects as rows of the REJECTS schema.

    Half a surrogate pair, which JSON may hold and UTF-8 may not, becomes a question mark.
    """
    rows = (
        {"stage": stage, "record": r.record, "reason": r.reason, "detail": r.detail}
        for r in rejects
    )
    return [
        {name: value.encode("utf-8", "replace").decode("utf-8") for name, value in row.items()}
        for row in rows
    ]


def read_json(path: str | Path) -> list | dict:
    """The content of a JSON file.

    Raises ``FileNotFoundError`` or ``ValueError`` naming the file, line and column.
    """
    path = Path(path)
    try:
        return json.loads(_text(path))
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path}, line {error.lineno}, column {error.colno}: not valid JSON ({error.msg})"
        ) from error
    except (ValueError, RecursionError) as error:
        # numbers of thousands of digits, lists that are too deep
        raise ValueError(f"{path}: not valid JSON ({error})") from error


def read_records(path: str | Path) -> list[dict]:
    """A JSON file that must be a list of objects, as most sets have it.

    Raises ``ValueError`` naming file and element.
    """
    records = read_json(path)
    if not isinstance(records, list):
        raise _unexpected(str(path), "a list of records", records)
    for number, record in enumerate(records):
        if not isinstance(record, dict):
            raise _unexpected(f"{path}, element {number}", "an object", record)
    return records


def read_jsonl(path: str | Path) -> list[dict]:
    """A file with one JSON object in each line; empty lines are skipped.

    Raises ``ValueError`` naming file and line.
    """
    path = Path(path)
    rows = []
    for number, line in enumerate(_text(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(
                f"{path}, line {number}: not valid JSON ({error.msg}, column {error.colno})"
            ) from error
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}, line {number}: not valid JSON ({error})") from error
        if not isinstance(row, dict):
            raise _unexpected(f"{path}, line {number}", "an object", row)
        rows.append(row)
    return rows


def _unexpected(where: str, expected: str, found: object) -> ValueError:
    return ValueError(f"{where}: expected {expected}, found {type(found).__name__}")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")  # editors of Windows put a mark at the start
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{path} is not there; expected one of the data set's own files"
        ) from error
    except (UnicodeDecodeError, IsADirectoryError) as error:
        raise ValueError(f"{path}: not a UTF-8 text file ({error})") from error
    except OSError as error:
        raise ValueError(f"{path}: can't be read ({error.strerror})") from error


def first_of(record: dict, *names: str) -> object:
    """The first of several spellings of a field that a record has.

    Raises ``BadRecord`` when it has none.
    """
    for name in names:
        if record.get(name) is not None:
            return record[name]
    raise BadRecord("missing field", f"none of {', '.join(names)} in {sorted(record)}")


def text_of(record: dict, *names: str) -> str:
    """A text field, white space trimmed. Raises ``BadRecord`` when it is no text or empty."""
    value = first_of(record, *names)
    if not isinstance(value, str) or not value.strip():
        raise BadRecord("bad text", f"{names[0]} is {value!r}, expected a text")
    return " ".join(value.split())


def name_of(record: dict, *names: str) -> str:
    """A text, or a whole number, which some files have in place of one.

    Raises ``BadRecord`` otherwise.
    """
    value = first_of(record, *names)
    return str(value) if type(value) is int else text_of(record, *names)


def object_of(record: dict, *names: str) -> dict:
    """A field that holds an object. Raises ``BadRecord`` otherwise."""
    value = first_of(record, *names)
    if not isinstance(value, dict):
        raise BadRecord("bad record", f"{names[0]} is {type(value).__name__}, expected an object")
    return value


def list_of(record: dict, *names: str) -> list:
    """A field that holds a list. Raises ``BadRecord`` otherwise."""
    value = first_of(record, *names)
    if not isinstance(value, list):
        raise BadRecord("bad list", f"{names[0]} is {type(value).__name__}, expected a list")
    return value


def texts_of(record: dict, *names: str) -> list[str]:
    """A list of texts, as the record has them. Raises ``BadRecord`` otherwise."""
    value = list_of(record, *names)
    if not all(isinstance(v, str) for v in value):
        raise BadRecord("bad list", f"{names[0]} is {value!r}, expected texts")
    return value


def good_texts(record: dict, *names: str) -> tuple[list[str], list[BadRecord]]:
    """The texts of a list as the record has them, and what is wrong with the others: they are
    blank or no text.
    """
    texts, bad = [], []
    for place, value in enumerate(list_of(record, *names)):
        if isinstance(value, str) and value.strip():
            texts.append(value)
        else:
            bad.append(BadRecord("bad text", f"{names[0]}[{place}] is {value!r}, expected a text"))
    return texts, bad


def choice_of(record: dict, name: str) -> int | None:
    """Which of four choices, 0 to 3, None where the record doesn't say.

    Raises ``BadRecord`` otherwise.
    """
    value = record.get(name)
    if value is not None and (type(value) is not int or not 0 <= value < 4):
        raise BadRecord("bad label", f"{name} is {value!r}, expected 0 to 3")
    return value


def number_of(record: dict, *names: str) -> float:
    """A finite number. Raises ``BadRecord`` otherwise."""
    return finite(first_of(record, *names), names[0])


def finite(value: object, name: str) -> float:
    """``value`` as a float. Raises ``BadRecord`` when it is no finite number."""
    try:
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return float(value)
    except OverflowError:  # an integer beyond the floats
        pass
    raise BadRecord("bad number", f"{name} is {value!r}, expected a finite number")


def object_in(record: object) -> dict:
    """A record that must be an object. Raises ``BadRecord`` otherwise."""
    if not isinstance(record, dict):
        raise BadRecord("bad record", f"{type(record).__name__}, expected an object")
    return record


def in_words(name: str) -> str:
    """The name of a category as words.

    >>> in_words("tank_(storage_vessel)")
    'tank (storage vessel)'
    """
    return " ".join(name.replace("_", " ").split())


def coco_box(record: dict, width: int, height: int) -> tuple[Box, bool]:
    """``bbox`` as COCO, LVIS and RefCOCO have it (x, y, width, height in pixels): xyxy inside the
    image, and whether it was cut. The files' numbers are rounded to 0.01.

    Raises ``BadRecord`` where it is none, or has no area in the image.
    """
    values = list_of(record, "bbox")
    if len(values) != 4:
        raise BadRecord("bad number", f"bbox is {values!r}, expected x, y, width, height")
    x, y, w, h = (finite(v, "bbox") for v in values)
    told = (x, y, x + w, y + h)
    box = box_inside(told, width, height)
    return box, any(abs(a - b) > 0.01 for a, b in zip(box, told, strict=True))


def box_inside(xyxy: Sequence[float], width: int, height: int) -> Box:
    """A box cut to its image, xyxy pixels.

    Raises ``BadRecord`` when it is outside or has no area.
    """
    try:
        return clamp(xyxy, width, height)
    except ValueError as error:
        raise BadRecord("box of no area", str(error)) from error


def size_of(record: dict) -> tuple[int, int]:
    """``width`` and ``height`` of a record, positive pixels. Raises ``BadRecord`` otherwise."""
    width, height = (int(number_of(record, name)) for name in ("width", "height"))
    if width <= 0 or height <= 0:
        raise BadRecord("bad number", f"an image of {width} x {height} pixels")
    return width, height


def below(root: Path, path: str) -> Path:
    """The file of a picture below its root (``regions.image_file``).

    Raises ``BadRecord`` for a path that leaves it.
    """
    try:
        return image_file(root, path)
    except ValueError as error:
        raise BadRecord("bad path", str(error)) from error


def image_size(path: Path) -> tuple[int, int]:
    """Width and height of an image that can be read to its end.

    Raises ``BadRecord`` where it is missing or damaged.

    Decodes JPEGs at an eighth of their size: a truncated file is found at a third of the cost.
    """
    if not os.path.isfile(path):  # Path.is_file raises for a name that is too long
        raise BadRecord("missing image", f"{path} is not there")
    try:
        with Image.open(path) as image:
            size = image.size
            image.draft("L", tuple(max(side // 8, 1) for side in size))
            image.load()
    except Image.DecompressionBombError as error:
        raise BadRecord("image too large", f"{path}: {error}") from error
    except (OSError, EOFError, SyntaxError, ValueError) as error:
        raise BadRecord("corrupt image", f"{path}: {error}") from error
    return size


def stored_size(path: Path, width: int, height: int) -> tuple[int, int]:
    """Width and height of an image whose record says ``width`` x ``height``: the same, or those
    of a copy that was scaled, to a pixel of rounding.

    Raises ``BadRecord`` where it is missing, damaged or of another shape.
    """
    found = image_size(path)
    if not same_shape(found, (width, height)):
        raise BadRecord(
            "image size differs",
            f"{path} has {found[0]} x {found[1]} pixels, its record {width} x {height}",
        )
    return found


def same_shape(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether an image of one size (width, height) may be a scaled copy of one of the other, to a
    pixel of rounding.
    """
    small, large = sorted([one, other])
    # how far off the smaller one is where its other side is right, times that side
    return abs(small[0] * large[1] - small[1] * large[0]) <= max(large)


def scaled_box(box: Box, old: tuple[int, int], new: tuple[int, int]) -> Box:
    """A box inside an image of ``old`` size (width, height), in one of ``new`` size."""
    return tuple(v * new[i % 2] / old[i % 2] for i, v in enumerate(box))


def scaled_to(image: LocatedImage, size: tuple[int, int]) -> LocatedImage:
    """An image and its regions as they are in a copy of another size (width, height)."""
    old = (image.width, image.height)
    if size == old:
        return image
    regions = tuple(replace(r, box=scaled_box(r.box, old, size)) for r in image.regions)
    return replace(image, width=size[0], height=size[1], regions=regions)
