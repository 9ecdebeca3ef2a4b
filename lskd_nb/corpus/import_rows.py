"""The rows of a corpus as the files of a run (see ``imported``): pictures looked at, boxes cut to
them, regions put together by image, what can't be used left out with its reason.

A million rows pass through in parts; what is kept of all of them at once are numbers, by row and by
box.
"""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image

from lskd_nb.corpus.released import in_order
from lskd_nb.corpus.shared_boxes import Boxes, boxes_of, cut, joined, layouts, references_of, united
from lskd_nb.records import (
    CORPUS,
    REGIONS,
    REJECTS,
    ROW_GROUP,
    SCORES,
    TRIPLES,
    VERBALIZATIONS,
    read_parquet,
    write_parquet,
)
from lskd_nb.regions import NO_IMAGE, image_file, mentions
from lskd_nb.run_folder import RunError
from lskd_nb.sources import BadRecord, image_size

APART, REJECTED = "corpus.unboxed.parquet", "rejects_import.parquet"
ROWS_AT_ONCE = 50_000
PICTURES_AT_ONCE = 2_000
# reasons that a picture which comes later takes away
MISSING, CORRUPT = "missing image", "corrupt image"
ENDS = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}  # of a file that was not cut off
OF_FORMAT = "no row or box as the format has it"


# ---------------------------------------------------------------------------------------- pictures


def is_whole(root: Path, image: str) -> bool:
    """Whether a picture is there, to its end."""
    return not _picture(root, image)[1]


def _picture(root: Path, image: str) -> tuple[tuple[int, int], str, str]:
    """A picture's width and height in pixels, or why there are none, and what was found.

    Only its header is read where the file ends as its kind does; else all of it.
    """
    path = image_file(root, image)
    try:
        with open(path, "rb") as file, Image.open(file) as picture:
            if picture.mode in ("F", "I"):  # as regions.as_rgb has it
                raise ValueError(f"its pixels are numbers without a scale (mode {picture.mode})")
            end = ENDS.get(picture.format or "", b"")
            file.seek(-max(len(end), 1), os.SEEK_END)
            if end and file.read() == end:
                return picture.size, "", ""
        return image_size(path), "", ""
    except FileNotFoundError:
        return (0, 0), MISSING, f"{image}: not below the image folder"
    except BadRecord as error:
        return (0, 0), error.reason, f"{image}: {error.detail}"
    except NO_IMAGE as error:
        return (0, 0), CORRUPT, f"{image}: {error}"


def _pictures(root: Path, images: Sequence[str]) -> list[tuple[tuple[int, int], str, str]]:
    return [_picture(root, image) for image in images]


def _look_at(root: Path, images: Sequence[str], workers: int | None) -> Iterator[tuple]:
    """``_picture`` of each, in their order."""
    parts = range(0, len(images), PICTURES_AT_ONCE)
    if workers is None:
        workers = 0 if len(parts) < 4 else os.cpu_count() or 1
    jobs = ((root, images[n : n + PICTURES_AT_ONCE]) for n in parts)
    for found in in_order(_pictures, jobs, workers):
        yield from found


# --------------------------------------------------------------------------------------- the rows


@dataclass
class _Rows:
    """What is known of R rows of a file: ``ids`` their triples; ``image`` (R,) each one's picture
    among the ``images``; ``size`` (R, 2) its pixels; ``scale`` (R, 2) from the file's to these.

    Rows that are ``out`` are left out, ``why`` tells why; ``parts`` tells of regions.
    """

    ids: pa.ChunkedArray
    image: np.ndarray
    images: list[str]  # paths below the image folder
    image_ids: list[str]  # as the file has them, one for each of ``images``
    size: np.ndarray
    scale: np.ndarray
    lacking: list[str]  # pictures that are not there
    out: np.ndarray  # (R,) bool
    why: dict[int, tuple[str, str]] = field(default_factory=dict)
    parts: list[tuple[int, str, str]] = field(default_factory=list)
    offered: dict[int, list[int]] = field(default_factory=dict)  # besides those the file names
    cut: int = 0  # boxes

    def leave_out(self, row: int, reason: str, detail: str) -> None:
        """For the first reason that there is."""
        self.out[row] = True
        self.why.setdefault(row, (reason, detail))


