"""Sample scenes: a place, weather, a time of day, and two to five people, animals and things in it.

A scene is the complete truth about its picture. ``rules`` derives what follows from it by common
sense, ``render`` draws it, ``world_files`` writes it in the real data sets' formats. Several
entities of one kind are common, so that only the region somebody points at decides which answer is
right.
"""

from dataclasses import dataclass, replace

import numpy as np

WIDTH, HEIGHT = 320, 240  # pixels

OUTDOORS = ("park", "beach", "street", "farm")
INDOORS = ("kitchen", "stage")
PLACES = OUTDOORS + INDOORS
WEATHER = ("sunny", "cloudy", "rainy", "snowy")
TIMES = ("day", "evening", "night")

PEOPLE = ("man", "woman", "child")
ANIMALS = ("dog", "cat", "horse", "cow", "sheep", "bird")
THINGS = ("car", "bicycle", "boat", "tent", "bench", "tree", "lamp")
FACES = ("smiling", "crying", "angry", "calm")
KINDS = PEOPLE + ANIMALS + THINGS

SHIRTS = ("red", "yellow", "blue", "white", "black", "pink")
FURS = ("brown", "black", "white", "gray")
PAINTS = ("red", "yellow", "blue", "white")
COLORS = {
    **dict.fromkeys(PEOPLE, SHIRTS),
    **dict.fromkeys(ANIMALS, FURS),
    **dict.fromkeys(("car", "bicycle", "boat", "tent"), PAINTS),
    "bench": ("brown",),
    "tree": ("green",),
    "lamp": ("gray",),
}
# fmt: off
HELD = (
    "umbrella", "guitar", "ball", "book", "rod", "broom", "balloon", "suitcase", "flowers",
    "camera", "pan",
)
# fmt: on
SEATED_WITH = ("guitar", "book", "rod")
POSES = {
    **dict.fromkeys(PEOPLE, ("standing", "sitting", "running", "waving")),
    "dog": ("standing", "running", "sleeping"),
    "cat": ("standing", "running", "sleeping"),
    "horse": ("standing", "running", "eating"),
    "cow": ("standing", "eating"),
    "sheep": ("standing", "eating"),
    "bird": ("standing", "flying"),
    **dict.fromkeys(THINGS, ("",)),
}
FOUND_IN = {  # what a place may hold, with weights
    "park": dict(dog=4, cat=2, bird=3, bench=3, tree=3, bicycle=3, lamp=2, tent=1, horse=1),
    "beach": dict(dog=4, bird=3, boat=4, tent=3, bicycle=1, horse=2, bench=1, cat=1),
    "street": dict(dog=4, cat=3, car=4, bicycle=3, lamp=3, bench=2, tree=1, bird=2),
    "farm": dict(horse=4, cow=4, sheep=4, dog=3, cat=2, car=1, tree=2, tent=1, bird=2),
    "kitchen": dict(cat=4, dog=4, lamp=2, bird=1),
    "stage": dict(lamp=4, dog=2, bird=1, cat=1, bench=2, bicycle=1),
}
# fmt: off
HELD_IN = {  # held things and empty hands ("") by place, with weights
    "park": {
        "": 8, "umbrella": 3, "ball": 4, "book": 3, "balloon": 3, "flowers": 2, "camera": 2,
        "guitar": 2, "broom": 1,
    },
    "beach": {
        "": 8, "umbrella": 3, "ball": 4, "book": 2, "rod": 4, "camera": 2, "guitar": 1,
        "suitcase": 1,
    },
    "street": {
        "": 8, "umbrella": 3, "suitcase": 4, "guitar": 3, "broom": 2, "camera": 3, "flowers": 3,
        "balloon": 2,
    },
    "farm": {
        "": 8, "umbrella": 2, "broom": 4, "rod": 2, "flowers": 2, "camera": 2, "ball": 1,
        "suitcase": 1, "pan": 1,
    },
    "kitchen": {"": 6, "pan": 5, "broom": 4, "book": 3, "suitcase": 2, "flowers": 2, "ball": 1},
    "stage": {
        "": 6, "guitar": 5, "flowers": 4, "book": 3, "camera": 2, "balloon": 2, "umbrella": 1,
        "broom": 1,
    },
}
# fmt: on


@dataclass(frozen=True)
class Entity:
    """Someone or something in a scene.

    ``box`` is xyxy in pixels of the drawn image; "" means no pose, nothing held, no face, nobody
    faced.
    """

    kind: str
    color: str
    pose: str = ""
    held: str = ""
    face: str = ""  # of people
    toward: str = ""  # the kind of the neighbour it faces
    box: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    facing: int = 1  # 1 to the right, -1 to the left


@dataclass(frozen=True)
class Scene:
    """The truth about one image.

    Also what somebody believes about it: then unknown fields are "".
    """

    scene_id: str
    place: str
    weather: str  # "" indoors
    time: str  # "" indoors
    entities: tuple[Entity, ...]
    seed: int = 0  # decoration: textures, clouds, positions of grass


