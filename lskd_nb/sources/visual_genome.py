"""Visual Genome: objects become regions; descriptions, Q&A, attributes, relations human texts.

Reads the v1.2 files as published (homes.cs.washington.edu/~ranjay/visualgenome), and the key names
of v1.0 and v1.4 where they differ. An image is found under the last two parts of its URL:
``VG_100K/<id>.jpg`` or ``VG_100K_2/<id>.jpg``.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lskd_nb.regions import Box, LocatedImage, Region
from lskd_nb.sources import (
    BadRecord,
    Rejected,
    box_inside,
    check_image,
    first_of,
    list_of,
    number_of,
    read_records,
    size_of,
    text_of,
)

SOURCE = "visual_genome"
# fmt: off
PEOPLE = {
    "person", "people", "man", "men", "woman", "women", "child", "children", "kid", "kids", "boy",
    "boys", "girl", "girls", "guy", "guys", "lady", "ladies", "baby", "toddler", "player",
    "players", "skier", "surfer", "skateboarder", "snowboarder", "rider", "bicyclist", "pedestrian",
    "couple", "crowd",
}
# fmt: on


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
    learns how many boxes of objects were cut to their image (``clamped``). Rejected: images that
    are unknown, repeated, missing, damaged, of another size than said, or without a usable object;
    and boxes of no area. Raises ``FileNotFoundError`` or ``ValueError`` naming a file that is
    missing or damaged.
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
            path, width, height = data[image_id]
            check_image(root / path, width, height)
            objects, bad, clamped = _objects(record, width, height)
            if counts is not None:
                counts["clamped"] += clamped
            rejects += [Rejected(f"{name}, object {r.record}", r.reason, r.detail) for r in bad]
            regions = _choose(objects, width * height * min_area, max_iou, max_regions)
            if not regions:
                raise BadRecord("no regions", f"none of {len(objects)} objects can be shown")
            images.append(LocatedImage(image_id, path, width, height, regions, SOURCE, split))
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
    image_data.json, without text or box. Raises as ``read_visual_genome``.
    """
    folder = Path(folder)
    wanted = {image.image_id: image for image in images}
    known, _ = _image_data(folder)
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
                    texts += read(entry, wanted[image_id], min_iou)
                except BadRecord as error:
                    rejects.append(error.of(f"{file}.json, image {image_id}, {key} {index}"))
    return texts, rejects


# ------------------------------------------------------------------------------------------ records


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
    """The first name of an object: ``names``, ``object_names`` or ``name``.

    They are v1.2's, those of v1.0's attributes, and those of relationships.
    """
    value = first_of(entry, "names", "name", "object_names")
    name = value[0] if isinstance(value, list) and value else value
    if not isinstance(name, str) or not name.strip():
        raise BadRecord("no name", f"{value!r}")
    return " ".join(name.split()).lower()


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
        np.flatnonzero(area >= min_area), key=lambda i: (objects[i].label not in PEOPLE, -area[i])
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


def _description(entry: object, image: LocatedImage, min_iou: float) -> Iterator[HumanText]:
    yield _about(image, entry, min_iou, text_of(_dict(entry), "phrase"), "region_descriptions")


def _question_answer(entry: object, image: LocatedImage, _: float) -> Iterator[HumanText]:
    question, answer = text_of(_dict(entry), "question"), text_of(_dict(entry), "answer")
    yield HumanText(image.image_id, "dynamic", None, question, answer, "question_answers")


def _attributes(entry: object, image: LocatedImage, min_iou: float) -> Iterator[HumanText]:
    words = _dict(entry).get("attributes") or []  # a third of the real entries have none
    if not isinstance(words, list) or not all(isinstance(w, str) for w in words):
        raise BadRecord("bad list", f"attributes is {words!r}, expected texts")
    if words:
        text = f"{', '.join(' '.join(w.split()) for w in words)} {_name(_dict(entry))}"
        yield _about(image, entry, min_iou, text, "attributes")


def _relationship(entry: object, image: LocatedImage, min_iou: float) -> Iterator[HumanText]:
    subject, thing = _dict(_dict(entry).get("subject")), _dict(_dict(entry).get("object"))
    text = f"{_name(subject)} {text_of(_dict(entry), 'predicate').lower()} {_name(thing)}"
    yield _about(image, subject, min_iou, text, "relationships")


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
