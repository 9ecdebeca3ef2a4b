"""VCR's multiple-choice questions about pointed regions: answer (Q→A), then rationale (QA→R).

What makes them a test of pointing: one wrong answer is *true of another region* of the same
picture, and one wrong rationale says of the pointed region what is true of that other one. What
keeps words alone from answering them: the pair (right answer, other region's answer) is drawn in
either direction equally often, the remaining answers are drawn so that each text is right in one of
the four times it is shown, and rationales cross the two regions' premises with true and false
contexts, so that no choice is nearer to the rest than another.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations

import numpy as np

from lskd_nb.mini.scenes import grammar
from lskd_nb.mini.scenes.rules import (
    CLOSER,
    QUESTION_TYPES,
    SITUATIONS,
    Found,
    conclusions,
    typical,
)
from lskd_nb.mini.scenes.world import (
    ANIMALS,
    FOUND_IN,
    HELD_IN,
    PEOPLE,
    PLACES,
    THINGS,
    Entity,
    Scene,
)

OTHER_SUBJECT = (
    0.2  # share of questions where one wrong rationale is true, but about another region
)
LOOKED = 0.1  # share of the closer looks that could be asked for
COMMONEST = 0.37  # of a type's questions: no answer is right in more than this share, or hardly


@dataclass(frozen=True)
class Question:
    """One question about ``region`` of a scene, four answers and four rationales.

    Texts mention regions as "[0]".

    ``swap`` is the answer true of another region, ``rationale_swap`` the rationale that says of the
    pointed region what is true of another.

    ``typical`` is the answer that would be right if the region were alone in the world, where it is
    among the choices and not the right one.
    """

    scene: int  # index into the scenes it was made from
    region: int
    kind: str  # question type
    question: str
    answers: tuple[str, ...]
    answer_label: int
    swap: int
    rationales: tuple[str, ...]
    rationale_label: int
    rationale_swap: int
    typical: int | None = None


@dataclass(frozen=True)
class Pointed:
    """A question before its choices: ``other`` is the region whose answer and premises tempt."""

    scene: int
    region: int
    other: int
    kind: str


def vcr_questions(scenes: Sequence[Scene], seed: int, per_image: int = 3) -> list[Question]:
    """Up to ``per_image`` questions on each scene that offers two regions with different answers.

    One rationale is right and enough; the others have a false clause or, in some questions, speak
    of another region.
    """
    rng = np.random.default_rng([seed, 1])
    right: dict[str, Counter[str]] = defaultdict(Counter)
    asked = [
        p
        for number, scene in enumerate(scenes)
        for p in _pointed(scene, number, per_image, right, rng)
    ]
    answers, rationales = _answers(scenes, asked, rng), _rationales(scenes, asked, rng)
    questions = []
    for p, (answer, *wrong), (rationale, *weak) in zip(asked, answers, rationales, strict=True):
        shown, order = shuffled([answer, *wrong], rng)
        reasons, reason_order = shuffled([rationale, *weak], rng)
        text = grammar.question(p.kind, p.region, int(rng.integers(2)))
        usual = _typical(scenes[p.scene], p)
        questions.append(
            Question(
                p.scene,
                p.region,
                p.kind,
                text,
                shown,
                order.index(0),
                order.index(1),
                reasons,
                reason_order.index(0),
                reason_order.index(1),
                shown.index(usual) if usual in shown else None,
            )
        )
    return questions


def draw_distractors(
    golds: Sequence[str],
    fixed: Sequence[Sequence[str]],
    slots: Sequence[Sequence[Sequence[str]]],
    rng: np.random.Generator,
    key: Callable[[str], str] = str,
    tempting: Sequence[str | None] | None = None,
) -> list[list[str]]:
    """Wrong choices of each item: its ``fixed`` ones, then one from the pool of each slot, all
    distinct and not the gold.

    A ``tempting`` text takes the first slot where it is not wrong too often already.

    Drawn in proportion to what a text (its ``key``) still lacks to be wrong ``len(fixed) +
    len(slots)`` times for each time it is right, so that how common a choice is says nothing.
    Raises ``ValueError`` when a pool runs dry.
    """
    wanted: Counter[str] = Counter()
    for gold, wrong, pools in zip(golds, fixed, slots, strict=True):
        wanted[key(gold)] += len(wrong) + len(pools)
        wanted.subtract(map(key, wrong))
    drawn: list[list[str]] = [list(wrong) for wrong in fixed]
    for item in rng.permutation(len(golds)):
        for number, pool in enumerate(slots[item]):
            free = [text for text in pool if text != golds[item] and text not in drawn[item]]
            first = tempting[item] if tempting is not None and number == 0 else None
            if first in free and wanted[key(first)] > 0:
                free = [first]
            if not free:
                raise ValueError(f"no wrong choice is left beside {golds[item]!r} in {list(pool)}")
            weights = np.array([max(wanted[key(text)], 0) + 0.05 for text in free])
            text = free[rng.choice(len(free), p=weights / weights.sum())]
            wanted[key(text)] -= 1
            drawn[item].append(text)
    return drawn


def shuffled(choices: Sequence[str], rng: np.random.Generator) -> tuple[tuple[str, ...], list[int]]:
    """The choices in an order drawn by lot, and for each position the index it had."""
    order = [int(i) for i in rng.permutation(len(choices))]
    return tuple(choices[i] for i in order), order


def _pointed(
    scene: Scene,
    number: int,
    per_image: int,
    right: dict[str, Counter[str]],
    rng: np.random.Generator,
) -> list[Pointed]:
    """Which regions to ask about, and whose answer tempts: the direction is drawn by lot.

    ``right`` counts how often each answer of a type of question was one of such a pair: none may be
    in many more than its share.
    """
    pairs = []
    known = [conclusions(scene, region) for region in range(len(scene.entities))]
    for kind in QUESTION_TYPES:
        having: dict[str, list[int]] = defaultdict(list)
        for region, found in enumerate(known):
            if kind in found:
                having[found[kind][0].answers[kind]].append(region)
        for one, two in combinations(having.values(), 2):
            if not any(
                _subject_holds(scene, found[kind], a, b)
                for a, b in [(a, b) for a in one for b in two] + [(b, a) for a in one for b in two]
                for found in [known[a]]
            ):
                pairs.append((kind, one, two))
    chosen: list[Pointed] = []
    # a closer look is asked for less often
    pairs = [pair for pair in pairs if pair[0] not in CLOSER or rng.random() < LOOKED]
    for index in rng.permutation(len(pairs)):
        kind, *sides = pairs[index]
        texts = [known[side[0]][kind][0].answers[kind] for side in sides]
        if max(right[kind][text] for text in texts) > 1 + COMMONEST * right[kind].total():
            continue
        direction = int(rng.integers(2))
        region, other = (int(rng.choice(sides[d])) for d in (direction, 1 - direction))
        if len(chosen) < per_image and all(kind != c.kind for c in chosen):
            chosen.append(Pointed(number, region, other, kind))
            right[kind].update(texts)
    return chosen


def _found(scene: Scene, region: int, kind: str) -> Found:
    found = conclusions(scene, region).get(kind)
    if found is None:
        raise ValueError(f"scene {scene.scene_id}: nothing of type {kind} follows for {region}")
    return found


def _typical(scene: Scene, p: Pointed) -> str | None:
    """The answer that a careless teacher writes, where it is another than the right one."""
    usual = typical(scene, p.region, p.kind)
    right = _found(scene, p.region, p.kind)[0]
    return grammar.answer(p.kind, usual) if usual and usual is not right else None


# ------------------------------------------------------------------------------------------ answers


def _answers(
    scenes: Sequence[Scene], asked: Sequence[Pointed], rng: np.random.Generator
) -> list[list[str]]:
    """For each question the right answer, the other region's, one plausible for either region."""
    golds = [_answer(scenes[p.scene], p.region, p.kind) for p in asked]
    swaps = [_answer(scenes[p.scene], p.other, p.kind) for p in asked]
    slots = [
        [_plausible(scenes[p.scene].entities[r].kind, p.kind) for r in (p.region, p.other)]
        for p in asked
    ]
    usual = [_typical(scenes[p.scene], p) for p in asked]
    wrong = draw_distractors(golds, [[swap] for swap in swaps], slots, rng, tempting=usual)
    return [[gold, *others] for gold, others in zip(golds, wrong, strict=True)]


