"""Objects of any pictures, as COCO JSON: COCO's own instances, or what annotation tools export.

Reads an object with the lists images, annotations and categories (cocodataset.org; CVAT, Label
Studio, Roboflow, FiftyOne … export the same). Boxes are x, y, width, height in pixels of the size
that the file states; where it states none, of the picture. ``file_name`` is taken as the tools
write it: a path below the folder of the pictures, with sub-folders and spaces, or a path of another
machine, of which the last part must then be the name of one picture of the folder and no more.
"""

import os
import unicodedata
from collections import Counter
from dataclasses import replace
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from lskd_nb.regions import LocatedImage, Region
from lskd_nb.sources import (
    BadRecord,
    Rejected,
    below,
    coco_box,
    finite,
    in_words,
    name_of,
    object_in,
    read_json,
    same_shape,
    scaled_to,
    size_of,
    stored_size,
    text_of,
)
from lskd_nb.sources.image_folder import files_below, shown_size

SOURCE = "coco"
LISTS = ("images", "annotations", "categories")


def read_coco(
    path: str | Path,
    pictures: str | Path | None = None,
    limit: int | None = None,
    counts: Counter | None = None,
) -> tuple[list[LocatedImage], list[Rejected]]:
    """Images of a file (the first ``limit``) in its order, with all their boxes as regions
    (0, 1, … in the file's order, labelled by category), and what was left out.

    ``pictures`` is their folder (default: ``images`` beside the file, else the file's own). An
    image is called as its path below that folder; its size is that of the picture as it is shown,
    or as it is stored where only this is the file's. ``counts``, where given, learns how many boxes
    were cut to their image (``clamped``) and of how many images the boxes were scaled (``scaled``).
    Rejected: images that lack a field, are repeated, missing, damaged or of another shape; of
    annotations those of an unknown image or category, without a number, of no area, or of a crowd
    (``iscrowd``). An image without any box is kept. Raises ``FileNotFoundError`` or ``ValueError``
    naming the file.
    """
    path = Path(path)
    content, folder = _content(path), pictures_of(path, pictures)
    categories, rejects = _categories(content["categories"], path)
    files = PicturesByName(folder)
    images: dict[str, tuple[LocatedImage, tuple[int, int]]] = {}
    named = {
        (str(r["id"]).strip(), str(r.get("file_name")))
        for r in content["images"]
        if isinstance(r, dict) and "id" in r
    }
    known = Counter(key for key, _ in named)  # of how many pictures each id is
    seen: set[str] = set()
    for number, record in enumerate(content["images"][:limit]):
        try:
            key = name_of(object_in(record), "id")
            name = files.named(_file_name(record))
            if known[key] > 1:  # nobody knows of which its boxes are
                raise BadRecord("repeated image", f"id {key} is that of {known[key]} pictures")
            if key in images or name in seen:
                raise BadRecord("repeated image", f"id {key}, file_name {name}: there was one")
            size, stored = _sizes(record, below(folder, name))
            images[key] = LocatedImage(name, name, *size, (), SOURCE, "train"), stored
            seen.add(name)
        except BadRecord as error:
            rejects.append(error.of(f"{path.name}, images {number}"))
    found: dict[str, list[Region]] = {key: [] for key in images}
    for number, record in enumerate(content["annotations"]):
        try:
            key = name_of(object_in(record), "image_id")
            if key in images:
                region, cut = _region(record, images[key][0], categories, len(found[key]))
                found[key].append(region)
                if counts is not None:
                    counts["clamped"] += cut
            elif key not in known:
                raise BadRecord("unknown image", f"image_id is {key}")
        except BadRecord as error:
            rejects.append(error.of(f"{path.name}, annotations {number}"))
    if counts is not None:
        counts["scaled"] += sum(stored != (i.width, i.height) for i, stored in images.values())
    whole = [
        scaled_to(replace(image, regions=tuple(found[key])), stored)
        for key, (image, stored) in images.items()
    ]
    return whole, rejects