def sample_scene(scene_id: str, rng: np.random.Generator) -> Scene:
    """Draw one scene: context first, then who and what is there, then where each one stands."""
    place = str(rng.choice(PLACES, p=[0.2, 0.18, 0.2, 0.18, 0.12, 0.12]))
    outdoors = place in OUTDOORS
    weather = str(rng.choice(WEATHER, p=[0.3, 0.15, 0.4, 0.15])) if outdoors else ""
    if weather == "snowy" and place == "beach":
        weather = "rainy"
    time = str(rng.choice(TIMES, p=[0.45, 0.15, 0.4])) if outdoors else ""
    number = int(rng.choice([2, 3, 4, 5], p=[0.17, 0.34, 0.31, 0.18]))
    people = min(number, int(rng.choice([1, 2, 3], p=[0.3, 0.5, 0.2])))
    entities = [_person(place, rng) for _ in range(people)]
    while len(entities) < number:
        if len(entities) > people and rng.random() < 0.45:  # one more of the same kind
            entities.append(_other(entities[-1].kind, rng))
        else:
            found = FOUND_IN[place]
            entities.append(_other(_weighted(found, rng), rng))
    order = rng.permutation(number)
    entities = _distinct([entities[i] for i in order], rng)
    return Scene(scene_id, place, weather, time, _lay_out(entities, rng), int(rng.integers(2**31)))


def sample_scenes(number: int, seed: int, prefix: str) -> list[Scene]:
    """``number`` scenes, each from its own stream of ``seed``: how many follow changes none."""
    return [
        sample_scene(f"{prefix}{i:06d}", np.random.default_rng([seed, i])) for i in range(number)
    ]


def _weighted(weights: dict[str, int], rng: np.random.Generator) -> str:
    names, values = zip(*weights.items(), strict=True)
    return str(rng.choice(names, p=np.array(values) / sum(values)))


def _person(place: str, rng: np.random.Generator) -> Entity:
    kind = str(rng.choice(PEOPLE))
    held = _weighted(HELD_IN[place], rng)
    if held:
        pose = "sitting" if held in SEATED_WITH and rng.random() < 0.5 else "standing"
    else:
        pose = str(rng.choice(POSES[kind], p=[0.2, 0.3, 0.25, 0.25]))
    face = str(rng.choice(FACES, p=[0.26, 0.24, 0.24, 0.26]))
    return Entity(kind, str(rng.choice(SHIRTS)), pose, held, face, facing=int(rng.choice([-1, 1])))


def _other(kind: str, rng: np.random.Generator) -> Entity:
    return Entity(
        kind,
        str(rng.choice(COLORS[kind])),
        str(rng.choice(POSES[kind])),
        facing=int(rng.choice([-1, 1])),
    )


def _distinct(entities: list[Entity], rng: np.random.Generator) -> list[Entity]:
    """Entities with colours such that a description names one of them, where kinds have several."""
    taken: set[tuple[str, str]] = set()
    result = []
    for entity in entities:
        free = [c for c in COLORS[entity.kind] if (entity.kind, c) not in taken]
        if (entity.kind, entity.color) in taken and free:
            entity = replace(entity, color=str(rng.choice(free)))
        taken.add((entity.kind, entity.color))
        result.append(entity)
    return result


SIZES = {  # width, height in pixels of an entity at scale 1
    **dict.fromkeys(("man", "woman"), (44, 104)),
    "child": (38, 80),
    "dog": (56, 42),
    "cat": (44, 36),
    "horse": (64, 66),
    "cow": (64, 54),
    "sheep": (52, 44),
    "bird": (34, 28),
    "car": (72, 42),
    "bicycle": (60, 44),
    "boat": (70, 54),
    "tent": (66, 58),
    "bench": (62, 40),
    "tree": (60, 110),
    "lamp": (24, 112),
}


def _lay_out(entities: list[Entity], rng: np.random.Generator) -> tuple[Entity, ...]:
    """Side by side in slots, on a ground line that varies, larger where there is room.

    Boxes are inside the image.
    """
    slot = WIDTH / len(entities)
    placed = []
    for index, entity in enumerate(entities):
        width, height = SIZES[entity.kind]
        if entity.held in ("umbrella", "rod", "balloon"):
            width, height = width + 12, height + 14
        elif entity.held:
            width += 12
        if entity.pose == "sitting":
            height *= 0.78
        elif entity.pose == "running" and entity.kind in PEOPLE:
            width += 8
        scale = min((slot - 6) / width, rng.uniform(1.05, 1.4))
        width, height = width * scale, height * scale
        bottom = rng.uniform(196, 234)
        if entity.pose == "flying":
            bottom = rng.uniform(70, 120)
        left = index * slot + 3 + rng.uniform(0, max(slot - 6 - width, 0.01))
        top = max(2.0, bottom - height)
        box = tuple(round(float(v), 1) for v in (left, top, left + width, bottom))
        placed.append(replace(entity, box=box))
    return tuple(
        replace(entity, toward=_ahead(placed, index)) for index, entity in enumerate(placed)
    )


def _ahead(placed: list[Entity], index: int) -> str:
    """The kind of the neighbour that somebody awake faces; "" at the edge."""
    entity, neighbour = placed[index], index + placed[index].facing
    looks = entity.kind in PEOPLE + ANIMALS and entity.pose not in ("sleeping", "eating")
    return placed[neighbour].kind if looks and 0 <= neighbour < len(placed) else ""
