"""The corpus at a million rows: converting the released JSONL, opening it, and every query of
the browser, the threshold curve and the filter.
"""

import json
import os
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from measuring import Measured
from million import write_rows

from lskd_nb.corpus.index import CorpusIndex, Filter
from lskd_nb.corpus.released import convert_released
from lskd_nb.critic.filtering import Acceptability, best_share

ROWS = 1_000_000
SLOWEST = 0.3  # seconds a query may take


class Memory:
    """The largest resident memory of this process and all below it while the block runs, above
    what was there before, in GiB.
    """

    def __enter__(self) -> "Memory":
        self._before, self.peak, self._end = self._now(), 0.0, threading.Event()
        self._watch = threading.Thread(target=self._look)
        self._watch.start()
        return self

    def _now(self) -> float:
        this = psutil.Process()
        total = 0
        for process in (this, *this.children(recursive=True)):
            try:
                total += process.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        return total / 2**30

    def _look(self) -> None:
        while not self._end.wait(0.05):
            self.peak = max(self.peak, self._now() - self._before)

    def __exit__(self, *_) -> None:
        self._end.set()
        self._watch.join()


def unchecked(path: Path, rows: int) -> float:
    """Seconds a million rows would take to be parsed and put into a table as they are, nothing
    checked and no text made of tokens.
    """
    begin, table = time.perf_counter(), []
    with open(path, encoding="utf-8") as lines:
        for line, _ in zip(lines, range(rows), strict=False):
            try:
                row = json.loads(line)
            except ValueError:
                continue
            table.append(
                dict(
                    image=row["image"],
                    source=row["source"],
                    index=row["index"],
                    prediction=row["prediction"],
                    references=json.dumps(row["references"]),
                    **{k: json.dumps(row[k]) for k in ("question", "answer", "rationale")},
                )
            )
    pq.write_table(pa.Table.from_pylist(table), path.with_suffix(".unchecked.parquet"))
    return (time.perf_counter() - begin) * ROWS / rows


def slowest(call: Callable[[], object], times: int = 5) -> float:
    seconds = []
    for _ in range(times):
        begin = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begin)
    return max(seconds)


def below(what: str, seconds: float, aim: float, note: str = "") -> Measured:
    return Measured("corpus", what, seconds, "s", f"≤ {aim:g} s", seconds <= aim, note=note)


def queries(index: CorpusIndex) -> dict[str, Callable[[], object]]:
    """What a user of the browser may ask for."""
    best, rng = index.places(Filter()), np.random.default_rng(0)
    filters = {
        "all, best first": (Filter(), "score DESC"),
        "all, by id": (Filter(), "triple_id"),
        "one data set, scores 0.3 to 0.9": (
            Filter(source="visual_genome", score=(0.3, 0.9)),
            "score ASC",
        ),
        "a question type and a number of regions": (
            Filter(opening="why", regions=(2, 2)),
            "score DESC",
        ),
        "a word": (Filter(text="Guitar"), "score DESC"),
        "two letters, most rows": (Filter(text="ar", family="id"), "score ASC"),
        "a word that is nowhere": (Filter(text="qqq"), "as written"),
    }
    found: dict[str, Callable[[], object]] = {
        f"filter: {name}": partial(index.places, *told) for name, told in filters.items()
    }
    return found | {
        "next, at any place": lambda: index.rows([best[rng.integers(len(best))]]),
        "a count": partial(index.count, Filter(score=(0.8, 1.0))),
        "what can be chosen": partial(index.choices, "opening"),
    }


def judging(index: CorpusIndex) -> list[Measured]:
    table = pq.read_table(index.path, columns=["score", "image_id"])
    scores, images = table["score"].to_numpy(), table["image_id"].to_pandas().to_numpy()
    accepted = np.random.default_rng(0).random(len(scores)) < scores
    begin = time.perf_counter()
    judged = Acceptability(scores, accepted, images, resamples=300)
    made = time.perf_counter() - begin
    note = (
        f"{len(np.unique(images)):,} images resampled {len(judged._weights)} times; opening takes"
        f" {made:.1f} s"
    )
    return [
        below(
            "a step of the threshold, with its interval",
            slowest(lambda: judged.at([np.random.default_rng().random()])),
            SLOWEST,
            note,
        ),
        below(
            "the threshold curve, 20 points",
            slowest(lambda: judged.by_share(np.arange(0.05, 1.01, 0.05))),
            SLOWEST,
        ),
        below(
            "the filter: threshold of a share, and what it keeps",
            slowest(lambda: best_share(scores, images, 0.2)),
            SLOWEST,
        ),
    ]


def measure() -> list[Measured]:
    with tempfile.TemporaryDirectory() as place:
        path, out = Path(place) / "released.jsonl", Path(place) / "corpus.parquet"
        write_rows(path, ROWS)
        other = unchecked(path, ROWS // 10)
        begin = time.perf_counter()
        with Memory() as memory:
            counts = convert_released(path, out)
        seconds = time.perf_counter() - begin
        assert sum(counts) == ROWS
        rows = [
            Measured(
                "corpus",
                f"{ROWS:,} released rows to Parquet",
                seconds,
                "s",
                "≤ 30 s",
                seconds <= 30,
                other,
                "json and pyarrow, unchecked, one process, from a tenth",
                other / seconds,
                f"{path.stat().st_size / 2**30:.1f} GiB, {os.cpu_count()} processes",
            ),
            Measured(
                "corpus",
                "memory of that, all processes",
                memory.peak,
                "GiB",
                "≤ 1.5 GiB",
                memory.peak <= 1.5,
            ),
        ]
        begin = time.perf_counter()
        with Memory() as memory:
            index = CorpusIndex(out)
        opened = f"opening takes {time.perf_counter() - begin:.1f} s and {memory.peak:.1f} GiB"
        asked = queries(index)
        times = {name: slowest(call) for name, call in asked.items()}
        worst = max(times, key=times.get)
        rows.append(
            below(
                f"the slowest of {len(times)} queries of the browser",
                times[worst],
                SLOWEST,
                f"{worst}; {opened}",
            )
        )
        return rows + judging(index)
