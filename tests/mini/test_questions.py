"""Questions that only a look at the picture answers: VCR's, Visual7W's, SNLI-VE's."""

import re
from collections import Counter

import numpy as np
import pytest

from lskd_nb.mini.files.plain_questions import facts, hypotheses, visual7w_questions
from lskd_nb.mini.files.vcr_questions import draw_distractors, premises, supports, vcr_questions
from lskd_nb.mini.scenes import grammar
from lskd_nb.mini.scenes.rules import conclusions
from lskd_nb.mini.scenes.world import sample_scenes

SCENES = sample_scenes(560, 77, "s")
HELD_OUT = sample_scenes(560, 78, "h")


# ------------------------------------------------------------------------------------ VCR questions


QUESTIONS = vcr_questions(SCENES, seed=0)


def test_enough_questions_and_the_same_ones_each_time():
    assert len(QUESTIONS) >= 1050
    assert vcr_questions(SCENES, seed=0) == QUESTIONS != vcr_questions(SCENES, seed=1)
    asked = [(q.scene, q.region, q.kind) for q in QUESTIONS]
    assert len(set(asked)) == len(asked)


def test_exactly_one_answer_is_right_and_one_is_true_of_another_region():
    for q in QUESTIONS:
        scene = SCENES[q.scene]
        claimed = [grammar.read_answer(q.kind, a) for a in q.answers]
        found = [conclusions(scene, r).get(q.kind) for r in range(len(scene.entities))]
        truths = [f and f[0] for f in found]
        assert None not in claimed and len(set(q.answers)) == 4
        assert [c is truths[q.region] for c in claimed] == [i == q.answer_label for i in range(4)]
        assert q.swap != q.answer_label
        assert any(claimed[q.swap] is t for r, t in enumerate(truths) if r != q.region)
        assert grammar.read_question(q.question) == (q.kind, q.region)


def test_either_of_two_regions_is_the_pointed_one():
    """Neither the one further left nor the other: pictures of two show it."""
    left = [q.region == 0 for q in QUESTIONS if len(SCENES[q.scene].entities) == 2]
    assert len(left) > 100 and 0.35 < np.mean(left) < 0.65


def test_exactly_one_rationale_is_true_and_enough():
    for q in QUESTIONS:
        scene = SCENES[q.scene]
        assert len(set(q.rationales)) == 4
        assert [supports(scene, q.region, q.kind, r) for r in q.rationales] == [
            i == q.rationale_label for i in range(4)
        ]
        right, share = grammar.judge(
            scene, q.question, q.answers[q.answer_label], q.rationales[q.rationale_label]
        )
        assert right and share == 1.0
        swap = q.rationales[q.rationale_swap]
        others = [r for r in range(len(scene.entities)) if r != q.region]
        said = _plain(swap.split(" and ")[0].rstrip("."))
        assert said in {
            _plain(premises(scene, r, q.kind)[0]) for r in others if q.kind in conclusions(scene, r)
        }
        assert grammar.clause_holds(scene, swap.split(" and ")[0]) is False


def _plain(text: str) -> str:
    return re.sub(r"\[\d+\]", "[]", text)


def _words(text: str) -> set[str]:
    return set(re.findall(r"[a-z]+|\[\d+\]", text.lower()))


def _guess(questions, choices, score) -> float:
    """Accuracy of taking the choice with the highest score, ties shared."""
    hits = 0.0
    for q in questions:
        shown, label = choices(q)
        scores = np.array(score(q, shown), dtype=float)
        best = np.flatnonzero(scores >= scores.max() - 1e-9)
        hits += (label in best) / len(best)
    return hits / len(questions)


CHOICES = {
    "answers": lambda q: (q.answers, q.answer_label),
    "rationales": lambda q: (q.rationales, q.rationale_label),
}