def make_run(building: Path, root: Path, file: Path, workers: int | None = None) -> dict:
    """A run's files in ``building``, of the rows of ``file`` that ``convert_released`` has put
    there as read.parquet; counts of what is in them and what was left out.

    Raises ``RunError`` where there are no rows, no pictures below ``root``, or nothing is left.
    """
    read = building / "read.parquet"
    rows = _rows(read, root, file, workers)
    boxes = _boxes(read, rows)
    kept = ~rows.out
    if not kept.any():
        first = next(iter(rows.why.values()))
        raise RunError(
            f"{file}: all {len(kept):,} rows were left out, the first: {': '.join(first)}"
        )
    layout = layouts(boxes, rows.image)
    pairs, number = np.unique(np.stack([rows.image, layout], 1)[kept], axis=0, return_inverse=True)
    image_of = np.full(len(kept), -1)
    image_of[kept] = number.reshape(-1)
    image_ids = _named([rows.image_ids[i] for i in pairs[:, 0].tolist()])
    told = _write_rows(building, rows, boxes, image_of, image_ids)
    _write_regions(building / "regions.parquet", read, rows, boxes, image_of, image_ids)
    write_parquet([], building / "verbalizations.parquet", VERBALIZATIONS)
    (building / "image_root.txt").write_text(str(root), encoding="utf-8")
    os.replace(building / "read.unboxed.parquet", building / APART)
    reasons = _write_rejects(building, rows)
    return told | dict(
        images=len(np.unique(rows.image[kept])),
        images_of_file=len(set(rows.images)),
        lacking=len(rows.lacking),
        first_lacking=rows.lacking[0] if rows.lacking else None,
        cut=rows.cut,
        scaled=int((rows.scale[kept] != 1).any(1).sum()),
        told_apart=dict(
            images=len(np.unique(rows.image[layout > 0])), rows=int((layout > 0).sum())
        ),
        rejects=reasons,
    )


def _rows(read: Path, root: Path, file: Path, workers: int | None) -> _Rows:
    """The rows, their pictures looked at."""
    columns = ["triple_id", "image_id", "image", "width", "height"]
    table = pq.read_table(read, columns=columns)
    if not table.num_rows:
        raise RunError(f"{file}: no row could be read, {_first_reject(read)}")
    pairs = pc.binary_join_element_wise(table["image_id"], table["image"], "\0")
    image = pairs.combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int32)
    firsts = table.take(pa.array(np.unique(image, return_index=True)[1]))
    images = firsts["image"].to_pylist()
    found = list(_look_at(root, images, workers))
    lacking = [path for path, (_, why, _) in zip(images, found, strict=True) if why == MISSING]
    if len(lacking) == len(images):
        raise RunError(
            f"none of the {len(set(images)):,} pictures of {file} is there: the first was looked"
            f" for as {root / images[0]}. --images names the folder that holds"
            f" {', '.join(sorted({path.split('/')[0] for path in images})[:4])}, or links to them"
        )
    sizes = np.array([size for size, _, _ in found], np.int32)
    bad = np.array([bool(why) for _, why, _ in found])
    rows = _Rows(
        table["triple_id"],
        image,
        images,
        firsts["image_id"].to_pylist(),
        sizes[image],
        np.ones((table.num_rows, 2)),
        list(dict.fromkeys(lacking)),
        np.zeros(table.num_rows, bool),
    )
    for row in np.flatnonzero(bad[image]).tolist():
        rows.leave_out(row, *found[image[row]][1:])
    _scale(rows, table)
    ids = table["triple_id"].combine_chunks().dictionary_encode().indices.to_numpy()
    again = np.ones(len(ids), bool)
    again[np.unique(ids, return_index=True)[1]] = False
    for row in np.flatnonzero(again).tolist():
        rows.leave_out(row, "index occurs twice", f"row {row + 1} of those that were read")
    return rows


