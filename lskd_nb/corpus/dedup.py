"""Deduplication: which texts are said again, word for word or nearly.

A *wording* is a text with case, white space and the numbers of regions put aside: "Why is [2]
here?" and "why is  [0] here?" are one wording. Two wordings are *near* when the sets of word pairs
in them have a Jaccard similarity of at least a threshold. MinHash and locality-sensitive hashing
(datasketch) propose who might be near, and each proposal is checked on the word pairs themselves:
what is reported as near is near, and of what is near some is missed (at a threshold of 0.7, 8 in
100 of those with just that similarity, 2 in 100 of those with 0.75). Only distinct wordings are
hashed, and only those that share a bucket with another are looked at one by one.
"""

import re
import zlib
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path

import numpy as np

from lskd_nb.records import NUMBERED_PARQUET, database

JACCARD = 0.7  # of the sets of word pairs
PERMUTATIONS = 128
AT_ONCE = 500  # wordings that are hashed together
# what a false proposal costs, and what a missed one: proposals are checked, misses are for good
MISSES = (0.1, 0.9)
# SQL
NORMALISED = r"""lower(trim(regexp_replace(
    regexp_replace({text}, '\[\s*\d+(\s*,\s*\d+)*\s*\]', '[]', 'g'), '\s+', ' ', 'g')))"""
_WORD = re.compile(r"\[\]|\w+(?:['’-]\w+)*")
TRIPLE = "concat_ws(' ', question, answer, rationale)"  # a text that is missing is left out
QUESTION_AND_ANSWER = "concat_ws(' ', question, answer)"


def word_pairs(wording: str) -> frozenset[str]:
    """The pairs of words that follow each other, marks aside; a mention is a word.

    A wording of one word is its own pair.

    >>> sorted(word_pairs("why is [] here?"))
    ['[] here', 'is []', 'why is']
    """
    words = _WORD.findall(wording)
    return frozenset(map(" ".join, zip(words, words[1:], strict=False))) or frozenset(words)


def jaccard(one: frozenset, other: frozenset) -> float:
    """Size of the intersection by that of the union; 1 for two empty sets."""
    return len(one & other) / len(one | other) if one or other else 1.0


class MinHashBands:
    """Where locality-sensitive hashing puts a wording: in one bucket of each of some bands, of
    which near ones are likely to share one.

    Hashes and bands are those of datasketch's MinHash and MinHashLSH, computed for many wordings at
    once; a bucket is told by 64 bits.
    """

    def __init__(self, threshold: float = JACCARD):
        from datasketch import MinHash, MinHashLSH

        if not 0 < threshold <= 1:
            raise ValueError(f"threshold is {threshold}, expected a Jaccard similarity in (0, 1]")
        capped = min(threshold, 0.95)  # beyond, too few bands are left
        lsh = MinHashLSH(threshold=capped, num_perm=PERMUTATIONS, weights=MISSES)
        self.number, self._rows = lsh.b, lsh.r
        self._factors, self._terms = MinHash(PERMUTATIONS, scheme="affine32").permutations
        rng = np.random.default_rng(0)
        self._odd = rng.integers(2**63, size=self._rows, dtype=np.uint64) * np.uint64(
            2
        ) + np.uint64(1)

    def hashes(self, wordings: Sequence[str]) -> np.ndarray:
        """(N, PERMUTATIONS) uint32: the MinHash of each wording's pairs of words."""
        pairs = [word_pairs(wording) for wording in wordings]
        sizes = np.fromiter(map(len, pairs), np.int64, len(pairs))
        found = np.full((len(pairs), PERMUTATIONS), 2**32 - 1, np.uint32)
        told = (zlib.crc32(pair.encode("utf-8", "replace")) for of in pairs for pair in of)
        distinct, which = np.unique(np.fromiter(told, np.uint32), return_inverse=True)
        if len(distinct):
            permuted = _mixed(distinct)[:, None] * self._factors + self._terms
            starts = (sizes.cumsum() - sizes)[sizes > 0]
            found[sizes > 0] = np.minimum.reduceat(permuted[which], starts)
        return found

    def buckets(self, wordings: Sequence[str]) -> np.ndarray:
        """(N, bands) uint64."""
        found = np.empty((len(wordings), self.number), np.uint64)
        for start in range(0, len(wordings), AT_ONCE):
            hashes = self.hashes(wordings[start : start + AT_ONCE]).astype(np.uint64)
            bands = hashes[:, : self.number * self._rows].reshape(len(hashes), self.number, -1)
            found[start : start + AT_ONCE] = (bands * self._odd).sum(-1, dtype=np.uint64)
        return found


def _mixed(hashes: np.ndarray) -> np.ndarray:
    """MurmurHash3's last step, (N,) uint32: what datasketch does before it permutes."""
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        hashes = (hashes ^ (hashes >> np.uint32(shift))) * np.uint32(factor)
    return hashes ^ (hashes >> np.uint32(16))


