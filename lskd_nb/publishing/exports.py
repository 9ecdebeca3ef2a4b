"""The corpus for other tools: COCO's JSON, and FiftyOne's folder of a data set.

Both are written as streams, a whole image at a time.

COCO: images, annotations (boxes xywh in pixels, and as polygons, which pycocotools needs to show
them or make masks) and categories; ``triples`` stands beside them, each with the annotation of
every region that it was offered.
FiftyOne: ``samples.json`` and ``metadata.json`` as ``FiftyOneDataset`` has them; boxes are
detections (xywh, shares of the image) with their ``region``, triples a list in each sample. Paths
are those below the image root. Boxes are cut to their image; those of which nothing is left are
left out (``ImageTriples.left_out``). FiftyOne is no dependency; version 1.22.1 opened an exported
mini corpus, with mongomock in place of its database.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import duckdb

from lskd_nb.records import CORPUS, NUMBERED_PARQUET, PARQUET, atomic_path, database
from lskd_nb.regions import Box, Region, clamp, region_of
from lskd_nb.sources import BadRecord, below, image_size

NO_LABEL = "region"  # category of regions without a label
TEXTS = ("triple_id", "family", "question", "answer", "rationale", "score", "model", "prompt")
FIFTYONE_VERSION = "1.0.0"  # the layout's; later versions bring it up to theirs when they load it
LOAD_FIFTYONE = (
    'fo.Dataset.from_dir(dataset_dir="{out}", dataset_type=fo.types.FiftyOneDataset,'
    " rel_dir=IMAGE_ROOT)"
)
INFO = "Localized commonsense triples; `triples` points at `annotations`"
# of files that are written here
COCO_BEGINS, SAMPLES_BEGIN = (f'{{\n"info": {{"description": {json.dumps(INFO)}', '{\n"samples": [')
_FIELDS, _DOCUMENTS = "fiftyone.core.fields.", "fiftyone.core."


@dataclass(frozen=True)
class ImageTriples:
    """An image, its regions, and the corpus rows about it.

    ``places`` tells for each row where in ``regions`` its ids are.

    ``left_out`` are regions whose box has no area within the image.
    """

    image_id: str
    path: str
    width: int
    height: int
    source: str
    split: str
    regions: tuple[Region, ...]
    rows: tuple[Mapping, ...]
    places: tuple[Mapping[int, int], ...]
    left_out: tuple[Region, ...] = ()


def images_of(corpus: str | Path, image_root: str | Path | None = None) -> Iterator[ImageTriples]:
    """The corpus (Parquet, records.CORPUS) by image.

    Sizes that it does not tell are those of the files below ``image_root``.

    An id that has different boxes in different rows counts as different regions. Raises
    ``ValueError`` naming the image of which neither the corpus nor a file tells the size, or the
    triple that has a box or a score that is no number.
    """
    with database() as db:
        found = db.sql(
            f"SELECT * EXCLUDE file_row_number FROM {NUMBERED_PARQUET}"
            " ORDER BY image_id, file_row_number",
            params=[str(corpus)],
        )
        for image_id, group in groupby(_rows(found), key=lambda row: row["image_id"]):
            yield _image(image_id, tuple(group), image_root)


def _rows(found: duckdb.DuckDBPyRelation) -> Iterator[dict]:
    for batch in found.to_arrow_reader(10_000):
        yield from batch.to_pylist()


def _image(image_id: str, rows: tuple[Mapping, ...], image_root: str | Path | None) -> ImageTriples:
    first, told = rows[0], min(rows[0]["width"] or 0, rows[0]["height"] or 0) > 0
    width, height = (first["width"], first["height"]) if told else _size(first["image"], image_root)
    seen: dict[tuple[int, Box], int | None] = {}
    regions, left_out, places = [], [], []
    for row in rows:
        _check_numbers(row)
        for region in map(region_of, row["references"]):
            if (key := (region.id, region.box)) not in seen:
                try:
                    cut = replace(region, box=clamp(region.box, width, height))
                except ValueError:
                    left_out.append(region)
                    seen[key] = None
                else:
                    seen[key] = len(regions)
                    regions.append(cut)
        places.append(
            {
                r["id"]: place
                for r in row["references"]
                if (place := seen[r["id"], tuple(r["box"])]) is not None
            }
        )
    return ImageTriples(
        image_id,
        first["image"],
        width,
        height,
        first["source"],
        first["split"],
        tuple(regions),
        rows,
        tuple(places),
        tuple(left_out),
    )


def _check_numbers(row: Mapping) -> None:
    """Raise ``ValueError`` for a score or box that is no number: JSON has no word for it."""
    for what, values in (
        ("score", [row["score"]]),
        *((f"region [{r['id']}]", [*r["box"], r["score"]]) for r in row["references"]),
    ):
        if not all(v is None or math.isfinite(v) for v in values):
            raise ValueError(
                f"triple {row['triple_id']!r}:"
                f" {what} is {', '.join(map(str, values))}, expected numbers"
            )


def _size(path: str, image_root: str | Path | None) -> tuple[int, int]:
    if image_root is None:
        raise ValueError(f"image {path!r}: the corpus does not tell its size; name the image root")
    try:
        return image_size(below(Path(image_root), path))
    except BadRecord as error:
        raise ValueError(f"image {path!r}: the corpus does not tell its size ({error})") from error


def export_coco(corpus: str | Path, out: str | Path, image_root: str | Path | None = None) -> Path:
    """``instances.json`` in ``out``; returns its path.

    Raises as ``images_of`` does, and ``ValueError`` where such a file of others is there.
    """
    path = Path(out) / "instances.json"
    _check(corpus)
    _check_ours(path, COCO_BEGINS)
    with database() as db:
        labels = db.execute(
            "SELECT DISTINCT coalesce(nullif(r.label, ''), ?) AS label FROM (SELECT"
            ' unnest("references") AS r FROM ' + PARQUET + ") ORDER BY label",
            [NO_LABEL, str(corpus)],
        ).fetchall()
    categories = {label: number for number, (label,) in enumerate(labels, 1)}
    with atomic_path(path) as temporary:
        _write_json(
            temporary,
            {
                "info": dict(description=INFO),
                "licenses": [],
                "images": (
                    dict(
                        id=n,
                        file_name=i.path,
                        width=i.width,
                        height=i.height,
                        image_id=i.image_id,
                        source=i.source,
                        split=i.split,
                    )
                    for n, i in enumerate(images_of(corpus, image_root), 1)
                ),
                "annotations": _annotations(images_of(corpus, image_root), categories),
                "categories": [
                    dict(id=number, name=label, supercategory="")
                    for label, number in categories.items()
                ],
                "triples": _coco_triples(images_of(corpus, image_root)),
            },
        )
    return path


def _annotations(images: Iterable[ImageTriples], categories: Mapping[str, int]) -> Iterator[dict]:
    number = 0
    for image_index, image in enumerate(images, 1):
        for r in image.regions:
            number += 1
            x0, y0, x1, y1 = r.box
            yield dict(
                id=number,
                image_id=image_index,
                category_id=categories[r.label or NO_LABEL],
                bbox=[x0, y0, x1 - x0, y1 - y0],
                segmentation=[[x0, y0, x1, y0, x1, y1, x0, y1]],
                area=(x1 - x0) * (y1 - y0),
                iscrowd=0,
                region=r.id,
                score=r.score,
            )


def _coco_triples(images: Iterable[ImageTriples]) -> Iterator[dict]:
    before = 0  # annotations of earlier images
    for image_index, image in enumerate(images, 1):
        for row, places in zip(image.rows, image.places, strict=True):
            yield dict(
                image_id=image_index,
                **{name: row[name] for name in TEXTS},
                regions=row["regions"],
                annotations={str(i): before + place + 1 for i, place in places.items()},
            )
        before += len(image.regions)


def export_fiftyone(
    corpus: str | Path, out: str | Path, image_root: str | Path | None = None
) -> Path:
    """``samples.json`` and ``metadata.json`` in ``out``; returns the folder.

    ``LOAD_FIFTYONE`` says how it is opened. Raises as ``export_coco`` does.
    """
    out, metadata = Path(out), json.dumps(_fiftyone_metadata(), indent=1) + "\n"
    _check(corpus)
    _check_ours(out / "samples.json", SAMPLES_BEGIN)
    _check_ours(out / "metadata.json", metadata)
    with atomic_path(out / "samples.json") as temporary:
        _write_json(
            temporary, {"samples": (_sample(image) for image in images_of(corpus, image_root))}
        )
    with atomic_path(out / "metadata.json") as temporary:
        temporary.write_text(metadata, encoding="utf-8")
    return out


def _sample(image: ImageTriples) -> dict:
    detections = []
    for number, r in enumerate(image.regions):
        x0, y0, x1, y1 = r.box
        box = [
            x0 / image.width,
            y0 / image.height,
            (x1 - x0) / image.width,
            (y1 - y0) / image.height,
        ]
        detections.append(
            {
                "_id": _object_id(image.image_id, "region", number),
                "_cls": "Detection",
                "attributes": {},
                "tags": [],
                "label": r.label or NO_LABEL,
                "bounding_box": box,
                "confidence": r.score,
                "region": r.id,
            }
        )
    triples = [
        {
            **{name: row[name] for name in TEXTS},
            "regions": row["regions"],
            "detections": {str(i): place for i, place in places.items()},
        }
        for row, places in zip(image.rows, image.places, strict=True)
    ]
    return {
        "_id": _object_id(image.image_id),
        "filepath": image.path,
        "tags": [image.split] if image.split else [],
        "_media_type": "image",
        "_rand": int(_object_id(image.image_id)["$oid"][:8], 16) / 2**32,
        "image_id": image.image_id,
        "source": image.source,
        "metadata": {"_cls": "ImageMetadata", "width": image.width, "height": image.height},
        "regions": {"_cls": "Detections", "detections": detections},
        "triples": triples,
    }


def _object_id(*parts: object) -> dict[str, str]:
    """An identifier of 12 bytes that is always the same for the same thing."""
    return {"$oid": hashlib.sha256(repr(parts).encode()).hexdigest()[:24]}


def _fiftyone_metadata() -> dict:
    """The data set's document: which fields its samples have."""
    strings = {"subfield": _FIELDS + "StringField"}
    size = [
        _field(name, "IntField") for name in ("size_bytes", "width", "height", "num_channels")
    ] + [_field("mime_type", "StringField")]
    detection = [
        _field("id", "ObjectIdField", db_field="_id"),
        _field("tags", "ListField", **strings),
        _field("label", "StringField"),
        _field(
            "attributes",
            "DictField",
            subfield=_FIELDS + "EmbeddedDocumentField",
            embedded_doc_type=_DOCUMENTS + "labels.Attribute",
        ),
        _field("bounding_box", "ListField", subfield=_FIELDS + "FloatField"),
        _field("mask", "ArrayField"),
        _field("mask_path", "StringField"),
        _field("confidence", "FloatField"),
        _field("index", "IntField"),
        _field("region", "IntField"),
    ]
    detections = _field(
        "detections",
        "ListField",
        subfield=_FIELDS + "EmbeddedDocumentField",
        embedded_doc_type=_DOCUMENTS + "labels.Detection",
        fields=detection,
    )
    fields = [
        _field("id", "ObjectIdField", db_field="_id"),
        _field("filepath", "StringField"),
        _field("tags", "ListField", **strings),
        _field(
            "metadata",
            "EmbeddedDocumentField",
            embedded_doc_type=_DOCUMENTS + "metadata.ImageMetadata",
            fields=size,
        ),
        _field("_media_type", "StringField"),
        _field("_rand", "FloatField"),
        _field("_dataset_id", "ObjectIdField"),
        _field("created_at", "DateTimeField", read_only=True),
        _field("last_modified_at", "DateTimeField", read_only=True),
        _field("image_id", "StringField"),
        _field("source", "StringField"),
        _field(
            "regions",
            "EmbeddedDocumentField",
            embedded_doc_type=_DOCUMENTS + "labels.Detections",
            fields=[detections],
        ),
        _field("triples", "ListField", subfield=_FIELDS + "DictField"),
    ]
    return dict(
        version=FIFTYONE_VERSION,
        media_type="image",
        sample_fields=fields,
        frame_fields=[],
        tags=[],
        classes={},
        default_classes=[],
        mask_targets={},
        default_mask_targets={},
        skeletons={},
        group_media_types={},
        app_config={},
        saved_views=[],
        workspaces=[],
        annotation_runs={},
        brain_methods={},
        evaluations={},
        runs={},
        info=dict(
            description=(
                "Localized commonsense triples:"
                " `triples[].regions` are ids of `regions.detections[].region`"
            )
        ),
    )


