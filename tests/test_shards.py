"""Parts of long work, done here or by Ray's workers: the same results row by row, also where a
worker is lost, and nothing is done twice.
"""

import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pytest
from PIL import Image

import lskd_nb
from lskd_nb import shards
from lskd_nb.critic.model import Critic
from lskd_nb.critic.scoring import score_triples
from lskd_nb.evaluation.baselines import score_items
from lskd_nb.evaluation.choices import Item, items_of, items_table
from lskd_nb.mini.files.world_files import write_world
from lskd_nb.mini.pretraining.base import fresh_student
from lskd_nb.records import REGIONS, TRIPLES, VERBALIZATIONS, read_parquet, write_parquet
from lskd_nb.regions import LocatedImage, Region, regions_table
from lskd_nb.shards import Engine, Work, in_shards
from lskd_nb.sources.visual_genome import read_visual_genome
from lskd_nb.students.views import View
from lskd_nb.verbalization import describe as v

NUMBERS = pa.schema([("number", pa.int64()), ("square", pa.int64()), ("worker", pa.int64())])
WEIGHTS = Path(lskd_nb.__file__).parent / "mini" / "weights"
TWO = Engine("ray", 2)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[None]:
    """Ray on this machine, with room for two workers; nothing of it is left afterwards."""
    ray, environment = pytest.importorskip("ray"), dict(os.environ)
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}
    ray.init(
        address="local",
        num_cpus=3,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        object_store_memory=200 * 2**20,
    )
    yield
    ray.shutdown()
    # of other tests: with another number of threads, trainings end in other figures
    os.environ.clear()
    os.environ.update(environment)


def squares() -> Callable[[], Work]:
    """What makes the squares of the numbers of a part. (Functions within functions travel to
    workers whole, without this module's imports.)
    """

    def load() -> Work:
        def work(table: pa.Table) -> tuple[list[dict], list[dict]]:
            found = table["number"].to_pylist()
            return (
                [dict(number=n, square=n * n, worker=os.getpid()) for n in found if n % 7],
                [
                    dict(stage="squares", record=str(n), reason="a seventh", detail="")
                    for n in found
                    if n % 7 == 0
                ],
            )

        return work

    return load


def squares_together(meeting: Path, workers: int) -> Callable[[], Work]:
    """The same, but nobody ends a part before so many workers have begun one: each leaves its name
    in the folder ``meeting``.
    """
    alone = squares()

    def load() -> Work:
        work = alone()

        def waiting(table: pa.Table) -> tuple[list[dict], list[dict]]:
            (meeting / str(os.getpid())).touch()
            end = time.monotonic() + 600
            while len(list(meeting.iterdir())) < workers:
                assert time.monotonic() < end, "nobody else has come"
                time.sleep(0.05)
            return work(table)

        return waiting

    return load


def failing() -> Callable[[], Work]:
    def work(table: pa.Table) -> tuple[list, list]:
        raise ValueError(f"part of {table.num_rows} rows: nothing fits")

    return lambda: work


def numbers(count: int) -> pa.Table:
    return pa.table({"number": pa.array(range(count), pa.int64())})


def same(one: tuple[pa.Table, pa.Table], other: tuple[pa.Table, pa.Table]) -> bool:
    return one[0].drop_columns("worker").equals(other[0].drop_columns("worker")) and one[1].equals(
        other[1]
    )


