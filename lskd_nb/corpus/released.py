"""The JSONL format of the released LCK corpus, written and read; one triple in each line.

It is that of jamespark3922/localized-skd, whose licence is not stated.
Texts are tokens, strings and lists of region ids. Reading takes what the release is known or likely
to contain: region names as strings or integers, alone or in a list; boxes of four or five numbers
(xyxy pixels, the fifth a score); references as a list or a dict; the earlier schema, whose texts
are under ``qar``; image paths with ``vcr1images/`` or without. The release says nothing of image
sizes: they are null, and boxes stay as they are, to be cut where they are drawn. A box that is none
is left out and counted among the rejects, where its row does not mention the region. Of a region's
boxes the first is taken, as the release's own loaders do. Outlines (``segms``) and ready-made
training texts (``text_input`` …) have no column and are passed over.

Some rows may mention a region that has no box. The reference release drops such a mention silently,
which leaves "What is about to do?"; here the row is kept as it is, in a file of its own
(``<out>.unboxed.parquet``), since nobody can draw what it points at.

Rows that are written have some fields more than the released ones (``image_id``, ``dataset`` …),
which other readers pass over: a corpus row comes back as it was, up to the white space of its
texts.
"""

import gc
import json
import os
import threading
from codecs import BOM_UTF8
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context, parent_process
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from lskd_nb.records import CORPUS, REJECTS, atomic_path
from lskd_nb.regions import mentions, text_to_tokens, tokens_to_text
from lskd_nb.sources import BadRecord, Rejected, finite, reject_rows

ROWS_AT_ONCE = 10_000
MANY_ROWS = 200_000
BLOCK = 8 * 2**20  # bytes of lines that are converted together
LARGEST = 2**24  # pixels; beyond, the columns' 32-bit floats don't hold every whole number


def released_row(row: Mapping) -> dict:
    """One corpus row in the released format.

    >>> row = dict.fromkeys(CORPUS.names) | dict(regions=[1], regions_offered=[0, 1], references=[])
    >>> texts = dict(question="Why is [1] wet?", answer="It swam.", rationale="[1] is at the sea.")
    >>> released = released_row(row | texts)
    >>> released["question"], released["region"], released["region_all"]
    (['Why', 'is', [1], 'wet', '?'], ['1'], ['0', '1'])
    """
    return {
        "image": row["image"],
        "source": f"{row['model']}_{_prompt_source(row)}",
        "split": row["split"],
        "index": row["triple_id"],
        "region": [str(i) for i in row["regions"]],
        "region_all": [str(i) for i in row["regions_offered"]],
        "references": [_released_reference(r) for r in row["references"]],
        "question": text_to_tokens(row["question"]),
        "answer": text_to_tokens(row["answer"]),
        "rationale": text_to_tokens(row["rationale"]),
        "prediction": row["score"],
        "width": row["width"],
        "height": row["height"],
        "dataset": row["source"],
        **{name: row[name] for name in ("image_id", "model", "family", "prompt", "request")},
    }


def _prompt_source(row: Mapping) -> str:
    """Family and offer of regions, as a prompt is called: "id", "description_people"."""
    return (row["prompt"] or "").rpartition("-")[0] or row["family"]


def _released_reference(region: Mapping) -> dict:
    box = [
        float(v) for v in (*region["box"], *([] if region["score"] is None else [region["score"]]))
    ]
    return {
        "name": str(region["id"]),
        "boxes": [box],
        "obj_guess": region["label"],
        "tag": "region",
    }


def write_released(corpus: pa.Table, path: str | Path) -> None:
    """Write the corpus as JSONL, some rows at a time; a large one by a process for each core."""
    workers = os.cpu_count() or 1 if corpus.num_rows > MANY_ROWS else 0
    parts = ((batch,) for batch in corpus.to_batches(max_chunksize=ROWS_AT_ONCE))
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8") as out:
        out.writelines(in_order(_released_lines, parts, workers))


def _released_lines(rows: pa.RecordBatch) -> str:
    return "".join(
        json.dumps(released_row(row), ensure_ascii=False) + "\n" for row in rows.to_pylist()
    )


def convert_released(
    path: str | Path, out: str | Path, workers: int | None = None, block: int = BLOCK
) -> tuple[int, int, int]:
    """A released JSONL to Parquet in a stream, a few blocks of lines in memory at a time.

    Returns how many rows were written to ``out``, kept apart because they mention a region without
    box (``<out>.unboxed.parquet``), and how many rows or boxes were rejected
    (``<out>.rejects.parquet``: line, field, and what was found there), in the order of the lines.
    ``workers`` processes convert (None: one for each core, or none for a file of a few blocks).
    Raises ``FileNotFoundError`` for a missing file.
    """
    path, out, counts = Path(path), Path(out), [0, 0, 0]
    if workers is None:
        workers = 0 if path.stat().st_size <= 2 * block else os.cpu_count() or 1
    files = (out, out.with_suffix(".unboxed.parquet")), (out.with_suffix(".rejects.parquet"),)
    with ExitStack() as stack:
        writers = [
            pq.ParquetWriter(stack.enter_context(atomic_path(place)), schema, compression="zstd")
            for places, schema in zip(files, (CORPUS, REJECTS), strict=True)
            for place in places
        ]
        for writer in writers:
            stack.push(writer)
        blocks = ((content, first, path.name) for content, first in _blocks(path, block))
        for tables in in_order(_converted, blocks, workers):
            for number, (writer, table) in enumerate(zip(writers, tables, strict=True)):
                counts[number] += table.num_rows
                if table.num_rows:
                    writer.write_table(table)
    return counts[0], counts[1], counts[2]


