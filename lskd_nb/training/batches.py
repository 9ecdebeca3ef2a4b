"""What each step of distillation sees: rows of the corpus as views (LSKD, section 3.3).

Each time a row is drawn its regions are shuffled, half the time all that were offered and half the
time those it mentions, and its texts are renumbered to match. A *region swap* is the same text with
two ids exchanged, false about this very image; an *exchange* has the answer or the rationale of
another row that asks the same, as VCR's wrong choices have, a *near miss* those of the one of many
such rows whose reasons share the most words: what is right of such a one in other surroundings.
Captions, which are asked nothing, have near misses too: a caption of another image that differs in
a word or two. A row whose texts mention no region is about the plain image: nothing is drawn on it,
and it has no swap. ``prefix`` stands before every
question that there is, as it will when the student is asked; the reference has ``question: ``.

    corpus.parquet                      rehearsal.parquet
        | corpus_rows                       | rehearsal_rows
        v                                   v
    Row: image, question, answer, rationale, N regions, mentioned ids
        | batch_at: B of them by seed and step, a share of them rehearsed
        v
    draw_sample: n <= N regions in random order, ids 0 ... n - 1 in the texts as well
        |
        v
    Sample: view (image, n regions)     -> views: drawn_BSS3 -> features_BPD
            question, text              -> Student.tokenize: ids_BL
            swapped, exchanged          -> ITM's negatives: two more texts of each image
"""

import re
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa

from lskd_nb.records import CORPUS, read_parquet
from lskd_nb.regions import Region, mentions, region_of, renumber, shuffle_ids
from lskd_nb.students.views import View

RIVALS = 64  # rows that ask the same, of which a near miss is the one with the most similar reasons
REHEARSAL = pa.schema([("image", pa.string()), ("question", pa.string()), ("text", pa.string())])


@dataclass(frozen=True)
class Row:
    """One text about one image. ``regions`` may be drawn; ids in the texts are theirs."""

    image: str
    question: str
    answer: str
    rationale: str
    regions: tuple[Region, ...]
    mentioned: tuple[int, ...]


@dataclass(frozen=True)
class Sample:
    """A row as one step sees it: its view, and texts renumbered to the view's ids.

    Its own hard negatives are (question, text) or None: ``swapped`` has two regions exchanged,
    ``exchanged`` the answer or the rationale of a row that asks the same, ``near_miss`` those of
    one with similar reasons.
    """

    view: View
    question: str
    text: str
    swapped: tuple[str, str] | None = None
    exchanged: tuple[str, str] | None = None
    near_miss: tuple[str, str] | None = None


def corpus_rows(path: str | Path, prefix: str = "") -> list[Row]:
    """Rows of a corpus, ``prefix`` before their questions.

    Raises ``ValueError`` where there are none, and naming the triple whose texts mention a region
    it does not have.
    """
    rows = []
    for r in _dicts(read_parquet(path, CORPUS)):
        mentioned = tuple(mentions(" ".join((r["question"], r["answer"], r["rationale"]))))
        # what no text mentions is not drawn for a row that mentions nothing
        regions = tuple(region_of(g) for g in r["references"]) if mentioned else ()
        unknown = set(mentioned) - {g.id for g in regions}
        if unknown:
            raise ValueError(
                f"{path}: triple {r['triple_id']} mentions the regions {sorted(unknown)} that it"
                " has no boxes for"
            )
        question = _asked(r["question"], prefix)
        rows.append(Row(r["image"], question, r["answer"], r["rationale"], regions, mentioned))
    if not rows:
        raise ValueError(f"{path} holds no triples: there is nothing to learn from")
    return rows


def rehearsal_rows(path: str | Path, prefix: str = "") -> list[Row]:
    """Plain pairs (image, question, text), ``prefix`` before questions; these may be empty.

    Nothing is drawn.
    """
    return [
        Row(r["image"], _asked(r["question"], prefix), r["text"], "", (), ())
        for r in _dicts(read_parquet(path, REHEARSAL))
    ]


def _dicts(table: pa.Table) -> Iterator[dict]:
    """Rows as dicts, not all at once: a million of them would take gigabytes."""
    for part in table.to_batches(max_chunksize=10_000):
        yield from part.to_pylist()


