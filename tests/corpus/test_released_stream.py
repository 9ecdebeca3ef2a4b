"""A released corpus is read in a stream: in blocks, by several processes, whole or not at all."""

import json
import subprocess
import sys
import tracemalloc
from pathlib import Path
from runpy import run_path

import psutil
import pyarrow as pa
import pytest

from lskd_nb.corpus import released
from lskd_nb.records import CORPUS, REJECTS, read_parquet


@pytest.mark.parametrize("good", [True, False])
def test_a_large_file_is_read_in_a_stream(released_row, tmp_path, good):
    line = json.dumps(
        released_row | ({"answer": ["x" * 5000]} if good else {"image": 1, "answer": ["x" * 5000]})
    )
    (tmp_path / "c.jsonl").write_text((line + "\n") * 3000)
    tracemalloc.start()
    counts = released.convert_released(
        tmp_path / "c.jsonl", tmp_path / "c.parquet", workers=0, block=500_000
    )
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (
        counts == ((3000, 0, 0) if good else (0, 0, 3000))
        and peak < 0.3 * (tmp_path / "c.jsonl").stat().st_size
    )


@pytest.fixture(scope="module")
def mixed(released_row, tmp_path_factory):
    """Rows of all kinds, empty lines, a last line without end; their tables and counts,
    converted in one piece.
    """
    folder, odd = (
        tmp_path_factory.mktemp("mixed"),
        [
            "",
            "  ",
            "{not json",
            json.dumps(released_row | {"image": 3}),
            json.dumps(released_row | {"answer": [[9], "é 的"]}),
            "\r",
        ],
    )
    lines = [
        (
            odd[n // 7 % len(odd)]
            if n % 7 == 6
            else json.dumps(
                released_row | {"index": f"t-{n}", "prediction": n / 400}, ensure_ascii=n % 2 == 0
            )
        )
        for n in range(400)
    ]
    (folder / "c.jsonl").write_bytes("\n".join(lines).encode())
    counts = released.convert_released(folder / "c.jsonl", folder / "whole.parquet", workers=0)
    return folder, counts, tables(folder, "whole")


def tables(folder: Path, name: str) -> list[pa.Table]:
    return [
        read_parquet(folder / f"{name}{kind}.parquet", schema)
        for kind, schema in (("", CORPUS), (".unboxed", CORPUS), (".rejects", REJECTS))
    ]


@pytest.mark.parametrize("block, workers", [(1, 0), (997, 0), (5000, 0), (20_000, 2)])
def test_blocks_and_processes_change_nothing(mixed, block, workers):
    folder, counts, whole = mixed
    assert (
        released.convert_released(folder / "c.jsonl", folder / "parts.parquet", workers, block)
        == counts
        == (343, 9, 19)
    )
    for a, b in zip(whole, tables(folder, "parts"), strict=True):
        assert a.equals(b)
    assert whole[2]["record"][0].as_py() == "c.jsonl, line 21"


def test_a_killed_conversion_leaves_nothing_that_could_be_taken_for_whole(
    mixed, tmp_path, kill_midway
):
    line = (mixed[0] / "c.jsonl").read_text().splitlines()[0]
    (tmp_path / "c.jsonl").write_text((line + "\n") * 60_000)
    call = (
        "from lskd_nb.corpus.released import convert_released as c;"
        f" c({str(tmp_path / 'c.jsonl')!r}, {str(tmp_path / 'c.parquet')!r}, 0, 100_000)"
    )
    kill_midway(
        lambda: subprocess.Popen([sys.executable, "-c", call]),
        lambda: any(f.stat().st_size > 1000 for f in tmp_path.glob(".c.parquet.*")),
        tmp_path / "c.parquet",
    )
    assert not list(tmp_path.glob("c.*parquet"))
    assert released.convert_released(tmp_path / "c.jsonl", tmp_path / "c.parquet") == (60_000, 0, 0)


def test_workers_end_with_a_conversion_that_is_killed(mixed, tmp_path):
    line = (mixed[0] / "c.jsonl").read_text().splitlines()[0]
    (tmp_path / "c.jsonl").write_text((line + "\n") * 200_000)
    (tmp_path / "convert.py").write_text(
        "from lskd_nb.corpus.released import convert_released\nif __name__ == '__main__':\n   "
        f" convert_released({str(tmp_path / 'c.jsonl')!r}, {str(tmp_path / 'c.parquet')!r}, 2,"
        " 100_000)\n"
    )
    process = subprocess.Popen([sys.executable, str(tmp_path / "convert.py")])
    while not any(f.stat().st_size > 1000 for f in tmp_path.glob(".c.parquet.*")):
        assert process.poll() is None, "it ended before it could be killed"
    workers = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    assert len(workers) >= 2 and not psutil.wait_procs(workers, timeout=600)[1]
    assert not list(tmp_path.glob("c.*parquet"))


def test_the_rows_of_the_benchmarks_are_rows_as_released(tmp_path):
    million = run_path(str(Path(__file__).parents[1] / "benchmarks" / "million.py"))
    million["write_rows"](tmp_path / "m.jsonl", 1000)  # one in two hundred is odd on purpose
    written, unboxed, rejected = released.convert_released(
        tmp_path / "m.jsonl", tmp_path / "m.parquet"
    )
    assert written >= 996 and unboxed >= 1 and rejected >= 1