def _scale(rows: _Rows, table: pa.Table) -> None:
    """How the boxes of rows that have a size of their own come to their pictures' size."""
    told = np.stack(
        [pc.fill_null(table[n], 0).to_numpy().astype(np.int64) for n in ("width", "height")], 1
    )
    of = np.flatnonzero((told > 0).all(1) & (rows.size > 0).all(1))
    own, real = told[of], rows.size[of].astype(np.int64)
    rows.scale[of] = real / own
    # as sources.stored_size has it: the same shape, to a pixel of rounding
    off = np.abs(own[:, 0] * real[:, 1] - own[:, 1] * real[:, 0])
    other = np.maximum(own, real).max(1) < off
    for row, (w, h), (x, y) in zip(
        of[other].tolist(), own[other].tolist(), real[other].tolist(), strict=True
    ):
        found = f"{rows.images[rows.image[row]]}: {x} x {y} pixels, {w} x {h} in the file"
        rows.leave_out(row, "image size differs", found)


def _boxes(read: Path, rows: _Rows) -> Boxes:
    """The boxes of the rows that are kept, cut to their pictures. A row that mentions a region of
    which nothing is left is left out, and said so; of others, that region.
    """
    texts = ["question", "answer", "rationale"]
    parts, first = [], 0
    for batch in _batches(read, ["references", "regions_offered", *texts]):
        found = boxes_of(batch["references"], first)
        found = found.take(~rows.out[found.row])
        inside, area, was_cut = cut(found, rows.size[found.row], rows.scale[found.row])
        mentioned = {
            row: set(mentions(" ".join(batch[t][row - first].as_py() for t in texts)))
            for row in np.unique(found.row[~area]).tolist()
        }
        for place in np.flatnonzero(~area).tolist():
            row, region = int(found.row[place]), int(found.ids[place])
            size = " x ".join(map(str, rows.size[row].tolist()))
            box = f"region {region}, {found.box[place].tolist()} in an image of {size} pixels"
            if region in mentioned[row]:
                rows.leave_out(row, "box of no area", box)
            else:
                rows.parts.append((row, "box of no area", box))
        inside = inside.take(area & ~rows.out[found.row])
        rows.cut += int((was_cut & area).sum())
        _also_offered(rows, inside, batch, first, texts)
        parts.append(inside)
        first += batch.num_rows
    return joined(parts)


def _also_offered(
    rows: _Rows, boxes: Boxes, batch: pa.RecordBatch, first: int, texts: Sequence[str]
) -> None:
    """Regions that a row mentions without naming them among those offered: they are drawn, too."""
    offered = batch["regions_offered"]
    row = pc.list_parent_indices(offered).to_numpy().astype(np.int64) + first
    known = (row << 32) + offered.flatten().to_numpy(zero_copy_only=False)
    for place in np.flatnonzero(~np.isin((boxes.row.astype(np.int64) << 32) + boxes.ids, known)):
        at, region = int(boxes.row[place]), int(boxes.ids[place])
        if region in mentions(" ".join(batch[t][at - first].as_py() for t in texts)):
            rows.offered.setdefault(at, []).append(region)


