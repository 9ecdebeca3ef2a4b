"""The corpus: filtered triples with their images and boxes, in Parquet, and in the JSONL format of the released LCK corpus.

The released rows (jamespark3922/localized-skd) hold texts as tokens, strings and lists of region ids, and region names as strings.
Reading accepts what the release is known or likely to contain: names as strings or integers, boxes of four or five numbers,
references as a list or a dict. A row that points at a region it has no box for is rejected, with the reason.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import duckdb
import pyarrow as pa

from lskd_nb.records import CORPUS, REJECTS, SCORES, TRIPLES, atomic_path, read_parquet, write_parquet
from lskd_nb.regions import mentions, text_to_tokens, tokens_to_text


def build(triples: pa.Table, scores: pa.Table, regions: pa.Table, triple_ids: Sequence[str] | None = None) -> pa.Table:
    """Join triples, their critic scores and their images' regions; only ``triple_ids`` where given, in the triples' order.

    Raises ``ValueError`` when a triple lacks a score or an image.
    """
    wanted = pa.table({"triple_id": list(triple_ids) if triple_ids is not None else triples["triple_id"].to_pylist()})
    numbered = triples.append_column("place", pa.array(range(triples.num_rows)))
    with duckdb.connect() as db:
        for name, table in (("triples", numbered), ("scores", scores), ("regions", regions), ("wanted", wanted)):
            db.register(name, table)
        joined = db.sql(
            "SELECT t.*, s.score, r.image, r.width, r.height, r.source, r.split, "
            "list_filter(r.regions, lambda x: list_contains(t.regions_offered, x.id)) AS \"references\" "
            "FROM triples t JOIN wanted USING (triple_id) JOIN scores s USING (triple_id) JOIN regions r USING (image_id) ORDER BY t.place"
        ).to_arrow_table()
    if joined.num_rows != wanted.num_rows:
        found = set(joined["triple_id"].to_pylist())
        missing = [t for t in wanted["triple_id"].to_pylist() if t not in found]
        raise ValueError(f"{len(missing)} triples have no score or no image, {missing[0]!r} the first")
    return joined.select(CORPUS.names).cast(CORPUS)


def released_row(row: Mapping) -> dict:
    """One corpus row in the released format."""
    return {
        "image": row["image"],
        "source": f"{row['model']}_{row['family']}",
        "split": row["split"],
        "index": row["triple_id"],
        "region": [str(i) for i in row["regions"]],
        "region_all": [str(i) for i in row["regions_offered"]],
        "references": [{"name": str(r["id"]), "boxes": [[float(v) for v in r["box"]]], "obj_guess": r["label"], "tag": "region"} for r in row["references"]],
        "question": text_to_tokens(row["question"]),
        "answer": text_to_tokens(row["answer"]),
        "rationale": text_to_tokens(row["rationale"]),
        "prediction": row["score"],
        "width": row["width"],
        "height": row["height"],
    }


def write_released(corpus: pa.Table, path: str | Path) -> None:
    """Write the corpus as JSONL, one row at a time."""
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8") as out:
        for batch in corpus.to_batches(max_chunksize=10_000):
            out.writelines(json.dumps(released_row(row), ensure_ascii=False) + "\n" for row in batch.to_pylist())


def read_released(path: str | Path, rejects: list[dict]) -> Iterator[dict]:
    """Rows of a released JSONL as corpus rows, in a stream; what can't be one is appended to ``rejects`` with its reason."""
    with open(path, encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                yield corpus_row(json.loads(line))
            except (ValueError, KeyError, TypeError, IndexError) as error:
                reason = f"lacks {error}" if isinstance(error, KeyError) else str(error)
                rejects.append(dict(stage="corpus", record=f"{Path(path).name}, line {number}", reason=reason[:200], detail=line[:2000]))


def corpus_row(raw: Mapping) -> dict:
    """One released row as a corpus row. Raises ``ValueError`` naming a region that is mentioned but has no box."""
    if not isinstance(raw, Mapping):
        raise ValueError("not a JSON object")
    references = raw["references"]
    if isinstance(references, Mapping):
        references = [{"name": name, **value} for name, value in references.items()]
    regions = [_reference(r) for r in references]
    known = {r["id"] for r in regions}
    texts = {k: _text(raw[k]) for k in ("question", "answer", "rationale")}
    unknown = [i for i in mentions(" ".join(texts.values())) if i not in known]
    if unknown:
        raise ValueError(f"mentions region {unknown[0]}, which has no box")
    offered = [int(i) for i in raw.get("region_all", sorted(known))]
    prediction = raw.get("prediction")
    return dict(
        triple_id=str(raw["index"]), image_id=str(raw["image"]), family="description" if "_description" in raw.get("source", "") else "id",
        **texts, regions=[int(i) for i in raw.get("region", [])], regions_offered=offered, model=raw.get("source", ""), prompt="", request="",
        score=None if prediction is None else float(prediction), image=str(raw["image"]), width=raw.get("width"), height=raw.get("height"),
        source=raw.get("source", ""), split=raw.get("split", ""), references=regions)


def _reference(raw: Mapping) -> dict:
    box = raw["boxes"][0]
    if len(box) not in (4, 5):
        raise ValueError(f"region {raw['name']} has a box of {len(box)} numbers")
    return dict(id=int(raw["name"]), box=[float(v) for v in box[:4]], label=raw.get("obj_guess") or "",
                score=float(box[4]) if len(box) == 5 else None)


def _text(tokens: Sequence | str) -> str:
    return tokens if isinstance(tokens, str) else tokens_to_text(tokens)


def convert_released(path: str | Path, out: str | Path) -> tuple[int, int]:
    """A released JSONL to Parquet; rejects beside it. Returns how many rows were kept and rejected."""
    rejects: list[dict] = []
    rows = list(read_released(path, rejects))
    write_parquet(rows, out, CORPUS)
    write_parquet(rejects, Path(out).with_suffix(".rejects.parquet"), REJECTS)
    return len(rows), len(rejects)


def find(path: str | Path, family: str | None = None, text: str = "", low: float = 0.0, high: float = 1.0, order: str = "score DESC",
         limit: int = 50, offset: int = 0) -> tuple[int, list[dict]]:
    """How many corpus rows fit, and a page of them. ``text`` is looked for in question, answer and rationale, case aside."""
    orders = {"score DESC": "score DESC, triple_id", "score ASC": "score ASC, triple_id", "triple_id": "triple_id"}
    if order not in orders:
        raise ValueError(f"no order {order!r}; there are {list(orders)}")
    where, values = ["score BETWEEN ? AND ?"], [low, high]
    if family:
        where.append("family = ?")
        values.append(family)
    if text:
        where.append("contains(lower(question || ' ' || answer || ' ' || rationale), lower(?))")
        values.append(text)
    clause = " AND ".join(where)
    with duckdb.connect() as db:
        total = db.sql(f"SELECT count(*) FROM read_parquet(?) WHERE {clause}", params=[str(path), *values]).fetchall()[0][0]
        page = db.sql(
            f"SELECT * FROM read_parquet(?) WHERE {clause} ORDER BY {orders[order]} LIMIT ? OFFSET ?", params=[str(path), *values, limit, offset]
        ).to_arrow_table()
    return total, page.to_pylist()


def card(corpus: pa.Table, facts: Mapping[str, object]) -> str:
    """A short data card in Markdown."""
    families = corpus["family"].value_counts().to_pylist()
    lines = ["# Localized commonsense corpus", "", f"{corpus.num_rows} question, answer and rationale triples about "
             f"{len(set(corpus['image_id'].to_pylist()))} images.", ""]
    lines += [f"- {name}: {value}" for name, value in facts.items()]
    lines += [f"- triples by {f['values']}: {f['counts']}" for f in families]
    lines += ["", "Texts are written by a language model from descriptions of the images and filtered by a critic; some are wrong."]
    return "\n".join(lines) + "\n"


def load_stage(folder: str | Path) -> tuple[pa.Table, pa.Table]:
    """Triples and scores of a run, checked to be of each other."""
    triples, scores = read_parquet(Path(folder) / "triples.parquet", TRIPLES), read_parquet(Path(folder) / "scores.parquet", SCORES)
    if set(triples["triple_id"].to_pylist()) != set(scores["triple_id"].to_pylist()):
        raise ValueError(f"{folder}: triples.parquet and scores.parquet are not of the same triples; run notebook 04 again")
    return triples, scores


def rejected_counts(rejects: Iterable[Mapping]) -> dict[str, int]:
    """How many rejects for each reason."""
    counts: dict[str, int] = {}
    for row in rejects:
        counts[row["reason"]] = counts.get(row["reason"], 0) + 1
    return dict(sorted(counts.items(), key=lambda kv: -kv[1]))