@pytest.mark.parametrize("part", CHOICES)
def test_words_alone_do_not_answer(part):
    choices = CHOICES[part]
    gold, shown = Counter(), Counter()
    for q in vcr_questions(HELD_OUT, seed=0):  # what a guesser could learn from other scenes
        texts, label = choices(q)
        gold[q.kind, _plain(texts[label])] += 1
        shown.update((q.kind, _plain(t)) for t in texts)
    guessers = {
        "most often right": lambda q, ts: [gold[q.kind, _plain(t)] for t in ts],
        "right most often when shown": lambda q, ts: [
            (gold[q.kind, _plain(t)] + 1) / (shown[q.kind, _plain(t)] + 4) for t in ts
        ],
        "longest": lambda q, ts: [len(t) for t in ts],
        "shortest": lambda q, ts: [-len(t) for t in ts],
        "overlap with the question": lambda q, ts: [
            len(_words(t) & _words(q.question)) for t in ts
        ],
        "nearest to the rest": lambda q, ts: [
            sum(len(_words(t) & _words(u)) / len(_words(t) | _words(u)) for u in ts) for t in ts
        ],
    }
    if part == "rationales":
        guessers["overlap with the answer"] = lambda q, ts: [
            len(_words(t) & _words(q.question + q.answers[q.answer_label])) for t in ts
        ]
    found = {name: _guess(QUESTIONS, choices, score) for name, score in guessers.items()}
    assert all(0.17 <= accuracy <= 0.34 for accuracy in found.values()), found
    assert max(Counter(choices(q)[1] for q in QUESTIONS).values()) < 0.3 * len(QUESTIONS)


def test_answers_are_as_common_right_as_wrong():
    """Where there are answers enough to draw from; of few, none is right more often than not."""
    gold = Counter((q.kind, q.answers[q.answer_label]) for q in QUESTIONS)
    shown = Counter((q.kind, a) for q in QUESTIONS for a in q.answers)
    asked = Counter(q.kind for q in QUESTIONS)
    few = {kind for kind in asked if len({a for k, a in shown if k == kind}) <= 5}
    shares = {key: gold[key] / n for key, n in shown.items() if n >= 30 and key[0] not in few}
    assert few == {"count", "face", "who"} and len(shares) > 30
    assert min(shares.values()) > 0.1 and max(shares.values()) < 0.45, shares
    assert max(n / asked[kind] for (kind, _), n in gold.items() if kind in few) <= 0.5


def test_distractors_need_a_pool():
    with pytest.raises(ValueError, match="no wrong choice is left beside 'a'"):
        draw_distractors(["a"], [["b"]], [[["a", "b"]]], np.random.default_rng(0))


# ------------------------------------------------------------------------------- nothing pointed at


def test_visual7w_questions_have_one_right_answer_and_even_classes():
    items = visual7w_questions(SCENES, 600, seed=0)
    assert len(items) == 600 and set(Counter(i.fact.type for i in items).values()) == {120}
    assert len({i.scene for i in items}) > 250
    for item in items:
        assert len({item.fact.answer, *item.wrong}) == 4
        replies = {f.answer for f in facts(SCENES[item.scene]) if f.question == item.fact.question}
        assert replies == {item.fact.answer}
    gold = Counter((i.fact.form, i.fact.answer) for i in items)
    assert (
        _guess(
            items,
            lambda i: ((i.fact.answer, *i.wrong), 0),
            lambda i, ts: [gold[i.fact.form, t] for t in ts],
        )
        < 0.33
    )


def test_facts_are_true_of_the_scene():
    scene = next(
        s
        for s in SCENES
        if sum(e.kind in ("man", "woman", "child") for e in s.entities) == 2 and s.weather
    )
    found = {f.question: f.answer for f in facts(scene)}
    assert found["How many people are there?"] == "Two."
    assert found["Where is this?"] == f"{grammar.IN_PLACE[scene.place]}.".capitalize()
    for scene, f in ((s, f) for s in SCENES for f in facts(s)):
        if f.type == "who":
            asked = f.question.removeprefix("Who is ").rstrip("?")
            doing = [
                e
                for e in scene.entities
                if asked == e.pose or (e.held and asked == f"holding {grammar.A_HELD[e.held]}")
            ]
            assert len(doing) == 1 and f.answer.lower() == f"{grammar.the(doing[0])}."
        if f.form == "held" and f.type == "what":
            assert grammar.A_HELD[scene.entities[f.regions[0]].held] == f.answer.rstrip(".").lower()


def _claims(text: str) -> tuple:
    described = re.split(r" with ", text.rstrip("."))[-1]
    return grammar.read_context(text), grammar.read_entity(described)


def test_hypotheses_are_balanced_and_labelled_rightly():
    found = hypotheses(SCENES, 600, seed=0)
    assert Counter(h.label for h in found) == dict.fromkeys(
        ("entailment", "neutral", "contradiction"), 200
    )
    for h in found:
        if h.label == "neutral":
            continue
        scene = SCENES[h.scene]
        (place, weather, time), entity = _claims(h.text)
        true = place == scene.place and weather in ("", scene.weather) and time in ("", scene.time)
        true &= any(
            (e.kind, e.pose, e.held) == (entity.kind, entity.pose, entity.held)
            and entity.color in ("", e.color)
            for e in scene.entities
        )
        assert true == (h.label == "entailment"), (h, grammar.caption(scene))
