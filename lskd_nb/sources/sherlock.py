"""Sherlock: a clue in a picture, what people infer from it, and which inferences they find likely.

Reads the corpus ``sherlock_{train,val}*.json`` and the leaderboard's
``{val,test}_comparison_*.json`` (github.com/allenai/sherlock; CC BY 4.0). Boxes are left, top,
width and height in pixels. The boxes of one record bound *one* thing together, so each is a region
with the id 0: drawn in one colour, and "[0]" in a text means all of them. Pictures lie below one
root as in Visual Genome and VCR: ``VG_100K[_2]/<id>.jpg``, ``vcr1images/<movie>/<still>.jpg``.
Some rows tell the size of a copy of another scale, with boxes in its pixels: they are scaled. A box
of no area is left out where the record has others.
Tried on real rows of the val corpus and a real comparison instance; the answer key is read as the
authors' scorer reads it.
"""

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from lskd_nb.regions import LocatedImage, Region
from lskd_nb.sources import (
    BadRecord,
    MultipleChoice,
    Rejected,
    below,
    box_inside,
    finite,
    list_of,
    number_of,
    object_of,
    read_json,
    read_records,
    scaled_to,
    size_of,
    stored_size,
    text_of,
)

SOURCE = "sherlock"
CORPUS = {
    "train": ("sherlock_train_v1_1.json",),
    "val": ("sherlock_val_with_split_idxs_v1_1.json", "sherlock_val_v1_1.json"),
}
SPLITS = ("val", "test")  # of the comparison
VISUAL_GENOME = re.compile(r"(VG_100K(?:_2)?/\d+\.jpg)$")
VCR = re.compile(r"(vcr1images/[^/]*[^/.][^/]*/[^/]+\.jpg)$")


@dataclass(frozen=True)
class Clue:
    """One row of the corpus. ``image.regions`` are the clue's boxes, all with the id 0."""

    instance_id: str
    image: LocatedImage
    clue: str
    inference: str
    confidence: float  # 1 possible, 2 likely, 3 definite
    split_idx: int | None  # which of the 23 retrieval splits; None in train


@dataclass(frozen=True)
class Comparison:
    """Inferences for one region, and how likely two annotators found each.

    ``item.choices`` are the inferences.

    ``item.label`` is None: the task is to order them. The ratings are empty where the set withholds
    them (test).
    """

    item: MultipleChoice
    test_ids: tuple[str, ...]
    annot1: tuple[float, ...]
    annot2: tuple[float, ...]


def read_sherlock(
    folder: str | Path,
    split: str,
    image_root: str | Path | None = None,
    check_images: bool = True,
    limit: int | None = None,
    counts: Counter | None = None,
) -> tuple[list[Clue], list[Rejected], int]:
    """Rows of the corpus (the first ``limit``), what was left out, how many boxes were cut.

    Pictures are below ``image_root`` (default: ``folder``); without ``check_images`` they may be
    absent, and their sizes are those that the rows tell. ``counts``, where given, learns of how
    many rows the boxes were scaled (``scaled``) and how many name the other folder of Visual Genome
    (``other_folder``). Rejected: rows that lack a field or hold another type or a number out of
    range, boxes without area (the row is kept where it has others), pictures missing, damaged or of
    another shape. Raises ``ValueError`` for another split, ``FileNotFoundError`` or ``ValueError``
    naming a bad file.
    """
    if split not in CORPUS:
        raise ValueError(f"split: {split!r} is none of {tuple(CORPUS)}")
    path = next(
        (Path(folder) / n for n in CORPUS[split] if (Path(folder) / n).exists()),
        Path(folder) / CORPUS[split][0],
    )
    pictures = _Pictures(
        Path(image_root or folder), split, check_images, Counter() if counts is None else counts
    )
    clues, rejects, clamped = [], [], 0
    for number, row in enumerate(read_records(path)[:limit]):
        name = f"{path.name}, element {number}"
        try:
            clue, found = _clue(row, pictures)
        except BadRecord as error:
            rejects.append(error.of(name))
            continue
        clues.append(clue)
        clamped += found.clamped
        rejects += [error.of(name) for error in found.bad]
    return clues, rejects, clamped


