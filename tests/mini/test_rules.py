"""What follows from a scene: exactly one answer to each question, reasons of two steps, and a
teacher whose errors are always the same ones.
"""

from collections import Counter, defaultdict

import numpy as np

from lskd_nb.mini.annotator import judge
from lskd_nb.mini.pretraining import base
from lskd_nb.mini.scenes import grammar
from lskd_nb.mini.scenes.of_sight import OF_COUNTS, OF_FACES, OF_GAZES, OF_LOOKS
from lskd_nb.mini.scenes.rules import LIFE, SITUATIONS, conclusions, faced, situation_of, typical
from lskd_nb.mini.scenes.world import ANIMALS, PEOPLE, Entity, Scene, sample_scenes
from lskd_nb.mini.teacher import writer

SCENES = sample_scenes(400, 21, "s")
REGIONS = [(s, r) for s in SCENES for r in range(len(s.entities))]


def believed(scene: Scene) -> writer.Belief:
    """A scene as one who was told nothing but the truth believes it."""
    ids = tuple(range(len(scene.entities)))
    said = tuple(grammar.describe_closely(e) for e in scene.entities)
    read = tuple(grammar.read_entity(text) for text in said)
    known = Scene("", scene.place, scene.weather, scene.time, read)
    return writer.Belief(known, ids, said, tuple(e.kind for e in scene.entities))


def test_every_region_has_its_situation_and_closer_looks_have_one_answer():
    found = [(scene, region, conclusions(scene, region)) for scene, region in REGIONS]
    assert all(situation_of(scene, region) is not None for scene, region, _ in found)
    for scene, region, told in found:
        kind = scene.entities[region].kind
        assert {"count", "who"} <= set(told)
        assert ("front" in told) == (kind in PEOPLE + ANIMALS) and ("face" in told) == (
            kind in PEOPLE
        )
    for book in (OF_COUNTS, OF_GAZES, OF_LOOKS, OF_FACES):
        held = Counter(s.name for _, _, told in found for s, _ in told.values() if s in book)
        assert len(held) >= min(len(book), 4) and max(held.values()) < 0.7 * held.total()


def test_some_thirty_situations_are_of_relations_and_reason_in_two_steps():
    relations = [s for s in LIFE if s.toward or s.faced_by or s.near]
    assert len(relations) >= 30 and all(s.link for s in relations)
    assert len([s for s in LIFE if s.link]) >= 40
    scene = Scene(
        "s",
        "park",
        "sunny",
        "day",
        (
            Entity("child", "red", "standing", "ball", "smiling", "dog"),
            Entity("dog", "brown", "standing", facing=-1, toward="child"),
            Entity("man", "blue", "running", "", "calm", "", facing=1),
        ),
    )
    assert [faced(scene, r) for r in range(3)] == [1, 0, None]
    situation, others = situation_of(scene, 0)
    told = grammar.rationale(scene, situation, 0, others)
    assert told == "[0] is holding a ball and [1] is a dog and dogs love to fetch."
    what = {kind: grammar.answer(kind, s) for kind, (s, _) in conclusions(scene, 0).items()}
    assert what == dict(
        next="Throw the ball for the dog.",
        why="To play with the dog.",
        role="The one who plays fetch.",
        who="Nobody here.",
        count="Two of them.",
        front="A dog.",
        face="Joy.",
    )


def test_a_description_from_close_up_is_read_back():
    for scene, region in REGIONS:
        entity = scene.entities[region]
        read = grammar.read_entity(grammar.describe_closely(entity))
        assert (read.kind, read.held, read.face, read.toward) == (
            entity.kind,
            entity.held,
            entity.face,
            entity.toward,
        )


def test_all_that_can_be_seen_is_true_and_ids_alone_are_new_to_the_base():
    words = base.tokenizer()
    said = [f for s, r in REGIONS for f in grammar.facts(s, r, range(len(s.entities)))]
    assert all(
        grammar.clause_holds(scene, fact)
        for scene, region in REGIONS
        for fact in grammar.facts(scene, region, range(len(scene.entities)))
    )
    texts = [a for s in SITUATIONS for a in s.answers.values()]
    texts += [q for forms in grammar.QUESTIONS.values() for q in forms]
    spelled = [t for t in {*texts, *said} if any("##" in w for w in words.tokenize(t))]
    assert not spelled
    assert words.tokenize("What is [3] about to do?")[2] == "[3]"


def told_by(imagination: float) -> list[tuple[Scene, int, str, bool, str]]:
    """Scene, region, question type, whether it is acceptable, and the answer."""
    rng, found = np.random.default_rng(0), []
    for scene in SCENES:
        belief = believed(scene)
        for region, kind in writer._choose(belief, 8, rng):
            triple = writer._triple(belief, region, kind, rng, 1.0, imagination, False)
            fits = judge(scene, triple["question"], triple["answer"], triple["rationale"]).accept
            found.append((scene, region, kind, fits, triple["answer"]))
    return found


def test_the_teacher_errs_half_the_time_and_always_in_the_same_way():
    careful, careless = told_by(0.0), told_by(1.0)
    assert np.mean([fits for *_, fits, _ in careful]) > 0.95  # which of two dogs is not said
    assert 0.5 < np.mean([fits for *_, fits, _ in careless]) < 0.7
    cells: dict[tuple[str, str], list[bool]] = defaultdict(list)
    for scene, region, kind, _, answer in careless:
        true, usual = conclusions(scene, region)[kind][0], typical(scene, region, kind)
        if usual is not None and usual is not true:
            cells[true.name, kind].append(answer == grammar.answer(kind, usual))
    rates = {cell: np.mean(hits) for cell, hits in cells.items() if len(hits) >= 15}
    assert len(rates) > 15
    for (name, kind), rate in rates.items():
        assert abs(rate - (1 - writer.CONFUSED) * writer.prejudice(name, kind)) < 0.3
    assert max(rates.values()) > 0.7 and min(rates.values()) < 0.5
