"""The world's annotator: labels triples from the truth about their picture, with human noise.

It stands where crowd workers stand in the paper (LSKD, section 3, ~20K labels): a triple is
acceptable when its answer is right for the pointed region *and* every clause of its rationale is
true of the picture. Real pictures have no truth: there the annotation widget writes the same
labels.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from lskd_nb.mini.scenes import grammar
from lskd_nb.mini.scenes.rules import QUESTION_TYPES, conclusions
from lskd_nb.mini.scenes.world import Scene

log = logging.getLogger(__name__)
MISPLACED = (
    0.33  # score of an answer that is true, but of another region or in reply to another question
)


@dataclass(frozen=True)
class Judgement:
    """``qa``: 1 the answer is right, 0.33 it is misplaced, 0 it is false.

    ``rationale``: share of its clauses that are true.
    """

    accept: bool
    qa: float
    rationale: float
    understood: bool = True


def judge(scene: Scene, question: str, answer: str, rationale: str) -> Judgement:
    """What a careful annotator says of a triple; one that is not of the world's language is
    rejected with scores of 0.
    """
    asked = grammar.read_question(question)
    if asked is None:
        return Judgement(False, 0.0, 0.0, understood=False)
    kind, region = asked
    judged = grammar.judge(scene, question, answer, rationale)
    if judged is not None:
        right, share = judged
        return Judgement(
            right and share == 1.0, 1.0 if right else _misplaced(scene, kind, answer), share
        )
    for other in QUESTION_TYPES:  # an answer to another question than the one asked
        judged = grammar.judge(scene, grammar.question(other, region), answer, rationale)
        if judged is not None:
            return Judgement(False, MISPLACED if judged[0] else 0.0, judged[1])
    return Judgement(False, 0.0, 0.0, understood=False)


def _misplaced(scene: Scene, kind: str, answer: str) -> float:
    """The score of an answer that is not right for the pointed region: is it right for any?"""
    claimed = grammar.read_answer(kind, answer)
    true = (conclusions(scene, region).get(kind) for region in range(len(scene.entities)))
    return MISPLACED if any(found is not None and found[0] is claimed for found in true) else 0.0


def judge_all(triples: pa.Table, truth: Mapping[str, Scene]) -> list[Judgement]:
    """Judgements of TRIPLES rows, in order.

    Raises ``ValueError`` naming a triple whose image is not in ``truth``.
    """
    judgements = []
    for row in triples.select(
        ["triple_id", "image_id", "question", "answer", "rationale"]
    ).to_pylist():
        if row["image_id"] not in truth:
            raise ValueError(
                f"triple {row['triple_id']}: the truth about image {row['image_id']!r} is not known"
            )
        judgements.append(
            judge(truth[row["image_id"]], row["question"], row["answer"], row["rationale"])
        )
    return judgements


def acceptable(triples: pa.Table, truth: Mapping[str, Scene]) -> np.ndarray:
    """Which triples are acceptable, without noise; bool (N,)."""
    return np.array([j.accept for j in judge_all(triples, truth)], dtype=bool)


def not_understood(triples: pa.Table, truth: Mapping[str, Scene]) -> list[str]:
    """Ids of the triples that are not of the world's language."""
    judged = zip(triples["triple_id"].to_pylist(), judge_all(triples, truth), strict=True)
    return [triple_id for triple_id, judgement in judged if not judgement.understood]


def annotate(
    triples: pa.Table,
    truth: Mapping[str, Scene],
    sample: int | None = None,
    seed: int = 0,
    noise: float = 0.05,
    annotator: str = "mini-annotator",
) -> list[dict]:
    """LABELS rows of ``sample`` triples drawn without replacement (None, or more than there are:
    all), in the table's order.

    Each accept is flipped with probability ``noise``; scores vary by a normal error of standard
    deviation ``noise``, cut to 0..1. Triples that are not understood are labelled like any reject
    with scores of 0, and their number is logged.
    """
    if not 0 <= noise < 0.5:
        raise ValueError(f"noise must be at least 0 and below 0.5, got {noise}")
    rng = np.random.default_rng([seed, 6])
    if sample is not None and sample < len(triples):
        triples = triples.take(np.sort(rng.choice(len(triples), size=sample, replace=False)))
    judgements = judge_all(triples, truth)
    lost = sum(not j.understood for j in judgements)
    if lost:
        log.warning(
            "%d of %d triples are not of the world's language: labelled reject", lost, len(triples)
        )
    flipped = rng.random(len(triples)) < noise
    scores = np.array([(j.qa, j.rationale) for j in judgements]).reshape(-1, 2)
    scores = np.clip(scores + rng.normal(0.0, noise, scores.shape), 0, 1)
    ids = triples["triple_id"].to_pylist()
    return [
        dict(
            triple_id=ids[i],
            annotator=annotator,
            accept=bool(j.accept != flipped[i]),
            qa_score=float(scores[i, 0]),
            rationale_score=float(scores[i, 1]),
        )
        for i, j in enumerate(judgements)
    ]


def preferred(scene: Scene, pair: Mapping[str, str], noise: float, seed: Sequence[int]) -> str:
    """Which of two answers a judge who knows the scene prefers: "left", "tie" or "right".

    ``pair`` is a row of ``preference.PAIRS``. A right answer is better than a wrong one, then
    counts the share of true clauses in the rationale. With probability ``noise`` the judge says one
    of the three at random.
    """
    rng = np.random.default_rng(seed)
    if rng.random() < noise:
        return str(rng.choice(["left", "tie", "right"]))
    left, right = (
        grammar.judge(scene, pair["question"], pair[f"{side}_answer"], pair[f"{side}_rationale"])
        or (False, 0.0)
        for side in ("left", "right")
    )
    return "tie" if left == right else "left" if left > right else "right"
