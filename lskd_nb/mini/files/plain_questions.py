"""Questions about a whole scene, nothing pointed at: for Visual Genome, Visual7W and SNLI-VE.

All of them can be answered from what captions say. Wrong choices are drawn so that how common one
is says nothing; of SNLI-VE's three labels, neutral can be told from the words alone, as in the real
set, entailment and contradiction cannot.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lskd_nb.mini.files.vcr_questions import draw_distractors
from lskd_nb.mini.scenes import grammar
from lskd_nb.mini.scenes.rules import LIFE, situation_of
from lskd_nb.mini.scenes.world import (
    ANIMALS,
    COLORS,
    HELD,
    KINDS,
    PEOPLE,
    PLACES,
    POSES,
    SHIRTS,
    TIMES,
    WEATHER,
    Entity,
    Scene,
)

COUNTS = ("One.", "Two.", "Three.", "Four.")
PLURALS = {kind: f"{kind}s" for kind in KINDS} | {
    "man": "men",
    "woman": "women",
    "child": "children",
    "sheep": "sheep",
    "bench": "benches",
}


@dataclass(frozen=True)
class Fact:
    """A question about a scene and its answer.

    ``form`` names the kind of question, ``regions`` what it speaks of.

    ``tempting`` answers are true of something else in the scene, ``pools`` hold wrong ones, a pool
    for each of them.
    """

    type: str  # Visual7W's: what, where, when, who, how
    form: str
    question: str
    answer: str
    regions: tuple[int, ...] = ()
    tempting: tuple[str, ...] = ()
    pools: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class PlainQuestion:
    """A fact as a multiple-choice item: ``wrong`` are three other answers.

    ``scene`` indexes the scenes given.
    """

    scene: int
    fact: Fact
    wrong: tuple[str, ...]


@dataclass(frozen=True)
class Hypothesis:
    """A statement about a scene: entailment, neutral or contradiction."""

    scene: int
    text: str
    label: str


# -------------------------------------------------------------------------------------------- facts


def facts(scene: Scene) -> list[Fact]:
    """Everything that is asked about a scene."""
    return [*_context_facts(scene), *_entity_facts(scene), *_who_facts(scene), *_count_facts(scene)]


def _sentence(text: str) -> str:
    return text.capitalize() + "."


def _context_facts(scene: Scene) -> list[Fact]:
    places = tuple(_sentence(grammar.IN_PLACE[p]) for p in PLACES)
    found = [
        Fact(
            "where",
            "place",
            "Where is this?",
            _sentence(grammar.IN_PLACE[scene.place]),
            pools=(places,) * 3,
        )
    ]
    if scene.weather:
        weathers = tuple(_sentence(w) for w in WEATHER)
        found.append(
            Fact(
                "what",
                "weather",
                "What is the weather like?",
                _sentence(scene.weather),
                pools=(weathers,) * 3,
            )
        )
    if scene.weather and scene.time:
        other_weathers = [
            w for w in WEATHER if w != scene.weather and (w, scene.place) != ("snowy", "beach")
        ]
        other_times = [t for t in TIMES if t != scene.time]
        pools = (
            tuple(_when(scene.weather, t) for t in other_times),
            tuple(_when(w, scene.time) for w in other_weathers),
            tuple(_when(w, t) for w in other_weathers for t in other_times),
        )
        found.append(
            Fact("when", "time", "When is this?", _when(scene.weather, scene.time), pools=pools)
        )
    return found


def _when(weather: str, time: str) -> str:
    return f"On a {weather} {time}."


def _entity_facts(scene: Scene) -> list[Fact]:
    """What each entity that a description tells apart holds and does, and its colour."""
    found = []
    names = Counter(grammar.the(e) for e in scene.entities)
    kinds = Counter(e.kind for e in scene.entities)
    for region, e in enumerate(scene.entities):
        others = [o for o in scene.entities if o is not e]
        if kinds[e.kind] == 1 and len(COLORS[e.kind]) >= 4:
            name = f"the shirt of the {e.kind}" if e.kind in PEOPLE else f"the {e.kind}"
            colors = tuple(_sentence(c) for c in COLORS[e.kind])
            found.append(
                Fact(
                    "what",
                    "color",
                    f"What color is {name}?",
                    _sentence(e.color),
                    (region,),
                    (),
                    (colors,) * 3,
                )
            )
        if names[grammar.the(e)] > 1:
            continue
        if e.held:
            answers = tuple(_sentence(grammar.A_HELD[h]) for h in HELD)
            tempting = _first(
                _sentence(grammar.A_HELD[o.held]) for o in others if o.held not in ("", e.held)
            )
            found.append(
                _about(
                    Fact(
                        "what",
                        "held",
                        f"What is {grammar.the(e)} holding?",
                        _sentence(grammar.A_HELD[e.held]),
                        (region,),
                    ),
                    tempting,
                    answers,
                )
            )
        elif e.pose:
            group = PEOPLE if e.kind in PEOPLE else ANIMALS
            answers = tuple(dict.fromkeys(_sentence(p) for kind in group for p in POSES[kind]))
            tempting = _first(
                _sentence(o.pose)
                for o in others
                if o.kind in group and not o.held and o.pose != e.pose
            )
            found.append(
                _about(
                    Fact(
                        "what",
                        "pose",
                        f"What is {grammar.the(e)} doing?",
                        _sentence(e.pose),
                        (region,),
                    ),
                    tempting,
                    answers,
                )
            )
    return found


def _who_facts(scene: Scene) -> list[Fact]:
    """Who holds or does something that only one of those present holds or does."""
    everybody = tuple(_sentence(grammar.the(Entity(k, c))) for k in PEOPLE for c in SHIRTS)
    held, poses = (Counter(getattr(e, name) for e in scene.entities) for name in ("held", "pose"))
    found = []
    for region, e in enumerate(scene.entities):
        if e.kind not in PEOPLE or (held[e.held] if e.held else poses[e.pose]) > 1:
            continue
        form, doing = ("held", f"holding {grammar.A_HELD[e.held]}") if e.held else ("pose", e.pose)
        tempting = _first(
            _sentence(grammar.the(o)) for o in scene.entities if o.kind in PEOPLE and o is not e
        )
        fact = Fact("who", form, f"Who is {doing}?", _sentence(grammar.the(e)), (region,))
        found.append(_about(fact, tempting, everybody))
    return found


def _count_facts(scene: Scene) -> list[Fact]:
    kinds = Counter(e.kind for e in scene.entities)
    numbers = {"people": sum(kinds[k] for k in PEOPLE), "animals": sum(kinds[k] for k in ANIMALS)}
    numbers |= {PLURALS[kind]: number for kind, number in kinds.items() if kind not in PEOPLE}
    return [
        Fact(
            "how",
            "people" if what == "people" else "others",
            f"How many {what} are there?",
            COUNTS[n - 1],
            pools=(COUNTS,) * 3,
        )
        for what, n in numbers.items()
        if 0 < n < 5
    ]


def _first(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(texts)[:1]


def _about(fact: Fact, tempting: tuple[str, ...], pool: tuple[str, ...]) -> Fact:
    """The fact with its tempting answers and as many pools as make three wrong answers."""
    return replace(fact, tempting=tempting, pools=(pool,) * (3 - len(tempting)))


# -------------------------------------------------------------------------------------------- items


def visual7w_questions(scenes: Sequence[Scene], number: int, seed: int) -> list[PlainQuestion]:
    """About ``number`` questions, a fifth of each type; within it, forms and answers in equal
    shares where they can be.
    """
    rng = np.random.default_rng([seed, 2])
    by_type: dict[str, dict[tuple[str, str], list]] = defaultdict(lambda: defaultdict(list))
    for index in rng.permutation(len(scenes)):
        for fact in facts(scenes[index]):
            by_type[fact.type][fact.form, fact.answer].append((int(index), fact))
    asked = [item for groups in by_type.values() for item in _in_turn(groups, number // 5, rng)]
    asked.sort(key=lambda item: item[0])
    wrong = draw_distractors(
        [f.answer for _, f in asked],
        [f.tempting for _, f in asked],
        [f.pools for _, f in asked],
        rng,
    )
    return [
        PlainQuestion(scene, fact, tuple(others))
        for (scene, fact), others in zip(asked, wrong, strict=True)
    ]


def _in_turn(groups: dict[tuple[str, str], list], number: int, rng: np.random.Generator) -> list:
    """``number`` items, one of each group after the other.

    Groups of a form that has many take turns less often.
    """
    sizes = Counter(form for form, _ in groups)
    turns = []
    for (form, _), items in groups.items():
        order = rng.permutation(len(items))
        turns += [(turn * sizes[form] + rng.random(), items[i]) for turn, i in enumerate(order)]
    return [item for _, item in sorted(turns, key=lambda t: t[0])[:number]]


def hypotheses(scenes: Sequence[Scene], number: int, seed: int) -> list[Hypothesis]:
    """About ``number`` statements, a third of each label, spread over the scenes."""
    rng = np.random.default_rng([seed, 3])
    found: list[Hypothesis] = []
    makers = {
        "entailment": _true_statement,
        "neutral": _open_statement,
        "contradiction": _false_statement,
    }
    for label, make in makers.items():
        stated: dict[Hypothesis, None] = {}
        for index in np.resize(rng.permutation(len(scenes)), 20 * number):
            text = make(scenes, int(index), rng)
            if text and len(stated) < number // 3:
                stated[Hypothesis(int(index), text, label)] = None
        found += stated
    return sorted(found, key=lambda h: h.scene)


def _true_statement(scenes: Sequence[Scene], index: int, rng: np.random.Generator) -> str:
    scene = scenes[index]
    return _statement(scene, scene.entities[rng.integers(len(scene.entities))], rng)


def _statement(context: Scene, entity: Entity, rng: np.random.Generator) -> str:
    """ "A rainy night in the park with a brown dog running." or "A brown dog running in the
    park.".
    """
    if rng.random() < 0.5:
        return grammar.caption(replace(context, entities=(entity,)))
    return _sentence(f"{grammar.describe(entity)} {grammar.IN_PLACE[context.place]}")


def _false_statement(scenes: Sequence[Scene], index: int, rng: np.random.Generator) -> str:
    """A true statement about another scene: this place with others, or one like here elsewhere."""
    scene = scenes[index]
    donor = scenes[rng.integers(len(scenes))]
    entity = donor.entities[rng.integers(len(donor.entities))]
    if grammar.describe(entity) in {grammar.describe(e) for e in scene.entities}:
        if donor.place != scene.place:
            return _statement(donor, entity, rng)
        differs = (donor.weather, donor.time) != (scene.weather, scene.time)
        return grammar.caption(replace(donor, entities=(entity,))) if differs else ""
    similar = donor.place == scene.place and entity.kind in {e.kind for e in scene.entities}
    return _statement(scene, entity, rng) if similar else ""


def _open_statement(scenes: Sequence[Scene], index: int, rng: np.random.Generator) -> str:
    """What a picture cannot show: what somebody went through before, or the weather outside."""
    scene = scenes[index]
    if not scene.weather and rng.random() < 0.5:
        return grammar.caption(
            replace(scenes[index], weather=str(rng.choice(WEATHER)), time=str(rng.choice(TIMES))),
            [0],
        )
    region = int(rng.integers(len(scene.entities)))
    entity, told = scene.entities[region], situation_of(scene, region)
    others = [s for s in LIFE if entity.kind in s.kinds and (told is None or s is not told[0])]
    pasts = [s.answers["before"] for s in others if "before" in s.answers]
    return _sentence(f"{grammar.the(entity)} {rng.choice(pasts)}") if pasts else ""