def _blocks(path: Path, size: int) -> Iterator[tuple[bytes, int]]:
    """The file in blocks of about ``size`` bytes that end where a line ends, each with the
    number of its first line.
    """
    with open(path, "rb") as file:
        first = 1
        while content := file.read(size):
            content += file.readline()
            yield content.removeprefix(BOM_UTF8) if first == 1 else content, first
            first += content.count(b"\n")


def in_order(work: Callable, jobs: Iterable[tuple], workers: int) -> Iterator:
    """``work`` of each job's arguments, in their order; no more than two for each of the
    ``workers`` processes wait at a time.
    """
    if not workers:
        yield from (work(*job) for job in jobs)
        return
    with ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=_end_with_parent
    ) as pool:
        running: deque = deque()
        for job in jobs:
            running.append(pool.submit(work, *job))
            if len(running) == 2 * workers:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()


def _end_with_parent() -> None:
    """End this worker with the process that started it: one that is killed can't tell it so."""

    def watch() -> None:
        parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _converted(block: bytes, first: int, name: str) -> tuple[pa.Table, pa.Table, pa.Table]:
    """A block's rows: whole ones, ones that mention a region without box, and rejects."""
    rows: tuple[list, list, list] = ([], [], [])
    # a million small dictionaries, none of them in a cycle: looking for cycles would take half of
    # the time
    gc.disable()
    try:
        for line in _read_lines(block.split(b"\n"), first, name):
            rows[2 if isinstance(line, Rejected) else 1 if unboxed_mentions(line) else 0].append(
                line
            )
        whole, unboxed = (pa.Table.from_pylist(part, schema=CORPUS) for part in rows[:2])
        return whole, unboxed, pa.Table.from_pylist(reject_rows(rows[2], "corpus"), schema=REJECTS)
    finally:
        gc.enable()


def read_released(path: str | Path) -> Iterator[dict | Rejected]:
    """Each line of a released JSONL, in a stream: a corpus row, or why it can't be one.

    A row some of whose boxes are none comes after what is wrong with them. Empty lines are skipped.
    """
    for content, first in _blocks(Path(path), BLOCK):
        yield from _read_lines(content.split(b"\n"), first, Path(path).name)


def _read_lines(lines: Iterable[bytes], first: int, name: str) -> Iterator[dict | Rejected]:
    for number, raw in enumerate(lines, first):
        if raw and not raw.isspace():
            line = raw.decode("utf-8", errors="surrogateescape")
            bad: list[str] = []
            try:
                row = corpus_row(_json(line), bad)
            except (ValueError, RecursionError) as error:
                row, bad = None, [str(error)]
            for reason in bad:
                yield Rejected(f"{name}, line {number}", reason[:200], line[:2000])
            if row is not None:
                yield row


def _json(line: str) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:  # too deep, or a number of thousands of digits
        raise ValueError(f"not valid JSON ({error})") from error


def unboxed_mentions(row: Mapping) -> list[int]:
    """Regions that a corpus row's texts mention and that have no box."""
    known = {r["id"] for r in row["references"]}
    return [
        i
        for i in mentions(f"{row['question']} {row['answer']} {row['rationale']}")
        if i not in known
    ]


def corpus_row(raw: object, bad: list[str] | None = None) -> dict:
    """One released row as a corpus row.

    Raises ``ValueError`` naming the field that is missing or not what it should be. What is wrong
    with boxes of regions that no text mentions goes to ``bad``, where given.
    """
    if not isinstance(raw, dict):
        raise ValueError(f"a row is an object, found {type(raw).__name__}")
    texts = raw["qar"] if isinstance(raw.get("qar"), dict) and "question" not in raw else raw
    texts = {k: _text(texts, k) for k in ("question", "answer", "rationale")}
    told = set(mentions(" ".join(texts.values())))
    named, references = _references(raw, told, bad)
    index, image, source = (_string(raw, k) for k in ("index", "image", "source"))
    if not index or not image:
        raise ValueError(f"{'index' if not index else 'image'} is missing")
    if image.startswith("/") or ".." in image.split("/"):
        raise ValueError(f"image is {image!r}, which leaves the image root")
    if raw.get("dataset") is None and "VG_100K" not in image and "vcr1images" not in image:
        image = (  # VCR's paths lack their folder in some rows (rule: the release's own loaders)
            f"vcr1images/{image}"
        )
    return dict(
        triple_id=index,
        image_id=_string(raw, "image_id", image),
        family=_string(raw, "family", _family(source)),
        **texts,
        regions=_ids(raw, "region", lambda: mentions(" ".join(texts.values()))),
        regions_offered=_ids(raw, "region_all", lambda: sorted(named)),
        model=_string(raw, "model", source),
        prompt=_string(raw, "prompt"),
        request=_string(raw, "request"),
        score=_probability(raw, "prediction"),
        image=image,
        width=_pixels(raw, "width"),
        height=_pixels(raw, "height"),
        source=_string(raw, "dataset", "visual_genome" if "VG_100K" in image else "vcr"),
        split=_string(raw, "split"),
        references=references,
    )


