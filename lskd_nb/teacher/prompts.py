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
from typing import overload

import pyarrow as pa
import pyarrow.compute as pc
import yaml

from lskd_nb.regions import LocatedImage, is_person

TEMPLATES = Path(__file__).parent / "templates"
FILES = {  # family -> system text, what is asked, examples
    "id": ("system.txt", "id.txt", "examples.yaml"),
    "description": ("system.txt", "description.txt", "examples.yaml"),
    "words": ("words_system.txt", "words.txt", "words_examples.yaml"),
}
FAMILIES = tuple(FILES)
OFFERS = ("all", "any", "people")
DEFAULT_FAMILIES, DEFAULT_OFFERS = ("id", "description"), ("all",)
LINE_FIELDS = ["image_id", "kind", "verbalizer", "region", "question", "text"]
CLIP_LINES = (("Place", "clip-place"), ("Objects", "clip-object"), ("Concepts", "clip-concept"))


@dataclass(frozen=True)
class Prompt:
    """The messages of one request about one image, and what a reply may mention."""

    image_id: str
    family: str
    offered: tuple[int, ...]
    messages: tuple[dict, ...]
    name: str  # family, offer (where not all regions are offered) and hash of the prompt files

    @property
    def source(self) -> str:
        """Family and offer: "id", "id_people". With the image's id, no other prompt has it."""
        return self.name.rpartition("-")[0] or self.family


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
def _instruction(family: str, number: int) -> tuple[tuple[dict, ...], str]:
    """What comes before an image in a request of this family, the same for every image: system
    text, the examples as earlier turns; and the hash of the files.
    """
    if family not in FAMILIES:
        raise ValueError(f"no prompt family {family!r}; there are {FAMILIES}")
    texts = [(TEMPLATES / name).read_text(encoding="utf-8") for name in FILES[family]]
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
    image: LocatedImage, lines: Sequence[Mapping], family: str, number: int = 3, offer: str = "all"
) -> Prompt:
    """The request about one image: system text, the examples as earlier turns, then this image
    with the regions that are offered.
    """
    offered = offered_regions(image, offer)
    return _prompt(image, _context(image, lines, offered), family, number, offer, offered)


def _context(image: LocatedImage, lines: Sequence[Mapping], offered: Sequence[int]) -> str:
    shown = tuple(r for r in image.regions if r.id in set(offered))
    return context_text(replace(image, regions=shown), lines)


def _prompt(
    image: LocatedImage, context: str, family: str, number: int, offer: str, offered: tuple
) -> Prompt:
    before, digest = _instruction(family, number)
    name = f"{_source(family, offer)}-{digest}"
    messages = (*before, {"role": "user", "content": context})
    return Prompt(image.image_id, family, offered, messages, name)


def _source(family: str, offer: str) -> str:
    return family if offer == "all" else f"{family}_{offer}"


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
    ):
        for name, told, known in (("families", families, FAMILIES), ("offers", offers, OFFERS)):
            if not told or len(set(told)) < len(told) or set(told) - set(known):
                raise ValueError(f"{name} is {list(told)}; expected some of {known}, each once")
        self.images, self.number = [image for image in images if image.regions], number
        self._lines = _LinesByImage(lines)
        # image, family, offer, ids offered; what is asked twice would be answered once
        self._slots: list[tuple[int, str, str, tuple[int, ...]]] = []
        for place, image in enumerate(self.images):
            sets: set[tuple[int, ...]] = set()
            for offer in offers:
                offered = offered_regions(image, offer)
                if offered and offered not in sets:
                    sets.add(offered)
                    self._slots += [(place, family, offer, offered) for family in families]
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
        place, family, offer, offered = self._slots[which]
        image, (key, context) = self.images[place], self._last
        if key != (place, offered):
            context = _context(image, self._lines.of(image.image_id), offered)
            self._last = ((place, offered), context)
        return _prompt(image, context, family, self.number, offer, offered)

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
        return [self[n] for n, (place, *_) in enumerate(self._slots) if place == wanted]

    def counts(self) -> dict[str, int]:
        """How many images each family and offer is asked about, by ``Prompt.source``."""
        found = Counter((family, offer) for _, family, offer, _ in self._slots)
        return {_source(*of): number for of, number in found.items()}


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
) -> Prompts:
    """One prompt for each image, offer and family.

    An image without regions has nothing to point at and gets none; nor does an offer without
    regions, people where there are none, or of the same regions as an earlier one. Raises
    ``ValueError`` for a family or an offer that there is not, or that is named twice.
    """
    return Prompts(images, lines, families, number, offers)
