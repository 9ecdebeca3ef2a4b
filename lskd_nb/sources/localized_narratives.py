"""Localized Narratives: what somebody said of an image while moving the mouse over it.

Reads ``*_localized_narratives.jsonl``, sharded or not, and ``*_captions.jsonl``, which have the
captions alone (google.github.io/localized-narratives; CC BY 4.0; images are those of COCO,
Flickr30k, ADE20K and Open Images). Trace points are shares of width and height, below 0 or above 1
where the mouse left the image. An image may have several narratives.

Only COCO's image ids were seen on a real record; the other sets' paths follow their archives.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from lskd_nb.regions import Box
from lskd_nb.sources import BadRecord, Rejected, box_inside, list_of, number_of, text_of

IMAGE_PATHS = {  # beginning of dataset_id, case aside -> path of an image, by its id
    "mscoco_train2017": "train2017/{:0>12}.jpg",
    "mscoco_val2017": "val2017/{:0>12}.jpg",
    "flick30k": "flickr30k_images/{}.jpg",
    "flickr30k": "flickr30k_images/{}.jpg",
    "ade20k_train": "training/{}.jpg",
    "ade20k_validation": "validation/{}.jpg",
    "open_images_train": "train/{}.jpg",
    "open_images_validation": "validation/{}.jpg",
    "open_images_test": "test/{}.jpg",
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
    image: str  # path below the image root; "" for a set that IMAGE_PATHS doesn't know
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
    in memory. Rejected: rows that lack a field or hold another type. Raises ``FileNotFoundError``
    or ``ValueError`` naming file and line.
    """
    narratives, rejects = [], []
    for path in _files(files):
        for number, row in islice(_rows(path), limit):
            try:
                narratives.append(_narrative(row, traces))
            except BadRecord as error:
                rejects.append(error.of(f"{path.name}, line {number}"))
    return narratives, rejects


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
        with open(path, encoding="utf-8") as lines:
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


def _narrative(row: dict, traces: bool) -> Narrative:
    dataset, image_id = text_of(row, "dataset_id"), _text_or_number(row, "image_id")
    pattern = next((p for start, p in IMAGE_PATHS.items() if dataset.lower().startswith(start)), "")
    path = pattern.format(image_id)
    if ".." in path.split("/") or "/" in image_id:
        raise BadRecord("bad image id", f"image_id is {image_id!r}, which is no file name")
    if traces and row.get("timed_caption") is not None:
        utterances = tuple(_utterance(u) for u in list_of(row, "timed_caption"))
    else:
        utterances = ()
    if traces and row.get("traces") is not None:
        trace = tuple(_point(p) for stroke in _strokes(row) for p in stroke)
    else:
        trace = ()
    return Narrative(
        image_id,
        dataset,
        path,
        int(number_of(row, "annotator_id")),
        text_of(row, "caption"),
        utterances,
        trace,
    )


def _text_or_number(row: dict, name: str) -> str:
    value = row.get(name)
    return str(value) if type(value) is int else text_of(row, name)


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


def _strokes(row: dict) -> list[list]:
    strokes = list_of(row, "traces")
    if not all(isinstance(s, list) for s in strokes):
        raise BadRecord("bad list", "traces is expected to be a list of lists of points")
    return strokes


def _point(point: object) -> tuple[float, float, float]:
    if not isinstance(point, dict):
        raise BadRecord(
            "bad record", f"traces holds {type(point).__name__}, expected points of x, y and t"
        )
    return number_of(point, "x"), number_of(point, "y"), number_of(point, "t")
