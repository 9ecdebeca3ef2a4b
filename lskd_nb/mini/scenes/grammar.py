"""The language of the world: scenes as English sentences, and such sentences read back.

Captions, region descriptions, questions, answers and rationales are built here from a scene; the
rule-based teacher and the annotator use the same grammar the other way round, to know what a
sentence claims.
"""

import re

from lskd_nb.mini.scenes.rules import ANSWERS, Near, Situation, situation_of
from lskd_nb.mini.scenes.world import (
    COLORS,
    HELD,
    KINDS,
    PEOPLE,
    PLACES,
    POSES,
    SHIRTS,
    Entity,
    Scene,
)

IN_PLACE = dict(
    park="in the park",
    beach="on the beach",
    street="on the street",
    farm="at the farm",
    kitchen="in a kitchen",
    stage="on a stage",
)
WEATHER_CLAUSE = dict(
    sunny="the sun is shining", cloudy="it is cloudy", rainy="it is raining", snowy="it is snowing"
)
TIME_CLAUSE = dict(day="it is day", evening="it is evening", night="it is night")
A_HELD = {held: f"a {held}" for held in HELD} | dict(
    umbrella="an umbrella", rod="a fishing rod", flowers="flowers"
)
QUESTIONS = dict(
    next=("What is {} about to do?", "What will {} do next?"),
    why=("Why does {} do this?", "What is the reason for what {} does?"),
    feel=("How does {} feel?", "What mood is {} in?"),
    role=("What is the role of {} here?", "What is {} for the others here?"),
    before=("What happened to {} before this?", "What did {} go through before this?"),
)


def describe(entity: Entity) -> str:
    """ "a woman in a red shirt holding an umbrella", "a brown dog running", "a tree"."""
    if entity.kind in PEOPLE:
        return f"a {entity.kind} in a {entity.color} shirt {doing(entity)}".rstrip()
    paint = f"{entity.color} " if len(COLORS[entity.kind]) > 1 else ""
    return f"a {paint}{entity.kind} {entity.pose}".rstrip()


def doing(entity: Entity) -> str:
    """ "sitting and holding a book", "running", ""."""
    holding = f"holding {A_HELD[entity.held]}" if entity.held else ""
    if holding and entity.pose == "sitting":
        return f"sitting and {holding}"
    return holding or entity.pose


def the(entity: Entity) -> str:
    """ "the woman in the red shirt", "the brown dog": enough to tell it apart in most scenes."""
    if entity.kind in PEOPLE:
        shirt = f" in the {entity.color} shirt" if entity.color else ""
        return f"the {entity.kind}{shirt}"
    paint = f"{entity.color} " if entity.color and len(COLORS[entity.kind]) > 1 else ""
    return f"the {paint}{entity.kind}"


def context(scene: Scene) -> str:
    """ "a rainy night in the park", "in a kitchen"; what is unknown is left out."""
    when = " ".join(filter(None, (scene.weather, scene.time)))
    return f"{'a ' + when + ' ' if when else ''}{IN_PLACE.get(scene.place, '')}".strip()


def caption(scene: Scene, order: list[int] | None = None) -> str:
    """One sentence about the whole scene, naming the entities of ``order`` (default: all)."""
    named = [
        describe(scene.entities[i])
        for i in (range(len(scene.entities)) if order is None else order)
    ]
    listed = ", ".join(named[:-1]) + (" and " if len(named) > 1 else "") + named[-1]
    return f"{context(scene)} with {listed}.".capitalize()


def framed(entity: Entity, color: str) -> str:
    """A caption of an annotated picture: "the dog framed in green is running"."""
    state = doing(entity) if entity.kind in PEOPLE else entity.pose
    name = f"the {entity.kind} framed in {color}"
    paint = f"{entity.color} {entity.kind}" if len(COLORS[entity.kind]) > 1 else entity.kind
    if entity.kind in PEOPLE:
        return f"{name} wears a {entity.color} shirt and is {state}."
    return f"{name} is a {paint} {state}".rstrip() + "."


def question(kind: str, region: int, form: int = 0) -> str:
    """A question of a type about a region, in one of two wordings."""
    return QUESTIONS[kind][form].format(f"[{region}]")


def answer(kind: str, situation: Situation) -> str:
    return situation.answers[kind].capitalize() + "."


def clauses(situation: Situation, entity: Entity, region: int, other: int | None) -> list[str]:
    """The premises of a situation as clauses about the regions, most particular first."""
    found = []
    if situation.held:
        found.append(f"[{region}] is holding {A_HELD[situation.held]}")
    elif situation.pose:
        found.append(f"[{region}] is {situation.pose}")
    else:
        found.append(f"[{region}] is a {entity.kind}")
    if situation.near is not None and other is not None:
        found.append(_near_clause(situation.near, other))
    if situation.place:
        found.append(f"this is {IN_PLACE[situation.place]}")
    if situation.weather:
        found.append(WEATHER_CLAUSE[situation.weather])
    if situation.time:
        found.append(TIME_CLAUSE[situation.time])
    return found