def _answer(scene: Scene, region: int, question_type: str) -> str:
    return grammar.answer(question_type, _found(scene, region, question_type)[0])


@cache
def _plausible(kind: str, question_type: str) -> tuple[str, ...]:
    """Answers that regions of this kind may have.

    Of its class where the kind has too few to draw four from.
    """
    for kinds in ((kind,), next(c for c in (PEOPLE, ANIMALS, THINGS) if kind in c)):
        fitting = (
            s for s in SITUATIONS if question_type in s.answers and set(s.kinds) & set(kinds)
        )
        texts = tuple(dict.fromkeys(grammar.answer(question_type, s) for s in fitting))
        if len(texts) >= 4:
            break
    return texts


# --------------------------------------------------------------------------------------- rationales


def premises(scene: Scene, region: int, kind: str) -> list[str]:
    """The clauses of the right rationale: what ``region`` is or does, what the situation needs, and
    the general truth that leads on.
    """
    situation, others = _found(scene, region, kind)
    return _clauses(grammar.rationale(scene, situation, region, others))


def supports(scene: Scene, region: int, kind: str, text: str) -> bool:
    """Whether a rationale is true, and says all that the answer about ``region`` needs."""
    situation, others = _found(scene, region, kind)
    needed = grammar.clauses(situation, scene.entities[region], region, others)
    return _all_true(scene, text) and set(needed) <= set(_clauses(text))


