"""Where verbalizers disagree: two lines that can't both be right, or a word that nobody else says.

The plain words of lines are compared; nothing is understood, so "a girl" contradicts "a young
woman". Content words are what is left without scikit-learn's English stop words, in small letters,
a plural's s off. The head noun of a line is the last content word before its first preposition,
verb form in -ing or -ed, or other stop word: "dog" of "a brown dog running on the beach".

- Lines of two verbalizers about one region (the data set's label counts as one) **contradict** each
  other if they share no content word, are about another thing (neither's head noun is among the
  other's words), or name other colours or other numbers.
- A region's line and a line about the whole image contradict each other if the latter names the
  region's head noun, which is no other region's, but other colours or numbers. That it leaves a
  region out is no contradiction: captions name some of what is there. Retrieval, which names what
  is likely, is not compared.
- A word is **lonely** if one verbalizer alone says it of the image; a label's words are not, since
  a label says so little.

A region's disagreement is 1 for each contradiction among its own lines, ½ for each with a line
about the whole image, and the share of its words, its label's aside, that are lonely. An image's
disagreement is that of its worst region.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from math import nan
from pathlib import Path

import duckdb
import pyarrow as pa

from lskd_nb.records import PARQUET, database
from lskd_nb.run_folder import RunFolder

LABEL = "label"  # what the data set calls a region, as a verbalizer
RETRIEVAL = "clip-"  # what the names of verbalizers that retrieve words begin with
# fmt: off
COLORS = frozenset((
    "black", "white", "gray", "silver", "red", "maroon", "pink", "orange", "yellow", "gold",
    "green", "teal", "turquoise", "blue", "navy", "purple", "violet", "brown", "tan", "beige",
))
NUMBERS = dict(
    two="2", three="3", four="4", five="5", six="6", seven="7", eight="8", nine="9", ten="10",
    eleven="11", twelve="12",
)
# fmt: on
SAME = NUMBERS | {"grey": "gray", "golden": "gold"}
_WORD = re.compile(r"[^\W_]+")

LINES = """
SELECT image_id, verbalizer, region, question, coalesce(text, '') AS text, score, model, version,
    concat_ws(' ', question, text) AS words_of,
    starts_with(verbalizer, $retrieval) AS retrieved
FROM {lines}
WHERE {chosen}
UNION ALL BY NAME
SELECT image_id, $label AS verbalizer, r.id AS region, r.label AS text, source AS model,
    r.label AS words_of, false AS retrieved
FROM (
    SELECT image_id, source, unnest(regions) AS r
    FROM {regions}
    WHERE {chosen}
)
WHERE r.label <> ''
"""
DETAILS = """
CASE WHEN len(a.colors) > 0 AND len(b.colors) > 0 AND NOT list_has_any(a.colors, b.colors)
        THEN 'colour'
     WHEN len(a.numbers) > 0 AND len(b.numbers) > 0 AND NOT list_has_any(a.numbers, b.numbers)
        THEN 'number' END