def _asked(question: str, prefix: str) -> str:
    return f"{prefix}{question}" if question else ""


def by_question(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Rows that ask the same, whatever region they ask it about."""
    asked: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        asked[_unnumbered(row.question)].append(row)
    return asked


def _unnumbered(question: str) -> str:
    return renumber(question, dict.fromkeys(mentions(question), 0)).lower()


def answer_text(answer: str, rationale: str = "") -> str:
    """What follows the question: with the rationale or without (LSKD trains on half each).

    >>> answer_text("She waits.", "[0] looks at a clock.")
    'Answer: She waits. Rationale: [0] looks at a clock.'
    """
    return f"Answer: {answer} Rationale: {rationale}" if rationale else f"Answer: {answer}"


def fixed_view(row: Row, which: int) -> View:
    """One of a row's fixed shuffles, the same whatever is trained from it."""
    return View(row.image, _fixed_shuffle(row, which)[0]) if row.mentioned else View(row.image)


def _fixed_shuffle(row: Row, which: int):
    # in turn: all regions, the mentioned ones; a lone box would teach nothing about pointing
    mentioned = row.mentioned if which % 2 and len(row.mentioned) > 1 else ()
    return fixed_order(row.image, row.regions, which, mentioned)


def fixed_order(
    image: str, regions: Sequence[Region], which: int, mentioned: Sequence[int] = ()
) -> tuple[tuple[Region, ...], dict[int, int]]:
    """One of an image's fixed shuffles, of all ``regions`` or of those ``mentioned``: the same for
    all who ask, so that its stored features serve them all. As ``regions.shuffle_ids`` returns it.
    """
    rng = np.random.default_rng([image_index(image), which, *mentioned])
    return shuffle_ids(regions, mentioned, rng, share_mentioned=1.0)


def draw_sample(
    row: Row,
    views: int,
    rng: np.random.Generator,
    asked: Mapping[str, Sequence[Row]] | None = None,
    near_misses: bool = False,
) -> Sample:
    """Shuffle a row's regions and renumber its texts; one that mentions none is not drawn on.

    With ``views`` > 0 the shuffle is one of that many fixed ones.

    ``asked``: rows by question, of which one is drawn for the exchange, and where ``near_misses``
    are wanted one with similar reasons for that.
    """
    rival = _rival(row, asked or {}, 1, rng) if row.question else None
    near = _rival(row, asked or {}, RIVALS, rng) if near_misses else None
    if not row.mentioned:
        return _plain_sample(row, rival, near, rng)
    if views:
        regions, mapping = _fixed_shuffle(row, int(rng.integers(views)))
    else:
        regions, mapping = shuffle_ids(row.regions, row.mentioned, rng)
    question, answer = renumber(row.question, mapping), renumber(row.answer, mapping)
    rationale = renumber(row.rationale, mapping) if rng.random() < 0.5 else ""
    text = answer_text(answer, rationale)
    swapped = _swap(question, text, len(regions), rng)
    drawn = Sample(View(row.image, regions), question, text, swapped)
    if rival:
        drawn = replace(drawn, exchanged=_exchange(drawn, answer, rationale, rival, rng))
    if near:
        drawn = replace(drawn, near_miss=_exchange(drawn, answer, rationale, near, rng))
    return drawn


def _plain_sample(
    row: Row, rival: Row | None, near: Row | None, rng: np.random.Generator
) -> Sample:
    """A plain pair, or a triple that mentions no region: the image without boxes, and no swap."""
    rationale = row.rationale if row.rationale and rng.random() < 0.5 else ""
    text = answer_text(row.answer, rationale) if row.question else row.answer
    drawn = Sample(View(row.image), row.question, text)
    if rival:
        drawn = replace(drawn, exchanged=_exchange(drawn, row.answer, rationale, rival, rng))
    if near:
        wrong = (
            _exchange(drawn, row.answer, rationale, near, rng)
            if row.question
            else ("", near.answer)
        )
        drawn = replace(drawn, near_miss=wrong)
    return drawn


def _rival(
    row: Row, asked: Mapping[str, Sequence[Row]], rivals: int, rng: np.random.Generator
) -> Row | None:
    """Of ``rivals`` rows that ask the same and say something else the one whose reasons, or texts
    where there are none, share the most words: a near miss. None where a few draws find none.
    """
    same = asked.get(_unnumbered(row.question), ())
    drawn = rng.integers(len(same), size=4 * rivals).tolist() if same else []
    found = list(islice((same[i] for i in drawn if _says_else(row, same[i])), rivals))
    if len(found) < 2:
        return found[0] if found else None
    own = _words(row.rationale or row.answer)
    return max(found, key=lambda o: _overlap(own, _words(o.rationale or o.answer)))


def _says_else(row: Row, other: Row) -> bool:
    """A caption of the same image, or one that only says less, would be right of this one."""
    if row.question:
        return other.answer != row.answer
    return other.image != row.image and not _words(other.answer) <= _words(row.answer)


def _overlap(one: frozenset[str], other: frozenset[str]) -> float:
    return len(one & other) / max(len(one | other), 1)


@lru_cache(maxsize=100_000)
def _words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", text.lower()))


def _exchange(
    drawn: Sample, answer: str, rationale: str, rival: Row, rng: np.random.Generator
) -> tuple[str, str] | None:
    """The rival's answer, rationale, or both, told of the row's regions in order of mention."""
    own = mentions(f"{drawn.question} {drawn.text}")
    ids = own + [r.id for r in drawn.view.regions if r.id not in own]
    if len(rival.mentioned) > len(ids):
        return None
    mapping = dict(zip(rival.mentioned, ids, strict=False))
    theirs = rival.answer, rival.rationale
    if mapping:  # what people wrote may have numbers in brackets that are no regions
        theirs = renumber(rival.answer, mapping), renumber(rival.rationale, mapping)
    how = int(rng.integers(3)) if rationale else 0
    answer = answer if how == 1 else theirs[0]
    rationale = rationale if how == 2 else theirs[1]
    return drawn.question, answer_text(answer, rationale if " Rationale: " in drawn.text else "")


def image_index(path: str) -> int:
    """A number that stands for an image in seeds and in ITC's exclusions."""
    return zlib.crc32(path.encode())


def _swap(question: str, text: str, drawn: int, rng: np.random.Generator) -> tuple[str, str] | None:
    """Exchange a mentioned id with another drawn one, in the question and the rest."""
    mentioned = mentions(question) or mentions(text)
    if not mentioned or drawn < 2:
        return None
    one = mentioned[int(rng.integers(len(mentioned)))]
    other = int(rng.choice([i for i in range(drawn) if i != one]))
    mapping = {i: i for i in range(drawn)} | {one: other, other: one}
    return renumber(question, mapping), renumber(text, mapping)


def batch_at(
    step: int,
    rows: Sequence[Row],
    plain: Sequence[Row],
    asked: Mapping[str, Sequence[Row]],
    batch: int,
    rehearsal_share: float,
    views: int,
    seed: int,
    near_misses: bool = False,
) -> list[Sample]:
    """The rows of a step, a function of seed and step alone: resumed runs see what others would."""
    rng = np.random.default_rng([seed, 1, step])
    rehearsed = round(batch * rehearsal_share) if plain else 0
    picked = [rows[i] for i in epoch_indices(len(rows), batch - rehearsed, step, seed)]
    picked += [plain[i] for i in rng.integers(len(plain), size=rehearsed)] if rehearsed else []
    return [draw_sample(row, views, rng, asked, near_misses) for row in picked]


def epoch_indices(size: int, batch: int, step: int, seed: int) -> list[int]:
    """Indices of one step: rows shuffled anew each epoch, epochs without a gap."""
    positions = range(step * batch, (step + 1) * batch)
    return [int(_order(size, p // size, seed)[p % size]) for p in positions]


@lru_cache(maxsize=4)
def _order(size: int, epoch: int, seed: int) -> np.ndarray:
    """The shuffle of an epoch: of a million rows it takes longer than a step has."""
    return np.random.default_rng([seed, 2, epoch]).permutation(size)
