"""Long work over many images, done in parts: a killed call goes on with the first part that is not written yet."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa

from lskd_nb.records import REJECTS, read_parquet, write_parquet
from lskd_nb.regions import LocatedImage

Work = Callable[[Sequence[LocatedImage]], tuple[pa.Table | list[dict], list[dict]]]


def in_parts(
    images: Sequence[LocatedImage], folder: Path, part: int, work: Work, schema: pa.Schema, on_progress: Callable[[int, int], None]
) -> tuple[pa.Table, pa.Table]:
    """``work`` on ``images``, ``part`` at a time; its rows (of ``schema``) and its rejects, in the order of the images.

    Each part's rows and rejects lie in ``folder``, which must belong to this very work: a part that is there is not done again.
    ``on_progress`` is told how many images are done, of how many.
    """
    rows, rejects = [schema.empty_table()], [REJECTS.empty_table()]
    for start in range(0, len(images), part):
        lines, bad_lines = folder / f"{start:07d}.parquet", folder / f"{start:07d}.rejects.parquet"
        if not lines.exists():
            found, bad = work(images[start : start + part])
            write_parquet(bad, bad_lines, REJECTS)
            write_parquet(found, lines, schema)
        rows.append(read_parquet(lines, schema))
        rejects.append(read_parquet(bad_lines, REJECTS))
        on_progress(min(start + part, len(images)), len(images))
    return pa.concat_tables(rows).combine_chunks(), pa.concat_tables(rejects).combine_chunks()
