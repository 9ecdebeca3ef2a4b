"""Filtering: keep the triples that the critic finds most likely acceptable (LSKD, section 3.2, figure 4).

The paper keeps a probability of 0.8 or more, about a fifth of what the teacher wrote. Whether the critic deserves that trust is
measured: the share of acceptable triples among those kept, with a 95% bootstrap interval over images.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


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


def threshold_for_share(scores: np.ndarray, share: float) -> float:
    """The lowest threshold that keeps at most ``share`` of the triples (ties are kept or dropped together).

    Raises ``ValueError`` for a share outside 0..1 or no scores.
    """
    scores = np.asarray(scores, dtype=float)
    if not 0 < share <= 1 or len(scores) == 0:
        raise ValueError(f"share is {share} of {len(scores)} scores; expected a share in (0, 1] of at least one")
    ordered = np.sort(scores)[::-1]
    number = max(int(np.floor(share * len(scores))), 1)
    if number == len(scores):
        return float(ordered[-1])
    above = ordered[number - 1]
    if above == ordered[number]:  # the cut would go through a tie
        higher = ordered[ordered > above]
        return float(higher[-1]) if len(higher) else float(above)
    return float(above)


def acceptability(
    scores: np.ndarray, accepted: np.ndarray, image_ids: Sequence, thresholds: Sequence[float], resamples: int = 1000, seed: int = 0
) -> list[Point]:
    """Acceptability of what each threshold keeps, images resampled: the same resamples for every threshold."""
    scores, accepted = np.asarray(scores, dtype=float), np.asarray(accepted, dtype=float)
    if not len(scores) == len(accepted) == len(image_ids):
        raise ValueError(f"{len(scores)} scores, {len(accepted)} labels and {len(image_ids)} image ids: expected as many of each")
    names, image = np.unique(np.asarray(image_ids), return_inverse=True)
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(len(names), np.full(len(names), 1 / max(len(names), 1)), size=resamples) if len(names) else np.zeros((resamples, 0))
    points = []
    for threshold in thresholds:
        keep = kept(scores, threshold)
        good = np.bincount(image[keep], accepted[keep], minlength=len(names))
        count = np.bincount(image[keep], minlength=len(names))
        with np.errstate(invalid="ignore"):
            means = (weights @ good) / (weights @ count)
        low, high = np.nanpercentile(means, [2.5, 97.5]) if keep.any() else (np.nan, np.nan)
        mean = accepted[keep].mean() if keep.any() else np.nan
        points.append(Point(float(threshold), float(keep.mean()) if len(keep) else 0.0, int(keep.sum()), float(mean), float(low), float(high)))
    return points


def share_curve(scores: np.ndarray, accepted: np.ndarray, image_ids: Sequence, shares: Sequence[float] = tuple(np.arange(0.05, 1.01, 0.05)),
                resamples: int = 1000, seed: int = 0) -> list[Point]:
    """Acceptability against the share kept."""
    return acceptability(scores, accepted, image_ids, [threshold_for_share(scores, min(s, 1.0)) for s in shares], resamples, seed)
