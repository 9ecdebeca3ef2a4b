"""What a corpus is made of: a report as JSON-able figures, as Markdown, and as tables to draw.

It says which questions are asked, how many regions they point at, how large those are and how texts
refer to them, how long texts are, what is said again (``dedup``), what the critic's filter
changed (``person_attributes``), what of the benchmarks the corpus has shown (``contamination``)
and, where a classifier is named, what is toxic (``toxicity``). Counting is DuckDB's: a million
triples take minutes, most of them for near wordings (see ``dedup``).
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import duckdb

from lskd_nb.corpus.build import is_filtered
from lskd_nb.corpus.dedup import JACCARD, TRIPLE, duplicates
from lskd_nb.corpus.person_attributes import attribute_shares, shares
from lskd_nb.corpus.provenance import provenance_of
from lskd_nb.publishing.contamination import measure_contamination
from lskd_nb.records import CORPUS, PARQUET, TRIPLES, database, parquet_at
from lskd_nb.run_folder import RunFolder
from lskd_nb.sources import MultipleChoice

COCO_SIZES = (32**2, 96**2)  # pixels: small below the first, large from the second on
# shares of the image, upper ends
AREA_BINS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0)
BARE = (  # the question, ids aside
    r"lower(trim(regexp_replace(regexp_replace(coalesce(question, ''), '\[[\d, ]+\]', ' ', 'g'),"
    r" '\s+', ' ', 'g')))"
)
OPENINGS = {
    "question_types": rf"regexp_extract({BARE}, '^\S+')",
    "openings": rf"regexp_extract({BARE}, '^\S+(\s\S+)?')",
}
MENTION = r"\[\s*\d+(?:\s*,\s*\d+)*\s*\]"
# a space that parts no two words, or another kind of space
ODD_SPACES = r"^\s|\s$|\s\s|[\t\n\f\r\v]|\[[\d ,]*\s"
PHRASE = (
    r"(?i)(?:^|[^\w'])(?:the|an?|this|that|these|those|his|her|its|their|another|some|two|three)"
    r"\s+(?:[\w'-]+\s+){0,7}?"
)
# words that end no description: "the dog looks at [1]" points by id alone, "the dog on the mat [1]"
# describes
UNDESCRIBING = (
    r"(?:is|are|was|were|be|been|am|do|does|did|has|have|had|will|would|can|could|may|might|must|"
    r"should|of|to|with|by|from|at|on|in|into|onto|and|or|than|that|for|about|behind|near|under|"
    r"over|beside|between|toward|towards|around|before|after|like|as|if|when|while|because|what|"
    r"who|whom|whose|which|where|why|how|not|next)"
)
ENDS_IN_A_WORD = rf"{PHRASE}[\w'-]+\s*{MENTION}"
ENDS_IN_NO_NOUN = rf"{PHRASE}{UNDESCRIBING}\s*{MENTION}"


def report_run(
    folder: str | Path,
    image_root: str | Path | None = None,
    benchmarks: Mapping[str, tuple[Sequence[MultipleChoice], str | Path]] | None = None,
    toxicity_model: str = "",
    toxicity_label: str = "",
    toxicity_sample: int = 2000,
    near: float = JACCARD,
) -> dict:
    """The report of a run's folder: corpus, raw triples, contamination of ``benchmarks``.

    ``benchmarks`` maps a set's name to its items and the folder of their images
    (``contamination``); without them contamination is "not measured", as is toxicity without a
    model. ``image_root`` is that of the run's own images, as ``image_root.txt`` says where not
    given. ``near`` is the Jaccard similarity of near wordings. Of an imported run the report says
    where it comes from (``imported``). Raises ``FileNotFoundError`` naming the file that no
    notebook has written yet.
    """
    folder = Path(folder)
    corpus, raw = folder / "corpus.parquet", folder / "triples.parquet"
    report = dict(
        files=file_fingerprints(folder),
        filtered=is_filtered(corpus),
        kept=composition(corpus),
        raw=composition(raw),
        repeats=duplicates(corpus, near),
        raw_and_kept=raw_and_kept(raw, corpus),
        contamination=None,
        toxicity=None,
    )
    if origin := provenance_of(folder):
        report["imported"] = origin
    if benchmarks:
        report["contamination"] = measure_contamination(
            corpus, image_root or RunFolder(folder).image_root, benchmarks, threshold=near
        )
    if toxicity_model:
        from lskd_nb.publishing.toxicity import measure_toxicity

        report["toxicity"] = {
            part: measure_toxicity(path, toxicity_model, toxicity_label, toxicity_sample)
            for part, path in (("raw", raw), ("kept", corpus))
            if report[part]["triples"]  # a filter may have kept none
        }
    return report


def composition(path: str | Path, openings: int = 25) -> dict:
    """Figures of one Parquet file of triples (records.TRIPLES or CORPUS).

    Sizes of regions where it has their boxes.

    Raises ``FileNotFoundError``, or ``ValueError`` naming the file and the columns it lacks.
    """
    columns = _columns(path)
    with database() as db:
        db.execute(f"CREATE VIEW triples AS SELECT * FROM {parquet_at(path)}")
        triples, images = db.execute(
            "SELECT count(*), count(DISTINCT image_id) FROM triples"
        ).fetchall()[0]
        found = dict(
            triples=triples,
            images=images,
            **{k: _counts(db, k.removesuffix("s"), 20) for k in ("models", "prompts")},
        )
        found["families"] = _counts(db, "family", 20)
        found |= {name: _counts(db, sql, openings) for name, sql in OPENINGS.items()}
        found["regions_per_triple"] = sorted(
            _counts(db, "len(regions)", 1000), key=lambda row: row["value"]
        )
        found["lengths"] = _lengths(db)
        found["pointing"] = _pointing(db)
        found["region_sizes"] = _region_sizes(db) if set(CORPUS.names) <= columns else None
    return found


def raw_and_kept(raw: str | Path, kept: str | Path, most: int = 8) -> dict:
    """What the filter changed: shares of person attributes and of the commonest question types
    and families, with intervals over images.
    """
    with database() as db:
        types = [
            r[0]
            for r in db.execute(
                f"SELECT {OPENINGS['question_types']} AS t FROM {PARQUET} GROUP BY t ORDER BY"
                " count(*) DESC, t LIMIT ?",
                [str(raw), most],
            ).fetchall()
        ]
        families = [
            r[0]
            for r in db.execute(
                f"SELECT DISTINCT family FROM {PARQUET} ORDER BY family", [str(raw)]
            ).fetchall()
        ]
    return dict(
        attributes=attribute_shares(raw, kept),
        question_types=shares(
            raw, kept, {t: (f"{OPENINGS['question_types']} = ?", t) for t in types}
        ),
        families=shares(raw, kept, {f: ("family = ?", f) for f in families}),
    )


def file_fingerprints(folder: str | Path) -> dict[str, dict]:
    """Size in bytes and SHA-256 of the files that a report is of.

    Raises ``FileNotFoundError`` naming the one that is not there.
    """
    found = {}
    for path in (Path(folder) / "corpus.parquet", Path(folder) / "triples.parquet"):
        if not path.exists():
            raise FileNotFoundError(
                f"{path} is not there: run the notebook that writes"
                " it first (see the README's tree)"
            )
        with open(path, "rb") as file:
            found[path.name] = dict(
                size=path.stat().st_size, sha256=hashlib.file_digest(file, "sha256").hexdigest()
            )
    return found


def report_there(folder: str | Path) -> dict | None:
    """The report in a run's folder, if it is of the corpus and the triples that are there now;
    else None, as where it is damaged.
    """
    try:
        report = json.loads((Path(folder) / "report.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    current = isinstance(report, dict) and report.get("files") == file_fingerprints(folder)
    return report if current and "contamination" in report else None


def write_report(report: Mapping, folder: str | Path) -> tuple[Path, Path]:
    """``report.json`` and ``report.md`` in a folder; returns their paths.

    Cards and ``lskd publish`` read the first.
    """
    from lskd_nb.publishing.report_text import report_markdown
    from lskd_nb.records import atomic_path

    paths = Path(folder) / "report.json", Path(folder) / "report.md"
    for path, text in zip(
        paths, (json.dumps(report, indent=1, allow_nan=False), report_markdown(report)), strict=True
    ):
        with atomic_path(path) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")
    return paths


# ----------------------------------------------------------------------------------------- counting


def _columns(path: str | Path) -> set[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not Path(path).exists():
        raise FileNotFoundError(
            f"{path} is not there: run the notebook that writes it first (see the README's tree)"
        )
    try:
        columns = set(pq.read_schema(path).names)
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path} is not a readable Parquet file: {error}") from error
    if missing := [name for name in TRIPLES.names if name not in columns]:
        raise ValueError(f"{path} lacks the columns {missing}")
    return columns


def _counts(db: duckdb.DuckDBPyConnection, sql: str, most: int) -> list[dict]:
    """The commonest values of an expression: value, count and share of the triples."""
    rows = db.execute(
        f"SELECT {sql} AS value, count(*) AS n, n / sum(n) OVER () FROM triples GROUP BY value"
        f" ORDER BY n DESC, value LIMIT {most}"
    ).fetchall()
    return [dict(value=value, count=n, share=share) for value, n, share in rows]


def _lengths(db: duckdb.DuckDBPyConnection) -> dict[str, dict]:
    """Words of each text and of all of a triple, a mention counted as one."""
    texts = {name: name for name in ("question", "answer", "rationale")} | {"triple": TRIPLE}
    counted = ", ".join(f"{_words(sql)} AS {name}" for name, sql in texts.items())
    db.execute(f"CREATE OR REPLACE TEMP TABLE counted AS SELECT {counted} FROM triples")
    found = {}
    for name in texts:
        row = db.execute(
            f"SELECT avg({name}), quantile_cont({name}, 0.5), quantile_cont({name}, 0.95),"
            f" max({name}) FROM counted"
        ).fetchall()[0]
        histogram = db.execute(
            f"SELECT {name}, count(*) FROM counted WHERE {name} IS NOT NULL GROUP BY 1 ORDER BY 1"
        ).fetchall()
        found[name] = dict(zip(("mean", "median", "p95", "max"), row, strict=True)) | dict(
            histogram=[dict(words=w, count=n) for w, n in histogram]
        )
    return found


def _words(sql: str) -> str:
    """How many words a text has; where each space parts two of them, the spaces tell it, which is
    faster.
    """
    split = (
        rf"len(regexp_split_to_array(trim(regexp_replace({sql}, '{MENTION}', '[]', 'g')), '\s+'))"
    )
    spaces = f"length({sql}) - length(replace({sql}, ' ', '')) + 1"
    return f"CASE WHEN regexp_matches({sql}, '{ODD_SPACES}') THEN {split} ELSE {spaces} END"


def _pointing(db: duckdb.DuckDBPyConnection) -> list[dict]:
    """For each prompt family, mentions and how many of them the words before describe, as "the
    woman with the umbrella [2]" does.

    Read from the text by a rule, not by a parser: a determiner, up to eight words, and no
    preposition, conjunction or auxiliary right before the bracket. "The dog wants [1]" is therefore
    taken for a description.
    """

    def count(pattern: str) -> str:
        quoted = pattern.replace("'", "''")
        return f"len(regexp_extract_all({TRIPLE}, '{quoted}'))"

    described = f"{count(ENDS_IN_A_WORD)} - {count(ENDS_IN_NO_NOUN)}"
    rows = db.execute(
        f"SELECT family, count(*), sum({count(MENTION)})::BIGINT, sum({described})::BIGINT,"
        f" avg(({described} > 0)::INT) FROM triples GROUP BY family ORDER BY family"
    ).fetchall()
    return [
        dict(
            family=family,
            triples=n,
            mentions=m,
            described=d,
            share=d / m if m else 0.0,
            triples_with_a_description=share,
        )
        for family, n, m, d, share in rows
    ]


def _region_sizes(db: duckdb.DuckDBPyConnection) -> dict:
    """Sizes of the regions that triples mention: pixels as COCO calls them, and shares of their
    image where its size is known.

    Boxes that are no numbers are counted as ``unmeasured`` and nowhere else.
    """
    db.execute(
        "CREATE OR REPLACE TEMP TABLE mentioned AS SELECT (r.box[3] - r.box[1])::DOUBLE * (r.box[4]"
        " - r.box[2]) AS area, CASE WHEN width > 0 AND height > 0 THEN width::DOUBLE * height END"
        ' AS image FROM (SELECT width, height, regions, unnest("references") AS r FROM triples)'
        " WHERE list_contains(regions, r.id)"
    )
    (unmeasured,) = db.execute(
        "DELETE FROM mentioned WHERE area IS NULL OR NOT isfinite(area)"
    ).fetchall()[0]
    total, small, medium = db.execute(
        f"SELECT count(*), sum((area < {COCO_SIZES[0]})::INT), sum((area < {COCO_SIZES[1]})::INT)"
        " FROM mentioned"
    ).fetchall()[0]
    small, medium = small or 0, medium or 0
    known, median = db.execute(
        "SELECT count(area / image), median(area / image) FROM mentioned"
    ).fetchall()[0]
    bins = [
        db.execute(
            "SELECT count(*) FROM mentioned WHERE area / image > ? AND area / image <= ?",
            [low, high if high < 1 else 1e9],
        ).fetchall()[0][0]
        for low, high in zip((0.0, *AREA_BINS), AREA_BINS, strict=False)
    ]
    return dict(
        mentioned=total,
        small=small,
        medium=medium - small,
        large=total - medium,
        unmeasured=unmeasured,
        share_known=known,
        median_share=median,
        histogram=[dict(up_to=high, count=n) for high, n in zip(AREA_BINS, bins, strict=True)],
    )