"""
CONTRADICTIONS = f"""
WITH named AS (
    SELECT image_id, head FROM spoken WHERE region IS NOT NULL AND head <> ''
    GROUP BY ALL HAVING count(DISTINCT region) = 1
),
pairs AS (
    SELECT a.image_id, a.region, a.line AS one, b.line AS other, 1.0::DOUBLE AS weight,
        CASE WHEN NOT list_has_any(a.words, b.words) THEN 'no word in common'
             WHEN NOT list_contains(b.words, a.head) AND NOT list_contains(a.words, b.head)
                THEN 'another thing'
             ELSE {DETAILS} END AS why
    FROM spoken a JOIN spoken b
        ON a.image_id = b.image_id AND a.region = b.region AND a.verbalizer < b.verbalizer
    WHERE a.head <> '' AND b.head <> ''
    UNION ALL
    SELECT a.image_id, a.region, a.line, b.line, 0.5, {DETAILS}
    FROM spoken a JOIN named USING (image_id, head) JOIN spoken b
        ON a.image_id = b.image_id AND b.region IS NULL AND NOT b.retrieved
    WHERE a.region IS NOT NULL AND list_contains(b.words, a.head)
)
SELECT * FROM pairs WHERE why IS NOT NULL
"""
LONELY = """
SELECT image_id, word
FROM (SELECT image_id, verbalizer, unnest(words) AS word FROM spoken)
GROUP BY ALL
HAVING count(DISTINCT verbalizer) = 1 AND NOT bool_or(verbalizer = $label)
"""
REGIONS = """
SELECT image_id, region, coalesce(weight, 0) + share AS disagreement
FROM (
    SELECT image_id, region, avg(CASE WHEN lonely.word IS NULL THEN 0 ELSE 1 END) AS share
    FROM (
        SELECT DISTINCT image_id, region, unnest(words) AS word
        FROM spoken WHERE region IS NOT NULL AND verbalizer <> $label
    ) LEFT JOIN lonely USING (image_id, word)
    GROUP BY image_id, region
) LEFT JOIN (
    SELECT image_id, region, sum(weight) AS weight FROM contradictions GROUP BY ALL
) USING (image_id, region)
"""
IMAGES = f"SELECT image_id, max(disagreement) FROM ({REGIONS}) GROUP BY image_id"
AT_ONCE = 5_000  # images whose lines are compared together
LOOKED_AT = 20_000  # images of a run, at most, that are ordered by their disagreement


@dataclass(frozen=True)
class Said:
    """What a line says, in plain words; ``head`` is empty where it has no content word."""

    words: tuple[str, ...]
    head: str
    colors: tuple[str, ...]
    numbers: tuple[str, ...]


@dataclass(frozen=True)
class Contradiction:
    """Two lines, as places in ``Told.lines``, that can hardly both be right of a region: "no
    word in common", "another thing", "colour" or "number".
    """

    region: int
    one: int
    other: int
    why: str


@dataclass(frozen=True)
class Told:
    """All that was said of an image: rows of records.VERBALIZATIONS, the data set's labels after
    them; its contradictions; its lonely words; and each region's disagreement.
    """

    lines: list[dict]
    contradictions: list[Contradiction]
    lonely: frozenset[str]
    disagreement: dict[int, float]


@cache
def stop_words() -> frozenset[str]:
    """scikit-learn's, without the numbers among them."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    return frozenset(ENGLISH_STOP_WORDS - set(NUMBERS))


def plain(word: str) -> str:
    """A word in small letters, without a plural's s; a number as digits.

    >>> plain("Dogs"), plain("Twelve"), plain("grass")
    ('dog', '12', 'grass')
    """
    word = word.lower()
    if len(word) > 3 and word.endswith("s") and not word.endswith("ss"):
        word = word[:-1]
    return SAME.get(word, word)


def said(text: str) -> Said:
    """The words of a line.

    >>> line = said("two brown dogs running on the beach")
    >>> line.head, line.colors, line.numbers
    ('dog', ('brown',), ('2',))
    """
    stops, words, head, in_phrase = stop_words(), {}, "", True
    for token in _WORD.findall(text.lower()):
        if words and (token in stops or (token.endswith(("ing", "ed")) and token not in COLORS)):
            in_phrase = False
        if token in stops:
            continue
        word = plain(token)
        words[word] = None
        if in_phrase:
            head = word
    return Said(
        tuple(words),
        head,
        tuple(w for w in words if w in COLORS),
        tuple(w for w in words if w.isdigit()),
    )


def retrieved(verbalizer: str) -> bool:
    """Whether a verbalizer picks words from a vocabulary: what is likely, not what is seen."""
    return verbalizer.startswith(RETRIEVAL)


def marked(text: str, words: Iterable[str]) -> list[tuple[str, bool]]:
    """A text in pieces, and whether each is one of these plain words.

    >>> marked("Two dogs", ["dog"])
    [('Two ', False), ('dogs', True)]
    """
    wanted, pieces, end = set(words), [], 0
    for found in _WORD.finditer(text):
        if plain(found[0]) in wanted:
            pieces += [(text[end : found.start()], False), (found[0], True)]
            end = found.end()
    return [piece for piece in (*pieces, (text[end:], False)) if piece[0]]


