"""LVIS: objects of 1,203 (v1) or 1,230 (v0.5) categories in COCO's images, frequent ones and rare.

Reads ``lvis_v1_{train,val}.json`` and ``lvis_v0.5_{train,val}.json`` (lvisdataset.org; annotations
CC BY 4.0, images under their own licences). Boxes are x, y, width, height in pixels. Split folder
and name of an image are the last two parts of its ``coco_url`` ("val2017/000000266409.jpg"): v1
names no file, its val has images of train2017 as well, and v0.5's names are those of COCO's release
of 2014.

The set is *federated*: nobody looked for every category in every image. A category is judged on an
image only where it was found or was looked for in vain (``neg_category_ids``), and what is found
beyond its annotations counts as wrong only where annotators marked all there is (it is not in
``not_exhaustive_category_ids``).
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from lskd_nb.regions import LocatedImage, Region
from lskd_nb.sources import (
    BadRecord,
    Rejected,
    below,
    coco_box,
    first_of,
    list_of,
    object_in,
    read_json,
    scaled_to,
    size_of,
    stored_size,
    text_of,
    texts_of,
)

SOURCE = "lvis"
FREQUENCIES = ("r", "c", "f")  # rare, common, frequent


@dataclass(frozen=True)
class Category:
    """One entry of the vocabulary; ``name`` has underscores, as in the file
    ("tank_(storage_vessel)"); ``frequency`` is r, c or f.
    """

    category_id: int
    name: str
    synonyms: tuple[str, ...]
    frequency: str


@dataclass(frozen=True)
class LvisImage:
    """An image with its annotated objects as regions (all of them, labelled by category name),
    and what was looked for in it.
    """

    image: LocatedImage
    categories: tuple[int, ...]  # of the regions
    negative: frozenset[int]  # looked for, not there
    not_exhaustive: frozenset[int]  # there, not all marked

    def judged(self) -> frozenset[int]:
        """Categories that a detector is judged on here (rule: lvis-api, eval.py)."""
        return frozenset(self.categories) | self.negative

    def exhaustive(self) -> frozenset[int]:
        """Categories of which a further find counts as wrong."""
        return self.judged() - self.not_exhaustive


def read_lvis(
    path: str | Path,
    image_root: str | Path | None = None,
    check_images: bool = True,
    limit: int | None = None,
    counts: Counter | None = None,
) -> tuple[list[LvisImage], list[Rejected], int]:
    """Images of an annotation file (the first ``limit``) in its order, what was left out, and how
    many boxes were cut to their image.

    Images are below ``image_root`` (default: the file's folder); without ``check_images`` they may
    be absent. ``counts``, where given, learns of how many images the boxes were scaled
    (``scaled``). Rejected: images that lack a field, hold another type, are repeated, missing or of
    another shape; annotations of an unknown image or category, without a number, of no area, or
    there twice (one id, or one category and box of an image); of an image's lists, categories that
    are unknown. An image without any region is kept, for it may be a negative. Raises
    ``FileNotFoundError`` or ``ValueError`` naming the file.
    """
    path = Path(path)
    root = Path(image_root) if image_root else path.parent
    content, rejects = _content(path), []
    categories = {c.category_id: c for c in read_categories(path)}
    images: dict[int, tuple[dict, LocatedImage]] = {}
    sizes: dict[int, tuple[int, int]] = {}  # of the pictures as they are stored
    for number, record in enumerate(content["images"][:limit]):
        name = f"{path.name}, images {number}"
        try:
            image = _image(record, path)
            image_id, size = int(image.image_id), (image.width, image.height)
            if check_images:
                size = stored_size(below(root, image.path), *size)
            if image_id in images:
                raise BadRecord("repeated image", f"id is {image_id} again")
            federated, bad = _federated(record, categories)
            images[image_id], sizes[image_id] = (federated, image), size
            rejects += [error.of(name) for error in bad]
        except BadRecord as error:
            rejects.append(error.of(name))
    if counts is not None:
        counts["scaled"] += sum(sizes[i] != (x.width, x.height) for i, (_, x) in images.items())
    known = {r["id"] for r in content["images"] if isinstance(r, dict) and type(r.get("id")) is int}
    found: dict[int, list[tuple[int, Region]]] = {i: [] for i in images}
    seen: set[int | tuple] = set()
    clamped = 0
    for number, record in enumerate(content["annotations"]):
        try:
            image_id, category = _annotation_ids(record, known, categories)
            if image_id in images:
                whole = images[image_id][1]
                box, cut = coco_box(record, whole.width, whole.height)
                _check_new(record, (image_id, category, box), seen)
                found[image_id].append(
                    (category, Region(len(found[image_id]), box, categories[category].name))
                )
                clamped += cut
        except BadRecord as error:
            rejects.append(error.of(f"{path.name}, annotations {number}"))
    return (
        [_joined(image, federated, found[i], sizes[i]) for i, (federated, image) in images.items()],
        rejects,
        clamped,
    )


def read_categories(path: str | Path) -> list[Category]:
    """The vocabulary of an annotation file, or of a file that is a list of categories.

    Raises ``ValueError`` naming file, entry and field.
    """
    content = read_json(path)
    return _categories(
        content.get("categories") if isinstance(content, dict) else content, Path(path)
    )


def frequency_of(image_count: int) -> str:
    """How frequent a category is that occurs in this many images of train: r up to 10, c up to
    100, else f (v1's own are all so).
    """
    return FREQUENCIES[(image_count > 10) + (image_count > 100)]


# ------------------------------------------------------------------------------------------ records


def _categories(entries: object, path: Path) -> list[Category]:
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"{path}: expected a list of categories")
    found = []
    for number, entry in enumerate(entries):
        try:
            found.append(_category(entry))
        except BadRecord as error:
            raise ValueError(f"{path}, categories {number}: {error}") from error
    if len({c.category_id for c in found}) < len(found):
        raise ValueError(f"{path}: two categories have one id")
    return found


def _content(path: Path) -> dict:
    content = read_json(path)
    for key in ("categories", "images", "annotations"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise ValueError(
                f"{path}: expected an object with the lists categories,"
                f" images and annotations; {key} is none"
            )
    return content


def _category(entry: object) -> Category:
    entry = object_in(entry)
    if entry.get("frequency") is None:
        frequency = frequency_of(_integer(entry, "image_count"))
    else:
        frequency = text_of(entry, "frequency")
    if frequency not in FREQUENCIES:
        raise BadRecord(
            "bad frequency", f"frequency is {frequency!r}, expected one of {FREQUENCIES}"
        )
    synonyms = tuple(texts_of(entry, "synonyms")) if entry.get("synonyms") is not None else ()
    return Category(_integer(entry, "id"), text_of(entry, "name"), synonyms, frequency)


def _image(record: object, path: Path) -> LocatedImage:
    record = object_in(record)
    image_id, (width, height) = _integer(record, "id"), size_of(record)
    if record.get("coco_url") is not None:
        name = "/".join(text_of(record, "coco_url").split("?")[0].split("/")[-2:])
    else:
        name = text_of(record, "file_name")
    if name.startswith("/") or ".." in name.split("/"):
        raise BadRecord(
            "bad path", f"coco_url or file_name is {name!r}, which leaves the image root"
        )
    return LocatedImage(
        str(image_id), name, width, height, (), SOURCE, "train" if "train" in path.stem else "val"
    )


def _federated(
    record: dict, categories: Mapping[int, Category]
) -> tuple[dict[str, frozenset[int]], list[BadRecord]]:
    """What was looked for, and the entries that are no known category: nothing is judged by it."""
    found, bad = {}, []
    for name in ("neg_category_ids", "not_exhaustive_category_ids"):
        ids = list_of(record, name)
        known = [i for i in ids if type(i) is int and i in categories]
        if len(known) < len(ids):
            unknown = [i for i in ids if type(i) is not int or i not in categories]
            bad.append(BadRecord("unknown category", f"{name} has {str(unknown)[1:-1]}"))
        found[name] = frozenset(known)
    return found, bad


def _check_new(record: dict, what: tuple, seen: set) -> None:
    """Raise ``BadRecord`` for an annotation that was there before, by its id or by ``what``."""
    number = record.get("id")
    if what in seen or (type(number) is int and number in seen):
        raise BadRecord(
            "repeated annotation", f"id {number!r}, category_id and bbox: there was one before"
        )
    seen |= {what, number} if type(number) is int else {what}


def _annotation_ids(
    record: object, known: set[int], categories: Mapping[int, Category]
) -> tuple[int, int]:
    record = object_in(record)
    image_id, category = _integer(record, "image_id"), _integer(record, "category_id")
    if image_id not in known:
        raise BadRecord("unknown image", f"image_id is {image_id}")
    if category not in categories:
        raise BadRecord("unknown category", f"category_id is {category}")
    return image_id, category


def _joined(
    image: LocatedImage,
    federated: Mapping[str, frozenset[int]],
    found: list[tuple[int, Region]],
    size: tuple[int, int],
) -> LvisImage:
    located = replace(image, regions=tuple(r for _, r in found))
    return LvisImage(
        scaled_to(located, size),
        tuple(c for c, _ in found),
        federated["neg_category_ids"],
        federated["not_exhaustive_category_ids"],
    )


def _integer(record: dict, name: str) -> int:
    value = first_of(record, name)
    if type(value) is not int or not 0 <= value < 2**53:
        raise BadRecord("bad number", f"{name} is {value!r}, expected a whole number")
    return value