def _family(source: str) -> str:
    """The family that a prompt's source names; "id" where it names none."""
    return next((f for f in ("description", "words") if f"_{f}" in source), "id")


# ------------------------------------------------------------------------------------------- fields


def _references(
    raw: Mapping, mentioned: Set[int], bad: list[str] | None
) -> tuple[list[int], list[dict]]:
    """The ids of all regions, and those that have a box."""
    found = raw.get("references")
    if isinstance(found, list) and all(isinstance(r, dict) for r in found):
        found = [(r.get("name"), r) for r in found]
    elif isinstance(found, dict) and all(isinstance(r, dict) for r in found.values()):
        found = list(found.items())
    else:
        raise ValueError(
            f"references is {str(found)[:60]}, expected a list or an object of regions"
        )
    regions = {}
    for name, region in found:
        number, box = _id(name, "references"), None
        try:
            box = _box(region.get("boxes"), name)
        except ValueError as error:
            if bad is None or number in mentioned:
                raise
            bad.append(str(error))
        if regions.setdefault(number, (box, region))[0] != box:
            raise ValueError(f"references: region {name!r} occurs twice, with different boxes")
    boxed = [
        dict(
            id=i,
            box=box[:4],
            label=_string(r, "obj_guess"),
            score=box[4] if len(box) == 5 else None,
        )
        for i, (box, r) in regions.items()
        if box
    ]
    return list(regions), boxed


def _box(boxes: object, name: object) -> list[float] | None:
    """The first of a region's boxes, four or five numbers; None where it has none."""
    if boxes is None or boxes == []:
        return None
    box = boxes[0] if isinstance(boxes, list) else None
    if not isinstance(box, list) or len(box) not in (4, 5):
        raise ValueError(
            f"references: region {name!r} has the boxes {str(boxes)[:60]},"
            " expected one of four or five numbers"
        )
    try:
        box = [
            v if type(v) is float and -LARGEST < v < LARGEST else finite(v, "boxes") for v in box
        ]
    except BadRecord as error:
        raise ValueError(f"references: region {name!r}: {error}") from error
    if not (box[0] < box[2] and box[1] < box[3] and max(map(abs, box)) < LARGEST):
        raise ValueError(
            f"references: region {name!r} has the box {box},"
            " expected x0 < x1 and y0 < y1, in pixels"
        )
    return box


def _ids(raw: Mapping, key: str, default: Callable[[], list[int]]) -> list[int]:
    value = raw.get(key)
    if value is None:
        return default()
    return [_id(v, key) for v in (value if isinstance(value, list) else [value])]


def _id(value: object, key: str) -> int:
    if type(value) is int and 0 <= value < 10**9:
        return value
    text = value.strip() if type(value) is str else str(value)
    if (
        isinstance(value, bool)
        or not isinstance(value, int | str)
        or not text.isdecimal()
        or len(text) > 9
    ):
        raise ValueError(f"{key}: {str(value)[:60]!r} is no region, expected a number")
    return int(text)


def _string(raw: Mapping, key: str, default: str = "") -> str:
    value = raw.get(key)
    if value is None:
        return default
    if not isinstance(value, str):
        raise ValueError(f"{key} is {str(value)[:60]}, expected a text")
    return _whole(value, key)


def _whole(text: str, key: str) -> str:
    if text.isascii():
        return text
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"{key} is no UTF-8 text ({error.reason})") from error
    return text


def _probability(raw: Mapping, key: str) -> float | None:
    if raw.get(key) is None:
        return None
    value = finite(raw[key], key)
    if not 0 <= value <= 1:
        raise ValueError(f"{key} is {value}, expected a probability")
    return value


def _pixels(raw: Mapping, key: str) -> int | None:
    if raw.get(key) is None:
        return None
    value = finite(raw[key], key)
    if not 1 <= value < LARGEST or value != int(value):
        raise ValueError(f"{key} is {value}, expected a whole number of pixels")
    return int(value)


def _text(raw: Mapping, key: str) -> str:
    """Tokens, or a text as it is."""
    tokens = raw.get(key)
    if isinstance(tokens, str):
        return _whole(tokens, key)
    if not isinstance(tokens, list):
        raise ValueError(f"{key} is {str(tokens)[:60]}, expected texts and lists of region ids")
    return _whole(
        tokens_to_text([t if type(t) is str else _mentioned(t, tokens, key) for t in tokens]), key
    )


def _mentioned(token: object, tokens: list, key: str) -> list[int]:
    if not isinstance(token, list) or not token:
        raise ValueError(f"{key} is {str(tokens)[:60]}, expected texts and lists of region ids")
    return [_id(i, key) for i in token]