def _field(name: str, kind: str, **more) -> dict:
    return (
        dict(
            name=name,
            ftype=_FIELDS + kind,
            embedded_doc_type=None,
            subfield=None,
            fields=[],
            db_field=name,
            description=None,
            info=None,
            read_only=False,
            created_at=None,
        )
        | more
    )


def _check(corpus: str | Path) -> None:
    """Raise ``FileNotFoundError`` or ``ValueError`` unless the file is a corpus."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not Path(corpus).exists():
        raise FileNotFoundError(f"{corpus} is not there: run notebook 04 first")
    try:
        names = pq.read_schema(corpus).names
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{corpus} is not a readable Parquet file: {error}") from error
    if missing := [n for n in CORPUS.names if n not in names]:
        raise ValueError(f"{corpus} lacks the columns {missing}")


def _check_ours(path: Path, beginning: str) -> None:
    """Raise ``ValueError`` for a file that does not begin as those written here."""
    if path.exists():
        with open(path, encoding="utf-8", errors="replace") as file:
            if file.read(len(beginning)) != beginning:
                raise ValueError(
                    f"{path} is there and was not written by lskd export,"
                    " or was changed since: name another folder"
                )


def _write_json(path: Path, parts: Mapping[str, object]) -> None:
    """A JSON object whose iterators are written as lists, an element a line."""
    with open(path, "w", encoding="utf-8") as out:
        for number, (name, value) in enumerate(parts.items()):
            out.write(f"{',' if number else '{'}\n{json.dumps(name)}: ")
            if isinstance(value, Iterator):
                out.write("[")
                for place, one in enumerate(value):
                    line = json.dumps(one, ensure_ascii=False, allow_nan=False)
                    out.write(f"{',' if place else ''}\n{line}")
                out.write("]")
            else:
                out.write(json.dumps(value, ensure_ascii=False))
        out.write("\n}\n")
