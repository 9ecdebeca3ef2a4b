"""The language of the world: scenes as English sentences, and such sentences read back.

Captions, region descriptions, questions, answers and rationales are built here from a scene; the
rule-based teacher and the annotator use the same grammar the other way round, to know what a
sentence claims.
"""

import re
from collections.abc import Sequence

from lskd_nb.mini.scenes.of_sight import NOBODY, NOTHING
from lskd_nb.mini.scenes.rules import ANSWERS, LINKS, conclusions, faced, facing
from lskd_nb.mini.scenes.situation import Situation
from lskd_nb.mini.scenes.world import (
    ANIMALS,
    COLORS,
    FACES,
    HELD,
    KINDS,
    PEOPLE,
    PLACES,
    POSES,
    SHIRTS,
    THINGS,
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
    who=("Who looks at {}?", "Who has come for {}?"),
    count=("How many of the sort of {} are here?", "How often is there one like {}?"),
    front=("What is in front of {}?", "What does {} look at?"),
    face=("What does the face of {} show?", "What can be read in the face of {}?"),
)
CLASSES = {"person": PEOPLE, "animal": ANIMALS, "thing": THINGS}


def describe(entity: Entity) -> str:
    """ "a woman in a red shirt holding an umbrella", "a brown dog running", "a tree"."""
    if entity.kind in PEOPLE:
        return f"a {entity.kind} in a {entity.color} shirt {doing(entity)}".rstrip()
    paint = f"{entity.color} " if len(COLORS[entity.kind]) > 1 else ""
    return f"a {paint}{entity.kind} {entity.pose}".rstrip()


def describe_closely(entity: Entity) -> str:
    """With the face and what is in front: "a smiling man in a red shirt running facing a dog"."""
    face = f"{entity.face} " if entity.face not in ("", "calm") else ""
    front = f" facing {a_or_an(entity.toward)}" if entity.toward else ""
    return a_or_an(f"{face}{describe(entity).split(' ', 1)[1]}{front}")


