"""Prompts: what is known of an image, and what is to be written about it (LSKD, section 3.1).

There are two families. By *id*, a text points with "[2]" alone; by *description* it says what the
region is and adds the id when it is first mentioned. Texts and few-shot examples are files in
``templates/``, and every triple records the hash of those it came from.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from string import Template

import yaml

from lskd_nb.regions import LocatedImage

TEMPLATES = Path(__file__).parent / "templates"
FAMILIES = ("id", "description")
CLIP_LINES = (("Place", "clip-place"), ("Objects", "clip-object"), ("Concepts", "clip-concept"))


@dataclass(frozen=True)
class Prompt:
    """The messages of one request about one image, and what a reply may mention."""

    image_id: str
    family: str
    offered: tuple[int, ...]
    messages: tuple[dict, ...]
    name: str  # family and hash of the prompt files


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
def _files(family: str) -> tuple[str, str, tuple[dict, ...], str]:
    if family not in FAMILIES:
        raise ValueError(f"no prompt family {family!r}; there are {FAMILIES}")
    texts = [
        (TEMPLATES / name).read_text(encoding="utf-8")
        for name in ("system.txt", f"{family}.txt", "examples.yaml")
    ]
    digest = hashlib.sha256("\0".join(texts).encode()).hexdigest()[:8]
    system, instruction = texts[0].strip(), texts[1].strip()
    examples = tuple(yaml.safe_load(texts[2])[family])
    return system, instruction, examples, f"{family}-{digest}"


def build_prompt(
    image: LocatedImage, lines: Sequence[Mapping], family: str, number: int = 3
) -> Prompt:
    """The request about one image: system text, the examples as earlier turns, then this image."""
    import json

    system, instruction, examples, name = _files(family)
    asked = Template(instruction).substitute(number=number)
    messages = [{"role": "system", "content": f"{system}\n\n{asked}"}]
    for example in examples:
        messages.append({"role": "user", "content": example["context"].strip()})
        reply = json.dumps({"triples": example["triples"]}, ensure_ascii=False)
        messages.append({"role": "assistant", "content": reply})
    messages.append({"role": "user", "content": context_text(image, lines)})
    return Prompt(image.image_id, family, tuple(r.id for r in image.regions), tuple(messages), name)


def build_prompts(
    images: Iterable[LocatedImage],
    lines: Iterable[Mapping],
    families: Sequence[str] = FAMILIES,
    number: int = 3,
) -> list[Prompt]:
    """One prompt for each image and family.

    An image without regions has nothing to point at and gets none.
    """
    of: dict[str, list[Mapping]] = {}
    for line in lines:
        of.setdefault(line["image_id"], []).append(line)
    return [
        build_prompt(i, of.get(i.image_id, []), f, number)
        for i in images
        if i.regions
        for f in families
    ]
