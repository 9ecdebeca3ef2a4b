"""What a captioner is finetuned on: what people wrote about boxes in images, or about whole ones.

LSKD's region captioner learned from RefCOCO/+/g's expressions, Sherlock's clues and Visual Genome's
region descriptions; its narrator from Localized Narratives (section 3.1). Each set has its reader
in ``sources``; here what they read becomes rows of one schema, which ``captioning`` trains on. A
text's boxes are its own, not those of a corpus' regions.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from lskd_nb.records import BOX
from lskd_nb.regions import Box, LocatedImage
from lskd_nb.sources import (
    BadRecord,
    Rejected,
    box_inside,
    first_of,
    image_size,
    list_of,
    number_of,
    read_records,
    scaled_box,
    text_of,
)
from lskd_nb.sources.localized_narratives import Narrative, read_narratives
from lskd_nb.sources.refcoco import Referring, read_refcoco
from lskd_nb.sources.sherlock import Clue, read_sherlock
from lskd_nb.sources.visual_genome import stated_sizes

CAPTIONS = pa.schema(
    [
        ("image", pa.string()),  # path relative to the image root
        ("width", pa.int32()),
        ("height", pa.int32()),
        # boxes that bound the one thing spoken of, xyxy pixels; none: the whole image
        ("boxes", pa.list_(BOX)),
        ("text", pa.string()),
        ("origin", pa.string()),  # data set
    ]
)


@dataclass(frozen=True)
class CaptionSet:
    """What one data set gives a captioner to learn from: rows of CAPTIONS, the records that were
    left out, and how many boxes were cut to their image.
    """

    rows: list[dict]
    rejected: list[Rejected]
    clamped: int = 0


def caption_row(
    image: LocatedImage, boxes: Sequence[Box], text: str, origin: str, below: str = ""
) -> dict:
    """One row of CAPTIONS.

    ``below`` is the folder, under the image root of all sets, that this set's own paths are
    relative to.
    """
    path = f"{below.rstrip('/')}/{image.path}" if below else image.path
    return dict(
        image=path,
        width=image.width,
        height=image.height,
        boxes=[list(b) for b in boxes],
        text=text,
        origin=origin,
    )


def visual_genome_rows(
    folder: str | Path, images: Iterable[LocatedImage], below: str = ""
) -> tuple[list[dict], list[Rejected], int]:
    """Visual Genome's region descriptions with their own boxes, of ``images`` (as
    ``read_visual_genome`` gives them) only.

    Returns rows, what was left out (no phrase, no number, no area inside the image), and how many
    boxes were cut to the image. Raises ``FileNotFoundError`` or ``ValueError`` where
    ``region_descriptions.json`` is missing or damaged.
    """
    wanted, stated = {image.image_id: image for image in images}, stated_sizes(folder)
    rows, rejects, clamped = [], [], 0
    for number, record in enumerate(read_records(Path(folder) / "region_descriptions.json")):
        name = f"region_descriptions.json, element {number}"
        try:
            image = wanted.get(str(first_of(record, "id", "image_id")))
            regions = list_of(record, "regions") if image else []
        except BadRecord as error:
            rejects.append(error.of(name))
            continue
        for index, region in enumerate(regions):
            try:
                box, cut = _region_box(region, image, stated.get(image.image_id))
                rows.append(
                    caption_row(image, [box], text_of(region, "phrase"), "visual_genome", below)
                )
                clamped += cut
            except BadRecord as error:
                rejects.append(error.of(f"{name}, region {index}"))
    return rows, rejects, clamped


def sherlock_rows(clues: Iterable[Clue], below: str = "") -> list[dict]:
    """Sherlock's clues: what people saw in the boxes of one thing, not what they inferred."""
    return [
        caption_row(c.image, [r.box for r in c.image.regions], c.clue, "sherlock", below)
        for c in clues
    ]


def refcoco_rows(refs: Iterable[Referring], below: str = "") -> list[dict]:
    """Every expression of RefCOCO, RefCOCO+ or RefCOCOg with the box of what it refers to."""
    return [
        caption_row(r.image, [r.image.regions[0].box], text, r.image.source, below)
        for r in refs
        for text in r.expressions
    ]


def narrative_rows(
    narratives: Iterable[Narrative], image_root: str | Path, below: str = ""
) -> tuple[list[dict], list[Rejected]]:
    """Localized Narratives' captions of whole images; those whose image is missing or damaged.

    The files don't say how large an image is: each is opened once, below ``image_root``/``below``.
    """
    rows, rejects = [], []
    sizes: dict[str, tuple[int, int] | BadRecord] = {}
    for told in narratives:
        if told.image not in sizes:
            try:
                sizes[told.image] = image_size(Path(image_root) / below / told.image)
            except BadRecord as error:
                sizes[told.image] = error
        size = sizes[told.image]
        if isinstance(size, BadRecord):
            rejects.append(size.of(f"{told.dataset_id}, image {told.image_id}"))
        else:
            image = LocatedImage(
                told.image_id, told.image, *size, (), "localized_narratives", told.dataset_id
            )
            rows.append(caption_row(image, [], told.caption, "localized_narratives", below))
    return rows, rejects


# ------------------------------------------------------------ whole sets, read below one image root


def visual_genome_set(
    image_root: str | Path, folder: str, images: Iterable[LocatedImage]
) -> CaptionSet:
    """Visual Genome's region descriptions of ``images`` (paths relative to ``folder``)."""
    return CaptionSet(*visual_genome_rows(Path(image_root) / folder, images, below=folder))


def sherlock_set(
    image_root: str | Path, folder: str, images: str, held_out: Iterable[LocatedImage] = ()
) -> CaptionSet:
    """Sherlock's training clues; ``images`` is the folder of their images.

    Clues about images that are ``held_out`` (paths relative to it) are passed over.
    """
    home = Path(image_root)
    clues, rejected, clamped = read_sherlock(home / folder, "train", home / images)
    unseen = {image.path for image in held_out}
    taught = [clue for clue in clues if clue.image.path not in unseen]
    return CaptionSet(sherlock_rows(taught, below=images), rejected, clamped)


def refcoco_set(image_root: str | Path, name: str, split_by: str) -> CaptionSet:
    """The training expressions of RefCOCO, RefCOCO+ or RefCOCOg."""
    refs, rejected, clamped = read_refcoco(image_root, name, "train", split_by)
    return CaptionSet(refcoco_rows(refs), rejected, clamped)


def narrative_set(image_root: str | Path, folder: str) -> CaptionSet:
    """Localized Narratives, for a narrator; their images lie directly below ``image_root``."""
    narratives, rejected = read_narratives(Path(image_root) / folder)
    rows, missing = narrative_rows(narratives, image_root)
    return CaptionSet(rows, rejected + missing)


def _region_box(
    region: object, image: LocatedImage, stated: tuple[int, int] | None
) -> tuple[Box, bool]:
    """The box of a region, xyxy, and whether it was cut to the image; in the file it is in pixels
    of the ``stated`` size, of which the stored picture may be a scaled copy.
    """
    if not isinstance(region, dict):
        raise BadRecord("bad record", f"{region!r}, expected an object")
    x, y, width, height = (number_of(region, key) for key in ("x", "y", "width", "height"))
    corners = (x, y, x + width, y + height)
    stored = (image.width, image.height)
    box = box_inside(corners, *(stated or stored))
    return scaled_box(box, stated or stored, stored), box != corners