def _batches(read: Path, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(read) as file:
        yield from file.iter_batches(ROWS_AT_ONCE, columns=list(columns))


def _named(image_ids: Sequence[str]) -> list[str]:
    """Ids made different: the second "7" is "7#2".

    >>> _named(["7", "7", "8"])
    ['7', '7#2', '8']
    """
    used, found = set(image_ids), []
    taken: set[str] = set()
    for name in image_ids:
        new, number = name, 2
        while new in taken or (new != name and new in used):
            new, number = f"{name}#{number}", number + 1
        taken.add(new)
        found.append(new)
    return found


# ---------------------------------------------------------------------------------- what is written


def _write_rows(
    building: Path, rows: _Rows, boxes: Boxes, image_of: np.ndarray, image_ids: Sequence[str]
) -> dict:
    """corpus.parquet, triples.parquet and scores.parquet; what is in them."""
    kept, names, first = ~rows.out, pa.array(image_ids, pa.string()), 0
    models, sources, unscored = Counter(), Counter(), 0
    files = dict(corpus=CORPUS, triples=TRIPLES, scores=SCORES)
    writers = {
        name: pq.ParquetWriter(building / f"{name}.parquet", schema, compression="zstd")
        for name, schema in files.items()
    }
    for batch in _batches(building / "read.parquet", CORPUS.names):
        here = np.flatnonzero(kept[first : first + batch.num_rows])
        at = here + first
        low, high = np.searchsorted(boxes.row, (first, first + batch.num_rows))
        own = boxes.take(np.arange(low, high))
        own.row[:] = np.searchsorted(at, own.row)
        size = rows.size[at]
        columns = {name: batch[name].take(pa.array(here)) for name in CORPUS.names} | {
            "image_id": names.take(pa.array(image_of[at])),
            "width": pa.array(size[:, 0], pa.int32()),
            "height": pa.array(size[:, 1], pa.int32()),
            "references": references_of(own, len(at)),
        }
        if also := rows.offered.keys() & set(at.tolist()):
            offered = columns["regions_offered"].to_pylist()
            for row in also:
                offered[int(np.searchsorted(at, row))] += rows.offered[row]
            columns["regions_offered"] = pa.array(offered, CORPUS.field("regions_offered").type)
        table = pa.table(columns).select(CORPUS.names).cast(CORPUS)
        nothing = pa.nulls(len(at), pa.float32())
        scores = [table["triple_id"], table["score"], nothing, nothing]
        writers["corpus"].write_table(table, ROW_GROUP)
        writers["triples"].write_table(table.select(TRIPLES.names), ROW_GROUP)
        writers["scores"].write_table(pa.table(scores, schema=SCORES), ROW_GROUP)
        unscored += table["score"].null_count
        for counts, name in ((models, "model"), (sources, "source")):
            for value in table[name].value_counts().to_pylist():
                counts[value["values"] or "unknown"] += value["counts"]
        first += batch.num_rows
    for writer in writers.values():
        writer.close()
    written_by = dict(models.most_common())
    return dict(
        triples=int(kept.sum()), unscored=unscored, written_by=written_by, sources=dict(sources)
    )


def _write_regions(
    path: Path,
    read: Path,
    rows: _Rows,
    boxes: Boxes,
    image_of: np.ndarray,
    image_ids: Sequence[str],
) -> None:
    """regions.parquet: each image once, with the regions of all its rows; its data set and split
    are those of its first row.
    """
    _, firsts = np.unique(np.where(image_of < 0, len(image_ids), image_of), return_index=True)
    firsts = firsts[: len(image_ids)]
    told = pq.read_table(read, columns=["image", "source", "split"]).take(pa.array(firsts))
    size = rows.size[firsts]
    columns = [
        pa.array(image_ids, pa.string()),
        told["image"],
        pa.array(size[:, 0], pa.int32()),
        pa.array(size[:, 1], pa.int32()),
        told["source"],
        told["split"],
        references_of(united(boxes, image_of), len(image_ids)),
    ]
    write_parquet(pa.table(columns, names=REGIONS.names), path, REGIONS)


def _write_rejects(building: Path, rows: _Rows) -> dict[str, int]:
    """What was left out, file and pictures together; how often for each reason."""
    of_file = read_parquet(building / "read.rejects.parquet", REJECTS)
    left = [(row, *why) for row, why in sorted(rows.why.items())] + rows.parts
    ids = rows.ids.take(pa.array([row for row, _, _ in left], pa.int64()))
    columns = [
        pa.array(["import"] * len(left), pa.string()),
        ids,
        *(pa.array([one[n] for one in left], pa.string()) for n in (1, 2)),
    ]
    table = pa.concat_tables([of_file, pa.table(columns, schema=REJECTS)])
    write_parquet(table, building / REJECTED, REJECTS)
    counts = Counter({OF_FORMAT: of_file.num_rows} if of_file.num_rows else {})
    counts.update(reason for _, reason, _ in left)
    return dict(counts.most_common())


def _first_reject(read: Path) -> str:
    table = pq.read_table(read.with_suffix(".rejects.parquet"))
    apart = pq.ParquetFile(read.with_suffix(".unboxed.parquet")).metadata.num_rows
    if table.num_rows:
        first = table.slice(0, 1).to_pylist()[0]
        return f"the first because of this: {first['record']}, {first['reason']}"
    return f"{apart:,} mention a region that has no box" if apart else "it is empty"
