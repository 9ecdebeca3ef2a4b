"""Person attributes: how often texts speak of sex, age, body and the like, raw and kept.

A teacher that only reads words may dwell on some of them, and a critic may prefer what it has often
seen. So shares are compared: of all triples and of those kept, with 95% intervals over images, for
the difference too (both are counted on the same resampled images).
"""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import yaml

from lskd_nb.corpus.dedup import TRIPLE
from lskd_nb.records import PARQUET, database, parquet_at

VOCABULARY = Path(__file__).with_suffix(".yaml")
RESAMPLES = 1000


def read_attributes(path: str | Path = VOCABULARY) -> dict[str, list[str]]:
    """Groups of words by their name.

    Raises ``ValueError`` naming the file and the group that is no list of words.
    """
    try:
        told = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not valid YAML ({error})") from error
    if not isinstance(told, dict) or not told:
        raise ValueError(f"{path}: expected groups of words by name, found {type(told).__name__}")
    for group, words in told.items():
        if (
            not isinstance(words, list)
            or not words
            or not all(isinstance(w, str) and w.strip() for w in words)
        ):
            raise ValueError(
                f"{path}, group {group!r}: expected a list of words, found {str(words)[:60]}"
            )
    return {str(group): [w.strip().lower() for w in words] for group, words in told.items()}


def word_pattern(words: list[str]) -> str:
    """A regular expression (RE2) for any of the words, alone or with a plural -s, in lower case."""
    return (
        r"(?:^|[^\w-])(?:"
        + "|".join(re.escape(w).replace(r"\-", "-").replace(r"\ ", r"\s+") for w in words)
        + r")s?(?:$|[^\w-])"
    )


def attribute_shares(
    raw: str | Path, kept: str | Path, vocabulary: str | Path = VOCABULARY
) -> dict[str, dict]:
    """Shares of triples that use a word of each group, raw and kept.

    See ``shares`` for what is returned.
    """
    conditions = {
        group: (f"regexp_matches(lower({TRIPLE}), ?)", word_pattern(words))
        for group, words in read_attributes(vocabulary).items()
    }
    return shares(raw, kept, conditions)


def shares(
    raw: str | Path,
    kept: str | Path,
    conditions: Mapping[str, tuple[str, object]],
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, dict]:
    """For each condition, ``raw``, ``kept`` and ``difference`` (kept minus raw) as {mean, low,
    high}, and the ``count`` of triples in each.

    ``raw`` and ``kept`` are Parquet files of triples, the second of some of the first; a condition
    is SQL with one parameter, and its value. Images are resampled; where there are no triples, a
    share is None. Raises ``ValueError`` when ``kept`` has triples that ``raw`` lacks.
    """
    sums = ", ".join(
        f"sum(CASE WHEN {sql} THEN 1 ELSE 0 END) AS hits{n}, sum(CASE WHEN {sql} AND kept THEN 1"
        f" ELSE 0 END) AS kept{n}"
        for n, (sql, _) in enumerate(conditions.values())
    )
    values = [v for _, value in conditions.values() for v in (value, value)]
    with database() as db:
        kept_ids = f"(SELECT triple_id FROM {parquet_at(kept)})"
        lost = db.execute(
            f"SELECT triple_id FROM {kept_ids} EXCEPT SELECT triple_id FROM {PARQUET}"
            " ORDER BY 1 LIMIT 1",
            [str(raw)],
        ).fetchall()
        if lost:
            raise ValueError(
                f"{kept} has the triple {lost[0][0]!r}, which {raw} lacks:"
                " they are of different runs"
            )
        table = db.execute(
            f"SELECT count(*) AS n, sum(kept::INT) AS n_kept{', ' if sums else ''}{sums}"
            f" FROM (SELECT *, triple_id IN {kept_ids} AS kept FROM {PARQUET})"
            " GROUP BY image_id ORDER BY image_id",
            [*values, str(raw)],
        ).fetchnumpy()
    # images × (n, kept n, hits, kept hits, ...)
    counts = np.stack([np.asarray(column, float) for column in table.values()], 1)
    drawn = _resampled(counts, resamples, seed)
    found = {}
    for n, name in enumerate(conditions):
        columns = (2 + 2 * n, 0), (3 + 2 * n, 1)
        (one, ones), (two, twos) = (
            (_ratio(counts.sum(0), *c), _ratio(drawn.T, *c)) for c in columns
        )
        total = counts.sum(0)
        found[name] = dict(
            raw=_interval(one, ones),
            kept=_interval(two, twos),
            difference=_interval(two - one, twos - ones),
            count=dict(raw=int(total[columns[0][0]]), kept=int(total[columns[1][0]])),
        )
    return found


def _resampled(counts: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Sums of the columns over images drawn with replacement, (resamples, columns); fewer
    resamples, at least 200, of very many images.
    """
    rng, images = np.random.default_rng(seed), len(counts)
    drawn = np.zeros((min(resamples, max(200, 100_000_000 // max(images, 1))), counts.shape[1]))
    for row in drawn if images else ():
        row[:] = np.bincount(rng.integers(images, size=images), minlength=images) @ counts
    return drawn


def _ratio(sums: np.ndarray, part: int, whole: int) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return sums[part] / sums[whole]


def _interval(value: float, drawn: np.ndarray) -> dict[str, float | None]:
    known = drawn[np.isfinite(drawn)]
    if not np.isfinite(value) or not len(known):
        return dict(mean=None, low=None, high=None)
    low, high = np.percentile(known, [2.5, 97.5])
    return dict(mean=float(value), low=float(low), high=float(high))
