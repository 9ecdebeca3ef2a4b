"""A million rows in the released format imported as a run, with their pictures, and the browser
opened on it.
"""

import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from corpus import ROWS, Memory, below
from measuring import Measured
from million import write_rows
from PIL import Image

from lskd_nb.corpus.imported import import_corpus
from lskd_nb.viewing.widgets import CorpusBrowser


def draw_pictures(root: Path, number: int) -> None:
    """As many pictures as the rows may name: links to a few JPEGs, since a file system allows one
    file some 65,000 names.
    """
    (root / "VG_100K").mkdir(parents=True)
    for n in range(number):
        of = root / f"{n // 50_000}.jpg"
        if not of.exists():
            Image.effect_noise((640, 480), 60).convert("RGB").save(of)
        os.link(of, root / "VG_100K" / f"{n}.jpg")


def measure() -> list[Measured]:
    with tempfile.TemporaryDirectory() as place:
        path, root, run = (Path(place) / name for name in ("released.jsonl", "images", "run"))
        draw_pictures(root, write_rows(path, ROWS))
        return importing(path, root, run)


def importing(path: Path, root: Path, run: Path) -> list[Measured]:
    """The file made a run of, and its browser opened."""
    begin, before = time.perf_counter(), processor_seconds()
    with Memory() as memory:
        record, _ = import_corpus(path, root, run)
    seconds, processor = time.perf_counter() - begin, processor_seconds() - before
    what = f"{ROWS:,} released rows imported as a run"
    note = (
        f"processor time, conversion included; by the clock {seconds:.0f} s;"
        f" {record['triples']:,} triples, {record['images']:,} pictures, links to three JPEGs"
    )
    begin = processor_seconds()
    CorpusBrowser(run)
    opened, peak = processor_seconds() - begin, memory.peak
    return [
        replace(below(what, processor, 120, note), part="importing"),
        Measured("importing", "memory of that, all processes", peak, "GiB", "≤ 4 GiB", peak <= 4),
        replace(
            below("opening the browser on that run", opened, 10, "processor time"), part="importing"
        ),
    ]


def processor_seconds() -> float:
    """Of this process and those that it has waited for."""
    return sum(os.times()[:4])