def read_comparison(
    folder: str | Path,
    split: str,
    image_root: str | Path | None = None,
    check_images: bool = True,
    counts: Counter | None = None,
) -> tuple[list[Comparison], list[Rejected], int]:
    """Comparisons of a split, what was left out, and how many boxes were cut to their image.

    val: the groups and ratings of the answer key, with the instances its test ids name. test:
    instances grouped by their picture and boxes, without ratings. Files are looked for in
    ``folder`` and in the folders that the archives unpack to. Rejected: bad instances, and whole
    comparisons that rest on one, or whose parts disagree. ``counts``, boxes without area and errors
    as above.
    """
    if split not in SPLITS:
        raise ValueError(f"split: {split!r} is none of {SPLITS}")
    path = _comparison_file(folder, split, "instances")
    pictures = _Pictures(
        Path(image_root or folder), split, check_images, Counter() if counts is None else counts
    )
    instances, rejects = {}, []
    for number, row in enumerate(read_records(path)):
        name = f"{path.name}, element {number}"
        try:
            instance, bad = _instance(row, pictures)
            if instance.test_id in instances:
                raise BadRecord("repeated test id", f"test_id is {instance.test_id}")
            instances[instance.test_id] = instance
            rejects += [error.of(name) for error in bad]
        except BadRecord as error:
            rejects.append(error.of(name))
    if split == "test":
        groups: dict[tuple, list[_Instance]] = {}
        for instance in instances.values():
            groups.setdefault((instance.image.path, instance.image.regions), []).append(instance)
        found = [(_comparison(g[0].test_id, g), g[0].clamped) for g in groups.values()]
    else:
        found, bad = _rated(_comparison_file(folder, split, "answer_key"), instances)
        rejects += bad
    return [c for c, _ in found], rejects, sum(cut for _, cut in found)


def read_test_ids(folder: str | Path, split: str) -> list[str]:
    """The ids that a submission has a score for, in its order: sorted.

    Raises ``ValueError`` where the file has others.
    """
    path = _comparison_file(folder, split, "instance_ids")
    ids = read_json(path)
    if (
        not isinstance(ids, list)
        or not all(isinstance(i, str) for i in ids)
        or ids != sorted(set(ids))
    ):
        raise ValueError(f"{path}: expected a sorted list of different test ids")
    return ids


# ------------------------------------------------------------------------------- pictures and boxes


@dataclass(frozen=True)
class _Found:
    """A picture with a record's regions, how many boxes were cut, and what is wrong with others."""

    image: LocatedImage
    clamped: int
    bad: list[BadRecord]


@dataclass(frozen=True)
class _Pictures:
    """Where pictures are, and what has been found of those that were looked at."""

    root: Path
    split: str
    check: bool
    counts: Counter
    seen: dict[tuple[str, int, int], BadRecord | tuple[str, tuple[int, int]]] = field(
        default_factory=dict
    )

    def located(self, record: dict, regions_field: str) -> _Found:
        """The picture of a record with the regions of ``regions_field``."""
        told = object_of(record, "image")
        named, (width, height) = picture_path(text_of(told, "url")), size_of(told)
        regions, clamped, bad = _regions(record, regions_field, width, height)
        path, size = self._stored(named, width, height)
        self.counts["scaled"] += size != (width, height)
        self.counts["other_folder"] += path != named
        if path.startswith("VG_"):
            image_id = Path(path).stem
        else:
            image_id = path.removeprefix("vcr1images/").removesuffix(".jpg")
        image = LocatedImage(image_id, path, width, height, regions, SOURCE, self.split)
        return _Found(scaled_to(image, size), clamped, bad)

    def _stored(self, path: str, width: int, height: int) -> tuple[str, tuple[int, int]]:
        """Where the picture is below the root, and its size; looked up once."""
        if not self.check:
            return path, (width, height)
        key = (path, width, height)
        if key not in self.seen:
            try:
                file = below(self.root, path)
                self.seen[key] = (
                    file.relative_to(self.root).as_posix(),
                    stored_size(file, width, height),
                )
            except BadRecord as error:
                self.seen[key] = error
        if isinstance(self.seen[key], BadRecord):
            raise self.seen[key]
        return self.seen[key]


def picture_path(url: str) -> str:
    """A picture's path below the image root.

    The official test for Visual Genome is 'VG_' in the url, else it is VCR's.

    >>> picture_path("http://s3.amazonaws.com/rvg/VG_100K_2/2410.jpg")
    'VG_100K_2/2410.jpg'
    """
    found = (VISUAL_GENOME if "VG_" in url else VCR).search(url)
    if not found:
        raise BadRecord(
            "unknown picture", f"url is {url!r}, expected one of VG_100K, VG_100K_2 or vcr1images"
        )
    return found[1]


def _regions(
    record: dict, name: str, width: int, height: int
) -> tuple[tuple[Region, ...], int, list[BadRecord]]:
    """Good boxes as regions, how many of them were cut, and what is wrong with the others.

    Raises ``BadRecord`` where none is good.
    """
    regions, clamped, bad = [], 0, []
    for index, box in enumerate(list_of(record, name)):
        try:
            if not isinstance(box, dict):
                raise BadRecord("bad record", f"{box!r}, expected an object")
            left, top, wide, high = (
                number_of(box, key) for key in ("left", "top", "width", "height")
            )
            corners = (left, top, left + wide, top + high)
            regions.append(Region(0, box_inside(corners, width, height)))
            clamped += regions[-1].box != corners
        except BadRecord as error:
            bad.append(BadRecord(error.reason, f"{name}[{index}]: {error.detail}"))
    if not regions:
        raise bad[0] if bad else BadRecord("bad list", f"{name} is empty, expected boxes")
    return tuple(regions), clamped, bad


# ------------------------------------------------------------------------------------------- corpus


