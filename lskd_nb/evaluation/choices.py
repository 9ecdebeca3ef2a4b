"""Zero-shot evaluation: an item is answered by the choice that matches the highlighted image best.

A choice is scored by ITM, the match logit of "question Answer: choice" (LSKD, section 4.1). An
image with its regions is encoded once and all its texts are run against it. VCR's Q→AR counts an
item only when answer *and* rationale are right, the rationale being chosen under the gold answer,
as in VCR's official script. Intervals are 95% percentile bootstraps over images, since questions
about one image are not independent; systems are compared on the same resamples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import torch

from lskd_nb.records import PREDICTIONS, REGION, read_parquet, write_parquet
from lskd_nb.regions import region_of
from lskd_nb.students.blip2 import Student, autocast
from lskd_nb.students.views import FrozenFeatures, View, scoring_passes

RESAMPLES = 2000
NAMED = ("grounding", "acceptability", "sherlock.comparison", "visualcomet")


@dataclass(frozen=True)
class Item:
    """One choice to make about a view.

    ``choices`` continue ``question``; ``label`` is the index of the right one, if one is.
    """

    item_id: str
    image_id: str
    view: View
    question: str
    choices: tuple[str, ...]
    label: int | None
    task: str
    slice: str = ""


ITEMS = pa.schema(
    [
        ("item_id", pa.string()),
        ("image_id", pa.string()),
        ("image", pa.string()),
        ("regions", pa.list_(REGION)),
        ("question", pa.string()),
        ("choices", pa.list_(pa.string())),
        ("label", pa.int32()),
        ("task", pa.string()),
        ("slice", pa.string()),
    ]
)


def items_table(items: Sequence[Item]) -> pa.Table:
    """Items as the ITEMS table, so that other machines can read them."""
    return pa.Table.from_pylist(
        [
            dict(
                item_id=i.item_id,
                image_id=i.image_id,
                image=i.view.image,
                question=i.question,
                choices=list(i.choices),
                label=i.label,
                task=i.task,
                slice=i.slice,
                regions=[
                    dict(id=r.id, box=list(r.box), label=r.label, score=r.score)
                    for r in i.view.regions
                ],
            )
            for i in items
        ],
        ITEMS,
    )


def items_of(table: pa.Table) -> list[Item]:
    """The ITEMS table as items."""
    return [
        Item(
            r["item_id"],
            r["image_id"],
            View(r["image"], tuple(region_of(g) for g in r["regions"])),
            r["question"],
            tuple(r["choices"]),
            r["label"],
            r["task"],
            r["slice"],
        )
        for r in table.to_pylist()
    ]


@torch.no_grad()
def match_scores(
    student: Student,
    items: Sequence[Item],
    views: FrozenFeatures,
    batch: int = 96,
    system: str = "the student",
) -> list[np.ndarray]:
    """ITM scores, log P(match) - log P(no match), of every item's choices.

    Each view is encoded once, whatever the number of items and choices about it, and its keys and
    values are shared by all of them; 4 ``batch`` texts of like length go through the Q-Former at a
    time. Raises ``ValueError`` naming ``system`` and item where a score is no finite number.
    """
    texts = [
        (number, place) for number, item in enumerate(items) for place in range(len(item.choices))
    ]
    keys = [items[n].view.key for n, _ in texts]
    lengths = [(len(items[n].question) + len(items[n].choices[place])) // 8 for n, place in texts]
    scores = [np.zeros(len(item.choices), np.float32) for item in items]
    for looked, turns in scoring_passes(keys, lengths, 4 * batch):
        with autocast(student.device):
            seen = student.image_keys_values(
                views.features([items[texts[row][0]].view for row in looked])
            )
            for rows in turns:
                pairs = [
                    (items[n].question, items[n].choices[place])
                    for n, place in (texts[row] for row in rows)
                ]
                logits = student.itm_logits(seen, student.tokenize(*zip(*pairs, strict=True)))
                for row, match in zip(rows, (logits[:, 1] - logits[:, 0]).tolist(), strict=True):
                    number, place = texts[row]
                    scores[number][place] = match
    for item, of_item in zip(items, scores, strict=True):
        check_finite(of_item, system, f"item {item.item_id}")
    return scores


def check_finite(scores: Sequence[float] | np.ndarray, system: str, what: str) -> None:
    """Raise ``ValueError`` unless all scores are finite: the largest of some NaN is the first of
    them, which would count as an answer, and as a right one where the first choice is right.
    """
    if not np.isfinite(np.asarray(scores, float)).all():
        raise ValueError(
            f"{system}, {what}: scores are {np.asarray(scores).tolist()}, expected finite numbers."
            " Its weights are damaged (NaN) or overflow in the precision they are run in: train or"
            " fetch it again, or leave it out"
        )


@dataclass(frozen=True)
class TextScores:
    """What the student's two heads say of texts, (N,) each.

    ``itm`` is the match logit, ``lm`` the sum of the words' log-probabilities.
    """

    itm: torch.Tensor
    lm: torch.Tensor


@torch.no_grad()
def text_scores(
    student: Student,
    image_BPD: torch.Tensor,
    texts: Sequence[tuple[str, str]],
    conditioned: bool = True,
) -> TextScores:
    """Scores of B texts (question, rest), each about its image's features (B, patches + 1, width).

    With ``conditioned`` the queries see the question before they look, and the LM counts the rest
    alone. Raises ``ValueError`` naming the text where a score is no finite number.
    """
    told = student.tokenize(*zip(*texts, strict=True))
    match = student.itm_logits(image_BPD, told)
    log_p, counted = student.lm_log_probabilities(image_BPD, told, conditioned)
    of_words = torch.zeros(counted.shape, device=counted.device)
    of_words[counted] = log_p.gather(-1, told.ids[:, 1:][counted][:, None]).squeeze(-1)
    itm, lm = match[:, 1] - match[:, 0], of_words.sum(1)
    for text, *found in zip(texts, itm.tolist(), lm.tolist(), strict=True):
        check_finite(found, "the student", f"match logit and LM of the text {' '.join(text)!r}")
    return TextScores(itm=itm, lm=lm)


def predictions(
    items: Sequence[Item], scores: Sequence[np.ndarray], system: str, seed: int
) -> pa.Table:
    """PREDICTIONS rows: the choice with the highest score is taken.

    Items without label are scored elsewhere (``metrics``). Raises ``ValueError`` naming system and
    item where a score is no finite number.
    """
    for item, of_item in zip(items, scores, strict=True):
        check_finite(of_item, system, f"item {item.item_id}")
    rows = [
        dict(
            item_id=item.item_id,
            image_id=item.image_id,
            task=item.task,
            system=system,
            seed=seed,
            scores=s.tolist(),
            label=item.label,
            correct=None if item.label is None else float(np.argmax(s) == item.label),
            slice=item.slice,
        )
        for item, s in zip(items, scores, strict=True)
    ]
    return pa.Table.from_pylist(rows, schema=PREDICTIONS)


def write_rows(rows: pd.DataFrame, path: str | Path) -> pa.Table:
    """Write scored rows as PREDICTIONS.

    Columns they lack, and what pandas holds as NaN, are null.
    """
    whole = rows.reindex(columns=PREDICTIONS.names).astype(object)
    return write_parquet(whole.where(whole.notna(), None).to_dict("records"), path, PREDICTIONS)


def q_ar(q_a: pa.Table, qa_r: pa.Table) -> pa.Table:
    """VCR's Q→AR from the predictions of its two parts: right where both are."""
    both = q_a.to_pandas().merge(
        qa_r.to_pandas()[["item_id", "correct"]], on="item_id", suffixes=("", "_r"), validate="1:1"
    )
    if len(both) != len(q_a) or len(both) != len(qa_r):
        raise ValueError(
            "answers and rationales are not of the same items:"
            f" {len(q_a)} and {len(qa_r)}, {len(both)} in common"
        )
    both["correct"] *= both["correct_r"]
    both["task"] = "vcr.q_ar"
    return pa.Table.from_pandas(
        both.drop(columns="correct_r"), schema=PREDICTIONS, preserve_index=False
    )


