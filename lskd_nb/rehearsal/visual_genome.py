"""Visual Genome's six files of version 1.2 about photographs, with the real files' habits.

An image has eight to fourteen objects: people and animals, their parts, what is worn or held, sky
and ground. ``attributes`` is there for some objects only, ``synsets`` may be empty, predicates are
written as whoever wrote them liked, a relationship's end has ``name`` or ``names``, boxes now and
then overrun the image, and the descriptions' records have ``id`` where the others have
``image_id``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from lskd_nb.mini.files.plain_questions import facts
from lskd_nb.mini.scenes import grammar
from lskd_nb.mini.scenes.world import ANIMALS, COLORS, OUTDOORS, PEOPLE, Entity
from lskd_nb.regions import Box
from lskd_nb.rehearsal.photographs import Photograph, part_of, whole_pixels

# fmt: off
NAMES = (
    "image_data", "objects", "attributes", "relationships", "region_descriptions",
    "question_answers",
)
# fmt: on
URL = "https://cs.stanford.edu/people/rak248/{}"
GROUND = dict(
    park="grass", beach="sand", street="road", farm="field", kitchen="floor", stage="floor"
)
PARTS = {  # of people and of animals: left, top, right, bottom in shares of the box
    **dict.fromkeys(
        PEOPLE,
        dict(head=(0.2, 0.0, 0.8, 0.24), shirt=(0.1, 0.26, 0.9, 0.6), legs=(0.2, 0.6, 0.8, 1)),
    ),
    **dict.fromkeys(ANIMALS, dict(head=(0.55, 0.0, 1.0, 0.45), legs=(0.05, 0.6, 0.95, 1.0))),
}
HELD = (0.3, 0.3, 1.0, 0.65)
FEWEST, MOST = 9, 14  # objects of an image


@dataclass(frozen=True)
class VgImage:
    """A photograph with its number and place in Visual Genome.

    ``form`` is how its file is: see ``photographs.FORMS``. ``coco_id`` and ``flickr_id`` are None
    for most. In an ``unlabelled`` one nobody found an object.
    """

    number: int
    folder: str  # VG_100K | VG_100K_2
    photograph: Photograph
    form: str = "plain"
    coco_id: int | None = None
    flickr_id: int | None = None
    unlabelled: bool = False

    @property
    def path(self) -> str:
        return f"{self.folder}/{self.number}.jpg"


@dataclass(frozen=True)
class Thing:
    """An object: what it is called, where it is, what is said of it, whose part or thing it is."""

    object_id: int
    name: str
    box: Box
    attributes: tuple[str, ...] = ()
    owner: int | None = None  # place of another in the list
    predicate: str = ""  # between owner and this
    scene: int = 0


def visual_genome(images: Sequence[VgImage], seed: int) -> dict[str, list[dict]]:
    """The content of the six files, by name."""
    files: dict[str, list[dict]] = {name: [] for name in NAMES}
    first = 1_058_498
    for index, image in enumerate(images):
        rng = np.random.default_rng([seed, 40, index])
        things = things_of(image.photograph, first, rng)
        first += len(things)
        overrun = index % 6 == 2
        objects = [_object(t, image, overrun and n == 0) for n, t in enumerate(things)]
        said = [o | _attributes(t) for o, t in zip(objects, things, strict=True)]
        width, height = image.photograph.size
        files["image_data"].append(
            dict(
                width=width,
                url=URL.format(image.path),
                height=height,
                image_id=image.number,
                coco_id=image.coco_id,
                flickr_id=image.flickr_id,
            )
        )
        found = _relationships(image, things, objects, index, rng)
        if image.unlabelled:
            objects, said, found = [], [], []
        files["objects"].append(dict(image_id=image.number, objects=objects))
        files["attributes"].append(dict(image_id=image.number, attributes=said))
        files["relationships"].append(dict(relationships=found, image_id=image.number))
        regions = _descriptions(image, things, index, rng)
        files["region_descriptions"].append(dict(regions=regions, id=image.number))
        files["question_answers"].append(dict(id=image.number, qas=_questions(image, index)))
    return files


def things_of(picture: Photograph, first: int, rng: np.random.Generator) -> list[Thing]:
    """A picture's objects, mostly ``FEWEST`` to ``MOST``, in an order drawn by lot.

    Ids count from ``first``.
    """
    found: list[Thing] = []
    for scene, _, e in picture.entities:
        found.append(Thing(0, e.kind, e.box, _said_of(e), scene=scene))
    parts: list[Thing] = []
    for owner, (scene, _, e) in enumerate(picture.entities):
        for name, shares in PARTS.get(e.kind, {}).items():
            said = (e.color,) if name == "shirt" else ()
            verb = "wearing" if name == "shirt" else "has"
            parts.append(Thing(0, name, part_of(e.box, *shares), said, owner, verb, scene))
        if e.held:
            box = part_of(e.box, *HELD)
            parts.insert(0, Thing(0, e.held, box, (), owner, "holding", scene))
    found += _surroundings(picture)
    most = int(rng.integers(FEWEST, MOST + 1))
    kept = found + [
        parts[i] for i in sorted(rng.permutation(len(parts))[: max(most - len(found), 0)])
    ]
    order = [int(i) for i in rng.permutation(len(kept))]
    places = {old: new for new, old in enumerate(order)}
    return [
        Thing(
            first + new,
            kept[old].name,
            kept[old].box,
            kept[old].attributes,
            None if kept[old].owner is None else places[kept[old].owner],
            kept[old].predicate,
            kept[old].scene,
        )
        for new, old in enumerate(order)
    ]


def _said_of(e: Entity) -> tuple[str, ...]:
    paint = (e.color,) if e.kind not in PEOPLE and len(COLORS[e.kind]) > 1 else ()
    return tuple(filter(None, (*paint, e.pose)))


def _surroundings(picture: Photograph) -> list[Thing]:
    """The ground, and outdoors the sky."""
    w, h = picture.size
    scene, number = picture.scene, len(picture.scenes)
    bottom = h if not picture.stacked else h // number
    ground = Thing(0, GROUND[scene.place], (0, 0.55 * bottom, w, bottom))
    if scene.place not in OUTDOORS:
        return [ground]
    weather = (scene.weather,) if scene.weather != "sunny" else ("blue", "clear")
    return [ground, Thing(0, "sky", (0, 0, w, 0.35 * bottom), weather)]


# ------------------------------------------------------------------------------------------ records


def _synsets(name: str) -> list[str]:
    """None for names that nobody found in WordNet, as for a few of the real objects."""
    return [] if name in ("rod", "legs") else [f"{name}.n.01"]


def _box(box: Box, image: VgImage, overrun: bool = False) -> dict:
    x, y, w, h = whole_pixels(box, image.photograph.size)
    return dict(h=h, w=w + (image.photograph.size[0] - x - w + 7 if overrun else 0), y=y, x=x)


def _object(thing: Thing, image: VgImage, overrun: bool) -> dict:
    box = _box(thing.box, image, overrun)
    return dict(
        synsets=_synsets(thing.name),
        h=box["h"],
        object_id=thing.object_id,
        names=[thing.name],
        w=box["w"],
        y=box["y"],
        x=box["x"],
    )


def _attributes(thing: Thing) -> dict:
    return dict(attributes=list(thing.attributes)) if thing.attributes else {}


def _end(record: dict, plural: bool) -> dict:
    """One end of a relationship; in some of them the name is a list called ``names``."""
    end = {name: value for name, value in record.items() if name != "names"}
    return end | (dict(names=record["names"]) if plural else dict(name=record["names"][0]))


def _relationships(
    image: VgImage, things: list[Thing], objects: list[dict], index: int, rng: np.random.Generator
) -> list[dict]:
    whole = [n for n, t in enumerate(things) if t.owner is None]
    beings = [n for n in whole if things[n].name not in ("sky", *GROUND.values())]
    ground = next(n for n, t in enumerate(things) if t.name in GROUND.values())
    links = [(t.owner, t.predicate, n) for n, t in enumerate(things) if t.owner is not None]
    links += [(n, "on", ground) for n in beings]
    links += [(a, "next to", b) for a, b in pairwise(beings)]
    spelled = {"on": ("ON", "on", "On top of"), "wearing": ("WEARING", "wears", "wearing")}
    found = []
    for number, (subject, predicate, thing) in enumerate(links):
        written = str(rng.choice(spelled.get(predicate, (predicate,))))
        plural = number % 7 == 3
        word = {"has": "have", "wearing": "wear", "holding": "hold"}.get(predicate)
        found.append(
            dict(
                predicate=written,
                object=_end(objects[thing], plural),
                relationship_id=15_927 + 100 * index + number,
                synsets=[f"{word}.v.01"] if word else [],
                subject=_end(objects[subject], plural),
            )
        )
    return found


def _descriptions(
    image: VgImage, things: list[Thing], index: int, rng: np.random.Generator
) -> list[dict]:
    """What somebody wrote about boxes drawn by hand: a few pixels off, in any case and spacing."""
    phrases = [phrase for s, _, e in image.photograph.entities for phrase in _phrases(image, s, e)]
    phrases += [
        (f"the {t.name} is {t.attributes[0]}", t.box)
        for t in things
        if t.attributes and (t.owner is not None or t.name == "sky")
    ]
    rows = []
    for number, (phrase, box) in enumerate(phrases):
        found = _box(box, image)
        dx, dy = (int(v) for v in rng.integers(-3, 4, size=2))
        written = (phrase, phrase.capitalize() + ".", phrase + " ", phrase)[number % 4]
        rows.append(
            dict(
                region_id=1382 + 1000 * index + number,
                width=found["w"],
                height=found["h"],
                image_id=image.number,
                phrase=written,
                y=max(found["y"] + dy, 0),
                x=max(found["x"] + dx, 0),
            )
        )
    return rows


def _phrases(image: VgImage, scene: int, e: Entity) -> list[tuple[str, Box]]:
    place = grammar.IN_PLACE[image.photograph.scenes[scene].place]
    said = [grammar.describe(e), f"{grammar.describe(e)} {place}"]
    if grammar.doing(e):
        said.append(f"{grammar.the(e)} is {grammar.doing(e)}")
    return [(text, e.box) for text in said]


def _questions(image: VgImage, index: int) -> list[dict]:
    return [
        dict(
            a_objects=[],
            question=fact.question,
            image_id=image.number,
            qa_id=986_768 + 1000 * index + number,
            answer=fact.answer,
            q_objects=[],
        )
        for number, fact in enumerate(facts(image.photograph.scene))
    ]
