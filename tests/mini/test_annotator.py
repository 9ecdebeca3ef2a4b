"""The world's annotator: right where the truth says so, wrong as often as it is told to be."""

import logging

import numpy as np
import pyarrow as pa
import pytest

from lskd_nb.mini.annotator import MISPLACED, acceptable, annotate, judge, not_understood
from lskd_nb.mini.files.vcr_questions import vcr_questions
from lskd_nb.mini.scenes import grammar
from lskd_nb.mini.scenes.world import Entity, Scene, sample_scenes
from lskd_nb.records import LABELS, TRIPLES

# a rainy street: a runner, somebody with a book, a sleeping dog
STREET = Scene(
    "s",
    "street",
    "rainy",
    "day",
    (
        Entity("man", "red", "running"),
        Entity("woman", "blue", "standing", "book"),
        Entity("dog", "brown", "sleeping"),
    ),
)
NEXT = "What is [0] about to do?"
RAIN = "[0] is running and it is raining."


def _triples(rows: list[tuple[str, str, str, str]]) -> pa.Table:
    return pa.Table.from_pylist(
        [
            dict(
                triple_id=str(i),
                image_id=image,
                family="id",
                question=question,
                answer=answer,
                rationale=rationale,
                regions=[0],
                regions_offered=[0],
                model="m",
                prompt="p",
                request="r",
            )
            for i, (image, question, answer, rationale) in enumerate(rows)
        ],
        schema=TRIPLES,
    )


@pytest.mark.parametrize(
    ("question", "answer", "rationale", "expected"),
    [
        (NEXT, "Hide under a roof.", RAIN, (True, 1.0, 1.0)),
        (
            "What will the man in the red shirt [0] do next?",
            "Hide under a roof.",
            RAIN,
            (True, 1.0, 1.0),
        ),
        (NEXT, "Hide under a roof.", "[0] is running and it is snowing.", (False, 1.0, 0.5)),
        (NEXT, "Hide under a roof.", "[1] is running and it is snowing.", (False, 1.0, 0.0)),
        (NEXT, "Put the book away.", RAIN, (False, MISPLACED, 1.0)),  # true of [1]
        (
            NEXT,
            "To escape the rain.",
            RAIN,
            (False, MISPLACED, 1.0),
        ),  # true of [0], to another question
        (NEXT, "To enjoy a story.", RAIN, (False, 0.0, 1.0)),  # neither
        (NEXT, "Give milk.", RAIN, (False, 0.0, 1.0)),  # true of nobody here
        (
            "What is [7] about to do?",
            "Hide under a roof.",
            RAIN,
            (False, MISPLACED, 1.0),
        ),  # no such region
        (NEXT, "Hide under a roof.", "[9] is running and it is raining.", (False, 1.0, 0.5)),
    ],
)
def test_scores_follow_the_rule(question, answer, rationale, expected):
    judged = judge(STREET, question, answer, rationale)
    assert (judged.accept, judged.qa, judged.rationale) == expected and judged.understood


@pytest.mark.parametrize(
    ("question", "answer", "rationale"),
    [
        ("Who knows?", "Hide under a roof.", RAIN),
        (NEXT, "Dance a tango.", RAIN),
        (NEXT, "Hide under a roof.", "Because rain is wet."),
        (NEXT, "Hide under a roof.", ""),
        ("", "", ""),
    ],
)
def test_what_is_not_understood_is_rejected_and_counted(caplog, question, answer, rationale):
    triples = _triples(
        [("1", question, answer, rationale), ("1", NEXT, "Hide under a roof.", RAIN)]
    )
    with caplog.at_level(logging.WARNING):
        labels = annotate(triples, {"1": STREET}, noise=0)
    assert "1 of 2 triples" in caplog.text
    assert labels[0] == dict(
        triple_id="0", annotator="mini-annotator", accept=False, qa_score=0.0, rationale_score=0.0
    )
    assert labels[1]["accept"] and not_understood(triples, {"1": STREET}) == ["0"]


def _world_triples(number: int) -> tuple[pa.Table, dict[str, Scene], np.ndarray]:
    """Right and wrong triples from the benchmark's questions, and which are right."""
    scenes = sample_scenes(number, 9, "a")
    rows, right = [], []
    for q in vcr_questions(scenes, 0):
        for answer, rationale in (
            (q.answer_label, q.rationale_label),
            (q.swap, q.rationale_label),
            (q.answer_label, q.rationale_swap),
        ):
            rows.append((str(q.scene), q.question, q.answers[answer], q.rationales[rationale]))
            right.append((answer, rationale) == (q.answer_label, q.rationale_label))
    return _triples(rows), {str(i): s for i, s in enumerate(scenes)}, np.array(right)


def test_truth_without_noise():
    triples, truth, right = _world_triples(150)
    assert (acceptable(triples, truth) == right).all()
    labels = annotate(triples, truth, noise=0)
    assert [row["accept"] for row in labels] == right.tolist()
    table = pa.Table.from_pylist(labels, schema=LABELS)
    qa, reason = (
        table["qa_score"].to_numpy().reshape(-1, 3),
        table["rationale_score"].to_numpy().reshape(-1, 3),
    )
    assert (qa[:, [0, 2]] == 1).all() and np.allclose(qa[:, 1], MISPLACED)
    assert (reason[:, :2] == 1).all() and (reason[:, 2] < 1).all()


def test_noise_flips_as_many_as_told_and_is_repeatable():
    triples, truth, right = _world_triples(400)
    labels = annotate(triples, truth, seed=1, noise=0.1)
    flipped = np.mean([row["accept"] for row in labels] != right)
    assert 0.08 < flipped < 0.12
    scores = np.array([(row["qa_score"], row["rationale_score"]) for row in labels])
    assert scores.min() >= 0 and scores.max() <= 1 and len(np.unique(scores)) > len(labels) / 2
    assert (
        annotate(triples, truth, seed=1, noise=0.1)
        == labels
        != annotate(triples, truth, seed=2, noise=0.1)
    )


def test_sample_is_a_subset_in_order():
    triples, truth, _ = _world_triples(40)
    labels = annotate(triples, truth, sample=20, seed=3)
    ids = [int(row["triple_id"]) for row in labels]
    assert len(set(ids)) == 20 and ids == sorted(ids)
    assert len(annotate(triples, truth, sample=10**6)) == len(triples)


def test_errors_name_the_triple_and_the_parameter():
    triples = _triples(
        [
            ("1", *([grammar.question("next", 0), "Hide under a roof.", RAIN])),
            ("77", NEXT, "x", "y"),
        ]
    )
    with pytest.raises(ValueError, match="triple 1: the truth about image '77' is not known"):
        acceptable(triples, {"1": STREET})
    with pytest.raises(ValueError, match="noise must be"):
        annotate(triples, {"1": STREET}, noise=0.5)
    assert annotate(triples.slice(0, 0), {}) == []
