"""The official metrics of the six zero-shot benchmarks, and tables of them by slice.

Each metric is a mean over items, so each function here returns one row for each item: prediction
rows whose ``correct`` is what the item adds to that mean. For most it is 0 or 1; for VisualCOMET,
A-OKVQA's direct answers and Sherlock it is a fraction, for Sherlock from -1 to 1.
``choices.accuracy`` and ``choices.paired_difference`` take these rows as they are: means with
intervals over images, and two systems on the same items. Figures are shares; leaderboards print
them x 100.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
from scipy.stats import rankdata

from lskd_nb.records import PREDICTIONS
from lskd_nb.regions import Region, mentions
from lskd_nb.sources import MultipleChoice
from lskd_nb.sources.aokvqa import AokvqaQuestion
from lskd_nb.sources.sherlock import Comparison
from lskd_nb.sources.visualcomet import Ranking

# shares of the image's area from which a region is medium, large: near the thirds of Sherlock's
# clues
SIZES = (0.05, 0.25)


# ---------------------------------------------------------------------------------------------- VCR


def vcr(answers: pa.Table, rationales: pa.Table) -> dict[str, pd.DataFrame]:
    """Q→A, QA→R and Q→AR from the predictions of the first two: rows by task name.

    Rule (r2c, models/eval_q2ar.py): the choice with the highest score (the first of equals) is
    taken; Q→AR is the share of questions with a right answer *and* a right rationale, the rationale
    chosen under the gold answer. Raises ``ValueError`` where the two are not of the same questions
    or a question has no label.
    """
    from lskd_nb.evaluation.choices import q_ar

    parts = {}
    for task, table in (("vcr.q_a", answers), ("vcr.qa_r", rationales)):
        rows = _one_system(table)
        if rows["label"].isna().any():
            raise ValueError(
                f"{task}: item {rows.loc[rows['label'].isna(), 'item_id'].iloc[0]} has no label"
                " (the test split has none)"
            )
        parts[task] = rows.assign(
            correct=[
                int(np.argmax(s)) == label
                for s, label in zip(rows["scores"], rows["label"], strict=True)
            ]
        )
    both = q_ar(
        *(
            pa.Table.from_pandas(rows, schema=PREDICTIONS, preserve_index=False)
            for rows in parts.values()
        )
    )
    return parts | {"vcr.q_ar": both.to_pandas()}


# ----------------------------------------------------------------------------------------- Sherlock


def comparison_agreement(scores: Sequence[float], ratings: Sequence[float]) -> float:
    """Agreement of two orders, -1 to 1: 2 (share of pairs in the same order) - 1.

    Rule (allenai/sherlock, leaderboard_eval/score_comparison.py, ``pairwise_acc``): pairs rated
    alike are left out, 0 where no pair is left; ties of scores are broken by noise below 1e-9, the
    same in every call (NumPy's generator, seed 1).
    """
    if len(scores) != len(ratings) or not np.isfinite(np.asarray(scores, float)).all():
        raise ValueError(f"scores are {list(scores)}, expected {len(ratings)} finite numbers")
    noisy = (
        np.asarray(scores, float)
        + np.random.RandomState(1).random_sample(max(10, len(scores)))[: len(scores)] / 1e9
    )
    one, other = np.triu_indices(len(noisy), 1)
    rated = np.asarray(ratings, float)
    differ = rated[one] != rated[other]
    if not differ.any():
        return 0.0
    return float(
        2 * np.mean(((rated[one] < rated[other]) == (noisy[one] < noisy[other]))[differ]) - 1
    )


def sherlock_comparison(comparisons: Sequence[Comparison], predictions: pa.Table) -> pd.DataFrame:
    """Sherlock's comparison: mean agreement of an item's scores with its two annotators, as rows.

    Rule: as ``comparison_agreement``; the figure is the mean over images. It is *not* divided by
    the humans' own agreement, which stands beside it (``sherlock_ceilings``). Raises ``ValueError``
    for an item without scores or ratings.
    """
    rows, values = _scores_of(predictions, [c.item for c in comparisons]), []
    for comparison, scores in zip(comparisons, rows["scores"], strict=True):
        if not comparison.annot1:
            raise ValueError(
                f"item {comparison.item.item_id} has no ratings (the test split has none)"
            )
        values.append(
            np.mean(
                [
                    comparison_agreement(scores, ratings)
                    for ratings in (comparison.annot1, comparison.annot2)
                ]
            )
        )
    return rows.assign(correct=values)


def sherlock_ceilings(comparisons: Iterable[Comparison]) -> dict[str, float]:
    """Agreement of one annotator with the other, and of their mean with each.

    On val they are ``human`` 0.4228 and ``oracle`` 0.8860.

    Rule: score_comparison.py, as above; the two figures are those its README prints.
    """
    pairs = [(np.array(c.annot1), np.array(c.annot2)) for c in comparisons]
    if not pairs:
        raise ValueError("no comparisons to average")
    human = [(comparison_agreement(a, b) + comparison_agreement(b, a)) / 2 for a, b in pairs]
    oracle = [
        np.mean([comparison_agreement(np.mean([a, b], axis=0), rated) for rated in (a, b)])
        for a, b in pairs
    ]
    return dict(human=float(np.mean(human)), oracle=float(np.mean(oracle)))


def sherlock_retrieval(scores: np.ndarray) -> dict[str, float]:
    """Sherlock's retrieval from (N, N) scores, images x inferences, right pairs on the diagonal.

    Rule (score_retrieval.py): mean rank of the right text for an image, of the right image for a
    text (ties get their mean rank), and the share of images whose text ranks first, alone. The
    leaderboard averages over its splits.
    """
    scores = np.asarray(scores, float)
    if (
        scores.ndim != 2
        or scores.shape[0] != scores.shape[1]
        or not scores.size
        or not np.isfinite(scores).all()
    ):
        raise ValueError(
            f"scores: expected a square matrix of finite numbers, found shape {scores.shape}"
        )
    to_text, to_image = (np.diagonal(rankdata(-scores, axis=axis)) for axis in (1, 0))
    return dict(
        im2txt=float(to_text.mean()),
        txt2im=float(to_image.mean()),
        p_at_1=float(np.mean(to_text == 1)),
    )


# -------------------------------------------------------------------------------------- VisualCOMET


def r_precision(scores: Sequence[float], gold: Sequence[bool]) -> float:
    """Share of right candidates among the k of highest scores, k being how many are right.

    Rule (jamespark3922/visual-comet, scripts/run_rank.py, with minus the perplexity as score).
    Where scores tie across the k-th place the result is its mean over all orders of the tied: there
    the authors' sort gives whichever came first, and their right candidates come first.
    """
    scores, gold = np.asarray(scores, float), np.asarray(gold, bool)
    if scores.shape != gold.shape or not gold.any() or not np.isfinite(scores).all():
        raise ValueError(
            f"{np.isfinite(scores).sum()} finite scores for {gold.size} candidates,"
            f" {int(gold.sum())} of them right"
        )
    k = int(gold.sum())
    last = np.sort(scores)[-k]
    above, tied = scores > last, scores == last
    return float((gold[above].sum() + (k - above.sum()) * gold[tied].mean()) / k)


def visualcomet_acc_at_50(rankings: Sequence[Ranking], predictions: pa.Table) -> pd.DataFrame:
    """VisualCOMET's Acc@50: ``r_precision`` of each (picture, event, relation), as rows.

    It is a matter of the candidate sets as well: compare systems on the same
    (``sources.visualcomet.read_candidates``). Raises ``ValueError`` for an item without scores.
    """
    rows = _scores_of(predictions, [r.item for r in rankings])
    return rows.assign(
        correct=[
            r_precision(scores, r.gold) for scores, r in zip(rows["scores"], rankings, strict=True)
        ]
    )


# --------------------------------------------------------------------------------- answers as texts


def chosen_texts(items: Iterable[MultipleChoice], predictions: pa.Table) -> dict[str, str]:
    """The text of the best choice (the first of equals) by id of the items with a prediction."""
    predicted = set(predictions["item_id"].to_pylist())
    items = [item for item in items if item.item_id in predicted]
    rows = _scores_of(predictions, items)
    return {
        item.item_id: item.choices[int(np.argmax(scores))]
        for item, scores in zip(items, rows["scores"], strict=True)
    }


def aokvqa_multiple_choice(
    questions: Sequence[AokvqaQuestion],
    answers: Mapping[str, str],
    system: str = "",
    seed: int = 0,
    strict: bool = True,
) -> pd.DataFrame:
    """Rows of A-OKVQA's multiple choice. ``answers``: question id → text of the choice taken.

    Rule (allenai/aokvqa, evaluation/eval_predictions.py): the answer equals the right choice,
    letter by letter, over all questions; without ``strict`` a question without answer counts 0,
    with it, or for an answer that is no choice, raises ``ValueError``.
    """

    def value(item: MultipleChoice, answer: str) -> float:
        if strict and answer not in item.choices:
            raise ValueError(
                f"item {item.item_id}: {answer!r} is none of the choices {item.choices}"
            )
        return float(answer == _right(item))

    return _rows([q.item for q in questions], answers, value, system, seed, strict)


def aokvqa_direct_answer(
    questions: Sequence[AokvqaQuestion],
    answers: Mapping[str, str],
    system: str = "",
    seed: int = 0,
    strict: bool = True,
) -> pd.DataFrame:
    """Rows of A-OKVQA's direct answers. ``answers``: question id → free text.

    Rule (eval_predictions.py): min(1, people who said the same, letter by letter / 3), over the
    questions that are not marked ``difficult_direct_answer``; missing answers as in
    ``aokvqa_multiple_choice``. Giving every right choice as the answer scores 0.7826 on the 1,145
    questions of val. An older script of the authors left the difficult ones out of the multiple
    choice instead.
    """
    easy = {q.item.item_id: q for q in questions if not q.difficult_direct_answer}

    def value(item: MultipleChoice, answer: str) -> float:
        said = easy[item.item_id].direct_answers
        if not said:
            raise ValueError(f"item {item.item_id} has no direct answers (the test split has none)")
        return min(1.0, sum(answer == a for a in said) / 3)

    return _rows(
        [q.item for q in easy.values()],
        answers,
        value,
        system,
        seed,
        strict,
        task="aokvqa.direct_answer",
    )


def snli_ve(
    items: Sequence[MultipleChoice],
    answers: Mapping[str, str],
    system: str = "",
    seed: int = 0,
    strict: bool = True,
) -> pd.DataFrame:
    """Rows of SNLI-VE: whether the label is ``gold_label``, among three (necla-ml/SNLI-VE).

    ``answers``: pair id → label.
    """
    return _rows(
        items, answers, lambda item, answer: float(answer == _right(item)), system, seed, strict
    )


def visual7w(
    items: Sequence[MultipleChoice],
    answers: Mapping[str, str],
    system: str = "",
    seed: int = 0,
    strict: bool = True,
) -> pd.DataFrame:
    """Rows of Visual7W telling; ``by_slice(rows, "slice")`` is the accuracy by question type.

    ``answers``: qa id → text.

    Rule (yukezhu/visual7w-toolkit, evaluate.py, mode mc): equal strings, whatever their case. The
    script averages over the predictions it is given; here, without ``strict``, a missing one counts
    0.
    """
    return _rows(
        items,
        answers,
        lambda item, answer: float(answer.lower() == _right(item).lower()),
        system,
        seed,
        strict,
    )


# ------------------------------------------------------------------------------------------- slices


def region_slices(items: Iterable[MultipleChoice]) -> pd.DataFrame:
    """For each ``item_id``: how many boxes it points at (0, 1, 2, 3+), and their ``size``.

    Pointed at are the boxes that the question mentions; all of them where there is no question, as
    in Sherlock. ``size`` is small, medium or large by the share of the image that they cover
    together, "none" where there is none.
    """
    rows = []
    for item in items:
        pointed = [
            r for r in item.image.regions if not item.question or r.id in mentions(item.question)
        ]
        share = covered_area(pointed) / max(item.image.width * item.image.height, 1)
        size = ("small", "medium", "large")[int(np.digitize(share, SIZES))] if pointed else "none"
        rows.append(
            dict(
                item_id=item.item_id,
                regions=str(len(pointed)) if len(pointed) < 3 else "3+",
                size=size,
            )
        )
    return pd.DataFrame(rows, columns=["item_id", "regions", "size"])


def covered_area(regions: Sequence[Region]) -> float:
    """Area in pixels of the union of boxes."""
    if not regions:
        return 0.0
    boxes = np.array([r.box for r in regions], float)
    x, y = np.unique(boxes[:, [0, 2]]), np.unique(boxes[:, [1, 3]])
    inside = np.zeros((len(y) - 1, len(x) - 1), bool)
    for x0, y0, x1, y1 in boxes:
        inside[
            np.searchsorted(y, y0) : np.searchsorted(y, y1),
            np.searchsorted(x, x0) : np.searchsorted(x, x1),
        ] = True
    return float((inside * np.diff(y)[:, None] * np.diff(x)).sum())


def by_slice(
    rows: pd.DataFrame, column: str = "slice", other: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Mean, 95% interval over images, items and images for each value of ``column`` and for all; of
    ``rows``, or paired, minus ``other``.

    ``column`` is one of ``rows``: ``slice`` (the question type), or one of ``region_slices`` merged
    in on ``item_id``.
    """
    from lskd_nb.evaluation.choices import accuracy, paired_difference

    if column not in rows.columns:
        raise ValueError(f"column: {column!r} is none of {list(rows.columns)}")
    table = {}
    for name, part in [
        ("all", rows),
        *((str(name), part) for name, part in rows.groupby(column, dropna=False)),
    ]:
        if other is None:
            table[name] = accuracy(part)
        else:
            rest = other if name == "all" else other[other["item_id"].isin(part["item_id"])]
            table[name] = paired_difference(part, rest)
    return pd.DataFrame.from_dict(table, orient="index").rename_axis(column)


# --------------------------------------------------------------------------------------------- rows


def _one_system(predictions: pa.Table) -> pd.DataFrame:
    """Predictions as a frame.

    Raises ``ValueError`` unless each item has one, with finite scores.
    """
    rows = predictions.to_pandas()
    repeated = rows["item_id"].duplicated()
    if repeated.any():
        raise ValueError(
            f"item {rows.loc[repeated, 'item_id'].iloc[0]} is predicted twice:"
            " give one system and one seed"
        )
    for item_id, scores in zip(rows["item_id"], rows["scores"], strict=True):
        if scores is None or len(scores) == 0 or not np.isfinite(np.asarray(scores, float)).all():
            raise ValueError(f"item {item_id}: scores are {scores}, expected finite numbers")
    return rows


def _scores_of(predictions: pa.Table, items: Sequence[MultipleChoice]) -> pd.DataFrame:
    """The rows of ``items``, in their order.

    Raises ``ValueError`` naming an item without a score for each choice.
    """
    rows = _one_system(predictions)
    found = dict(zip(rows["item_id"], map(len, rows["scores"]), strict=True))
    for item in items:
        if found.get(item.item_id, 0) != len(item.choices):
            raise ValueError(
                f"item {item.item_id}: {found.get(item.item_id, 0)}"
                f" scores for {len(item.choices)} choices"
            )
    return rows.set_index("item_id").loc[[item.item_id for item in items]].reset_index()


def _right(item: MultipleChoice) -> str:
    if item.label is None:
        raise ValueError(f"item {item.item_id} has no label (the test split has none)")
    return item.choices[item.label]


def _rows(
    items: Sequence[MultipleChoice],
    answers: Mapping[str, str],
    value: Callable[[MultipleChoice, str], float],
    system: str,
    seed: int,
    strict: bool,
    task: str | None = None,
) -> pd.DataFrame:
    """What each item adds; 0 where it has no answer and ``strict`` doesn't forbid it."""
    missing = [item.item_id for item in items if item.item_id not in answers]
    if strict and missing:
        raise ValueError(
            f"{len(missing)} of {len(items)} items have no answer, {missing[0]} is the first"
        )
    return pd.DataFrame(
        [
            dict(
                item_id=item.item_id,
                image_id=item.image.image_id,
                task=task or item.task,
                system=system,
                seed=seed,
                slice=item.slice,
                correct=value(item, answers[item.item_id]) if item.item_id in answers else 0.0,
            )
            for item in items
        ],
        columns=["item_id", "image_id", "task", "system", "seed", "slice", "correct"],
    )
