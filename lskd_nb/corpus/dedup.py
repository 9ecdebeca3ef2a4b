"""Deduplication: which texts are said again, word for word or nearly.

A *wording* is a text with case, white space and the numbers of regions put aside: "Why is [2]
here?" and "why is  [0] here?" are one wording. Two wordings are *near* when the sets of word pairs
in them have a Jaccard similarity of at least a threshold. MinHash and locality-sensitive hashing
(datasketch) propose who might be near, and each proposal is checked on the word pairs themselves:
what is reported as near is near, and of what is near some is missed (at a threshold of 0.7, 8 in
100 of those with just that similarity, 2 in 100 of those with 0.75). Only distinct wordings are
hashed: on one core, 100,000 of 40 words each take 12 s and 0.6 GiB; a million of 25 words took 2
min, most of them near ones. A million that are all different would take some 5 GiB.
"""

import re
import zlib
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from lskd_nb.records import NUMBERED_PARQUET

JACCARD = 0.7  # of the sets of word pairs
PERMUTATIONS = 128
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


@dataclass(frozen=True)
class Sketch:
    """A wording, its word pairs and their MinHash."""

    wording: str
    pairs: frozenset[str]
    minhash: object = field(repr=False)


class NearDuplicateIndex:
    """An index that finds the near ones among the wordings that were added."""

    def __init__(self, threshold: float = JACCARD):
        from datasketch import MinHash, MinHashLSH

        if not 0 < threshold <= 1:
            raise ValueError(f"threshold is {threshold}, expected a Jaccard similarity in (0, 1]")
        self.threshold = threshold
        capped = min(threshold, 0.95)  # beyond, too few bands are left
        self._lsh = MinHashLSH(threshold=capped, num_perm=PERMUTATIONS, weights=MISSES)
        self._empty = MinHash(
            num_perm=PERMUTATIONS, hashfunc=lambda pair: zlib.crc32(pair.encode("utf-8", "replace"))
        )
        self._wordings: dict[Hashable, str] = {}

    def sketch(self, wording: str) -> Sketch:
        """What ``add`` and ``near`` look at."""
        minhash, pairs = self._empty.copy(), word_pairs(wording)
        minhash.update_batch(pairs)
        return Sketch(wording, pairs, minhash)

    def add(self, key: Hashable, sketch: Sketch) -> None:
        """Let ``sketch`` be found under ``key``."""
        self._lsh.insert(key, sketch.minhash)
        self._wordings[key] = sketch.wording

    def remove(self, key: Hashable) -> None:
        """Let it be found no more."""
        self._lsh.remove(key)
        del self._wordings[key]

    def near(self, sketch: Sketch) -> list[tuple[Hashable, float]]:
        """Keys of what is near, each with its Jaccard similarity, the most similar first."""
        proposed = (
            (key, jaccard(sketch.pairs, word_pairs(self._wordings[key])))
            for key in self._lsh.query(sketch.minhash)
        )
        found = [(key, similarity) for key, similarity in proposed if similarity >= self.threshold]
        return sorted(found, key=lambda one: (-one[1], str(one[0])))


def near_duplicate_clusters(wordings: Iterable[str], threshold: float = JACCARD) -> list[list[int]]:
    """Clusters of near wordings, by place: each of the others is near to the first, the earliest.

    A wording joins the nearest first one; where there is none it becomes one itself. So what is
    left when all but the first are dropped has no near ones, and the work does not grow with the
    square of a cluster.
    """
    index, clusters = NearDuplicateIndex(threshold), {}
    for place, wording in enumerate(wordings):
        sketch = index.sketch(wording)
        if found := index.near(sketch):
            clusters.setdefault(found[0][0], [found[0][0]]).append(place)
        else:
            index.add(place, sketch)
    return list(clusters.values())


def distinct_texts(path: str | Path, text: str = TRIPLE) -> list[tuple[str, int, str]]:
    """Each wording of a file of triples, how often it occurs, the first triple that has it.

    In the order of the (Parquet) file; ``text`` is an SQL expression over the columns.

    >>> duckdb.sql("SELECT " + NORMALISED.format(text="'Why is  [1, 2] here? '")).fetchall()
    [('why is [] here?',)]
    """
    query = f"""
        SELECT {NORMALISED.format(text=text)} AS wording, count(*),
            arg_min(triple_id, file_row_number)
        FROM {NUMBERED_PARQUET} GROUP BY wording ORDER BY min(file_row_number)
    """
    with duckdb.connect() as db:
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
