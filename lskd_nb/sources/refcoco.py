"""RefCOCO, RefCOCO+ and RefCOCOg: expressions by which people told one object of a COCO image from the others.

Reads ``<root>/<name>/instances.json`` and ``<root>/<name>/refs(<split_by>).p`` (github.com/lichengunc/refer; Apache-2.0; images of COCO
train2014). Boxes are x, y, width, height in pixels, and are in the instances: a ref's own ``file_name`` has a suffix and names no image.
The refs are a pickle of Python 2. A pickle can run any program, so only plain containers, texts and numbers are read, and whatever else
one asks for is refused.
"""

import io
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lskd_nb.regions import Box, LocatedImage, Region
from lskd_nb.sources import BadRecord, Rejected, box_inside, check_image, finite, first_of, list_of, read_json, size_of, text_of
from lskd_nb.sources.visual_genome import ious

SETS = {"refcoco": ("unc", "google"), "refcoco+": ("unc",), "refcocog": ("umd", "google")}  # the first is the usual one
SPLITS = ("train", "val", "test", "testA", "testB")


@dataclass(frozen=True)
class Referring:
    """One object and the expressions that refer to it. ``image.regions`` is that object alone, id 0."""

    ref_id: int
    image: LocatedImage
    expressions: tuple[str, ...]


class _PlainUnpickler(pickle.Unpickler):
    """Reads containers, texts and numbers; no class, function or persistent object."""

    def find_class(self, module: str, name: str) -> object:
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, and only plain containers, texts and numbers are read")

    def persistent_load(self, pid: object) -> object:
        raise pickle.UnpicklingError(f"it asks for the persistent object {pid!r}, and only plain containers, texts and numbers are read")


def read_plain_pickle(path: str | Path) -> object:
    """The content of a pickle of plain containers, texts and numbers, also of Python 2.

    Raises ``FileNotFoundError``, and ``ValueError`` naming the file for one that is damaged or asks for anything else.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path} is not there; expected one of the data set's own files") from error
    except OSError as error:
        raise ValueError(f"{path}: can't be read ({error})") from error
    try:
        return _PlainUnpickler(io.BytesIO(data), encoding="latin1").load()
    except Exception as error:  # damaged pickles fail in every way there is
        raise ValueError(f"{path} is not a pickle of plain data: {type(error).__name__}: {error}") from error


def read_refcoco(
    root: str | Path, name: str, split: str, split_by: str | None = None, image_root: str | Path | None = None, check_images: bool = True,
    limit: int | None = None,
) -> tuple[list[Referring], list[Rejected], int]:
    """Refs of a split (the first ``limit``), what was left out, and how many boxes were cut to their image.

    Images are below ``image_root`` (default: ``root``), in ``train2014``; without ``check_images`` they may be absent. Rejected: refs that
    lack a field or hold another type, whose annotation or image the instances don't have, without expression, box or area, and whose
    image is missing or damaged. Raises ``ValueError`` for an unknown set or split, ``FileNotFoundError`` or ``ValueError`` naming a file.
    """
    if name not in SETS or split not in SPLITS or split_by not in (None, *SETS.get(name, ())):
        raise ValueError(f"{name!r}, {split!r}, {split_by!r}: expected one of {tuple(SETS)}, of {SPLITS}, and a split by one of {SETS.get(name)}")
    folder, home = Path(root) / name, Path(image_root or root)
    path = folder / f"refs({split_by or SETS[name][0]}).p"
    refs = read_plain_pickle(path)
    if not isinstance(refs, list) or not all(isinstance(r, dict) for r in refs):
        raise ValueError(f"{path}: expected a list of refs")
    annotations, images = _instances(folder / "instances.json")
    found, rejects, clamped = [], [], 0
    wanted = [(n, r) for n, r in enumerate(refs) if r.get("split") == split]
    for number, ref in wanted[:limit]:
        try:
            referring, cut = _referring(ref, annotations, images, name, split)
            if check_images:
                check_image(home / referring.image.path, referring.image.width, referring.image.height)
        except BadRecord as error:
            rejects.append(error.of(f"{path.name}, element {number}"))
            continue
        found.append(referring)
        clamped += cut
    return found, rejects, clamped


def comprehension(boxes: Sequence[Box], refs: Sequence[Referring]) -> np.ndarray:
    """Whether each box (xyxy pixels) overlaps its ref's by an IoU above 0.5, bool (N,); the mean is the comprehension accuracy."""
    return np.array([ious(np.array(box, float), np.array([ref.image.regions[0].box]))[0] > 0.5 for box, ref in zip(boxes, refs, strict=True)])


# ------------------------------------------------------------------------------------------------ records


def _instances(path: Path) -> tuple[dict[int, dict], dict[int, dict]]:
    """Annotations and images by id."""
    content = read_json(path)
    found = []
    for key in ("annotations", "images"):
        entries = content.get(key) if isinstance(content, dict) else None
        if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
            raise ValueError(f"{path}: expected an object with the lists annotations and images; {key} is none")
        found.append({e["id"]: e for e in entries if isinstance(e.get("id"), int)})
    return found[0], found[1]


def _referring(ref: dict, annotations: dict[int, dict], images: dict[int, dict], name: str, split: str) -> tuple[Referring, bool]:
    ann_id, image_id = _integer(ref, "ann_id"), _integer(ref, "image_id")
    for kind, known, wanted in (("annotation", annotations, ann_id), ("image", images, image_id)):
        if wanted not in known:
            raise BadRecord(f"unknown {kind}", f"{'ann' if kind == 'annotation' else kind}_id is {wanted}, which instances.json does not have")
    image, (width, height) = images[image_id], size_of(images[image_id])
    values = list_of(annotations[ann_id], "bbox")
    if len(values) != 4:
        raise BadRecord("bad number", f"bbox is {values!r}, expected x, y, width, height")
    x, y, w, h = (finite(v, "bbox") for v in values)
    box = box_inside((x, y, x + w, y + h), width, height)
    file = text_of(image, "file_name")
    if "/" in file or file.startswith("."):
        raise BadRecord("bad path", f"file_name is {file!r}, expected a name")
    located = LocatedImage(str(image_id), f"train2014/{file}", width, height, (Region(0, box),), name, split)
    cut = any(abs(a - b) > 0.01 for a, b in zip(box, (x, y, x + w, y + h), strict=True))  # the file's numbers are rounded to 0.01
    return Referring(_integer(ref, "ref_id"), located, _expressions(ref)), cut


def _expressions(ref: dict) -> tuple[str, ...]:
    sentences = list_of(ref, "sentences")
    if not sentences or not all(isinstance(s, dict) for s in sentences):
        raise BadRecord("bad list", f"sentences is {str(sentences)[:80]}, expected objects")
    return tuple(text_of(s, "sent", "raw") for s in sentences)


def _integer(record: dict, name: str) -> int:
    value = first_of(record, name)
    if type(value) is not int:
        raise BadRecord("bad number", f"{name} is {value!r}, expected a whole number")
    return value
