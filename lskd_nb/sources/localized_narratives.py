"""Localized Narratives: what somebody said of an image while moving the mouse over it.

Reads ``*_localized_narratives.jsonl``, sharded or not, and ``*_captions.jsonl``, which have the
captions alone (google.github.io/localized-narratives; CC BY 4.0; images are those of COCO,
Flickr30k, ADE20K and Open Images). Trace points are shares of width and height, below 0 or above 1
where the mouse left the image. An image may have several narratives.

The files' ids of data sets are those of many hands: "mscoco_val2017", "Flick30k", "ADE20k". Where
one does not tell the split, ADE20K's image ids do, or the name of the file. Only COCO's image ids
were seen on a real record; the other sets' paths follow their archives.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from lskd_nb.regions import Box
from lskd_nb.sources import BadRecord, Rejected, box_inside, list_of, name_of, number_of, text_of

# beginning of dataset_id, in small letters and digits -> path of an image, and the names of splits
DATA_SETS = {
    "mscoco": ("{split}2017/{image:0>12}.jpg", dict(train="train", val="val", test="test")),
    "coco": ("{split}2017/{image:0>12}.jpg", dict(train="train", val="val", test="test")),
    "flickr30k": ("flickr30k_images/{image}.jpg", {}),
    "flick30k": ("flickr30k_images/{image}.jpg", {}),
    "ade20k": ("{split}/{image}.jpg", dict(train="training", val="validation")),
    "openimages": ("{split}/{image}.jpg", dict(train="train", val="validation", test="test")),
}


@dataclass(frozen=True)
class Utterance:
    """Some words, and when they were said, in seconds."""

    text: str
    start: float
    end: float


@dataclass(frozen=True)
class Narrative:
    """One person's narrative of an image.

    ``utterances`` and ``trace`` are () in files of captions, and where they were not asked for.
    """

    image_id: str
    dataset_id: str
    image: str  # path below the image root
    annotator_id: int
    caption: str
    utterances: tuple[Utterance, ...]
    # x, y in shares of the image, and seconds; all strokes in a row
    trace: tuple[tuple[float, float, float], ...]


def read_narratives(
    files: str | Path | Iterable[str | Path], limit: int | None = None, traces: bool = True
) -> tuple[list[Narrative], list[Rejected]]:
    """Narratives of one file, of several shards, or of every ``.jsonl`` in a folder (the first
    ``limit`` of each), and what was left out.

    Files are read line by line; without ``traces``, which are most of them, only the captions stay
    in memory. Rejected: rows that lack a field or hold another type, or are of a data set or split
    that is not known; and utterances and points that are none, whose narrative is kept. Raises
    ``FileNotFoundError`` or ``ValueError`` naming file and line.
    """
    narratives, rejects = [], []
    for path in _files(files):
        for number, row in islice(_rows(path), limit):
            try:
                narrative, bad = _narrative(row, traces, path.name)
                narratives.append(narrative)
            except BadRecord as error:
                bad = [error]
            rejects += [error.of(f"{path.name}, line {number}") for error in bad]
    return narratives, rejects


def image_path(dataset_id: str, image_id: str, file: str = "") -> str:
    """Where an image lies below its image root; ``file`` is the name of the narratives' file.

    Raises ``BadRecord`` naming a data set that is not known, or of which nothing tells the split.

    >>> image_path("ADE20k", "ADE_val_00000001"), image_path("mscoco_train2017", "42")
    ('validation/ADE_val_00000001.jpg', 'train2017/000000000042.jpg')
    """
    plain = re.sub(r"[^a-z0-9]", "", dataset_id.lower())
    name = next((start for start in DATA_SETS if plain.startswith(start)), None)
    if name is None:
        raise BadRecord(
            "unknown data set",
            f"dataset_id is {dataset_id!r}, expected one that begins with {', '.join(DATA_SETS)}",
        )
    pattern, splits = DATA_SETS[name]
    told = (plain.removeprefix(name), image_id if name == "ade20k" else "", file.lower())
    found = (re.search("|".join(splits), text) for text in told if splits)
    split = next((splits[match[0]] for match in found if match), None)
    if splits and split is None:
        raise BadRecord(
            "unknown split",
            f"dataset_id is {dataset_id!r}, and neither image_id {image_id!r} nor the file's name"
            f" tells one of {', '.join(splits)}",
        )
    return pattern.format(split=split, image=image_id.removesuffix(".jpg"))


def utterance_box(
    narrative: Narrative, utterance: Utterance, width: int, height: int
) -> tuple[Box, bool] | None:
    """The box around the trace while ``utterance`` was said, xyxy pixels inside the image, and
    whether it was cut to it.

    None where the mouse stood still, was outside the image, or left no point in that time.
    """
    points = [
        (x * width, y * height)
        for x, y, t in narrative.trace
        if utterance.start <= t <= utterance.end
    ]
    if not points:
        return None
    xs, ys = zip(*points, strict=True)
    around = (min(xs), min(ys), max(xs), max(ys))
    try:
        box = box_inside(around, width, height)
    except BadRecord:
        return None
    return box, box != around


def _files(files: str | Path | Iterable[str | Path]) -> list[Path]:
    if not isinstance(files, str | Path):
        return [Path(f) for f in files]
    path = Path(files)
    if not path.is_dir():
        return [path]
    found = sorted(path.glob("*.jsonl"))
    if not found:
        raise FileNotFoundError(
            f"{path} holds no .jsonl file:"
            " expected *_localized_narratives*.jsonl or *_captions.jsonl"
        )
    return found


def _rows(path: Path) -> Iterator[tuple[int, dict]]:
    """Each line's number, from 1, and its object; not ``read_jsonl``, for a shard's traces
    together are gigabytes of objects.
    """
    number = 0
    try:
        with open(path, encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    row = json.loads(line)
                    if not isinstance(row, dict):
                        raise ValueError(f"expected an object, found {type(row).__name__}")
                    yield number, row
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{path} is not there; expected one of the data set's own files"
        ) from error
    except UnicodeDecodeError as error:  # bytes are read ahead of the line they are on
        raise ValueError(
            f"{path}, after line {number}: not a UTF-8 text file ({error.reason})"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}, line {number}: can't be read ({error})") from error


def _narrative(row: dict, traces: bool, file: str) -> tuple[Narrative, list[BadRecord]]:
    """The narrative, and what is wrong with its utterances and its trace."""
    dataset, image_id = text_of(row, "dataset_id"), name_of(row, "image_id")
    if "/" in image_id or "\\" in image_id or image_id.strip(".") == "":
        raise BadRecord("bad image id", f"image_id is {image_id!r}, which is no file name")
    path, bad = image_path(dataset, image_id, file), []
    utterances, trace = (
        _good(row, name, read, bad) if traces else ()
        for name, read in (("timed_caption", _utterance), ("traces", _point))
    )
    narrative = Narrative(
        image_id,
        dataset,
        path,
        int(number_of(row, "annotator_id")),
        text_of(row, "caption"),
        utterances,
        trace,
    )
    return narrative, bad


def _good(row: dict, name: str, read: Callable, bad: list[BadRecord]) -> tuple:
    """The good parts of a list (of traces, of all its lists); what is wrong with others goes to
    ``bad``, once for them all.
    """
    found, wrong = [], []
    try:
        entries = list_of(row, name) if row.get(name) is not None else []
    except BadRecord as error:
        bad.append(error)
        return ()
    for entry in entries:
        for part in entry if name == "traces" and isinstance(entry, list) else [entry]:
            try:
                found.append(read(part))
            except BadRecord as error:
                wrong.append(error)
    if wrong:
        more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        bad.append(BadRecord(wrong[0].reason, f"{name}: {wrong[0].detail}{more}"))
    return tuple(found)


def _utterance(said: object) -> Utterance:
    if not isinstance(said, dict):
        raise BadRecord(
            "bad record", f"timed_caption holds {type(said).__name__}, expected objects"
        )
    found = Utterance(
        text_of(said, "utterance"), number_of(said, "start_time"), number_of(said, "end_time")
    )
    if found.end < found.start:
        raise BadRecord("bad number", f"end_time is {found.end}, before start_time {found.start}")
    return found


def _point(point: object) -> tuple[float, float, float]:
    if not isinstance(point, dict):
        raise BadRecord(
            "bad record", f"traces holds {type(point).__name__}, expected points of x, y and t"
        )
    return number_of(point, "x"), number_of(point, "y"), number_of(point, "t")