def _near_clause(near: Near, other: int) -> str:
    if near.held:
        return f"[{other}] is holding {A_HELD[near.held]}"
    return f"[{other}] is a person" if near.kinds == PEOPLE else f"[{other}] is a {near.kinds[0]}"


def rationale(scene: Scene, situation: Situation, region: int, other: int | None) -> str:
    """The premises in a sentence; a single premise is completed with where it is."""
    found = clauses(situation, scene.entities[region], region, other)
    if len(found) == 1 and scene.place:
        found.append(f"this is {IN_PLACE[scene.place]}")
    return " and ".join(found).capitalize() + "."


# ------------------------------------------------------------------------------------------ reading

_MENTION = re.compile(r"\[(\d+)\]")
_DESCRIBED = re.compile(
    rf"the (?:(?:{'|'.join(sorted({c for colors in COLORS.values() for c in colors}))}) )?"
    rf"(?:{'|'.join(KINDS)})(?: in the \w+ shirt)? (?=\[\d+\])"
)


def read_entity(text: str) -> Entity:
    """What a description claims; what it does not say is ""."""
    words = re.findall(r"[a-z]+", text.lower())
    kind = next((w for w in words if w in KINDS), "")
    held = next((w for w in words if w in HELD and w != kind), "")
    pose = next((w for w in words if w in POSES.get(kind, ()) and w), "")
    if kind in PEOPLE:
        shirt = re.search(r"(\w+) shirt", text.lower())
        color = shirt[1] if shirt and shirt[1] in SHIRTS else ""
        pose = pose or ("standing" if held else "")
    else:
        color = next((w for w in words if w in COLORS.get(kind, ())), "")
    return Entity(kind, color, pose, held)


def read_context(text: str) -> tuple[str, str, str]:
    """Place, weather and time that a text speaks of, "" for what it does not say."""
    words = set(re.findall(r"[a-z]+", text.lower()))
    weather = {
        "sunny": "sunny",
        "sun": "sunny",
        "cloudy": "cloudy",
        "clouds": "cloudy",
        "rainy": "rainy",
        "raining": "rainy",
        "rain": "rainy",
        "snowy": "snowy",
        "snowing": "snowy",
        "snow": "snowy",
    }
    place = next((p for p in PLACES if p in words), "")
    time = next((t for t in ("evening", "night", "day") if t in words), "")
    return place, next((weather[w] for w in weather if w in words), ""), time


def read_question(text: str) -> tuple[str, int] | None:
    """Question type and region, or None where the sentence is no question of this world."""
    plain = _plain(text)
    found = _MENTION.search(plain)
    if found is None:
        return None
    for kind, forms in QUESTIONS.items():
        if any(plain == form.format(found[0]).lower() for form in forms):
            return kind, int(found[1])
    return None


def read_answer(kind: str, text: str) -> Situation | None:
    return ANSWERS.get((kind, _plain(text).rstrip(".")))


def clause_holds(scene: Scene, clause: str) -> bool | None:
    """Whether one clause of a rationale is true of a scene; None where it cannot be understood."""
    clause = _plain(clause).rstrip(".")
    about = re.match(r"\[(\d+)\] is (?:a person|holding (.+)|a (\w+)|(\w+))$", clause)
    if about:
        region = int(about[1])
        if region >= len(scene.entities):
            return False
        entity = scene.entities[region]
        if clause.endswith("a person"):
            return entity.kind in PEOPLE
        if about[2]:
            return bool(entity.held) and about[2] == A_HELD[entity.held]
        return about[3] == entity.kind if about[3] else about[4] == entity.pose
    for table, value in ((WEATHER_CLAUSE, scene.weather), (TIME_CLAUSE, scene.time)):
        if clause in table.values():
            return clause == table.get(value)
    if clause.startswith("this is "):
        return clause[8:] == IN_PLACE[scene.place]
    return None


def judge(
    scene: Scene, question_text: str, answer_text: str, rationale_text: str
) -> tuple[bool, float] | None:
    """Is the answer right for the pointed region, and which share of the rationale is true?

    None where question, answer or rationale is not of this world's language.
    """
    asked = read_question(question_text)
    claims = [clause_holds(scene, c) for c in _plain(rationale_text).split(" and ")]
    if asked is None or None in claims:
        return None
    kind, region = asked
    claimed = read_answer(kind, answer_text)
    if claimed is None:
        return None
    truth = situation_of(scene, region) if region < len(scene.entities) else None
    return truth is not None and truth[0] is claimed, sum(claims) / len(claims)


def _plain(text: str) -> str:
    """Lower case, descriptions before a mention removed.

    >>> _plain("The woman in the red shirt [0] waits")
    '[0] waits'
    """
    return _DESCRIBED.sub("", text.lower().strip())