def pictures_of(path: str | Path, pictures: str | Path | None = None) -> Path:
    """The folder of a file's pictures: the one that is named, else ``images`` beside the file, else
    the file's own.
    """
    if pictures:
        return Path(pictures)
    beside = Path(path).parent / "images"
    return beside if beside.is_dir() else Path(path).parent


# ------------------------------------------------------------------------------------------ records


class PicturesByName:
    """The pictures of a folder, by what a file calls them."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._by_name: dict[str, list[str]] | None = None

    def named(self, name: str) -> str:
        """The path below the folder. Raises ``BadRecord`` where no picture, or more than one, may
        be meant.
        """
        plain = PurePosixPath(name.replace("\\", "/"))
        parts = plain.parts[plain.is_absolute() :]
        # as it is written, else without the folders of another machine, as far as two parts are
        # left, or one that lay in a folder called as this one
        for first in range(len(parts)):
            rest = PurePosixPath(*parts[first:])
            alone = first == len(parts) - 1 and parts[first - 1 : first] != (self.folder.name,)
            if ".." in parts[first:] or (first and alone):
                continue
            if os.path.isfile(self.folder / rest):
                return rest.as_posix()
        if self._by_name is None:
            self._by_name = {}
            for file in files_below(self.folder):
                for key in {file.name, _loosely(file.name)}:
                    self._by_name.setdefault(key, []).append(file.as_posix())
        found = self._by_name.get(plain.name) or self._by_name.get(_loosely(plain.name), [])
        told = f"{name!r:.200}"
        if len(found) > 1:
            which = f"and may be {found[0]} or {found[1]}"
            raise BadRecord("bad path", f"{told} is not below {self.folder}, {which}")
        if not found:
            raise BadRecord("missing image", f"{told} is not there below {self.folder}")
        return found[0]


def _loosely(name: str) -> str:
    """A name as other systems may spell it: in another case, another form of its accents, or with
    %20 for a blank.
    """
    return unicodedata.normalize("NFC", unquote(name)).casefold()


def _file_name(record: dict) -> str:
    """``file_name`` as it is written, blanks and all. Raises ``BadRecord`` where it is no text."""
    text_of(record, "file_name")
    return record["file_name"]


def _sizes(record: dict, file: Path) -> tuple[tuple[int, int], tuple[int, int]]:
    """Width and height that the record's boxes refer to, and those of the picture: as it is shown,
    unless only as it is stored it has the record's shape.
    """
    shown = shown_size(file)
    if record.get("width") is None and record.get("height") is None:
        return shown, shown
    size = size_of(record)
    return size, shown if same_shape(shown, size) else stored_size(file, *size)


def _region(
    record: dict, image: LocatedImage, categories: dict[str, str], number: int
) -> tuple[Region, bool]:
    """A box as a region, and whether it was cut to its image."""
    category = name_of(record, "category_id")
    if category not in categories:
        raise BadRecord("unknown category", f"category_id is {category}")
    if record.get("iscrowd"):
        raise BadRecord("a crowd", f"iscrowd is {record['iscrowd']!r}: its box is of no one thing")
    box, cut = coco_box(record, image.width, image.height)
    score = None if record.get("score") is None else finite(record["score"], "score")
    return Region(number, box, categories[category], score), cut


def _categories(entries: list, path: Path) -> tuple[dict[str, str], list[Rejected]]:
    """Names by id, as words: "tank (storage vessel)" for "tank_(storage_vessel)"."""
    found, rejects = {}, []
    for number, entry in enumerate(entries):
        try:
            key, name = name_of(object_in(entry), "id"), text_of(entry, "name")
            if key in found:
                raise BadRecord("repeated category", f"id {key} is {found[key]!r} already")
            name = name.encode("utf-8", "replace").decode()  # half a surrogate pair
            found[key] = in_words(name)
        except BadRecord as error:
            rejects.append(error.of(f"{path.name}, categories {number}"))
    return found, rejects


def _content(path: Path) -> dict:
    content = read_json(path)
    for key in LISTS:
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            what = "a list of detections" if isinstance(content, list) else f"{key} is none"
            raise ValueError(
                f"{path}: expected COCO JSON, an object with the lists {', '.join(LISTS)}; found"
                f" {what}"
            )
    return content