def test_parts_are_done_once_whoever_does_them(cluster, tmp_path):
    told: list[tuple[int, int]] = []
    here = in_shards(
        numbers(100), tmp_path / "here", 9, squares(), NUMBERS, lambda *n: told.append(n)
    )
    assert (
        told[-1] == (100, 100)
        and len(told) == 12
        and here[0].num_rows == 85
        and here[1].num_rows == 15
    )
    shutil.copytree(tmp_path / "here", tmp_path / "half")
    for start in (0, 18, 27, 90):
        (tmp_path / "half" / f"{start:07d}.parquet").unlink()
    before = (tmp_path / "half" / "0000009.parquet").stat().st_mtime_ns
    there = in_shards(
        numbers(100), tmp_path / "half", 9, squares(), NUMBERS, lambda *n: told.append(n), TWO
    )
    assert same(here, there) and told[-1] == (100, 100) and len(told) == 12 + 4
    assert (tmp_path / "half" / "0000009.parquet").stat().st_mtime_ns == before
    found = zip(there[0]["number"].to_pylist(), there[0]["worker"].to_pylist(), strict=True)
    again = {w for n, w in found if n // 9 * 9 in (0, 18, 27, 90)}
    assert again and os.getpid() not in again

    def never() -> Work:
        raise AssertionError("nothing is left to do")

    assert same(in_shards(numbers(100), tmp_path / "half", 9, never, NUMBERS, engine=TWO), here)


def test_two_workers_share_the_parts(cluster, tmp_path):
    """Many parts: Ray may hand several to a worker while another still starts."""
    (meeting := tmp_path / "meeting").mkdir()
    work = squares_together(meeting, 2)
    there = in_shards(numbers(60), tmp_path / "parts", 1, work, NUMBERS, engine=TWO)
    here = in_shards(numbers(60), tmp_path / "here", 1, squares(), NUMBERS)
    assert same(here, there)
    workers = set(there[0]["worker"].to_pylist())
    assert len(workers) == 2 and os.getpid() not in workers


def test_what_the_work_raises_ends_the_call(cluster, tmp_path):
    for engine, kind in ((Engine(), ValueError), (TWO, RuntimeError)):
        with pytest.raises(kind, match="part of 5 rows: nothing fits"):
            in_shards(numbers(10), tmp_path / engine.name, 5, failing(), NUMBERS, engine=engine)
    assert not list(tmp_path.glob("*/000*"))
    with pytest.raises(ValueError, match="engine is 'spark'; expected one of local, gpus, ray"):
        Engine("spark")


def test_an_address_without_a_cluster_is_said_at_once(monkeypatch):
    ray = pytest.importorskip("ray")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        free = taken.getsockname()[1]  # nobody listens there, once it is closed
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{free}")
    with pytest.raises(RuntimeError, match=rf"RAY_ADDRESS is 127.0.0.1:{free}, .* refused"):
        shards._join(ray, 2)


def kill_a_worker(after: Callable[[], bool]) -> int:
    """Kill one of our cluster's workers, as soon as ``after`` holds; its process id."""
    end = time.monotonic() + 600
    while time.monotonic() < end:
        if after():
            for process in psutil.Process().children(recursive=True):
                with suppress(psutil.Error):
                    if any("MapWorker" in word for word in process.cmdline()):
                        process.kill()
                        return process.pid
        time.sleep(0.05)
    raise AssertionError("no worker was found")


def test_a_worker_killed_in_the_middle_of_verbalization_changes_no_row(cluster, tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    write_world(tmp_path / "world", 14, 1, 0)
    root = tmp_path / "world" / "visual_genome"
    images = read_visual_genome(root)[0][:14]
    models = v.Verbalizers(clip=str(WEIGHTS / "clip"), captioner=str(WEIGHTS / "vlm"))
    settings = v.Settings(str(WEIGHTS.parent / "vocabularies"), max_new_tokens=8)
    here, _ = v.verbalize(images, root, models, tmp_path / "here" / "v.parquet", settings, part=1)
    parts = tmp_path / "there" / "v.parts"
    with ThreadPoolExecutor(1) as pool:
        killing = pool.submit(kill_a_worker, lambda: len(list(parts.glob("*/*0?.parquet"))) >= 2)
        there, _ = v.verbalize(
            images, root, models, tmp_path / "there" / "v.parquet", settings, part=1, engine=TWO
        )
        assert killing.result() > 0
    one, other = (read_parquet(path, VERBALIZATIONS) for path in (here, there))
    assert one.drop_columns("score").equals(other.drop_columns("score")) and one.num_rows > 14 * 3
    np.testing.assert_allclose(
        np.nan_to_num(one["score"].to_numpy()), np.nan_to_num(other["score"].to_numpy()), atol=1e-3
    )


@pytest.fixture
def looked(tmp_path) -> tuple[Path, list[LocatedImage]]:
    images = []
    for n in range(5):
        Image.fromarray(
            np.random.default_rng(n).integers(0, 255, (24, 30, 3), dtype=np.uint8)
        ).save(tmp_path / f"m{n}.png")
        images.append(
            LocatedImage(
                f"m{n}",
                f"m{n}.png",
                30,
                24,
                (Region(0, (1.0, 2.0, 15.0, 20.0)), Region(1, (10.0, 2.0, 29.0, 20.0))),
                "mini",
                "train",
            )
        )
    write_parquet(regions_table(images), tmp_path / "regions.parquet", REGIONS)
    return tmp_path, images


def test_two_workers_score_triples_as_one_does(cluster, looked):
    folder, _ = looked
    Critic(
        fresh_student(0, hidden=32, layers=2, vision_width=24, vision_layers=1, image_size=32)
    ).save(folder / "critic")
    rows = [
        dict(
            triple_id=f"t{n}",
            image_id=f"m{n * 3 % 5}",
            family="id",
            question=f"Why is [{n % 2}] here?",
            answer=f"To {'play ' * (n % 4)}now.",
            rationale="It is.",
            regions=[n % 2],
            regions_offered=[0, 1],
            model="m",
            prompt="p",
            request="r",
        )
        for n in range(23)
    ]
    triples = pa.Table.from_pylist(rows, TRIPLES)
    call = partial(score_triples, triples, folder / "regions.parquet", folder / "critic", folder)
    here, there = (
        call(folder / "here.parquet", view_store=folder / "views", part=100),
        call(folder / "there.parquet", engine=TWO, part=4),
    )
    assert (
        here["triple_id"].to_pylist()
        == there["triple_id"].to_pylist()
        == [r["triple_id"] for r in rows]
    )
    assert here["score"].to_numpy().std() > 1e-4
    for name in ("score", "qa_score", "rationale_score"):
        np.testing.assert_allclose(
            here[name].to_numpy(), there[name].to_numpy(), atol=5e-3
        )  # bf16; one of them from stored features
    with pytest.raises(ValueError, match="no image for 1 triples, 'lost' the first"):
        score_triples(
            pa.Table.from_pylist(
                [*rows, rows[0] | dict(triple_id="lost", image_id="none")], TRIPLES
            ),
            folder / "regions.parquet",
            folder / "critic",
            folder,
            folder / "lost.parquet",
        )


def test_two_workers_evaluate_as_one_does(cluster, looked):
    folder, images = looked
    student = folder / "student"
    fresh_student(0, hidden=32, layers=2, vision_width=24, vision_layers=1, image_size=32).save(
        student
    )
    items = [
        Item(
            f"i{n}",
            f"m{n % 5}",
            View(f"m{n % 5}.png", images[n % 5].regions if n % 2 else ()),
            "Why?",
            tuple(f"Answer: {w}." for w in ("a dog", "a boat", "it")[: 2 + n % 2]),
            n % 2,
            "t",
            "why",
        )
        for n in range(12)
    ]
    assert items_of(items_table(items)) == items
    here, there = (
        score_items(
            str(student), items, folder, "question: ", engine=e, parts=folder / "parts", part=3
        )
        for e in (Engine(), TWO)
    )
    assert (here.cut, here.texts) == (there.cut, there.texts) == (0, 30)
    for a, b in zip(here.scores, there.scores, strict=True):
        np.testing.assert_allclose(a, b, atol=5e-3)
    with pytest.raises(ValueError, match="needs a folder for its parts"):
        score_items(str(student), items, folder, engine=replace(TWO))