class NearDuplicateIndex:
    """An index that finds the near ones among the wordings that were added.

    ``buckets`` of a wording are its row of ``MinHashBands.buckets``, masked where nobody can meet
    it there.
    """

    def __init__(self, threshold: float = JACCARD):
        self._threshold = threshold
        self._keys: dict[tuple[int, int], list[Hashable]] = {}
        self._wordings: dict[Hashable, str] = {}

    def add(self, key: Hashable, wording: str, buckets: np.ndarray) -> None:
        """Let a wording be found under ``key``."""
        for bucket in _of_bands(buckets):
            self._keys.setdefault(bucket, []).append(key)
        self._wordings[key] = wording

    def remove(self, key: Hashable) -> None:
        """Let it be found no more."""
        del self._wordings[key]

    def near(self, wording: str, buckets: np.ndarray) -> list[tuple[Hashable, float]]:
        """Keys of what is near, each with its Jaccard similarity, the most similar first."""
        proposed = {key for bucket in _of_bands(buckets) for key in self._keys.get(bucket, ())}
        pairs, found = word_pairs(wording), []
        for key in proposed:
            if (other := self._wordings.get(key)) is not None:
                similarity = jaccard(pairs, word_pairs(other))
                if similarity >= self._threshold:
                    found.append((key, similarity))
        return sorted(found, key=lambda one: (-one[1], str(one[0])))


def _of_bands(buckets: np.ndarray) -> list[tuple[int, int]]:
    """The buckets that are not masked, each with its band."""
    return [(band, bucket) for band, bucket in enumerate(buckets.tolist()) if bucket is not None]


def near_duplicate_clusters(wordings: Iterable[str], threshold: float = JACCARD) -> list[list[int]]:
    """Clusters of near wordings, by place: each of the others is near to the first, the earliest.

    A wording joins the nearest first one; where there is none it becomes one itself. So what is
    left when all but the first are dropped has no near ones, and the work does not grow with the
    square of a cluster.
    """
    wordings = list(wordings)
    buckets = MinHashBands(threshold).buckets(wordings)
    alone = np.stack([_once(band) for band in buckets.T], 1)
    index, clusters = NearDuplicateIndex(threshold), {}
    for place in np.flatnonzero(~alone.all(1)).tolist():  # whoever meets nobody has no near ones
        met = np.ma.array(buckets[place], mask=alone[place])
        if found := index.near(wordings[place], met):
            clusters.setdefault(found[0][0], [found[0][0]]).append(place)
        else:
            index.add(place, wordings[place], met)
    return list(clusters.values())


def _once(values: np.ndarray) -> np.ndarray:
    """(N,) bool: values that are there once."""
    order = np.argsort(values)
    ordered = values[order]
    same = ordered[1:] == ordered[:-1]
    once = np.empty(len(values), bool)
    once[order] = ~(np.append(same, False) | np.append(False, same))[: len(values)]
    return once


def distinct_texts(path: str | Path, text: str = TRIPLE) -> list[tuple[str, int, str]]:
    """Each wording of a file of triples, how often it occurs, the first triple that has it.

    In the order of the (Parquet) file; ``text`` is an SQL expression over the columns.

    >>> database().sql("SELECT " + NORMALISED.format(text="'Why is  [1, 2] here? '")).fetchall()
    [('why is [] here?',)]
    """
    query = f"""
        SELECT {NORMALISED.format(text=text)} AS wording, count(*),
            arg_min(triple_id, file_row_number)
        FROM {NUMBERED_PARQUET} GROUP BY wording ORDER BY min(file_row_number)
    """
    with database() as db:
        return db.execute(query, [str(path)]).fetchall()


def duplicates(path: str | Path, threshold: float = JACCARD, examples: int = 5) -> dict:
    """How much of a file of triples says what another triple says: counts, shares, examples.

    ``exact``: the same wording of question, answer and rationale. ``near``: distinct wordings that
    are near to an earlier one.
    """
    rows = distinct_texts(path)
    triples = sum(n for _, n, _ in rows)
    often = sorted((r for r in rows if r[1] > 1), key=lambda r: -r[1])[:examples]
    clusters = near_duplicate_clusters((w for w, _, _ in rows), threshold)
    largest = sorted(clusters, key=len, reverse=True)[:examples]
    again = sum(len(c) - 1 for c in clusters)
    return dict(
        exact=dict(
            triples=triples,
            distinct=len(rows),
            share=share_of(triples - len(rows), triples),
            examples=[dict(wording=w, times=n, first=t) for w, n, t in often],
        ),
        near=dict(
            threshold=threshold,
            of="pairs of words",
            clusters=len(clusters),
            wordings=again,
            share=share_of(again, len(rows)),
            left=len(rows) - again,
            largest=max(map(len, clusters), default=0),
            examples=[_cluster(rows, c) for c in largest],
        ),
    )


def _cluster(rows: Sequence[tuple[str, int, str]], places: Sequence[int]) -> dict:
    first, second = rows[places[0]], rows[places[1]]
    return dict(
        wordings=len(places),
        one=first[0],
        one_triple=first[2],
        other=second[0],
        other_triple=second[2],
        jaccard=round(jaccard(word_pairs(first[0]), word_pairs(second[0])), 3),
    )


def share_of(part: int, whole: int) -> float:
    """A part of a whole, 0 of nothing."""
    return part / whole if whole else 0.0