def _clauses(text: str) -> list[str]:
    return text.lower().rstrip(".").split(" and ")


def _rationales(
    scenes: Sequence[Scene], asked: Sequence[Pointed], rng: np.random.Generator
) -> list[list[str]]:
    """Each question's rationales: the right one, the other region's, a false one of either form.

    In ``OTHER_SUBJECT`` of the questions the last is instead what is true of the other region,
    under its own id.
    """
    golds, swaps, slots = [], [], []
    for p in asked:
        scene = scenes[p.scene]
        own, tempting = (premises(scene, r, p.kind) for r in (p.region, p.other))
        about_other = _sentence(tempting)
        golds.append(_sentence(own))
        swaps.append(_exchanged(about_other, p.region, p.other))
        last = [
            _exchanged(t, p.region, p.other)
            for t in _false_variants(scene, p.other, p.kind, tempting[0])
        ]
        if rng.random() < OTHER_SUBJECT and not supports(scene, p.region, p.kind, about_other):
            last = [about_other]
        slots.append([_false_variants(scene, p.region, p.kind, own[0]), last])
    wrong = draw_distractors(golds, [[swap] for swap in swaps], slots, rng, key=_without_ids)
    return [[gold, *others] for gold, others in zip(golds, wrong, strict=True)]


def _false_variants(scene: Scene, region: int, kind: str, subject: str) -> list[str]:
    """The world's rationales for such answers that begin with this true subject and go on with
    something false.
    """
    others = [i for i in range(len(scene.entities)) if i != region]
    texts = [
        _sentence([subject, tail.replace("[]", f"[{region}]").replace("[*]", f"[{i}]")])
        for tail in _tails(kind).get(_predicate(subject), ())
        for i in others
    ]
    elsewhere = [
        _sentence([subject, f"this is {grammar.IN_PLACE[p]}"]) for p in PLACES if p != scene.place
    ]
    return [
        t for t in dict.fromkeys(texts) if not _all_true(scene, t)
    ] or elsewhere  # boats are nowhere but on the beach


@cache
def _tails(question_type: str) -> dict[str, tuple[str, ...]]:
    """How the world's rationales for a type of question go on after what they say of the region:
    "is running" → "it is raining", "this is …"; "[]" is the region, "[*]" another one.
    """
    tails: dict[str, list[str]] = defaultdict(list)
    for situation in SITUATIONS:
        if question_type not in situation.answers:
            continue
        for kind in situation.kinds:
            others = range(1, situation.count) if situation.count else (1,)
            subject, *rest = grammar.clauses(situation, Entity(kind, ""), 0, others)
            if kind not in PEOPLE:
                found = FOUND_IN
            elif situation.held:
                found = HELD_IN
            else:
                found = dict.fromkeys(PLACES, (kind,))
            places = [p for p in PLACES if (situation.held or kind) in found[p]]
            ends = (
                [" and ".join(rest)] if rest else [f"this is {grammar.IN_PLACE[p]}" for p in places]
            )
            link = f" and {situation.link}" if situation.link else ""
            tails[_predicate(subject)] += [_placeholders(f"{end}{link}") for end in ends]
    return {predicate: tuple(dict.fromkeys(ends)) for predicate, ends in tails.items()}


def _placeholders(text: str) -> str:
    return re.sub(r"\[\d+\]", "[*]", text.replace("[0]", "[]"))


def _subject_holds(scene: Scene, found: Found, source: int, region: int) -> bool:
    """Whether what the right rationale for ``source`` says of it is true of ``region`` as well."""
    subject = grammar.clauses(found[0], scene.entities[source], source, found[1])[0]
    return bool(grammar.clause_holds(scene, _exchanged(subject, source, region)))


def _all_true(scene: Scene, text: str) -> bool:
    return all(grammar.clause_holds(scene, clause) for clause in _clauses(text))


def _exchanged(text: str, one: int, two: int) -> str:
    """The text with two regions' ids exchanged."""
    ids = {one: two, two: one}
    return re.sub(r"\[(\d+)\]", lambda m: f"[{ids.get(int(m[1]), int(m[1]))}]", text)


def _predicate(clause: str) -> str:
    return clause.partition("] ")[2]


def _without_ids(text: str) -> str:
    return re.sub(r"\[\d+\]", "[]", text)


def _sentence(clauses: list[str]) -> str:
    return " and ".join(clauses).capitalize() + "."
