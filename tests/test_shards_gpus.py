"""Parts done by worker processes of this machine, one for each GPU, two without: the same results
in the same order, whatever becomes of a worker; and nothing is done twice.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pytest

import lskd_nb
from lskd_nb import shards
from lskd_nb.mini.files.world_files import write_world
from lskd_nb.records import VERBALIZATIONS, read_parquet
from lskd_nb.shards import Engine, in_shards
from lskd_nb.sources.visual_genome import read_visual_genome
from lskd_nb.verbalization import describe

GPUS = Engine("gpus")
SCHEMA = pa.schema([("number", pa.int64()), ("square", pa.int64()), ("worker", pa.string())])
WEIGHTS = Path(lskd_nb.__file__).parent / "mini" / "weights"
# a module of somebody's: what processes are handed is found by its name
WORK = """
import os, signal, sys, time
from pathlib import Path

def load(folder, what):
    (Path(folder) / f"loaded-{os.getpid()}").touch()
    print("talk on stdout")
    return lambda table: work(table, Path(folder), what)

def work(table, folder, what):
    numbers = table["number"].to_pylist()
    begun = folder / f"begun-{numbers[0]}"
    times = len(begun.read_text()) if begun.exists() else 0
    begun.write_text("x" * (times + 1))
    if what == "meet":
        (folder / f"met-{os.getpid()}").touch()
        while len(list(folder.glob("met-*"))) < 2:
            time.sleep(0.02)
    if what == "die once" and numbers[0] == 20 and not times:
        os.kill(os.getpid(), signal.SIGKILL)
    if what in ("die", "raise") and numbers[0] == 20:  # not before something is done
        while not (folder / "parts" / "0000000.parquet").exists():
            time.sleep(0.02)
    if what == "die" and numbers[0] == 20:
        print("last words", file=sys.stderr, flush=True)
        os._exit(9)
    if what == "raise once" and numbers[0] == 20 and not times:
        raise MemoryError("no room on the GPU")
    if what == "raise" and numbers[0] == 20:
        raise ValueError("nothing fits")
    where = os.environ.get("CUDA_VISIBLE_DEVICES", "") + "/" + str(os.getpid())
    rows = [dict(number=n, square=n * n, worker=where) for n in numbers if n % 7]
    return rows, [
        dict(stage="squares", record=str(n), reason="a seventh", detail="")
        for n in numbers if n % 7 == 0
    ]
"""


@pytest.fixture
def strangers(tmp_path, monkeypatch):
    """``load`` of the module above for a kind of work, as in a package that somebody has."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "somebodys_squares.py").write_text(WORK)
    monkeypatch.syspath_prepend(tmp_path / "modules")
    from functools import partial

    import somebodys_squares

    yield lambda what="": partial(somebodys_squares.load, str(tmp_path), what)
    del sys.modules["somebodys_squares"]


def squares(folder: Path, load, engine: Engine = GPUS, number: int = 60, told=None):
    table = pa.table({"number": pa.array(range(number), pa.int64())})
    progress = (lambda *n: told.append(n)) if told is not None else (lambda *_: None)
    return in_shards(table, folder, 10, load, SCHEMA, progress, engine)


def same(one: tuple[pa.Table, pa.Table], other: tuple[pa.Table, pa.Table]) -> bool:
    left, right = (t[0].drop_columns("worker") for t in (one, other))
    return left.equals(right) and one[1].equals(other[1])


def begun(folder: Path) -> dict[str, int]:
    return {p.name[6:]: len(p.read_text()) for p in folder.glob("begun-*")}


def children() -> list[psutil.Process]:
    found = psutil.Process().children(recursive=True)
    return [p for p in found if p.status() != psutil.STATUS_ZOMBIE and shards.CHILD in p.cmdline()]


def test_two_processes_share_the_parts_and_give_what_one_does(strangers, tmp_path):
    here, told = squares(tmp_path / "here", strangers(), Engine()), []
    there = squares(tmp_path / "there", strangers("meet"), told=told)
    assert same(here, there) and there[0].num_rows == 51 and told[-1] == (60, 60)
    assert len(told) == 6 and sorted(told) == told
    workers = set(there[0]["worker"].to_pylist())
    assert len(workers) == 2 and str(os.getpid()) not in "".join(workers)
    assert len(list(tmp_path.glob("loaded-*"))) == 3, "models are loaded once by each that works"
    assert not children()


def test_what_is_done_is_not_done_again(strangers, tmp_path):
    whole = squares(tmp_path / "parts", strangers(), Engine())
    (tmp_path / "parts" / "0000030.parquet").unlink()
    before = begun(tmp_path)
    again = squares(tmp_path / "parts", strangers())
    assert same(whole, again)
    assert {k: n - before[k] for k, n in begun(tmp_path).items() if n > before[k]} == {"30": 1}
    started = len(list(tmp_path.glob("loaded-*")))
    assert same(squares(tmp_path / "parts", strangers()), whole), "nothing is left to do"
    assert len(list(tmp_path.glob("loaded-*"))) == started


