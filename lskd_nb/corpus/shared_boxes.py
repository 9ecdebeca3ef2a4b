"""The boxes of one image as many rows tell them: cut to the picture, and put together by id.

Each row of a corpus names some of its image's regions. Rows that agree make one image of all their
regions. Where two give an id different boxes they can't both be drawn on one image: the later
row goes to another *layout* of the same picture, with an image id of its own (``7``, ``7#2``), so
that nobody is ever shown a box that the row did not mean.

    references of R rows: N boxes         N: place, row, id, box, label, score
        | cut                             scaled and cut to the picture; which have an area left
        v
    layouts                               (R,) 0 for a row that fits the first, 1, 2, …
        |
        v
    united                                a line for each image, layout and id
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lskd_nb.records import REGION

SAME = 1.0  # pixels: boxes of an id that differ by less are the same


@dataclass(frozen=True)
class Boxes:
    """Regions of many rows, one after the other: ``row`` (N,) int32, not falling, ``ids`` (N,)
    int32, ``box`` (N, 4) float32 xyxy pixels; ``label`` and ``score`` as columns of N.
    """

    row: np.ndarray
    ids: np.ndarray
    box: np.ndarray
    label: pa.Array
    score: pa.Array

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, places: np.ndarray) -> "Boxes":
        """Those at some places, or where a mask (N,) is true."""
        at = np.flatnonzero(places) if places.dtype == bool else places
        label, score = (column.take(pa.array(at)) for column in (self.label, self.score))
        return Boxes(self.row[at], self.ids[at], self.box[at], label, score)


def boxes_of(references: pa.Array, first_row: int = 0) -> Boxes:
    """The regions of rows (a column of ``references`` of records.CORPUS), the first of which has
    the number ``first_row``.
    """
    regions = references.flatten()
    row = pc.list_parent_indices(references).to_numpy().astype(np.int32) + np.int32(first_row)
    fields = (pc.struct_field(regions, name) for name in ("id", "box", "label", "score"))
    ids, box, label, score = fields
    corners = box.flatten().to_numpy(zero_copy_only=False).reshape(-1, 4)
    return Boxes(row, ids.to_numpy(zero_copy_only=False), corners, label, score)


def joined(parts: Sequence[Boxes]) -> Boxes:
    """Boxes of rows, and of the rows after these."""
    arrays = (np.concatenate([getattr(p, n) for p in parts]) for n in ("row", "ids", "box"))
    columns = (pa.concat_arrays([getattr(p, n) for p in parts]) for n in ("label", "score"))
    return Boxes(*arrays, *columns)


def references_of(boxes: Boxes, rows: int) -> pa.Array:
    """The column of ``references`` of so many rows, numbered from 0."""
    ends = np.searchsorted(boxes.row, np.arange(rows + 1)).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(ends), _structs(boxes))


def _structs(boxes: Boxes) -> pa.Array:
    flat = pa.array(np.ascontiguousarray(boxes.box, np.float32).reshape(-1))
    box = pa.FixedSizeListArray.from_arrays(flat, 4).cast(REGION.field("box").type)
    columns = [pa.array(boxes.ids, pa.int32()), box, boxes.label, boxes.score]
    return pa.StructArray.from_arrays(columns, fields=list(REGION))


def cut(
    boxes: Boxes, sizes: np.ndarray, scale: np.ndarray | None = None
) -> tuple[Boxes, np.ndarray, np.ndarray]:
    """Boxes scaled, and cut to pictures of ``sizes`` (N, 2), width and height in pixels; which
    have an area left, (N,) bool; and which were cut, (N,) bool. ``scale`` (N, 2) is across and
    down.
    """
    edges = np.tile(sizes.astype(np.float32), 2)
    scaled = boxes.box if scale is None else boxes.box * np.tile(scale.astype(np.float32), 2)
    inside = np.minimum(np.maximum(scaled, 0), edges)
    area = (inside[:, 2] > inside[:, 0]) & (inside[:, 3] > inside[:, 1])
    return replace(boxes, box=inside), area, (inside != scaled).any(1)


def layouts(boxes: Boxes, image: np.ndarray) -> np.ndarray:
    """The layout of each row, (R,) int32: the first of its image that no box of it speaks against.

    ``image`` (R,) is each row's, as a number.
    """
    found = np.zeros(len(image), np.int32)
    of = image[boxes.row]
    order = np.lexsort((boxes.ids, of))
    ids, of, box = boxes.ids[order], of[order], boxes.box[order]
    starts = _starts(of, ids)
    if not len(starts):
        return found
    spread = np.maximum.reduceat(box, starts) - np.minimum.reduceat(box, starts)
    conflicting = np.unique(of[starts[(spread >= SAME).any(1)]])
    if not len(conflicting):
        return found
    concerned = np.flatnonzero(np.isin(image[boxes.row], conflicting))
    told: dict[int, list[dict[int, tuple]]] = defaultdict(list)
    rows, firsts = np.unique(boxes.row[concerned], return_index=True)
    ends = np.append(firsts[1:], len(concerned))
    ids_of, box_of = boxes.ids[concerned].tolist(), boxes.box[concerned].tolist()
    for row, first, end in zip(rows.tolist(), firsts.tolist(), ends.tolist(), strict=True):
        own = dict(zip(ids_of[first:end], box_of[first:end], strict=True))
        known = told[int(image[row])]
        fits = (n for n, layout in enumerate(known) if _agree(own, layout))
        number = next(fits, len(known))
        if number == len(known):
            known.append({})
        known[number] = own | known[number]
        found[row] = number
    return found


def _agree(one: dict[int, list[float]], other: dict[int, list[float]]) -> bool:
    return all(
        max(abs(a - b) for a, b in zip(box, other[i], strict=True)) < SAME
        for i, box in one.items()
        if i in other
    )


def _starts(*keys: np.ndarray) -> np.ndarray:
    """Where each run of equal keys begins."""
    if not len(keys[0]):
        return np.zeros(0, int)
    changes = np.any([key[1:] != key[:-1] for key in keys], axis=0)
    return np.flatnonzero(np.concatenate([[True], changes]))


def united(boxes: Boxes, image: np.ndarray) -> Boxes:
    """Each id of each image once, ``row`` being the image's number: as the first row that has a
    label for it tells it, or else the first. ``image`` (R,) is each row's.
    """
    of = image[boxes.row]
    plain = pc.equal(pc.fill_null(boxes.label, ""), "").to_numpy(zero_copy_only=False)
    order = np.lexsort((boxes.row, plain, boxes.ids, of))
    first = order[_starts(of[order], boxes.ids[order])]
    return replace(boxes.take(first), row=of[first])
