"""RefCOCO's and LVIS's files about the stage's COCO pictures.

RefCOCO's refs are a pickle as Python 2 wrote it: texts are byte strings. A ref's ``file_name`` has
a suffix and names no picture, and its box is with the instances. LVIS 1.0 names no file at all but
an address, and says of each picture what was looked for in vain.
"""

import struct
from collections.abc import Iterable, Sequence

import numpy as np

from lskd_nb.mini.scenes import grammar
from lskd_nb.mini.scenes.world import HELD, KINDS, PEOPLE, Entity
from lskd_nb.regions import Box
from lskd_nb.rehearsal.photographs import outline, part_of
from lskd_nb.rehearsal.plain_benchmarks import Numbered

COCO_CLASSES = {  # id, supercategory; what the world calls things COCO's way
    "person": (1, "person"),
    "bicycle": (2, "vehicle"),
    "car": (3, "vehicle"),
    "boat": (9, "vehicle"),
    "bench": (15, "outdoor"),
    "bird": (16, "animal"),
    "cat": (17, "animal"),
    "dog": (18, "animal"),
    "horse": (19, "animal"),
    "sheep": (20, "animal"),
    "cow": (21, "animal"),
}
SPLITS = {  # of each split_by, in turn
    "unc": ("train", "train", "val", "testA", "testB"),
    "google": ("train", "train", "train", "val"),
    "umd": ("train", "train", "val", "test"),
}
LICENSE = dict(url="http://creativecommons.org/licenses/by/2.0/", id=4, name="Attribution License")
LVIS_HELD = (0.3, 0.3, 1.0, 0.65)
DATE = "2013-11-15 02:41:42"


def _class(e: Entity) -> str | None:
    name = "person" if e.kind in PEOPLE else e.kind
    return name if name in COCO_CLASSES else None


def _xywh(box: Box) -> list[float]:
    return [round(float(v), 2) for v in (box[0], box[1], box[2] - box[0], box[3] - box[1])]


def _polygon(box: Box) -> list[float]:
    return [round(float(v), 2) for point in outline(box) for v in point]


def _area(box: Box) -> float:
    """Of the outline: a box without its corners."""
    return round(0.8 * float((box[2] - box[0]) * (box[3] - box[1])), 2)


def file_name(number: int) -> str:
    """A picture of the release of 2014."""
    return f"COCO_train2014_{number:012}.jpg"


# ------------------------------------------------------------------------------------------ RefCOCO


def instances(pictures: Sequence[Numbered]) -> dict:
    """instances.json: COCO's annotations of these pictures."""
    annotations = []
    for p in pictures:
        for _, _, e in p.photograph.entities:
            if _class(e):
                annotations.append(
                    dict(
                        segmentation=[_polygon(e.box)],
                        area=_area(e.box),
                        iscrowd=0,
                        image_id=p.number,
                        bbox=_xywh(e.box),
                        category_id=COCO_CLASSES[_class(e)][0],
                        id=1_700_000 + 10 * len(annotations),
                    )
                )
    return dict(
        info=dict(
            description="This is stable 1.0 version of the 2014 MS COCO dataset.",
            url="http://mscoco.org",
            version="1.0",
            year=2014,
            contributor="Microsoft COCO group",
            date_created="2015-01-27 09:11:52.357475",
        ),
        images=[
            dict(
                license=4,
                file_name=file_name(p.number),
                coco_url=f"http://mscoco.org/images/{p.number}",
                height=p.photograph.size[1],
                width=p.photograph.size[0],
                date_captured=DATE,
                flickr_url=f"http://farm4.staticflickr.com/3153/{p.number}_5e6b0e6d2a_z.jpg",
                id=p.number,
            )
            for p in pictures
        ],
        licenses=[LICENSE],
        annotations=annotations,
        categories=[
            dict(supercategory=above, id=number, name=name)
            for name, (number, above) in COCO_CLASSES.items()
        ],
    )


def refs(pictures: Sequence[Numbered], split_by: str, located: bool, first: int = 0) -> list[dict]:
    """The refs of one split_by; ``located`` ones say where things are (RefCOCO+ forbids it)."""
    found, annotation, sentence = [], 0, 0
    for number, p in enumerate(pictures):
        split = SPLITS[split_by][number % len(SPLITS[split_by])]
        for _, index, e in p.photograph.entities:
            if not _class(e):
                continue
            raws = _expressions(p, e, located)
            found.append(
                dict(
                    sent_ids=[first + sentence + i for i in range(len(raws))],
                    file_name=file_name(p.number).replace(".jpg", f"_{index + 1}.jpg"),
                    ann_id=1_700_000 + 10 * annotation,
                    ref_id=first + len(found),
                    image_id=p.number,
                    split=split,
                    sentences=[_sentence(raw, first + sentence + i) for i, raw in enumerate(raws)],
                    category_id=COCO_CLASSES[_class(e)][0],
                )
            )
            annotation += 1
            sentence += len(raws)
    return found


