"""Filtering: keep the triples that the critic finds acceptable (LSKD, section 3.2, figure 4).

The paper keeps a probability of 0.8 or more, about a fifth of what the teacher wrote. Whether the
critic deserves that trust is measured: the share of acceptable triples among those kept, with a 95%
bootstrap interval over images.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Point:
    """One place on the curve: what is kept at ``threshold``, and how much of it is acceptable."""

    threshold: float
    share: float  # of all triples kept
    kept: int
    mean: float  # acceptability of the kept, nan where nothing is kept
    low: float
    high: float


def kept(scores: np.ndarray, threshold: float) -> np.ndarray:
    """(N,) bool: scores at or above the threshold."""
    return np.asarray(scores) >= threshold


def best_share(
    scores: np.ndarray, triple_ids: Sequence[str], share: float
) -> tuple[np.ndarray, float]:
    """The best ``share`` of the triples, rounded down but at least one: (N,) bool, and the
    threshold, which is the lowest score kept.

    Where several share the lowest score and not all of them fit in, those are kept whose id has the
    smallest hash (SHA-256): as good as drawn at random, and the same in every run. Raises
    ``ValueError`` for a share outside 0..1, no scores, or scores that are no numbers.
    """
    scores = np.asarray(scores, dtype=float)
    if lost := int(np.isnan(scores).sum()):
        raise ValueError(f"{lost:,} of {len(scores):,} scores are no numbers: none can be filtered")
    number = _number(len(scores), share)
    threshold = float(np.partition(scores, len(scores) - number)[len(scores) - number])
    best = scores > threshold
    tied = np.flatnonzero(scores == threshold)
    hashes = [hashlib.sha256(str(triple_ids[i]).encode()).hexdigest() for i in tied]
    best[tied[np.argsort(hashes, kind="stable")[: number - int(best.sum())]]] = True
    return best, threshold


def ties_apart(scores: np.ndarray, best: np.ndarray, threshold: float) -> np.ndarray:
    """Scores (float64) of which those that reach the threshold without being among the ``best``
    lie just below it: what a threshold keeps of these is what ``best_share`` has kept.
    """
    scores = np.asarray(scores, dtype=float)
    return np.where(
        ~np.asarray(best) & kept(scores, threshold), np.nextafter(threshold, -1), scores
    )


def _number(scores: int, share: float) -> int:
    """How many of so many ``share`` keeps."""
    if not 0 < share <= 1 or scores == 0:
        raise ValueError(
            f"share is {share} of {scores} scores; expected a share in (0, 1] of at least one"
        )
    return max(int(np.floor(share * scores)), 1)


def _threshold(ordered: np.ndarray, share: float) -> float:
    """The lowest threshold that keeps at most ``share`` of scores that fall, ties together; the
    highest score where more than that tie with it.
    """
    number = _number(len(ordered), share)
    above = ordered[number - 1]
    if number == len(ordered) or above != ordered[number]:
        return float(above)
    higher = ordered[ordered > above]  # the cut would go through a tie
    return float(higher[-1]) if len(higher) else float(above)


def acceptability_rows(
    triples: Iterable[Mapping], accepted: Iterable[bool], system: str, seed: int
) -> list[dict]:
    """Rows of records.PREDICTIONS, one a triple: ``correct`` where it is acceptable, ``slice`` its
    prompt family. ``system`` says which triples these are: raw, or kept.
    """
    return [
        dict(
            item_id=t["triple_id"],
            image_id=t["image_id"],
            task="acceptability",
            system=system,
            seed=seed,
            scores=[],
            label=1,
            correct=bool(good),
            slice=t["family"],
        )
        for t, good in zip(triples, accepted, strict=True)
    ]


class Acceptability:
    """Labelled triples, ready to tell how much of what any threshold keeps is acceptable.

    Sorting and resampling are done once. Images are resampled, the same resamples for every
    threshold; of many images (more than 30,000 at the usual number of resamples) fewer resamples
    are drawn, never less than 200, so that they fit into memory.
    """

    def __init__(
        self,
        scores: np.ndarray,
        accepted: np.ndarray,
        image_ids: Sequence,
        resamples: int = 1000,
        seed: int = 0,
    ):
        if not len(scores) == len(accepted) == len(image_ids):
            raise ValueError(
                f"{len(scores)} scores, {len(accepted)} labels and {len(image_ids)} image ids:"
                " expected as many of each"
            )
        image, names = pd.factorize(np.asarray(image_ids), sort=True)
        self.order = np.argsort(-np.asarray(scores, dtype=float), kind="stable")
        self.scores = np.asarray(scores, dtype=float)[self.order]
        self._accepted = np.asarray(accepted, dtype=float)[self.order]
        self._image = image[self.order]
        self._images = len(names)
        rng = np.random.default_rng(seed)
        drawn = min(resamples, max(200, 30_000_000 // max(len(names), 1)))
        self._weights = np.zeros((drawn, len(names)), np.float32)
        for row in self._weights if len(names) else ():
            row[:] = np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names))

    def at(self, thresholds: Sequence[float]) -> list[Point]:
        """Acceptability of what each threshold keeps."""
        number = len(self.scores) - np.searchsorted(
            self.scores[::-1], np.asarray(thresholds, dtype=float), side="left"
        )
        steps = np.unique(number)
        good, count = np.zeros((2, len(steps), self._images))
        for row, (start, end) in enumerate(zip([0, *steps], steps, strict=False)):
            good[row] = np.bincount(self._image[start:end], self._accepted[start:end], self._images)
            count[row] = np.bincount(self._image[start:end], minlength=self._images)
        with np.errstate(invalid="ignore"):
            means = (self._weights @ good.cumsum(0).T.astype(np.float32)) / (
                self._weights @ count.cumsum(0).T.astype(np.float32)
            )
        total = np.concatenate([[0.0], self._accepted.cumsum()])
        points = []
        for threshold, n in zip(thresholds, number, strict=True):
            if n:
                low, high = np.nanpercentile(means[:, np.searchsorted(steps, n)], [2.5, 97.5])
            else:
                low, high = (np.nan, np.nan)
            share = n / len(self.scores) if len(self.scores) else 0.0
            points.append(
                Point(
                    float(threshold),
                    float(share),
                    int(n),
                    float(total[n] / n) if n else float("nan"),
                    float(low),
                    float(high),
                )
            )
        return points

    def by_rank(self, parts: int = 10) -> list[Point]:
        """Acceptability of each of ``parts`` parts of the ranking, as large as one another, the
        best first. Each point tells the lowest score of its part, the share of the triples up to
        there, and how many are in it; a part that is empty has no point.
        """
        ends = np.unique(np.round(np.linspace(0, len(self.scores), parts + 1)).astype(int))
        points = []
        for start, end in zip(ends, ends[1:], strict=False):
            image, good = self._image[start:end], self._accepted[start:end]
            sums = (np.bincount(image, w, self._images) for w in (good, np.ones_like(good)))
            right, drawn = (self._weights @ of.astype(np.float32) for of in sums)
            with np.errstate(invalid="ignore"):
                low, high = np.nanpercentile(right / drawn, [2.5, 97.5])
            share, number = end / len(self.scores), int(end - start)
            threshold = float(self.scores[end - 1])
            points.append(
                Point(threshold, share, number, float(good.mean()), float(low), float(high))
            )
        return points

    def by_share(self, shares: Sequence[float]) -> list[Point]:
        """Acceptability of the best ``shares`` of the triples; those with equal scores are kept or
        dropped together, and each point tells its own share.
        """
        return self.at([_threshold(self.scores, min(share, 1.0)) for share in shares])


def acceptability(
    scores: np.ndarray,
    accepted: np.ndarray,
    image_ids: Sequence,
    thresholds: Sequence[float],
    resamples: int = 1000,
    seed: int = 0,
) -> list[Point]:
    """Acceptability of what each threshold keeps, with 95% intervals over images."""
    return Acceptability(scores, accepted, image_ids, resamples, seed).at(thresholds)


def share_curve(
    scores: np.ndarray,
    accepted: np.ndarray,
    image_ids: Sequence,
    shares: Sequence[float] = tuple(np.arange(0.05, 1.01, 0.05)),
    resamples: int = 1000,
    seed: int = 0,
) -> list[Point]:
    """Acceptability against the share kept."""
    return Acceptability(scores, accepted, image_ids, resamples, seed).by_share(shares)


def rank_curve(
    scores: np.ndarray,
    accepted: np.ndarray,
    image_ids: Sequence,
    parts: int = 10,
    resamples: int = 1000,
    seed: int = 0,
) -> list[Point]:
    """Acceptability of each part of the critic's ranking, the best first."""
    return Acceptability(scores, accepted, image_ids, resamples, seed).by_rank(parts)
