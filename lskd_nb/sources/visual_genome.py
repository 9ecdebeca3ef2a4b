"""Visual Genome: objects become regions; descriptions, Q&A, attributes, relations human texts.

Reads the v1.2 files as published (homes.cs.washington.edu/~ranjay/visualgenome), and the key names
of v1.0 and v1.4 where they differ. An image is found under the last two parts of its URL,
``VG_100K/<id>.jpg`` or ``VG_100K_2/<id>.jpg``, or in the other of the two folders.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lskd_nb.regions import Box, LocatedImage, Region, is_person
from lskd_nb.sources import (
    BadRecord,
    Rejected,
    below,
    box_inside,
    first_of,
    good_texts,
    list_of,
    number_of,
    read_records,
    scaled_to,
    size_of,
    stored_size,
    text_of,
)

SOURCE = "visual_genome"


@dataclass(frozen=True)
class HumanText:
    """Something people wrote about an image.

    ``region`` is the one it is about, None for the image as a whole.

    ``kind`` is local where there is a region, dynamic where there is a question, else global;
    ``origin`` is the file.
    """

    image_id: str
    kind: str
    region: int | None
    question: str | None
    text: str
    origin: str


def read_visual_genome(
    folder: str | Path,
    image_root: str | Path | None = None,
    max_regions: int = 10,
    min_area: float = 0.005,
    max_iou: float = 0.5,
    limit: int | None = None,
    split: str = "train",
    counts: Counter | None = None,
) -> tuple[list[LocatedImage], list[Rejected]]:
    """Located images from ``objects.json`` and ``image_data.json`` (xyxy pixels, cut to the image),
    and what was left out.

    Regions are people, then other objects, the largest first, that are no near copies (IoU above
    ``max_iou``) of one chosen before and cover at least ``min_area`` of the image; they keep the
    file's order and are numbered 0, 1, … ``image_root`` holds VG_100K and VG_100K_2 (default:
    ``folder``). ``limit`` reads the first images of ``objects.json`` only. ``counts``, where given,
    learns how many boxes of objects were cut to their image (``clamped``), of how many images the
    boxes were scaled (``scaled``), and how many lie in the other folder (``other_folder``).
    Rejected: images that are unknown, repeated, missing, damaged, of another shape than said, or
    without a usable object; and boxes of no area. Raises ``FileNotFoundError`` or ``ValueError``
    naming a file that is missing or damaged.
    """
    folder = Path(folder)
    root = Path(image_root) if image_root else folder
    data, rejects = _image_data(folder)
    images: list[LocatedImage] = []
    seen: set[str] = set()
    for number, record in enumerate(read_records(folder / "objects.json")[:limit]):
        name = f"objects.json, element {number}"
        try:
            image_id = _image_id(record)
            name = f"objects.json, image {image_id}"
            if image_id not in data:
                raise BadRecord("unknown image", f"{image_id} is not in image_data.json")
            if image_id in seen:
                raise BadRecord("repeated image", f"{image_id} occurs twice")
            seen.add(image_id)
            named, width, height = data[image_id]
            file = below(root, named)
            path, size = file.relative_to(root).as_posix(), stored_size(file, width, height)
            objects, bad, clamped = _objects(record, width, height)
            if counts is not None:
                counts["clamped"] += clamped
                changed = dict(scaled=size != (width, height), other_folder=path != named)
                counts.update(what for what, so in changed.items() if so)
            rejects += [Rejected(f"{name}, object {r.record}", r.reason, r.detail) for r in bad]
            regions = _choose(objects, width * height * min_area, max_iou, max_regions)
            if not regions:
                raise BadRecord("no regions", f"none of {len(objects)} objects can be shown")
            image = LocatedImage(image_id, path, width, height, regions, SOURCE, split)
            images.append(scaled_to(image, size))
        except BadRecord as error:
            rejects.append(error.of(name))
    if limit is None:
        rejects += [
            Rejected(f"image_data.json, image {i}", "no objects", "not in objects.json")
            for i in data
            if i not in seen
        ]
    return images, rejects


def read_human_texts(
    folder: str | Path,
    images: Iterable[LocatedImage],
    files: Sequence[str] = ("region_descriptions", "question_answers"),
    min_iou: float = 0.4,
) -> tuple[list[HumanText], list[Rejected]]:
    """What people wrote about ``images``, in the files' order.

    Texts about other known images are passed over.

    ``files`` may also name attributes ("brown, running dog") and relationships ("man holding
    umbrella"). A text with a box belongs to the region it overlaps most, if by an IoU of
    ``min_iou``; else it is about the image as a whole. Rejected: records about images not in
    image_data.json, without text or box, and attributes that are no text. Raises as
    ``read_visual_genome``.
    """
    folder = Path(folder)
    known = stated_sizes(folder)
    # boxes of texts are in pixels of the size that image_data.json states
    wanted = {i.image_id: scaled_to(i, known.get(i.image_id, (i.width, i.height))) for i in images}
    texts: list[HumanText] = []
    rejects: list[Rejected] = []
    for file in files:
        if file not in _FILES:
            raise ValueError(f"files: {file!r} is none of {sorted(_FILES)}")
        key, read = _FILES[file]
        for number, record in enumerate(read_records(folder / f"{file}.json")):
            name = f"{file}.json, element {number}"
            try:
                image_id = _image_id(record)
                if image_id not in known:
                    raise BadRecord("unknown image", f"{image_id} is not in image_data.json")
                if image_id not in wanted:
                    continue
                entries = list_of(record, key)
            except BadRecord as error:
                rejects.append(error.of(name))
                continue
            for index, entry in enumerate(entries):
                try:
                    found, bad = read(entry, wanted[image_id], min_iou)
                except BadRecord as error:
                    found, bad = [], [error]
                texts += found
                rejects += [e.of(f"{file}.json, image {image_id}, {key} {index}") for e in bad]
    return texts, rejects


# ------------------------------------------------------------------------------------------ records


def stated_sizes(folder: str | Path) -> dict[str, tuple[int, int]]:
    """Width and height of each image as ``image_data.json`` has them: what all boxes refer to,
    also where the stored picture is a copy of another scale.
    """
    return {i: (width, height) for i, (_, width, height) in _image_data(Path(folder))[0].items()}


def _image_data(folder: Path) -> tuple[dict[str, tuple[str, int, int]], list[Rejected]]:
    """image id -> (path under the image root, width, height)."""
    data: dict[str, tuple[str, int, int]] = {}
    rejects = []
    for number, record in enumerate(read_records(folder / "image_data.json")):
        try:
            path = "/".join(text_of(record, "url").split("?")[0].split("/")[-2:])
            data[_image_id(record)] = (path, *size_of(record))
        except BadRecord as error:
            rejects.append(error.of(f"image_data.json, element {number}"))
    return data, rejects


def _image_id(record: dict) -> str:
    value = first_of(record, "image_id", "id", "image")
    if isinstance(value, bool) or not isinstance(value, int | str) or not str(value).strip():
        raise BadRecord("bad image id", f"{value!r}, expected a number")
    return str(value).strip()


def _objects(record: dict, width: int, height: int) -> tuple[list[Region], list[Rejected], int]:
    """Objects in the file's order, numbered by place; those left out; how many boxes were cut."""
    objects, rejects, clamped = [], [], 0
    for index, entry in enumerate(list_of(record, "objects")):
        try:
            objects.append(Region(index, _box(entry, width, height), _name(entry)))
            clamped += objects[-1].box != _corners(entry)
        except BadRecord as error:
            rejects.append(error.of(str(index)))
    return objects, rejects, clamped


def _name(entry: dict) -> str:
    """The first good name of an object: ``names``, ``object_names`` or ``name``.

    They are v1.2's, those of v1.0's attributes, and those of relationships.
    """
    value = first_of(entry, "names", "name", "object_names")
    for name in value if isinstance(value, list) else [value]:
        if isinstance(name, str) and name.strip():
            return " ".join(name.split()).lower()
    raise BadRecord("no name", f"{value!r}")


def _box(entry: object, width: int, height: int) -> Box:
    """x, y, w, h (objects) or x, y, width, height (regions) as xyxy pixels inside the image."""
    return box_inside(_corners(entry), width, height)


def _corners(entry: object) -> Box:
    entry = _dict(entry)
    x, y = number_of(entry, "x"), number_of(entry, "y")
    return x, y, x + number_of(entry, "w", "width"), y + number_of(entry, "h", "height")


def _choose(
    objects: Sequence[Region], min_area: float, max_iou: float, number: int
) -> tuple[Region, ...]:
    """People and the largest objects, without near copies, in the file's order, numbered anew."""
    boxes = np.array([o.box for o in objects]).reshape(-1, 4)
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    kept: list[int] = []
    for index in sorted(
        np.flatnonzero(area >= min_area), key=lambda i: (not is_person(objects[i].label), -area[i])
    ):
        if len(kept) < number and (not kept or ious(boxes[index], boxes[kept]).max() <= max_iou):
            kept.append(int(index))
    return tuple(
        Region(new, objects[old].box, objects[old].label) for new, old in enumerate(sorted(kept))
    )


def ious(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Intersection over union of a box (4,) with boxes (N, 4), xyxy; float (N,)."""
    sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    shared = np.clip(sides, 0, None).prod(axis=1)
    return shared / (
        (box[2:] - box[:2]).prod() + (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) - shared
    )


# -------------------------------------------------------------------------------------------- texts


def _about(image: LocatedImage, entry: object, min_iou: float, text: str, origin: str) -> HumanText:
    box = _box(entry, image.width, image.height)
    overlap = ious(np.array(box), np.array([r.box for r in image.regions]).reshape(-1, 4))
    if len(overlap) and overlap.max() >= min_iou:
        region = image.regions[int(overlap.argmax())].id
    else:
        region = None
    return HumanText(
        image.image_id, "global" if region is None else "local", region, None, text, origin
    )


_Read = tuple[list[HumanText], list[BadRecord]]  # texts, and what is wrong with parts of an entry


def _description(entry: object, image: LocatedImage, min_iou: float) -> _Read:
    text = text_of(_dict(entry), "phrase")
    return [_about(image, entry, min_iou, text, "region_descriptions")], []


def _question_answer(entry: object, image: LocatedImage, _: float) -> _Read:
    question, answer = text_of(_dict(entry), "question"), text_of(_dict(entry), "answer")
    told = HumanText(image.image_id, "dynamic", None, question, answer, "question_answers")
    return [told], []


def _attributes(entry: object, image: LocatedImage, min_iou: float) -> _Read:
    if not _dict(entry).get("attributes"):  # a third of the real entries have none
        return [], []
    words, bad = good_texts(entry, "attributes")
    if not words:
        return [], bad
    text = f"{', '.join(' '.join(w.split()) for w in words)} {_name(entry)}"
    return [_about(image, entry, min_iou, text, "attributes")], bad


def _relationship(entry: object, image: LocatedImage, min_iou: float) -> _Read:
    subject, thing = _dict(_dict(entry).get("subject")), _dict(_dict(entry).get("object"))
    text = f"{_name(subject)} {text_of(_dict(entry), 'predicate').lower()} {_name(thing)}"
    return [_about(image, subject, min_iou, text, "relationships")], []


def _dict(entry: object) -> dict:
    if not isinstance(entry, dict):
        raise BadRecord("bad record", f"{entry!r}, expected an object")
    return entry


_FILES = {
    "region_descriptions": ("regions", _description),
    "question_answers": ("qas", _question_answer),
    "attributes": ("attributes", _attributes),
    "relationships": ("relationships", _relationship),
}
