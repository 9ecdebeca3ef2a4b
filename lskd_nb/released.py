"""The JSONL format of the released LCK corpus (jamespark3922/localized-skd), written and read; one triple in each line.

Texts are tokens, strings and lists of region ids. Reading takes what the release is known or likely to contain: region names as strings or
integers, alone or in a list; boxes of four or five numbers (xyxy pixels, the fifth a score); references as a list or a dict; the earlier schema,
whose texts are under ``qar``; image paths with ``vcr1images/`` or without. The release says nothing of image sizes: they are null.

Some rows may mention a region that has no box. The reference release drops such a mention silently, which leaves "What is about to do?"; here the
row is kept as it is, in a file of its own (``<out>.unboxed.parquet``), since nobody can draw what it points at.
"""

import json
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from lskd_nb.records import CORPUS, REJECTS, atomic_path, write_parquet
from lskd_nb.regions import mentions, text_to_tokens, tokens_to_text
from lskd_nb.sources import Rejected, reject_rows

ROWS_AT_ONCE = 10_000


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
        for batch in corpus.to_batches(max_chunksize=ROWS_AT_ONCE):
            out.writelines(json.dumps(released_row(row), ensure_ascii=False) + "\n" for row in batch.to_pylist())


def convert_released(path: str | Path, out: str | Path) -> tuple[int, int, int]:
    """A released JSONL to Parquet in a stream, ten thousand rows in memory at a time.

    Returns how many rows were written to ``out``, kept apart because they mention a region without box (``<out>.unboxed.parquet``), and
    rejected (``<out>.rejects.parquet``: no JSON, or without texts, with the reason). Raises ``FileNotFoundError`` for a missing file.
    """
    out, rejects, counts = Path(out), [], [0, 0]
    places = (out, out.with_suffix(".unboxed.parquet"))
    with atomic_path(places[0]) as one, atomic_path(places[1]) as other, _writer(one) as boxed, _writer(other) as unboxed:
        stream = read_released(path, rejects)
        while rows := list(islice(stream, ROWS_AT_ONCE)):
            split: tuple[list[dict], list[dict]] = ([], [])
            for row in rows:
                split[bool(unboxed_mentions(row))].append(row)
            for number, (writer, some) in enumerate(zip((boxed, unboxed), split, strict=True)):
                if some:
                    writer.write_table(pa.Table.from_pylist(some, schema=CORPUS))
                counts[number] += len(some)
    write_parquet(rejects, out.with_suffix(".rejects.parquet"), REJECTS)
    return counts[0], counts[1], len(rejects)


def _writer(path: Path) -> pq.ParquetWriter:
    return pq.ParquetWriter(path, CORPUS, compression="zstd")


def read_released(path: str | Path, rejects: list[dict]) -> Iterator[dict]:
    """Rows of a released JSONL as corpus rows, in a stream; what can't be one is appended to ``rejects`` with its line and reason."""
    with open(path, encoding="utf-8", errors="surrogateescape") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = corpus_row(json.loads(line))
                pa.array([row], pa.struct(CORPUS))  # every value fits its column
                yield row
            except (ValueError, TypeError, OverflowError, RecursionError, pa.ArrowException) as error:
                bad = Rejected(f"{Path(path).name}, line {number}", str(error)[:200], line[:2000])
                rejects += reject_rows([bad], "corpus")


def unboxed_mentions(row: Mapping) -> list[int]:
    """Regions that a corpus row's texts mention and that have no box."""
    known = {r["id"] for r in row["references"]}
    return [i for i in mentions(" ".join(row[k] for k in ("question", "answer", "rationale"))) if i not in known]


def corpus_row(raw: object) -> dict:
    """One released row as a corpus row. Raises ``ValueError`` naming the field that is missing or not what it should be."""
    if not isinstance(raw, Mapping):
        raise ValueError(f"a row is an object, found {type(raw).__name__}")
    texts = raw["qar"] if isinstance(raw.get("qar"), Mapping) and "question" not in raw else raw
    texts = {k: _text(texts, k) for k in ("question", "answer", "rationale")}
    references = [_reference(name, value) for name, value in _references(raw)]
    index, image, source = (_string(raw, k) for k in ("index", "image", "source"))
    if not index or not image:
        raise ValueError(f"{'index' if not index else 'image'} is missing")
    mentioned = mentions(" ".join(texts.values()))
    offered = _ids(raw, "region_all") if raw.get("region_all") is not None else sorted(r["id"] for r in references)
    return dict(
        triple_id=index, image_id=image, family="description" if "_description" in source else "id", **texts,
        regions=_ids(raw, "region") if raw.get("region") is not None else mentioned, regions_offered=offered, model=source, prompt="", request="",
        score=_number(raw, "prediction"), image=_under_its_folder(image), width=_number(raw, "width", int), height=_number(raw, "height", int),
        source=source, split=_string(raw, "split"), references=references)


def _under_its_folder(image: str) -> str:
    """VCR's paths lack their folder in some rows (rule: the release's own loaders)."""
    if image.startswith("/") or ".." in image.split("/"):
        raise ValueError(f"image is {image!r}, which leaves the image root")
    return image if "VG_100K" in image or "vcr1images" in image else f"vcr1images/{image}"


def _references(raw: Mapping) -> Iterator[tuple[object, object]]:
    found = raw.get("references")
    if isinstance(found, Mapping):
        return iter(found.items())
    if not isinstance(found, list) or not all(isinstance(r, Mapping) for r in found):
        raise ValueError(f"references is {str(found)[:60]}, expected a list or an object of regions")
    return ((r.get("name"), r) for r in found)


def _reference(name: object, raw: object) -> dict:
    boxes = raw.get("boxes") if isinstance(raw, Mapping) else None
    box = boxes[0] if isinstance(boxes, list) and boxes else None
    numbers = isinstance(box, list) and all(isinstance(v, int | float) and not isinstance(v, bool) for v in box)
    if not numbers or len(box) not in (4, 5):
        raise ValueError(f"references: region {name!r} has the boxes {str(boxes)[:60]}, expected one of four or five numbers")
    label = raw.get("obj_guess")
    return dict(id=_id(name, "references"), box=[float(v) for v in box[:4]], label=label if isinstance(label, str) else "",
                score=float(box[4]) if len(box) == 5 else None)


def _ids(raw: Mapping, key: str) -> list[int]:
    value = raw[key]
    return [_id(v, key) for v in (value if isinstance(value, list) else [value])]


def _id(value: object, key: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str) or not str(value).strip().isdecimal():
        raise ValueError(f"{key}: {value!r} is no region, expected a number")
    return int(value)


def _string(raw: Mapping, key: str) -> str:
    value = raw.get(key)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{key} is {value!r}, expected a text")
    return value or ""


def _number(raw: Mapping, key: str, kind: type = float) -> float | int | None:
    value = raw.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{key} is {value!r}, expected a number")
    return kind(value)


def _text(raw: Mapping, key: str) -> str:
    """Tokens, or a text as it is."""
    tokens = raw.get(key)
    if isinstance(tokens, str):
        return tokens
    if not isinstance(tokens, list) or not all(isinstance(t, str) or (isinstance(t, list) and t and all(type(i) is int for i in t)) for t in tokens):
        raise ValueError(f"{key} is {str(tokens)[:60]}, expected texts and lists of region ids")
    return tokens_to_text(tokens)