def a_or_an(noun: str) -> str:
    """The noun with its article: "an angry man", "a dog"."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


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


def question(kind: str, region: int, form: int = 0) -> str:
    """A question of a type about a region, in one of two wordings."""
    return QUESTIONS[kind][form].format(f"[{region}]")


def answer(kind: str, situation: Situation) -> str:
    return situation.answers[kind].capitalize() + "."


def clauses(situation: Situation, entity: Entity, region: int, others: Sequence[int]) -> list[str]:
    """The premises of a situation as clauses about the regions, most particular first."""
    found = []
    if situation.held:
        found.append(f"[{region}] is holding {A_HELD[situation.held]}")
    elif situation.pose:
        found.append(f"[{region}] is {situation.pose}")
    if situation.face:
        found.append(f"[{region}] is {situation.face}")
    if situation.count == 1:
        found.append(f"[{region}] is the only {_sort(entity.kind)}")
    elif situation.count:
        found += [f"[{one}] is {a_or_an(_sort(entity.kind))}" for one in (region, *others)]
    elif situation.faced_by or not (found or situation.toward):
        found.append(f"[{region}] is a {entity.kind}")
    if situation.faced_by == (NOBODY,):
        found.append(f"nobody is facing [{region}]")
    elif situation.toward == (NOTHING,):
        found.append(f"[{region}] is facing nothing")
    elif situation.near or situation.toward or situation.faced_by:
        (other,) = others
        found += [f"[{region}] is facing [{other}]"] if situation.toward else []
        found += [f"[{other}] is facing [{region}]"] if situation.faced_by else []
        near = situation.near
        if near and near.held:
            found.append(f"[{other}] is holding {A_HELD[near.held]}")
        else:
            kinds = near.kinds if near else situation.toward or situation.faced_by
            one = bool(near) and len(kinds) == 1
            found.append(f"[{other}] is {a_or_an(kinds[0] if one else _sort(kinds[0]))}")
    if situation.place:
        found.append(f"this is {IN_PLACE[situation.place]}")
    if situation.weather:
        found.append(WEATHER_CLAUSE[situation.weather])
    if situation.time:
        found.append(TIME_CLAUSE[situation.time])
    return found


def facts(scene: Scene, region: int, told: Sequence[int]) -> list[str]:
    """All that can be seen of ``region``, as clauses that mention regions of ``told`` alone."""
    entity, ahead = scene.entities[region], faced(scene, region)
    found = [f"[{region}] is a {entity.kind}", f"[{region}] is {a_or_an(_sort(entity.kind))}"]
    found += [f"[{region}] is holding {A_HELD[entity.held]}"] * 2 if entity.held else []
    found += [f"[{region}] is {entity.pose}"] * 2 if entity.pose and not entity.held else []
    found += [f"[{region}] is {entity.face}"] * 2 if entity.face else []
    if ahead in told and ahead is not None:
        other = scene.entities[ahead].kind
        found += [f"[{region}] is facing [{ahead}]"] * 2
        found += [f"[{ahead}] is {a_or_an(other)}", f"[{ahead}] is {a_or_an(_sort(other))}"]
    elif ahead is None and entity.kind in (*PEOPLE, *ANIMALS):
        found.append(f"[{region}] is facing nothing")
    behind = facing(scene, region)
    found += [f"[{other}] is facing [{region}]" for other in behind if other in told]
    found += [] if behind else [f"nobody is facing [{region}]"]
    sort = CLASSES[_sort(entity.kind)]
    alike = [i for i, e in enumerate(scene.entities) if e.kind in sort and i != region]
    found += [f"[{i}] is {a_or_an(_sort(entity.kind))}" for i in alike if i in told]
    found += [] if alike else [f"[{region}] is the only {_sort(entity.kind)}"]
    found.append(f"this is {IN_PLACE[scene.place]}")
    found += [WEATHER_CLAUSE[scene.weather]] if scene.weather else []
    found += [TIME_CLAUSE[scene.time]] if scene.time else []
    return found


def _sort(kind: str) -> str:
    """ "person", "animal" or "thing"; "" for what is of no known kind."""
    return next((name for name, kinds in CLASSES.items() if kind in kinds), "")


def rationale(scene: Scene, situation: Situation, region: int, others: Sequence[int]) -> str:
    """The premises in a sentence, and the general truth that leads from them to the answer.

    A single premise is completed with where it is.
    """
    found = clauses(situation, scene.entities[region], region, others)
    if len(found) == 1 and scene.place:
        found.append(f"this is {IN_PLACE[scene.place]}")
    found += [situation.link] if situation.link else []
    return " and ".join(found).capitalize() + "."


# ------------------------------------------------------------------------------------------ reading

_MENTION = re.compile(r"\[(\d+)\]")
_DESCRIBED = re.compile(
    rf"the (?:(?:{'|'.join(sorted({c for colors in COLORS.values() for c in colors}))}) )?"
    rf"(?:{'|'.join(KINDS)})(?: in the \w+ shirt)? (?=\[\d+\])"
)


def read_entity(text: str) -> Entity:
    """What a description claims; what it does not say is ""."""
    text, _, front = text.lower().partition(" facing ")
    words = re.findall(r"[a-z]+", text)
    kind = next((w for w in words if w in KINDS), "")
    held = next((w for w in words if w in HELD and w != kind), "")
    pose = next((w for w in words if w in POSES.get(kind, ()) and w), "")
    toward = next((w for w in re.findall(r"[a-z]+", front) if w in KINDS), "")
    if kind in PEOPLE:
        shirt = re.search(r"(\w+) shirt", text)
        color = shirt[1] if shirt and shirt[1] in SHIRTS else ""
        pose = pose or ("standing" if held else "")
        face = next((w for w in words if w in FACES), "calm")
    else:
        color = next((w for w in words if w in COLORS.get(kind, ())), "")
        face = ""
    return Entity(kind, color, pose, held, face, toward)


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
    """Whether one clause of a rationale is true of a scene; None where it cannot be understood.

    A general truth ("dogs love to fetch") is true of every scene.
    """
    clause = _plain(clause).rstrip(".")
    if clause in LINKS:
        return True
    if any(int(region) >= len(scene.entities) for region in _MENTION.findall(clause)):
        return False
    ahead = re.match(r"\[(\d+)\] is facing (?:\[(\d+)\]|nothing)$", clause)
    if ahead:
        other = faced(scene, int(ahead[1]))
        return other == (int(ahead[2]) if ahead[2] else None)
    alone = re.match(r"nobody is facing \[(\d+)\]$", clause)
    if alone:
        return not facing(scene, int(alone[1]))
    about = re.match(r"\[(\d+)\] is (?:holding (.+)|the only (\w+)|an? (\w+)|(\w+))$", clause)
    if about:
        entity = scene.entities[int(about[1])]
        _, held, only, kind, state = about.groups()
        if held:
            return bool(entity.held) and held == A_HELD[entity.held]
        if only:
            of = [e for e in scene.entities if e.kind in CLASSES[only]]
            return len(of) == 1 and of[0] is entity
        if kind:
            return entity.kind in CLASSES.get(kind, (kind,))
        return state in (entity.face, entity.pose)
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
    truth = conclusions(scene, region).get(kind) if region < len(scene.entities) else None
    return truth is not None and truth[0] is claimed, sum(claims) / len(claims)


def _plain(text: str) -> str:
    """Lower case, descriptions before a mention removed.

    >>> _plain("The woman in the red shirt [0] waits")
    '[0] waits'
    """
    return _DESCRIBED.sub("", text.lower().strip())