@pytest.mark.parametrize("what", ["die once", "raise once"])
def test_a_part_that_fails_once_is_asked_again_of_a_new_process(strangers, tmp_path, what):
    there = squares(tmp_path / "there", strangers(what))
    asked = begun(tmp_path)
    here = squares(tmp_path / "here", strangers(), Engine())
    assert same(here, there) and asked == {str(n): 1 + (n == 20) for n in range(0, 60, 10)}


@pytest.mark.parametrize(
    ("what", "words"),
    [("die", "its process ended with 9: .*last words"), ("raise", "ValueError: nothing fits")],
)
def test_a_part_that_always_fails_ends_the_call_with_its_words(strangers, tmp_path, what, words):
    with pytest.raises(RuntimeError, match=f"(?s)failed 3 times in the part .* row 20: .*{words}"):
        squares(tmp_path / "parts", strangers(what))
    assert begun(tmp_path)["20"] == shards.TRIES and not children()
    rest = squares(tmp_path / "parts", strangers())
    assert rest[0].num_rows == 51 and begun(tmp_path)["0"] == 1, "what was done is kept"


def test_each_process_sees_one_gpu(strangers, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "gpus_here", lambda: ["2", "GPU-5"])
    found = squares(tmp_path / "parts", strangers("meet"))
    assert {w.split("/")[0] for w in found[0]["worker"].to_pylist()} == {"2", "GPU-5"}
    found = squares(tmp_path / "more", strangers(), Engine("gpus", 3))
    assert {w.split("/")[0] for w in found[0]["worker"].to_pylist()} <= {"2", "GPU-5"}


def test_the_gpus_are_those_that_this_process_may_use(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert shards.gpus_here() == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1")
    assert shards.gpus_here() == ["3", "1"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert shards.gpus_here() == []


def test_work_that_cannot_be_handed_over_is_named(tmp_path):
    with pytest.raises(RuntimeError, match="engine 'gpus' can't hand this work to processes"):
        squares(tmp_path / "parts", lambda: None)
    with pytest.raises(ValueError, match="engine is 'gpu'; expected one of local, gpus, ray"):
        Engine("gpu")


def test_processes_end_with_whoever_started_them(strangers, tmp_path):
    """Killed in the middle, as by a timeout: no worker stays behind and holds a GPU."""
    script = (
        "from functools import partial; from pathlib import Path\n"
        "import pyarrow as pa, somebodys_squares as s; from lskd_nb.shards import *\n"
        f"load = partial(s.load, {str(tmp_path)!r}, 'steady')\n"
        "table = pa.table({'number': pa.array(range(4000), pa.int64())})\n"
        "schema = pa.schema([('number', pa.int64()), ('square', pa.int64())])\n"
        f"folder = Path({str(tmp_path / 'parts')!r})\n"
        "in_shards(table, folder, 1, load, schema, engine=Engine('gpus'))"
    )
    told = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen([sys.executable, "-c", script], env=told)
    end = time.monotonic() + 600
    while len(list(tmp_path.glob("loaded-*"))) < 2:
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.02)
    workers = psutil.Process(process.pid).children()
    process.kill()
    process.wait()
    assert len(workers) == 2 and not psutil.wait_procs(workers, timeout=600)[1]


def test_an_interrupt_ends_the_processes(strangers, tmp_path):
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    table = pa.table({"number": pa.array(range(60), pa.int64())})
    with pytest.raises(KeyboardInterrupt):
        in_shards(table, tmp_path / "parts", 10, strangers(), SCHEMA, interrupt, GPUS)
    assert not children()


def test_verbalization_by_processes_is_that_of_one(tmp_path, monkeypatch):
    write_world(tmp_path / "world", 6, 1, 0)
    root = tmp_path / "world" / "visual_genome"
    images = read_visual_genome(root)[0][:6]
    models = describe.Verbalizers(clip=str(WEIGHTS / "clip"))
    settings = describe.Settings(str(WEIGHTS.parent / "vocabularies"))
    loaded = describe.LoadedVerbalizers(models, settings)
    sample, _ = loaded(images[:1], root)
    assert sample
    here, there = (
        describe.verbalize(
            images,
            root,
            models,
            tmp_path / name / "v.parquet",
            settings,
            part=2,
            loaded=loaded,
            engine=engine,
        )[0]
        for name, engine in (("here", Engine()), ("there", GPUS))
    )
    one, other = (read_parquet(path, VERBALIZATIONS) for path in (here, there))
    assert one.drop_columns("score").equals(other.drop_columns("score")) and one.num_rows >= 6 * 7
    np.testing.assert_allclose(
        one["score"].to_numpy(zero_copy_only=False),
        other["score"].to_numpy(zero_copy_only=False),
        atol=1e-3,
    )
    assert loaded.clip is None, "freed before the workers load theirs"
    with pytest.raises(ValueError, match="have been freed"):
        loaded(images[:1], root)
