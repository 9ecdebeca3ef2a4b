"""Sherlock's corpus and its comparison, about the stage's Visual Genome and VCR pictures.

As in the real files a clue may have several boxes, boxes overrun the picture, a row may state a
size that is a scaling of the picture's own, and ratings are numbers here and texts there.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lskd_nb.mini.files.benchmark_sets import inferences
from lskd_nb.mini.scenes import grammar
from lskd_nb.mini.scenes.world import PEOPLE
from lskd_nb.regions import Box
from lskd_nb.rehearsal.film_stills import Still
from lskd_nb.rehearsal.photographs import Photograph, part_of, whole_pixels
from lskd_nb.rehearsal.visual_genome import URL, VgImage

VCR_URL = "http://s3-us-west-2.amazonaws.com/ai2-rowanz/vcr1images/{}.jpg"
CANDIDATES = 10
OVERRUN = 40  # pixels


@dataclass(frozen=True)
class Observation:
    """A clue, the boxes that bound it together, and what follows."""

    clue: str
    boxes: tuple[Box, ...]
    inference: str


def _id(*parts: object) -> str:
    """32 hexadecimal digits."""
    return hashlib.md5("/".join(map(str, parts)).encode(), usedforsecurity=False).hexdigest()


def url_of(image: VgImage | Still) -> str:
    return URL.format(image.path) if isinstance(image, VgImage) else VCR_URL.format(image.path)


def observations(picture: Photograph) -> list[Observation]:
    """Clues of a picture: each thing, everybody together, the place."""
    found = []
    for scene, index, e in picture.entities:
        said = inferences(picture.scenes[scene], index)
        follows = said[0] if said else f"this is {grammar.context(picture.scenes[scene])}"
        found.append(Observation(grammar.describe(e), (e.box,), follows))
    people = [e.box for _, _, e in picture.entities if e.kind in PEOPLE]
    if people:
        boxes = tuple(people if len(people) > 1 else [part_of(people[0], 0, 0, 1, 0.25), people[0]])
        text = f"They all know each other, it is {grammar.context(picture.scene)}."
        found.append(Observation("people in one place", boxes, text))
    w, h = picture.size
    place = grammar.IN_PLACE[picture.scene.place]
    ground = (0.0, 0.6 * h, float(w), float(h))
    found.append(Observation(f"the ground {place}", (ground,), f"it smells like {place}"))
    return found


def corpus(images: Sequence[VgImage | Still], val: bool, scaled: Sequence[int] = ()) -> list[dict]:
    """Rows of the corpus.

    Rows about the pictures whose places are ``scaled`` state half of the pictures' width and
    height; every seventh row has a box that overruns.
    """
    rows = []
    for place, image in enumerate(images):
        for number, seen in enumerate(observations(image.photograph)):
            image_record, bboxes = _located(
                image, seen.boxes, 2 if place in scaled else 1, len(rows) % 7 == 3
            )
            inputs = dict(
                image=image_record,
                bboxes=bboxes,
                clue=seen.clue,
                confidence=float(1 + (place + number) % 3),
                obs_idx=number,
            )
            row = dict(
                inputs=inputs,
                targets=dict(inference=seen.inference),
                instance_id=_id("sherlock", image.path, number),
            )
            rows.append(row | (dict(split_idx=len(rows) % 23) if val else {}))
    return rows


def with_empty_box(rows: list[dict]) -> list[dict]:
    """The rows, the first of several boxes with one more that has no width."""
    row = next(r for r in rows if len(r["inputs"]["bboxes"]) > 1)
    row["inputs"]["bboxes"].append(row["inputs"]["bboxes"][0] | dict(width=0))
    return rows


def _located(
    image: VgImage | Still, boxes: Sequence[Box], shrunk: int, overrun: bool
) -> tuple[dict, list[dict]]:
    width, height = (v // shrunk for v in image.photograph.size)
    bboxes = []
    for box in boxes:
        x, y, w, h = whole_pixels(tuple(v / shrunk for v in box), (width, height))
        w = max(w, width - x + OVERRUN) if overrun and not bboxes else w
        bboxes.append(dict(height=h, width=w, left=x, top=y))
    return dict(url=url_of(image), width=width, height=height), bboxes


def comparison(images: Sequence[VgImage | Still], seed: int) -> tuple[list[dict], dict, list[str]]:
    """Instances, answer key and sorted test ids: ten inferences for a region of each picture.

    3 is true of the region, 2 of another region of the picture, 1 of neither; the annotators are
    off by one now and then.
    """
    rng = np.random.default_rng([seed, 43])
    seen = {i.path: observations(i.photograph) for i in images}
    everything = sorted({o.inference for found in seen.values() for o in found})
    instances, test_ids, annotations = [], {}, []
    for place, image in enumerate(images):
        region, *others = seen[image.path]
        several = next((o for o in seen[image.path] if len(o.boxes) > 1), region)
        asked = several if place == 1 else region
        rating = dict.fromkeys(rng.permutation(everything).tolist(), 1)
        rating |= {o.inference: 2 for o in (region, *others)} | {asked.inference: 3}
        record, boxes = _located(image, asked.boxes, 1, place == 2)
        input_id, rated = _id("comparison", image.path), []
        for number, text in enumerate(sorted(rating, key=rating.get, reverse=True)[:CANDIDATES]):
            source_id, test_id = _id("source", image.path, text), _id("test", image.path, text)
            instances.append(
                dict(
                    image=record,
                    region=boxes,
                    inference=text,
                    test_id=test_id,
                    extra_info=dict(task="comparison"),
                )
            )
            test_ids[test_id] = dict(Input_iid=input_id, candidate=source_id)
            votes = np.clip(rating[text] + rng.choice([-1, 0, 1], size=2, p=[0.1, 0.8, 0.1]), 1, 3)
            first, second = (int(v) for v in votes)
            rated.append(
                dict(
                    source_iid=source_id,
                    prediction=text,
                    annot1=str(first) if number % 3 == 0 else first,
                    annot2=f"{second}.0" if number % 4 == 1 else float(second),
                )
            )
        annotations.append(dict(Input_iid=input_id, candidates=rated))
    shown = [instances[i] for i in rng.permutation(len(instances))]
    return shown, dict(test_id_map=test_ids, annotations=annotations), sorted(test_ids)