def grounding(q_a: pd.DataFrame, swaps: Mapping[str, int]) -> pd.DataFrame:
    """Whether the right answer beats the one true of another region (``swaps`` by item), as rows.

    What ignores the regions gets half of them right.
    """
    rows = q_a[q_a["item_id"].isin(list(swaps))]
    right = [
        float(s[label] > s[swaps[item]])
        for item, s, label in zip(rows["item_id"], rows["scores"], rows["label"], strict=True)
    ]
    return rows.assign(task="grounding", correct=right)


def entailment_by_thresholds(predictions: pa.Table, train: int) -> pd.DataFrame:
    """Classes 0, 1, 2 from one score each, falling: two thresholds are fitted on the first
    ``train`` rows and applied to the others. So it has seen labels: this is not zero-shot.

    A matching score says how well a hypothesis fits an image: best where it is entailed, worst
    where it is contradicted.
    """
    rows = predictions.to_pandas()
    score, label = np.array([s[0] for s in rows["scores"]]), rows["label"].to_numpy()
    grid = np.quantile(score[:train], np.linspace(0, 1, 61))
    pairs = [(low, high) for place, low in enumerate(grid) for high in grid[place:]]
    best = max(pairs, key=lambda p: np.mean(2 - np.digitize(score[:train], p) == label[:train]))
    return rows.assign(correct=(2 - np.digitize(score, best) == label).astype(float))[train:]


