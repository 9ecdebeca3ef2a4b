"""The corpus browser over a run of a million judged triples: opening it, and every step a hand
can make, with the image, the words and the reasons.
"""

import tempfile
import time
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import duckdb
import numpy as np
from corpus import ROWS, SLOWEST, Memory, slowest
from measuring import Measured
from million import write_rows
from PIL import Image

from lskd_nb.corpus.released import convert_released
from lskd_nb.viewing.widgets import CorpusBrowser, ThresholdExplorer

LINES = 12  # said of an image
FILES = {
    "triples": (
        'SELECT * EXCLUDE (score, image, width, height, source, split, "references") FROM rows'
    ),
    "scores": "SELECT triple_id, score, score AS qa_score, score AS rationale_score FROM rows",
    "regions": (
        "SELECT image_id, 'picture.jpg' AS image, 640::INT AS width, 480::INT AS height,"
        ' any_value(source) AS source, any_value(split) AS split, any_value("references") AS'
        " regions FROM rows GROUP BY image_id"
    ),
    "corpus": (
        "SELECT * REPLACE ('picture.jpg' AS image) FROM rows WHERE score >= 0.8 ORDER BY triple_id"
    ),
    "verbalizations": (
        "SELECT image_id, 'local' AS kind, 'captioner' AS verbalizer, (n % 3)::INT AS region,"
        " NULL::VARCHAR AS question, 'a ' || opening || ' thing, number ' || n AS text, 0.5::FLOAT"
        " AS score, 'model' AS model, 'v' AS version FROM (SELECT image_id, any_value(family) AS"
        f" opening FROM rows GROUP BY image_id), range({LINES}) t(n)"
    ),
    "predictions/acceptability": (
        "SELECT triple_id AS item_id, image_id, 'acceptability' AS task, 'raw' AS system, 0::INT AS"
        " seed, [] :: FLOAT[] AS scores, 1::INT AS label, (random() < score)::INT::FLOAT AS"
        " correct, family AS slice FROM rows"
    ),
}


def write_run(folder: Path) -> None:
    """A run's folder as notebooks 01 to 04 leave it, a million triples large, with one
    photograph-sized picture for all images.
    """
    write_rows(folder / "released.jsonl", ROWS)
    convert_released(folder / "released.jsonl", folder / "all.parquet")
    (folder / "predictions").mkdir()
    with duckdb.connect() as db:
        db.execute(
            "CREATE VIEW rows AS SELECT * FROM read_parquet('" + str(folder / "all.parquet") + "')"
        )
        for name, query in FILES.items():
            db.execute(
                f"COPY ({query}) TO '{folder / name}.parquet' (FORMAT parquet, COMPRESSION zstd,"
                " ROW_GROUP_SIZE 10000)"
            )
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (30, 40, 3), np.uint8)).resize(
        (640, 480), Image.Resampling.BICUBIC
    ).save(folder / "picture.jpg")
    (folder / "image_root.txt").write_text(str(folder))


def steps(browser: CorpusBrowser) -> dict[str, Callable[[], object]]:
    """What a hand may do, each from where the one before has left the browser."""
    rng, words = np.random.default_rng(0), cycle(["guitar", "ar", "qqq", "celebration", "dog"])
    sources = cycle([*browser.index.choices("source"), ""])
    return {
        "next": lambda: browser.press("ArrowRight"),
        "any place": lambda: setattr(browser.place, "value", int(rng.integers(1, browser.total))),
        "all about this image": lambda: browser.press("i"),
        "kept or dropped": lambda: browser.press("k"),
        "order": lambda: browser.press("o"),
        "a data set": lambda: setattr(browser.source, "value", next(sources)),
        "words": lambda: setattr(browser.text, "value", next(words)),
        "scores": lambda: setattr(browser.score, "value", (0.3, 0.5 + rng.random() / 2)),
        "reset": browser.reset,
    }


def measure() -> list[Measured]:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_run(folder)
        begin = time.perf_counter()
        with Memory() as memory:
            browser = CorpusBrowser(folder)
        opened = (
            f"{browser.index.total:,} triples, {len(browser.run.image_ids()):,} images; opening"
            f" takes {time.perf_counter() - begin:.1f} s and {memory.peak:.1f} GiB"
        )
        times = {name: slowest(call, 6) for name, call in steps(browser).items()}
        worst = max(times, key=times.get)
        told = f"{worst}; next: {times['next']:.2f} s; {opened}"
        rows = [
            Measured(
                "browser",
                f"the slowest of {len(times)} kinds of steps of CorpusBrowser",
                times[worst],
                "s",
                f"≤ {SLOWEST:g} s",
                times[worst] <= SLOWEST,
                note=told,
            )
        ]
        begin = time.perf_counter()
        explorer = ThresholdExplorer.of_run(folder)
        opened = (
            f"with four pictures at the border; opening takes {time.perf_counter() - begin:.1f} s"
        )
        seconds = slowest(lambda: explorer.press("ArrowLeft"), 10)
        return [
            *rows,
            Measured(
                "browser",
                "a step of ThresholdExplorer",
                seconds,
                "s",
                f"≤ {SLOWEST:g} s",
                seconds <= SLOWEST,
                note=opened,
            ),
        ]