def _expressions(p: Numbered, e: Entity, located: bool) -> list[str]:
    """What people typed: no care for case or marks, here and there an accent."""
    name = grammar.the(e).removeprefix("the ")
    middle = (e.box[0] + e.box[2]) / 2 / p.photograph.size[0]
    side = "left" if middle < 0.4 else "right" if middle > 0.6 else "middle"
    return [
        f"{side} {e.kind}" if located else name.upper(),
        f"{grammar.describe(e).capitalize()}.",
        f"{name}, at the café" if e.held else name,
    ]


def _sentence(raw: str, number: int) -> dict:
    kept = "".join(c for c in raw.lower() if c.isascii() and (c.isalnum() or c == " "))
    words = kept.split()
    return dict(tokens=words, raw=raw, sent_id=number, sent=" ".join(words))


def python2_pickle(value: object) -> bytes:
    """A pickle of protocol 2 as Python 2 wrote it: texts as byte strings, here in UTF-8."""
    return b"\x80\x02" + b"".join(_pickled(value)) + b"."


def _pickled(value: object) -> Iterable[bytes]:
    if isinstance(value, str):
        data = value.encode("utf-8")
        yield (
            b"U" + bytes([len(data)]) + data
            if len(data) < 256
            else (b"T" + struct.pack("<i", len(data)) + data)
        )
    elif isinstance(value, int):
        yield b"J" + struct.pack("<i", value)
    elif isinstance(value, list):
        yield b"]("
        for item in value:
            yield from _pickled(item)
        yield b"e"
    elif isinstance(value, dict):
        yield b"}("
        for item in value.items():
            yield from (part for v in item for part in _pickled(v))
        yield b"u"
    else:
        raise TypeError(f"{type(value).__name__}: refs hold texts, numbers, lists and dicts")


# --------------------------------------------------------------------------------------------- LVIS


def lvis(pictures: Sequence[Numbered], seed: int) -> dict:
    """lvis_v1_{train,val}.json: all that is seen and held, in polygons; what was looked for."""
    names = sorted({*KINDS, *HELD})
    numbers = {name: i for i, name in enumerate(names, 1)}
    rng = np.random.default_rng([seed, 46])
    annotations, images = [], []
    for p in pictures:
        seen = [(e.kind, e.box) for _, _, e in p.photograph.entities]
        seen += [
            (e.held, part_of(e.box, *LVIS_HELD)) for _, _, e in p.photograph.entities if e.held
        ]
        for name, box in seen:
            annotations.append(
                dict(
                    area=_area(box),
                    id=len(annotations) + 1,
                    segmentation=[_polygon(box)],
                    image_id=p.number,
                    bbox=_xywh(box),
                    category_id=numbers[name],
                )
            )
        absent = [numbers[n] for n in names if n not in dict(seen)]
        images.append(
            dict(
                date_captured=DATE,
                neg_category_ids=[int(i) for i in rng.permutation(absent)[:6]],
                id=p.number,
                license=4,
                height=p.photograph.size[1],
                width=p.photograph.size[0],
                flickr_url=f"http://farm9.staticflickr.com/8186/{p.number}_30c1f0b6a5_z.jpg",
                coco_url=f"http://images.cocodataset.org/{p.split}2017/{p.number:012}.jpg",
                not_exhaustive_category_ids=[numbers[seen[0][0]]]
                if p.number % 4 == 0 and seen
                else [],
            )
        )
    return dict(
        info=dict(
            description="LVIS v1.0",
            url="http://www.lvisdataset.org",
            version="1.0",
            year=2020,
            contributor="FAIR",
            date_created="2020-07-20 15:51:42.000000",
        ),
        annotations=annotations,
        images=images,
        licenses=[LICENSE],
        categories=[_category(name, number) for name, number in numbers.items()],
    )


def _category(name: str, number: int) -> dict:
    """Counts are those of the whole of train, of which this is a part; frequency follows them."""
    count = (7, 64, 364)[number % 3] + number
    return dict(
        frequency="r" if count <= 10 else "c" if count <= 100 else "f",
        synset=f"{name}.n.01",
        synonyms=[name, f"{name}_(thing)"],
        id=number,
        instance_count=2 * count,
        name=name,
        image_count=count,
        **{"def": f"what people call a {name}"},
    )
