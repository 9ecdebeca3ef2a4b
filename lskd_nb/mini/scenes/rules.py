"""What follows from a scene by common sense: a hundred situations of a region *and* its context.

A situation names what must be seen (its premises) and answers several questions about the pointed
region. Those listed first are the more particular ones, and the first that holds counts: a child
with a ball is about to throw it *for the dog* where there is a dog, and to start a game where there
is none. What holds of the region alone, its surroundings forgotten, is the *typical* answer: what a
careless teacher writes. The rules are applied to truth by the annotator and the benchmark files,
and to beliefs read from a verbalization by the rule-based teacher; both by the same code.
"""

from collections.abc import Sequence

from lskd_nb.mini.scenes.of_hands import OF_HANDS
from lskd_nb.mini.scenes.of_others import OF_OTHERS
from lskd_nb.mini.scenes.of_people import OF_PEOPLE
from lskd_nb.mini.scenes.of_sight import NOBODY, NOTHING, OF_COUNTS, OF_FACES, OF_GAZES, OF_LOOKS
from lskd_nb.mini.scenes.situation import Near, Situation
from lskd_nb.mini.scenes.world import ANIMALS, PEOPLE, THINGS, Entity, Scene

LIFE = OF_HANDS + OF_PEOPLE + OF_OTHERS
BOOKS = dict.fromkeys(("next", "why", "feel", "role", "before"), LIFE) | dict(
    who=OF_LOOKS, count=OF_COUNTS, front=OF_GAZES, face=OF_FACES
)
QUESTION_TYPES = tuple(BOOKS)
CLOSER = ("who", "count", "front", "face")  # types that ask for a closer look, asked less often
SITUATIONS = LIFE + OF_LOOKS + OF_COUNTS + OF_GAZES + OF_FACES
ANSWERS = {(kind, text): s for s in SITUATIONS for kind, text in s.answers.items()}
LINKS = frozenset(s.link for s in SITUATIONS if s.link)
# a situation that holds, and the other regions that it depends on
Found = tuple[Situation, tuple[int, ...]]


def holds_for(entity: Entity, wanted: Near) -> bool:
    """Whether another region is what a situation needs nearby."""
    return entity.kind in wanted.kinds and wanted.held in ("", entity.held)


def faced(scene: Scene, region: int) -> int | None:
    """The region that ``region`` faces: its neighbour on that side; None where it faces nothing.

    Where only the kind of what is faced is known, as in a belief, the first of that kind.
    """
    entity = scene.entities[region]
    neighbour = region + entity.facing
    rest = [i for i in range(len(scene.entities)) if i not in (region, neighbour)]
    for other in (neighbour, *rest):
        inside = 0 <= other < len(scene.entities)
        if inside and entity.toward and scene.entities[other].kind == entity.toward:
            return other
    return None


def facing(scene: Scene, region: int) -> list[int]:
    """The people who face ``region``."""
    return [
        other
        for other, entity in enumerate(scene.entities)
        if entity.kind in PEOPLE and other != region and faced(scene, other) == region
    ]


def sort_of(kind: str) -> tuple[str, ...]:
    """The kinds of a kind's sort: people, animals or things."""
    return next((sort for sort in (PEOPLE, ANIMALS, THINGS) if kind in sort), ())


def _first(scene: Scene, region: int, book: Sequence[Situation]) -> Found | None:
    entity = scene.entities[region]
    ahead = faced(scene, region)
    behind = facing(scene, region)
    sort = sort_of(entity.kind)
    alike = [i for i, e in enumerate(scene.entities) if e.kind in sort and i != region]
    seen = (entity.held, entity.pose, entity.face, scene.place, scene.weather, scene.time)
    for s in book:
        asked = (s.held, s.pose, s.face, s.place, s.weather, s.time)
        if entity.kind not in s.kinds or any(
            a and a != b for a, b in zip(asked, seen, strict=True)
        ):
            continue
        if s.pose and not s.held and entity.held:
            continue  # "sitting" and the like are about empty hands
        if s.count and s.count != 1 + len(alike):
            continue
        others = alike if s.count else []
        if s.toward == (NOTHING,):
            if ahead is not None:
                continue
        elif s.toward:
            if ahead is None or scene.entities[ahead].kind not in s.toward:
                continue
            others = [ahead]
        if s.faced_by == (NOBODY,):
            if behind:
                continue
        elif s.faced_by:
            if not behind or scene.entities[behind[0]].kind not in s.faced_by:
                continue
            others = [behind[0]]
        if s.near is not None:
            others = [
                i for i, e in enumerate(scene.entities) if i != region and holds_for(e, s.near)
            ][:1]
            if not others:
                continue
        return s, tuple(others)
    return None


def conclusions(scene: Scene, region: int) -> dict[str, Found]:
    """What follows for ``region``, by question type: the situation and what it depends on.

    Empty where nothing is known of the region's kind. Unknown attributes ("") satisfy no premise.
    """
    found: dict[str, Found] = {}
    by_book: dict[int, Found | None] = {}
    for kind, book in BOOKS.items():
        if id(book) not in by_book:
            by_book[id(book)] = _first(scene, region, book)
        held = by_book[id(book)]
        if held is not None and kind in held[0].answers:
            found[kind] = held
    return found


def situation_of(scene: Scene, region: int) -> Found | None:
    """The situation of ``region`` in life, and what it depends on; None where none is known."""
    return _first(scene, region, LIFE)


def typical(scene: Scene, region: int, kind: str) -> Situation | None:
    """What would follow for ``region`` if it were alone in the world: a prejudice.

    None where that has no answer of this question type.
    """
    alone = Entity(*(getattr(scene.entities[region], n) for n in ("kind", "color", "pose", "held")))
    if kind == "face":
        alone = Entity(alone.kind, alone.color, alone.pose, alone.held, face="calm")
    found = conclusions(Scene("", "", "", "", (alone,)), 0).get(kind)
    return found[0] if found else None