def _clue(row: dict, pictures: _Pictures) -> tuple[Clue, _Found]:
    inputs = object_of(row, "inputs")
    targets = object_of(row, "targets")
    split_idx = row.get("split_idx")
    confidence = number_of(inputs, "confidence")
    if not 1 <= confidence <= 3:
        raise BadRecord("bad number", f"confidence is {confidence}, expected 1 to 3")
    if split_idx is not None and (type(split_idx) is not int or split_idx < 0):
        raise BadRecord("bad number", f"split_idx is {split_idx!r}, expected 0, 1, ...")
    instance_id, clue, inference = (
        text_of(row, "instance_id"),
        text_of(inputs, "clue"),
        text_of(targets, "inference"),
    )
    found = pictures.located(inputs, "bboxes")
    return Clue(instance_id, found.image, clue, inference, confidence, split_idx), found


# --------------------------------------------------------------------------------------- comparison


@dataclass(frozen=True)
class _Instance:
    test_id: str
    image: LocatedImage
    inference: str
    clamped: int


def _comparison_file(folder: str | Path, split: str, part: str) -> Path:
    """``val_comparison_<part>.json``, where it is; else where it should be."""
    name = f"{split}_comparison_{part}.json"
    places = [
        Path(folder) / place / name
        for place in ("", f"{split}_comparison", f"{split}_comparison_public")
    ]
    return next((p for p in places if p.exists()), places[0])


def _instance(row: dict, pictures: _Pictures) -> tuple[_Instance, list[BadRecord]]:
    test_id, inference = text_of(row, "test_id"), text_of(row, "inference")
    found = pictures.located(row, "region")
    return _Instance(test_id, found.image, inference, found.clamped), found.bad


def _comparison(
    input_id: str, group: list[_Instance], annot1: tuple = (), annot2: tuple = ()
) -> Comparison:
    image, texts = group[0].image, tuple(i.inference for i in group)
    origin = "visual_genome" if image.path.startswith("VG_") else "vcr"
    item = MultipleChoice(input_id, image, "", texts, None, "sherlock.comparison", origin)
    return Comparison(item, tuple(i.test_id for i in group), annot1, annot2)


def _rated(
    path: Path, instances: dict[str, _Instance]
) -> tuple[list[tuple[Comparison, int]], list[Rejected]]:
    """The answer key's comparisons, each with the count of its cut boxes."""
    key = read_json(path)
    if (
        not isinstance(key, dict)
        or not isinstance(key.get("annotations"), list)
        or not isinstance(key.get("test_id_map"), dict)
    ):
        raise ValueError(
            f"{path}: expected an object with test_id_map (an object) and annotations (a list)"
        )
    ids, found, rejects = {}, [], []
    for test_id, meant in key["test_id_map"].items():
        try:
            if not isinstance(meant, dict):
                raise BadRecord("bad record", f"{meant!r}, expected Input_iid and candidate")
            ids[text_of(meant, "Input_iid"), text_of(meant, "candidate")] = test_id
        except BadRecord as error:
            rejects.append(error.of(f"{path.name}, test_id_map, {test_id}"))
    for number, annotation in enumerate(key["annotations"]):
        try:
            found.append(_annotated(annotation, ids, instances))
        except BadRecord as error:
            rejects.append(error.of(f"{path.name}, annotations, element {number}"))
    return found, rejects


def _annotated(
    annotation: object, ids: dict[tuple[str, str], str], instances: dict[str, _Instance]
) -> tuple[Comparison, int]:
    if not isinstance(annotation, dict):
        raise BadRecord("bad record", f"{annotation!r}, expected an object")
    input_id = text_of(annotation, "Input_iid")
    candidates = list_of(annotation, "candidates")
    group = []
    ratings = []
    for candidate in candidates:
        if not isinstance(candidate, dict):
            raise BadRecord("bad record", f"candidates holds {candidate!r}, expected objects")
        source_id = text_of(candidate, "source_iid")
        instance = instances.get(ids.get((input_id, source_id), ""))
        if instance is None:
            raise BadRecord(
                "unknown instance",
                f"source_iid {source_id} of Input_iid {input_id} has no good instance",
            )
        if text_of(candidate, "prediction") != instance.inference:
            raise BadRecord(
                "texts differ",
                f"prediction is {candidate['prediction']!r},"
                f" the instance's inference {instance.inference!r}",
            )
        group.append(instance)
        ratings.append((_rating(candidate, "annot1"), _rating(candidate, "annot2")))
    if (
        len(group) < 2
        or len({i.test_id for i in group}) < len(group)
        or len({(i.image.path, i.image.regions) for i in group}) > 1
    ):
        raise BadRecord(
            "bad candidates",
            f"{len(group)} candidates, expected two or more different ones for one region",
        )
    return _comparison(input_id, group, *zip(*ratings, strict=True)), group[0].clamped


def _rating(candidate: dict, name: str) -> float:
    """A number, or a text that is one."""
    value = candidate.get(name)
    try:
        return finite(float(value) if isinstance(value, str) else value, name)
    except ValueError as error:
        raise BadRecord("bad number", f"{name} is {value!r}, expected a number") from error
