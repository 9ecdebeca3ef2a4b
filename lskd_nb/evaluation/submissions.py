"""Predictions as the files that leaderboards take: VCR's CSV, Sherlock's array, A-OKVQA's JSON.

Each is checked for the ids that the leaderboard expects and written under a temporary name, so a
file that exists is whole.
"""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from scipy.special import softmax

from lskd_nb.records import atomic_path
from lskd_nb.sources.sherlock import Comparison

VCR_COLUMNS = tuple(
    f"{group}_{i}"
    for group in ("answer", *(f"rationale_conditioned_on_a{a}" for a in range(4)))
    for i in range(4)
)


def write_vcr(
    path: str | Path, annot_ids: Sequence[str], answers: pa.Table, rationales: pa.Table
) -> None:
    """VCR's test upload: annot_id and 20 probabilities, in the order of ``annot_ids``.

    The form is r2c's, models/eval_for_leaderboard.py.

    ``answers`` has the items of ``sources.vcr.q_a``; ``rationales`` those of ``qa_r`` under each of
    the four answers, with ids ``<annot_id>/<answer>``. Scores become probabilities by a softmax
    over their four choices: they must be logits or log-odds, not probabilities already. Raises
    ``ValueError`` naming an item that is missing or has not four finite scores.
    """
    if len(set(annot_ids)) < len(annot_ids):
        raise ValueError(f"annot_ids: {len(annot_ids) - len(set(annot_ids))} of them are repeated")
    scores = {"answers": _scores(answers), "rationales": _scores(rationales)}
    rows = []
    for annot_id in annot_ids:
        wanted = [("answers", annot_id), *(("rationales", f"{annot_id}/{a}") for a in range(4))]
        rows.append(
            np.concatenate(
                [
                    softmax(_four(scores[table].get(item_id), table, item_id))
                    for table, item_id in wanted
                ]
            )
        )
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["annot_id", *VCR_COLUMNS])
        writer.writerows(
            [annot_id, *map(repr, map(float, row))]
            for annot_id, row in zip(annot_ids, rows, strict=True)
        )


def write_sherlock(
    path: str | Path,
    comparisons: Iterable[Comparison],
    predictions: pa.Table,
    test_ids: Sequence[str],
) -> None:
    """Sherlock's comparison.npy: one float32 score for each of ``test_ids``, sorted.

    The form is allenai/sherlock's, leaderboard_eval/README.md.

    ``test_ids`` are those of the official file (``sources.sherlock.read_test_ids``). Raises
    ``ValueError`` where they are not sorted, or naming one without score or a score whose id is not
    among them.
    """
    if list(test_ids) != sorted(set(test_ids)):
        raise ValueError(
            "test_ids: expected them sorted and different, as the official file has them"
        )
    scores, found = _scores(predictions), {}
    for comparison in comparisons:
        given = scores.get(comparison.item.item_id)
        if given is None or len(given) != len(comparison.test_ids):
            raise ValueError(
                f"item {comparison.item.item_id}: {0 if given is None else len(given)}"
                f" scores for {len(comparison.test_ids)} candidates"
            )
        found |= dict(zip(comparison.test_ids, given, strict=True))
    different = sorted(found.keys() ^ set(test_ids))
    if different:
        where = "has no score" if different[0] not in found else "is not among the official ids"
        raise ValueError(
            f"test id {different[0]} {where} ({len(found)} scores, {len(test_ids)} ids)"
        )
    array = np.array([found[i] for i in test_ids], dtype=np.float32)
    if not np.isfinite(array).all():
        raise ValueError(
            f"test id {test_ids[int(np.argmin(np.isfinite(array)))]}: its score is not finite"
        )
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.save(file, array, allow_pickle=False)


def write_aokvqa(
    path: str | Path,
    question_ids: Sequence[str],
    multiple_choice: Mapping[str, str] | None = None,
    direct_answer: Mapping[str, str] | None = None,
) -> None:
    """A-OKVQA's predictions_{split}.json, with one or both settings' answers.

    It is {question id: {"multiple_choice": text, "direct_answer": text}}.

    The layout is what evaluation/eval_predictions.py reads (allenai/aokvqa). Raises ``ValueError``
    naming a question without an answer in a setting that is given.
    """
    settings = {
        name: given
        for name, given in (("multiple_choice", multiple_choice), ("direct_answer", direct_answer))
        if given is not None
    }
    if not settings:
        raise ValueError("give multiple_choice, direct_answer or both")
    for name, given in settings.items():
        missing = [i for i in question_ids if i not in given]
        if missing:
            raise ValueError(
                f"{name}: {len(missing)} of {len(question_ids)} questions have no answer,"
                f" {missing[0]} is the first"
            )
    with atomic_path(path) as temporary:
        temporary.write_text(
            json.dumps(
                {i: {name: given[i] for name, given in settings.items()} for i in question_ids}
            ),
            encoding="utf-8",
        )


def _scores(predictions: pa.Table) -> dict[str, list[float]]:
    ids, scores = predictions["item_id"].to_pylist(), predictions["scores"].to_pylist()
    found = dict(zip(ids, scores, strict=True))
    if len(found) < len(ids):
        raise ValueError(
            f"{len(ids)} predictions of {len(found)} items: give one system and one seed"
        )
    return found


def _four(scores: list[float] | None, table: str, item_id: str) -> np.ndarray:
    if scores is None or len(scores) != 4 or not np.isfinite(scores).all():
        raise ValueError(
            f"{table}, item {item_id}: scores are {scores}, expected four finite numbers"
        )
    return np.asarray(scores, float)
