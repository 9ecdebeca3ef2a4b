"""What a captioner is finetuned on: what people wrote about boxes in images, or about whole ones.

LSKD's region captioner learned from RefCOCO/+/g's expressions, Sherlock's clues and Visual Genome's
region descriptions; its narrator from Localized Narratives (section 3.1). Each set has its reader
in ``sources``; here what they read becomes rows of one schema, which ``captioning`` trains on. A
text's boxes are its own, not those of a corpus' regions. Visual Genome alone has 5.4 million texts:
rows are made as they are asked for, and written to one file a few at a time.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from lskd_nb.records import BOX, ROW_GROUP, atomic_path
from lskd_nb.regions import Box, LocatedImage
from lskd_nb.sources import (
    BadRecord,
    Rejected,
    box_inside,
    count_reasons,
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


@dataclass
class CaptionSet:
    """What one data set gives a captioner to learn from: rows of CAPTIONS, made once, as they are
    asked for; then also the records that were left out, and how many boxes were cut to their image.
    """

    name: str
    rows: Iterable[dict] = ()
    rejected: list[Rejected] = field(default_factory=list)
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
    folder: str | Path, images: Iterable[LocatedImage], told: CaptionSet, below: str = ""
) -> Iterator[dict]:
    """Visual Genome's region descriptions with their own boxes, of ``images`` (as
    ``read_visual_genome`` gives them) only.

    ``told`` learns what was left out (no phrase, no number, no area inside the image), and how many
    boxes were cut to the image. Raises ``FileNotFoundError`` or ``ValueError`` where
    ``region_descriptions.json`` is missing or damaged.
    """
    wanted, stated = {image.image_id: image for image in images}, stated_sizes(folder)
    records = read_records(Path(folder) / "region_descriptions.json")
    for number in range(len(records)):
        name = f"region_descriptions.json, element {number}"
        record, records[number] = records[number], {}  # a record that is done takes no more room
        try:
            image = wanted.get(str(first_of(record, "id", "image_id")))
            regions = list_of(record, "regions") if image else []
        except BadRecord as error:
            told.rejected.append(error.of(name))
            continue
        for index, region in enumerate(regions):
            try:
                box, cut = _region_box(region, image, stated.get(image.image_id))
                text = text_of(region, "phrase")
            except BadRecord as error:
                told.rejected.append(error.of(f"{name}, region {index}"))
                continue
            told.clamped += cut
            yield caption_row(image, [box], text, "visual_genome", below)


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


def split_images(
    images: Sequence[LocatedImage], held_out: int
) -> tuple[Sequence[LocatedImage], Sequence[LocatedImage]]:
    """All but the last ``held_out`` images to learn from, and these to be tested on.

    Raises ``ValueError`` where one of the two would be empty.
    """
    if not 0 < held_out < len(images):
        raise ValueError(
            f"held_out is {held_out} of {len(images)} images: expected 1 to {len(images) - 1},"
            " some to be tested on and some to learn from. Fewer images than there should be:"
            " their pictures are missing or limit is small"
        )
    return images[:-held_out], images[-held_out:]


def visual_genome_set(
    image_root: str | Path, folder: str, images: Iterable[LocatedImage]
) -> CaptionSet:
    """Visual Genome's region descriptions of ``images`` (paths relative to ``folder``)."""
    told = CaptionSet("visual_genome")
    told.rows = visual_genome_rows(Path(image_root) / folder, images, told, below=folder)
    return told


def sherlock_set(
    image_root: str | Path,
    folder: str,
    images: str,
    held_out: Iterable[LocatedImage] = (),
    limit: int | None = None,
) -> CaptionSet:
    """Sherlock's training clues (the first ``limit``); ``images`` is the folder of their images.

    Clues about images that are ``held_out`` (paths relative to it) are passed over.
    """
    told, home = CaptionSet("sherlock"), Path(image_root)
    unseen = {image.path for image in held_out}

    def rows() -> Iterator[dict]:
        clues, told.rejected, told.clamped = read_sherlock(
            home / folder, "train", home / images, limit=limit
        )
        yield from sherlock_rows((c for c in clues if c.image.path not in unseen), below=images)

    told.rows = rows()
    return told


def refcoco_set(
    image_root: str | Path,
    name: str,
    split_by: str,
    held_out: Collection[str] = (),
    limit: int | None = None,
) -> CaptionSet:
    """The training expressions of RefCOCO, RefCOCO+ or RefCOCOg (of the first ``limit`` objects).

    Those about COCO's images that are ``held_out`` (``coco_ids``) are passed over.
    """
    told = CaptionSet(name)

    def rows() -> Iterator[dict]:
        refs, told.rejected, told.clamped = read_refcoco(
            image_root, name, "train", split_by, limit=limit
        )
        yield from refcoco_rows(r for r in refs if r.image.image_id not in held_out)

    told.rows = rows()
    return told


def coco_ids(folder: str | Path, images: Iterable[LocatedImage]) -> set[str]:
    """Under which numbers COCO has ``images`` of Visual Genome: half of them come from there, and
    RefCOCO speaks about the same ones.
    """
    asked = {image.image_id for image in images}
    return {
        str(record["coco_id"])
        for record in read_records(Path(folder) / "image_data.json")
        if record.get("coco_id") and str(record.get("image_id", record.get("id"))) in asked
    }


def narrative_set(image_root: str | Path, folder: str) -> CaptionSet:
    """Localized Narratives, for a narrator; their images lie directly below ``image_root``."""
    told = CaptionSet("localized_narratives")

    def rows() -> Iterator[dict]:
        narratives, told.rejected = read_narratives(Path(image_root) / folder)
        found, missing = narrative_rows(narratives, image_root)
        told.rejected += missing
        yield from found

    told.rows = rows()
    return told


def write_rows(sets: Iterable[CaptionSet], path: str | Path) -> dict[str, int]:
    """Write the rows of all sets to one Parquet file; returns how many each has.

    Raises ``ValueError`` naming a set that has none, and why.
    """
    counts: dict[str, int] = {}
    with (
        atomic_path(path) as temporary,
        pq.ParquetWriter(temporary, CAPTIONS, compression="zstd") as file,
    ):
        for one in sets:
            counts[one.name] = 0
            coming = iter(one.rows)
            while rows := list(islice(coming, ROW_GROUP)):
                file.write_table(pa.Table.from_pylist(rows, schema=CAPTIONS))
                counts[one.name] += len(rows)
            if not counts[one.name]:
                first = f", the first: {one.rejected[0]}" if one.rejected else ""
                raise ValueError(
                    f"{one.name} gives no row: left out {count_reasons(one.rejected)}{first}."
                    " Put its files right, or leave the set out by an empty name"
                )
    return counts


def first_row(path: str | Path, words: int = 1) -> dict:
    """The first row of a file of CAPTIONS with a box and a text of so many words, to be looked at;
    the first of all where there is none.
    """
    file = pq.ParquetFile(path)
    for batch in file.iter_batches(ROW_GROUP):
        for row in batch.to_pylist():
            if row["boxes"] and len(row["text"].split()) >= words:
                return row
    return next(file.iter_batches(1)).to_pylist()[0]


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
