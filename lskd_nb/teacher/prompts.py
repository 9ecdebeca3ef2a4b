"""Prompts: what is known of an image, and what is to be written about it (LSKD, section 3.1).

There are three families. By *id*, a text points with "[2]" alone; by *description* it says what the
region is and adds the id when it is first mentioned; in *words* it says what the region is and has
no id at all. And there are three offers: *all* regions of an image, *any* (some of them, drawn at
random), or *people* alone. Each family is asked for with each offer. Texts and few-shot examples
are files in ``templates/``, and every triple records the hash of those it came from.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from string import Template
from typing import NamedTuple, overload

import pyarrow as pa
import pyarrow.compute as pc
import yaml

from lskd_nb.regions import LocatedImage, Region, image_file, is_person
from lskd_nb.teacher.pictures import Picture

TEMPLATES = Path(__file__).parent / "templates"
FILES = {  # family -> system text, what is asked, examples
    "id": ("system.txt", "id.txt", "examples.yaml"),
    "description": ("system.txt", "description.txt", "examples.yaml"),
    "words": ("words_system.txt", "words.txt", "words_examples.yaml"),
}
FAMILIES = tuple(FILES)
OFFERS = ("all", "any", "people")
DEFAULT_FAMILIES, DEFAULT_OFFERS = ("id", "description"), ("all",)
WORDS = "words"
SEES = {WORDS: "", "image": "sees_image.txt", "both": "sees_both.txt"}  # what replaces the opening
BOUND = 512  # pixels, the longer side of a picture that is sent
BOXES = "Boxes (left, top, right, bottom, in per cent of the picture's width and height):"
LINE_FIELDS = ["image_id", "kind", "verbalizer", "region", "question", "text"]
CLIP_LINES = (("Place", "clip-place"), ("Objects", "clip-object"), ("Concepts", "clip-concept"))


@dataclass(frozen=True)
class Prompt:
    """The messages of one request about one image, and what a reply may mention."""

    image_id: str
    family: str
    offered: tuple[int, ...]
    messages: tuple[dict, ...]
    # family, offer (where not all regions are offered), what is seen (where not words alone) and
    # hash of the prompt files
    name: str
    picture: Picture | None = None

    @property
    def source(self) -> str:
        """Family, offer and what is seen: "id", "id_people_image". With the image's id, no other
        prompt has it.
        """
        return self.name.rpartition("-")[0] or self.family


def seen_by(name: str) -> str:
    """What the teacher saw that was asked by the prompt of this ``name``.

    >>> [seen_by(name) for name in ("id-0a1b", "words_any-0a1b", "id_people_both-0a1b")]
    ['words', 'words', 'both']
    """
    last = name.rpartition("-")[0].rpartition("_")[2]
    return last if last in SEES else WORDS


def sees_of(told: str) -> tuple[str, ...]:
    """What teachers are to see, of a text like "words, image".

    Raises ``ValueError`` where that is not some of words, image and both, each once.
    """
    sees = tuple(part.strip() for part in told.split(","))
    if len(set(sees)) < len(sees) or not set(sees) <= SEES.keys():
        raise ValueError(f"teacher_sees is {told!r}; expected some of {', '.join(SEES)}, each once")
    return sees


def context_text(image: LocatedImage, lines: Sequence[Mapping], limit: int = 400) -> str:
    """What is known of an image, one thing a line.

    ``lines`` are rows of records.VERBALIZATIONS about it. Each region has one line, "[id] label:
    description", with the texts of all local verbalizers joined by ";". Texts longer than ``limit``
    characters are cut there.

    >>> from lskd_nb.regions import Region
    >>> regions = (Region(0, (5, 5, 60, 90), "dog"), Region(1, (70, 5, 90, 90), "woman"))
    >>> image = LocatedImage("7", "7.jpg", 100, 100, regions, "vcr", "val")
    >>> names = ("kind", "verbalizer", "region", "question", "text")
    >>> place = ("global", "clip-place", None, None, "beach")
    >>> dog = ("local", "region-captioner", 0, None, "a dog  running")
    >>> weather = ("dynamic", "vqa", None, "Is it sunny?", "Yes.")
    >>> lines = [dict(zip(names, line, strict=True)) for line in (place, dog, weather)]
    >>> print(context_text(image, lines))
    Place: beach
    Regions:
    [0] dog: a dog running
    [1] woman: woman
    Questions:
    Is it sunny? Yes.
    """
    by: dict[str, list[Mapping]] = {}
    for line in lines:
        group = line["verbalizer"] if line["kind"] == "global" else line["kind"]
        by.setdefault(group, []).append(line)
    out = [
        f"{title}: {', '.join(r['text'] for r in by[name])}"
        for title, name in CLIP_LINES
        if name in by
    ]
    known = {name for _, name in CLIP_LINES} | {"local", "dynamic"}
    out += [
        f"Caption: {_clean(r['text'], limit)}" for name in by if name not in known for r in by[name]
    ]
    out.append("Regions:")
    local: dict[int, list[str]] = {}
    for r in by.get("local", []):
        local.setdefault(r["region"], []).append(_clean(r["text"], limit))
    for region in image.regions:
        told = "; ".join(dict.fromkeys(local.get(region.id, []))) or region.label
        out.append(f"[{region.id}] {region.label}: {told}")
    if "dynamic" in by:
        out.append("Questions:")
        out += [f"{_clean(r['question'], limit)} {_clean(r['text'], limit)}" for r in by["dynamic"]]
    return "\n".join(out)


def _clean(text: str, limit: int) -> str:
    return " ".join(text.split())[:limit]


@cache
def _instruction(family: str, number: int, sees: str = WORDS) -> tuple[tuple[dict, ...], str]:
    """What comes before an image in a request of this family, the same for every image: system
    text, the examples as earlier turns; and the hash of the files.

    A teacher that sees has another opening, and the same examples, in words: they show what is to
    be written, and pictures of other images would cost more than all the rest.
    """
    if family not in FAMILIES:
        raise ValueError(f"no prompt family {family!r}; there are {FAMILIES}")
    texts = [(TEMPLATES / name).read_text(encoding="utf-8") for name in FILES[family]]
    if sees != WORDS:
        opening = (TEMPLATES / SEES[sees]).read_text(encoding="utf-8").strip()
        texts[0] = f"{opening}\n\n{texts[0].partition(chr(10) * 2)[2]}"
    digest = hashlib.sha256("\0".join(texts).encode()).hexdigest()[:8]
    asked = Template(texts[1].strip()).substitute(number=number)
    messages = [{"role": "system", "content": f"{texts[0].strip()}\n\n{asked}"}]
    for example in yaml.safe_load(texts[2])[family]:
        messages.append({"role": "user", "content": example["context"].strip()})
        reply = json.dumps({"triples": example["triples"]}, ensure_ascii=False)
        messages.append({"role": "assistant", "content": reply})
    return tuple(messages), digest


def offered_regions(image: LocatedImage, offer: str) -> tuple[int, ...]:
    """The ids of the regions that an offer makes; none where there is nothing to choose.

    "any" are some, but not all, drawn by the image's id: the same in every run.

    >>> from lskd_nb.regions import Region
    >>> labels = enumerate(("dog", "woman", "boat"))
    >>> regions = tuple(Region(i, (0, 0, 9, 9), label) for i, label in labels)
    >>> image = LocatedImage("7", "7.jpg", 9, 9, regions, "vcr", "train")
    >>> [offered_regions(image, offer) for offer in ("all", "any", "people")]
    [(0, 1, 2), (0, 2), (1,)]
    """
    if offer not in OFFERS:
        raise ValueError(f"no offer {offer!r} of regions; there are {OFFERS}")
    ids = tuple(r.id for r in image.regions)
    if offer == "people":
        return tuple(r.id for r in image.regions if is_person(r.label))
    if offer == "any":
        ranked = sorted(ids, key=lambda i: _hash(f"{image.image_id}/{i}"))
        size = 1 + int(_hash(image.image_id)[:8], 16) % (len(ids) - 1) if len(ids) > 1 else 0
        return tuple(i for i in ids if i in ranked[:size])
    return ids


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def build_prompt(
    image: LocatedImage,
    lines: Sequence[Mapping],
    family: str,
    number: int = 3,
    offer: str = "all",
    sees: str = WORDS,
    image_root: str | Path = "",
    bound: int = BOUND,
) -> Prompt:
    """The request about one image: system text, the examples as earlier turns, then this image
    with the regions that are offered; ``sees`` says whether in words, as a picture whose longer
    side is at most ``bound`` pixels, or as both.
    """
    offered = offered_regions(image, offer)
    context = _context(image, lines, offered)
    slot = _Slot(0, family, offer, offered, sees)
    return _prompt(image, context, number, slot, image_root, bound)


def _context(image: LocatedImage, lines: Sequence[Mapping], offered: Sequence[int]) -> str:
    shown = tuple(r for r in image.regions if r.id in set(offered))
    return context_text(replace(image, regions=shown), lines)


class _Slot(NamedTuple):
    """A place in a list of prompts: the place of its image, and what makes it one of several."""

    image: int
    family: str
    offer: str
    offered: tuple[int, ...]
    sees: str

    @property
    def source(self) -> str:
        parts = (self.offer, "all"), (self.sees, WORDS)
        return "_".join([self.family, *(part for part, usual in parts if part != usual)])


def _prompt(
    image: LocatedImage, context: str, number: int, slot: _Slot, image_root: str | Path, bound: int
) -> Prompt:
    before, digest = _instruction(slot.family, number, slot.sees)
    picture = None
    if slot.sees != WORDS:
        regions = tuple(r for r in image.regions if r.id in set(slot.offered))
        picture = Picture(image_file(image_root, image.path), regions, bound)
        boxes = "\n".join([BOXES, *(_box_line(image, r) for r in regions)])
        context = boxes if slot.sees == "image" else f"{context}\n{boxes}"
    messages = (*before, {"role": "user", "content": context})
    name = f"{slot.source}-{digest}"
    return Prompt(image.image_id, slot.family, slot.offered, messages, name, picture)


def _box_line(image: LocatedImage, region: Region) -> str:
    sides = (image.width, image.height) * 2
    per_cent = (f"{100 * v / side:.0f}" for v, side in zip(region.box, sides, strict=True))
    return f"[{region.id}] {', '.join(per_cent)}"


class Prompts(Sequence[Prompt]):
    """The prompts about images, in their order, each built when it is looked at.

    A request is some six kilobytes of text, and a real run has one and a half million of them; what
    they are built from takes a tenth of that.
    """

    def __init__(
        self,
        images: Iterable[LocatedImage],
        lines: pa.Table | Iterable[Mapping],
        families: Sequence[str],
        number: int,
        offers: Sequence[str],
        sees: Sequence[str] = (WORDS,),
        image_root: str | Path = "",
        bound: int = BOUND,
    ):
        for name, told, known in (
            ("families", families, FAMILIES),
            ("offers", offers, OFFERS),
            ("sees", sees, tuple(SEES)),
        ):
            if not told or len(set(told)) < len(told) or set(told) - set(known):
                raise ValueError(f"{name} is {list(told)}; expected some of {known}, each once")
        self.images, self.number = [image for image in images if image.regions], number
        self._lines, self._image_root, self._bound = _LinesByImage(lines), image_root, bound
        self._slots: list[_Slot] = []  # what is asked twice would be answered once
        for place, image in enumerate(self.images):
            sets: set[tuple[int, ...]] = set()
            for offer in offers:
                offered = offered_regions(image, offer)
                if offered and offered not in sets:
                    sets.add(offered)
                    self._slots += [
                        _Slot(place, family, offer, offered, seen)
                        for seen in sees
                        for family in families
                    ]
        self._last: tuple[tuple, str] = ((), "")  # a context; the families share it

    def __len__(self) -> int:
        return len(self._slots)

    @overload
    def __getitem__(self, which: int) -> Prompt: ...
    @overload
    def __getitem__(self, which: slice) -> list[Prompt]: ...
    def __getitem__(self, which):
        if isinstance(which, slice):
            return [self[place] for place in range(len(self))[which]]
        slot = self._slots[which]
        image, (key, context) = self.images[slot.image], self._last
        if key != (slot.image, slot.offered):
            context = _context(image, self._lines.of(image.image_id), slot.offered)
            self._last = ((slot.image, slot.offered), context)
        return _prompt(image, context, self.number, slot, self._image_root, self._bound)

    def __iter__(self) -> Iterator[Prompt]:
        return (self[place] for place in range(len(self)))

    def image(self, which: int) -> LocatedImage:
        """An image that is asked about. Raises ``ValueError`` where there is none."""
        if not self.images:
            raise ValueError("no image has a region to point at: see rejects_01.parquet")
        return self.images[which % len(self.images)]

    def about(self, image: LocatedImage) -> list[Prompt]:
        """The prompts about one image."""
        wanted = self.images.index(image)
        return [self[n] for n, slot in enumerate(self._slots) if slot.image == wanted]

    def counts(self) -> dict[str, int]:
        """How many images each kind of prompt is asked about, by ``Prompt.source``."""
        return dict(Counter(slot.source for slot in self._slots))


class _LinesByImage:
    """Rows of records.VERBALIZATIONS by image: a table stays one, and gives rows when asked."""

    def __init__(self, lines: pa.Table | Iterable[Mapping]):
        self._rows: dict[str, list[Mapping]] = {}
        self._table, self._places = None, {}
        if not isinstance(lines, pa.Table):
            for line in lines:
                self._rows.setdefault(line["image_id"], []).append(line)
        elif lines.num_rows:
            lines = lines.select(LINE_FIELDS)
            self._table = lines.take(pc.sort_indices(lines["image_id"])).combine_chunks()
            start, runs = 0, pc.run_end_encode(self._table["image_id"].combine_chunks())
            ends = runs.run_ends.to_pylist()
            for image_id, end in zip(runs.values.to_pylist(), ends, strict=True):
                self._places[image_id], start = (start, end - start), end

    def of(self, image_id: str) -> list[Mapping]:
        """An image's lines, in their order (the sort is stable)."""
        if self._table is None:
            return self._rows.get(image_id, [])
        return self._table.slice(*self._places.get(image_id, (0, 0))).to_pylist()


def build_prompts(
    images: Iterable[LocatedImage],
    lines: pa.Table | Iterable[Mapping],
    families: Sequence[str] = DEFAULT_FAMILIES,
    number: int = 3,
    offers: Sequence[str] = DEFAULT_OFFERS,
    sees: Sequence[str] = (WORDS,),
    image_root: str | Path = "",
    bound: int = BOUND,
) -> Prompts:
    """One prompt for each image, offer and family, and for each way to be told of an image that
    ``sees`` has (``build_prompt``).

    An image without regions has nothing to point at and gets none; nor does an offer without
    regions, people where there are none, or of the same regions as an earlier one. Raises
    ``ValueError`` for a family or an offer that there is not, or that is named twice.
    """
    return Prompts(images, lines, families, number, offers, sees, image_root, bound)