class Disagreements:
    """Where the verbalizers of a run disagree.

    Only what is asked for is read: one image's lines, or, for the order of all, the words of each
    different line.

    Raises ``FileNotFoundError`` where notebook 01 has written nothing yet; ``of`` and ``images``
    raise ``ValueError`` for damaged files.
    """

    def __init__(self, run_folder: str | Path):
        self.run = RunFolder(run_folder)
        self._files = {
            name: str(self.run.folder / f"{file}.parquet")
            for name, file in (("lines", "verbalizations"), ("regions", "regions"))
        }
        for path in self._files.values():
            if not Path(path).exists():
                raise FileNotFoundError(f"{path} is not there: run notebook 01 first")

    def of(self, image_id: str) -> Told:
        """What was said of one image."""
        with database() as db:
            self._speak(db, "image_id = $image", image=image_id)
            lines = _rows(
                db,
                "SELECT * EXCLUDE (line, words_of, retrieved, words, head, colors, numbers) FROM"
                " spoken ORDER BY line",
            )
            found = _rows(
                db, "SELECT region, one, other, why FROM contradictions ORDER BY region, one, other"
            )
            regions = {
                row["region"]: row["disagreement"] for row in _rows(db, REGIONS, label=LABEL)
            }
            return Told(
                lines,
                [Contradiction(**row) for row in found],
                frozenset(row["word"] for row in _rows(db, "FROM lonely")),
                regions,
            )

    @cached_property
    def images(self) -> Mapping[str, float]:
        """Every image of the run and its disagreement, the largest first, equals as in the file.

        Of more than ``LOOKED_AT`` images so many are looked at, from all over the file; the others
        come after them, as in the file, with NaN.
        """
        every = self.run.image_ids()
        chosen = every[:: -(-len(every) // LOOKED_AT)] if every else []
        found: dict[str, float] = {}
        for start in range(0, len(chosen), AT_ONCE):
            with database() as db:
                part = pa.table(
                    {"image_id": pa.array(chosen[start : start + AT_ONCE], pa.string())}
                )
                db.register("chosen", part)
                self._speak(db, "image_id IN (FROM chosen)")
                found |= dict(db.execute(IMAGES, {"label": LABEL}).fetchall())
        looked_at = set(chosen)
        ordered = sorted(chosen, key=lambda image: -found.get(image, 0.0))
        return {i: found.get(i, 0.0) for i in ordered} | dict.fromkeys(
            (i for i in every if i not in looked_at), nan
        )

    def _speak(self, db: duckdb.DuckDBPyConnection, chosen: str, **values: str) -> None:
        """Tables ``spoken``, ``contradictions`` and ``lonely``, of the images that are chosen."""
        files = {name: PARQUET.replace("?", f"${name}", 1) for name in self._files}
        try:
            db.execute(
                f"CREATE TABLE lines AS {LINES.format(chosen=chosen, **files)}",
                self._files | {"label": LABEL, "retrieval": RETRIEVAL} | values,
            )
        except duckdb.Error as error:
            raise ValueError(
                f"{' or '.join(self._files.values())} can't be read: {str(error).splitlines()[0]}"
            ) from error
        texts = [text for (text,) in db.execute("SELECT DISTINCT words_of FROM lines").fetchall()]
        db.register("said", _table(texts, [said(text) for text in texts]))
        db.execute(
            "CREATE TABLE spoken AS SELECT row_number() OVER (ORDER BY l.rowid) - 1 AS line, l.*,"
            " s.* EXCLUDE (words_of) FROM lines l JOIN said s USING (words_of)"
        )
        db.execute(f"CREATE TABLE contradictions AS {CONTRADICTIONS}")
        db.execute(f"CREATE TABLE lonely AS {LONELY}", {"label": LABEL})


def _table(texts: Sequence[str], found: Sequence[Said]) -> pa.Table:
    words = pa.list_(pa.string())
    columns = {
        name: pa.array([getattr(s, name) for s in found], words)
        for name in ("words", "colors", "numbers")
    }
    return pa.table(
        {
            "words_of": pa.array(texts, pa.string()),
            "head": pa.array([s.head for s in found], pa.string()),
        }
        | columns
    )


def _rows(db: duckdb.DuckDBPyConnection, query: str, **values: str) -> list[dict]:
    return db.sql(query, params=values).to_arrow_table().to_pylist()