# ---------------------------------------------------------------------------------------- intervals


def bootstrap(
    values: np.ndarray, clusters: np.ndarray, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, float]:
    """Mean of ``values`` with a 95% percentile interval, whole clusters resampled.

    ``n`` items, ``clusters`` of them.
    """
    values = np.asarray(values, dtype=float)
    if len(values) == 0:
        raise ValueError("no items to average")
    if not np.isfinite(values).all():
        raise ValueError(f"{(~np.isfinite(values)).sum()} of {len(values)} values are no numbers")
    _, inverse = np.unique(np.asarray(clusters), return_inverse=True)
    sums, counts = np.bincount(inverse, values), np.bincount(inverse)
    rng = np.random.default_rng(seed)
    drawn = rng.integers(len(counts), size=(resamples, len(counts)))
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return dict(
        mean=float(values.mean()),
        low=float(low),
        high=float(high),
        n=len(values),
        clusters=len(counts),
    )


def accuracy(frame: pd.DataFrame) -> dict[str, float]:
    """Accuracy of prediction rows with its interval.

    An image is one cluster, however many seeds looked at it.
    """
    return bootstrap(frame["correct"].to_numpy(), frame["image_id"].to_numpy())


def paired_difference(one: pd.DataFrame, other: pd.DataFrame) -> dict[str, float]:
    """Accuracy of ``one`` minus that of ``other`` on the same items and seeds."""
    both = one.merge(
        other, on=["item_id", "seed", "image_id"], suffixes=("", "_other"), validate="1:1"
    )
    if len(both) != len(one) or len(both) != len(other):
        raise ValueError(
            f"systems answered different items: {len(one)} and {len(other)}, {len(both)} in common"
        )
    return bootstrap(
        both["correct"].astype(float) - both["correct_other"].astype(float),
        both["image_id"].to_numpy(),
    )


def summary(frame: pd.DataFrame) -> dict:
    """Metrics by task and system, and LSKD's paired differences to base and unfiltered student."""
    found: dict = {}
    for (task, system), rows in frame.groupby(["task", "system"]):
        _set(found, task, system, accuracy(rows))
    by = {key: rows for key, rows in frame.groupby(["task", "system"])}
    for task in sorted(frame["task"].unique()):
        for other in ("base", "unfiltered"):
            if (task, "lskd") in by and (task, other) in by:
                _set(
                    found,
                    f"difference.{task}",
                    f"lskd_minus_{other}",
                    paired_difference(by[task, "lskd"], by[task, other]),
                )
    return found


def _set(found: dict, task: str, system: str, value: dict) -> None:
    """vcr.q_a is filed as vcr.SYSTEM.q_a, snli_ve as nonlocalized.snli_ve.SYSTEM, localized sets
    and others by their name.
    """
    if task.startswith("difference."):
        path = [*task.split("."), system]
    elif task.startswith("vcr."):
        path = ["vcr", system, task.split(".")[1]]
    else:
        path = [task.split(".")[0], system] if task in NAMED else ["nonlocalized", task, system]
    for part in path[:-1]:
        found = found.setdefault(part, {})
    found[path[-1]] = value


def read_predictions(folders: Sequence[str | Path]) -> pd.DataFrame:
    """All prediction files of some runs' folders.

    Raises ``FileNotFoundError`` for a run that has none.
    """
    frames = []
    for folder in folders:
        files = sorted((Path(folder) / "predictions").glob("*.parquet"))
        if not files:
            raise FileNotFoundError(
                f"{folder}/predictions holds no Parquet file: run notebook 06 first"
            )
        frames += [read_parquet(f, PREDICTIONS).to_pandas() for f in files]
    return pd.concat(frames, ignore_index=True)
