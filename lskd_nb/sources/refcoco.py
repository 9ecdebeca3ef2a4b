"""RefCOCO, RefCOCO+, RefCOCOg: expressions that tell one object of a COCO image from the others.

Reads ``<root>/<name>/instances.json`` and ``<root>/<name>/refs(<split_by>).p``
(github.com/lichengunc/refer; Apache-2.0; images of COCO train2014). Boxes are x, y, width, height
in pixels, and are in the instances: a ref's own ``file_name`` has a suffix and names no image. The
refs are a pickle of Python 2. A pickle can run any program, so only plain containers, texts and
numbers are read, and whatever else one asks for is refused. Nothing of it is run; a file made to
that end may still use up memory.
"""

import io
import pickle
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lskd_nb.regions import Box, LocatedImage, Region
from lskd_nb.sources import (
    BadRecord,
    Rejected,
    below,
    coco_box,
    first_of,
    list_of,
    read_json,
    scaled_to,
    size_of,
    stored_size,
    text_of,
)
from lskd_nb.sources.visual_genome import ious

# the first is the usual one
SETS = {"refcoco": ("unc", "google"), "refcoco+": ("unc",), "refcocog": ("umd", "google")}
SPLITS = ("train", "val", "test", "testA", "testB")


@dataclass(frozen=True)
class Referring:
    """One object and the expressions that refer to it.

    ``image.regions`` is that object alone, id 0.
    """

    ref_id: int
    image: LocatedImage
    expressions: tuple[str, ...]


class _PlainUnpickler(pickle.Unpickler):
    """Reads containers, texts and numbers; no class, function or persistent object."""

    def find_class(self, module: str, name: str) -> object:
        raise pickle.UnpicklingError(
            f"it asks for {module}.{name}, and only plain containers, texts and numbers are read"
        )

    def persistent_load(self, pid: object) -> object:
        raise pickle.UnpicklingError(
            f"it asks for the persistent object {pid!r}, and only plain containers,"
            " texts and numbers are read"
        )


def read_plain_pickle(path: str | Path) -> object:
    """The content of a pickle of plain containers, texts and numbers, also of Python 2.

    Raises ``FileNotFoundError``, and ``ValueError`` naming the file for one that is damaged or asks
    for anything else.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{path} is not there; expected one of the data set's own files"
        ) from error
    except OSError as error:
        raise ValueError(f"{path}: can't be read ({error})") from error
    try:
        return _PlainUnpickler(io.BytesIO(data), encoding="latin1").load()
    except Exception as error:  # damaged pickles fail in every way there is
        raise ValueError(
            f"{path} is not a pickle of plain data: {type(error).__name__}: {error}"
        ) from error


def read_refcoco(
    root: str | Path,
    name: str,
    split: str,
    split_by: str | None = None,
    image_root: str | Path | None = None,
    check_images: bool = True,
    limit: int | None = None,
    counts: Counter | None = None,
) -> tuple[list[Referring], list[Rejected], int]:
    """Refs of a split (the first ``limit``), what was left out, how many boxes were cut.

    Images are below ``image_root`` (default: ``root``), in ``train2014``; without ``check_images``
    they may be absent. ``counts``, where given, learns of how many refs the box was scaled
    (``scaled``). Rejected: refs that say no split, lack a field or hold another type, whose
    annotation or image the instances don't have, have twice or for another image, without
    expression, box or area, and whose image is missing, damaged or of another shape; and
    expressions that are no text, where the ref has others. Raises ``ValueError`` for an unknown
    set, and for a split that the file does not have (unc has testA and testB, umd test, google's
    refcocog neither), ``FileNotFoundError`` or ``ValueError`` naming a file.
    """
    if name not in SETS or split not in SPLITS or split_by not in (None, *SETS.get(name, ())):
        raise ValueError(
            f"{name!r}, {split!r}, {split_by!r}: expected one of {tuple(SETS)}, of {SPLITS}, and a"
            f" split by one of {SETS.get(name)}"
        )
    folder, home = Path(root) / name, Path(image_root or root)
    path = folder / f"refs({split_by or SETS[name][0]}).p"
    refs = read_plain_pickle(path)
    if not isinstance(refs, list) or not all(isinstance(r, dict) for r in refs):
        raise ValueError(f"{path}: expected a list of refs")
    wanted, rejects = _of_split(refs, split, path)
    annotations, images = _instances(folder / "instances.json")
    found, clamped, scaled = [], 0, 0
    for number in wanted[:limit]:
        record = f"{path.name}, element {number}"
        try:
            referring, cut, bad = _referring(refs[number], annotations, images, name, split)
            image = referring.image
            size = (image.width, image.height)
            if check_images:
                size = stored_size(below(home, image.path), *size)
        except BadRecord as error:
            rejects.append(error.of(record))
        except (
            ValueError,
            RecursionError,
            # a number of thousands of digits, or a list thousands deep: it can't even be printed
        ) as error:
            rejects.append(Rejected(record, "bad record", str(error)))
        else:
            found.append(replace(referring, image=scaled_to(image, size)))
            rejects += [error.of(record) for error in bad]
            clamped += cut
            scaled += size != (image.width, image.height)
    if counts is not None:
        counts["scaled"] += scaled
    return found, rejects, clamped


def comprehension(boxes: Sequence[Box], refs: Sequence[Referring]) -> np.ndarray:
    """Whether each box (xyxy pixels) overlaps its ref's by an IoU above 0.5, bool (N,).

    The mean is the comprehension accuracy.
    """
    return np.array(
        [
            ious(np.array(box, float), np.array([ref.image.regions[0].box]))[0] > 0.5
            for box, ref in zip(boxes, refs, strict=True)
        ]
    )


# ------------------------------------------------------------------------------------------ records


def _of_split(refs: list[dict], split: str, path: Path) -> tuple[list[int], list[Rejected]]:
    """The places of a split's refs, and the refs that say no split."""
    told = [r.get("split") if isinstance(r.get("split"), str) else None for r in refs]
    rejects = [
        Rejected(
            f"{path.name}, element {n}", "bad split", f"split is {s!r}, expected one of {SPLITS}"
        )
        for n, s in enumerate(told)
        if s not in SPLITS
    ]
    wanted = [n for n, s in enumerate(told) if s == split]
    if not wanted:
        raise ValueError(
            f"{path} has no refs of the split {split!r}; it has"
            f" {dict(Counter(s for s in told if s in SPLITS))}"
        )
    return wanted, rejects


def _instances(path: Path) -> tuple[dict[int, dict | None], dict[int, dict | None]]:
    """Annotations and images by id; None for an id that different ones share."""
    content = read_json(path)
    found = []
    for key in ("annotations", "images"):
        entries = content.get(key) if isinstance(content, dict) else None
        if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
            raise ValueError(
                f"{path}: expected an object with the lists annotations and images; {key} is none"
            )
        by_id: dict[int, dict | None] = {}
        for entry in entries:
            # entries without id are found missing by their refs
            if type(number := entry.get("id")) is int:
                by_id[number] = entry if by_id.get(number, entry) == entry else None
        found.append(by_id)
    return found[0], found[1]


def _referring(
    ref: dict,
    annotations: dict[int, dict | None],
    images: dict[int, dict | None],
    name: str,
    split: str,
) -> tuple[Referring, bool, list[BadRecord]]:
    """The ref, whether its box was cut, and what is wrong with some of its sentences."""
    ann_id, image_id = _integer(ref, "ann_id"), _integer(ref, "image_id")
    for kind, known, wanted in (("annotation", annotations, ann_id), ("image", images, image_id)):
        field = "ann_id" if kind == "annotation" else "image_id"
        if wanted not in known:
            raise BadRecord(
                f"unknown {kind}", f"{field} is {wanted}, which instances.json does not have"
            )
        if known[wanted] is None:
            raise BadRecord(
                f"repeated {kind}",
                f"{field} is {wanted}, which instances.json has for different ones",
            )
    if annotations[ann_id].get("image_id") != image_id:
        raise BadRecord(
            "images differ",
            f"image_id is {image_id},"
            f" that of annotation {ann_id} {annotations[ann_id].get('image_id')!r}",
        )
    image, (width, height) = images[image_id], size_of(images[image_id])
    box, cut = coco_box(annotations[ann_id], width, height)
    file = text_of(image, "file_name")
    if "/" in file or file.startswith("."):
        raise BadRecord("bad path", f"file_name is {file!r}, expected a name")
    located = LocatedImage(
        str(image_id), f"train2014/{file}", width, height, (Region(0, box),), name, split
    )
    expressions, bad = _expressions(ref)
    return Referring(_integer(ref, "ref_id"), located, expressions), cut, bad


def _expressions(ref: dict) -> tuple[tuple[str, ...], list[BadRecord]]:
    """Good expressions, and what is wrong with others. Raises ``BadRecord`` where none is good."""
    texts, bad = [], []
    for place, sentence in enumerate(list_of(ref, "sentences")):
        try:
            if not isinstance(sentence, dict):
                raise BadRecord("bad record", f"{str(sentence)[:80]}, expected an object")
            texts.append(text_of(sentence, "sent", "raw"))
        except BadRecord as error:
            bad.append(BadRecord(error.reason, f"sentences[{place}]: {error.detail}"))
    if not texts:
        raise bad[0] if bad else BadRecord("bad list", "sentences is empty, expected objects")
    return tuple(texts), bad


def _integer(record: dict, name: str) -> int:
    value = first_of(record, name)
    if type(value) is not int:
        raise BadRecord("bad number", f"{name} is {value!r}, expected a whole number")
    return value
