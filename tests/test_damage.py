"""Full disks, folders that may not be written, files cut off or of another size: a clear error,
and what was there before is untouched.
"""

import multiprocessing
import os
import resource
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lskd_nb.critic.model import Critic, load_critic
from lskd_nb.evaluation import choices
from lskd_nb.mini.pretraining.base import fresh_student
from lskd_nb.records import CORPUS, LABELS, PREDICTIONS, read_parquet, write_parquet
from lskd_nb.students.loading import load_student
from lskd_nb.students.views import FrozenFeatures, View
from lskd_nb.teacher.cache import ResponseCache
from lskd_nb.training import batches
from lskd_nb.training import distillation as d
from lskd_nb.training.loop import CHECKPOINT

NOBODY = 65534
SMALL = dict(hidden=32, layers=2, vision_width=24, vision_layers=1, image_size=32)


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that other users may look into, too."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    box = dict(id=0, box=[2.0, 2.0, 20.0, 30.0], label="thing", score=1.0)
    for i in range(2):
        Image.fromarray(
            np.random.default_rng(i).integers(0, 255, (48, 64, 3), dtype=np.uint8)
        ).save(folder / f"m{i}.png")
    write_parquet(
        [
            dict(
                triple_id=f"t{n}",
                image_id=f"m{n % 2}",
                family="id",
                question="What is [0] about to do?",
                answer=f"Look at {n}.",
                rationale="[0] is near.",
                regions=[0],
                regions_offered=[0],
                model="m",
                prompt="p",
                request="r",
                score=0.9,
                image=f"m{n % 2}.png",
                width=64,
                height=48,
                source="mini",
                split="train",
                references=[box],
            )
            for n in range(4)
        ],
        folder / "corpus.parquet",
        CORPUS,
    )
    fresh_student(0, **SMALL).save(folder / "base")
    return folder


def told_by(work: Callable[[], object], *, room: int | None = None, as_nobody: bool = False) -> str:
    """What ``work`` raises in a process that may write files of ``room`` bytes, or as a user
    without rights; empty where it ends well.
    """

    def child(pipe) -> None:
        torch.set_num_threads(1)
        if room is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # then writing fails as on a full disk
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
        if as_nobody and os.getuid() == 0:
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        try:
            work()
            pipe.send("")
        except Exception as error:
            pipe.send(f"{type(error).__name__}: {error}")

    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=child, args=(there,))
    process.start()
    process.join(60)
    assert process.exitcode == 0 and here.poll()
    return here.recv()


def config(world: Path, out: Path, **changes) -> d.DistillationConfig:
    return replace(
        d.DistillationConfig(
            student=str(world / "base"),
            corpus=str(world / "corpus.parquet"),
            image_root=str(world),
            out=str(out),
            steps=4,
            batch=2,
            lr=1e-3,
            checkpoint_every=2,
            threads=1,
        ),
        **changes,
    )


def many_labels() -> list[dict]:
    rng = np.random.default_rng(0)
    return [
        dict(
            triple_id=f"{rng.integers(2**60)}",
            annotator="a",
            accept=True,
            qa_score=rng.random(),
            rationale_score=rng.random(),
        )
        for _ in range(2000)
    ]


def test_a_full_disk_leaves_the_earlier_table(place):
    write_parquet([], place / "labels.parquet", LABELS)
    told = told_by(
        lambda: write_parquet(many_labels(), place / "labels.parquet", LABELS), room=4000
    )
    assert (
        f"{place}/labels.parquet can't be written" in told
        and "What was there before is untouched" in told
    )
    assert read_parquet(place / "labels.parquet", LABELS).num_rows == 0 and os.listdir(place) == [
        "labels.parquet"
    ]


def test_a_full_disk_in_training_keeps_the_last_checkpoint(world, place):
    told = config(world, place / "s")
    checkpoint = place / "s.training" / CHECKPOINT
    said = told_by(lambda: d.train(told), room=40_000)
    assert (
        said.startswith("OSError")
        and f"{checkpoint} can't be written" in said
        and not checkpoint.exists()
    )
    assert told_by(lambda: d.train(told)) == ""  # room again: it ends, all the same
    fresh = d.train(replace(told, out=str(place / "fresh")))
    for a, b in zip(
        load_student(str(fresh)).parameters(), load_student(told.out).parameters(), strict=True
    ):
        assert torch.equal(a, b)
    before = sorted((place / "s").iterdir())
    said = told_by(
        lambda: d.train(replace(told, steps=1)), room=40_000
    )  # no checkpoint on the way: the student itself finds no room
    assert (
        said.startswith("OSError")
        and "s.training can't be written" in said
        and sorted((place / "s").iterdir()) == before
    )


def test_a_full_disk_while_features_are_stored(world, place):
    student = load_student(str(world / "base")).eval()
    store = FrozenFeatures(student, world, place)
    store.prepare([View("m0.png")])
    size = (store.folder / "views.bf16").stat().st_size
    said = told_by(
        lambda: FrozenFeatures(student, world, place).prepare([View("m1.png"), View("m0.png", ())]),
        room=size,
    )
    assert said.startswith("OSError") and "views.bf16 can't be written" in said
    again = FrozenFeatures(student, world, place)
    assert again.prepare([View("m0.png")]) == 0 and again.prepare([View("m1.png")]) == 1


def test_a_full_disk_keeps_the_replies_that_were_paid_for(place):
    def more() -> None:
        cache = ResponseCache(place / "cache.sqlite")
        for n in range(200):
            cache.put(f"r{n}", {"text": "x" * 2000})

    assert (
        told_by(lambda: ResponseCache(place / "cache.sqlite").put("first", {"text": "paid"})) == ""
    )
    said = told_by(more, room=100_000)
    assert (
        said.startswith("OSError")
        and f"{place}/cache.sqlite can't be written" in said
        and "Replies stored before are kept" in said
    )
    cache = ResponseCache(place / "cache.sqlite")
    kept = [n for n in range(200) if cache.get(f"r{n}")]
    assert (
        cache.get("first") == {"text": "paid"}
        and kept == list(range(len(kept)))
        and 0 < len(kept) < 200
    )


def test_a_store_of_features_that_is_cut_off_is_made_anew(world, place):
    student = load_student(str(world / "base")).eval()
    store = FrozenFeatures(student, world, place)
    store.prepare([View("m0.png"), View("m1.png")])
    expected = store.features([View("m1.png")])
    os.truncate(store.folder / "views.bf16", 100)
    again = FrozenFeatures(student, world, place)
    assert (
        again.stored([View("m0.png")]) is None
        and again.prepare([View("m0.png"), View("m1.png")]) == 2
    )
    assert torch.equal(again.features([View("m1.png")]), expected)


@pytest.mark.parametrize("stage", ["table", "training"])
def test_a_folder_that_may_not_be_written_is_named(world, place, stage):
    shutil.copytree(world, place / "world")
    work = {
        "table": lambda: write_parquet([], place / "labels.parquet", LABELS),
        "training": lambda: d.train(config(place / "world", place / "s")),
    }[stage]
    place.chmod(0o555)
    said = told_by(work, as_nobody=True)
    assert (
        said.startswith(("OSError", "PermissionError"))
        and "Permission denied" in said
        and str(place) in said
    )
    place.chmod(0o755)
    assert os.listdir(place) == ["world"]


@pytest.mark.parametrize("reader", ["corpus", "rehearsal", "predictions"])
def test_a_table_that_is_cut_off_is_named(world, place, reader):
    folder = place / "predictions"
    write_parquet([], folder / "a.parquet", PREDICTIONS)
    os.truncate(folder / "a.parquet", (folder / "a.parquet").stat().st_size - 20)
    read = dict(
        corpus=batches.corpus_rows,
        rehearsal=batches.rehearsal_rows,
        predictions=lambda _: choices.read_predictions([place]),
    )[reader]
    with pytest.raises(ValueError, match="a.parquet is not a readable Parquet file"):
        read(folder / "a.parquet")


@pytest.mark.parametrize(
    "file", ["model.safetensors", "stage1.safetensors", "critic_heads.safetensors"]
)
def test_weights_that_are_cut_off_or_of_another_size_are_named(place, file):
    for name, hidden in (("ours", 32), ("larger", 48)):
        Critic(fresh_student(0, **SMALL | dict(hidden=hidden))).save(place / name)
    load = load_critic if file.startswith("critic") else load_student
    whole = (place / "ours" / file).read_bytes()
    for content in (whole[:-10], (place / "larger" / file).read_bytes()):
        (place / "ours" / file).write_bytes(content)
        with pytest.raises(
            ValueError,
            match="ours can't be read: its files are damaged, or its weights of another size",
        ):
            load(str(place / "ours"))


def test_a_checkpoint_of_another_size_is_named(world, place):
    told = config(world, place / "s")
    work = place / "s.training"
    work.mkdir()
    torch.save(
        {
            "step": 2,
            "identity": told.identity(),
            "weights": {"temperature": torch.zeros(3)},
            "optimizer": {},
            "random": [],
        },
        work / CHECKPOINT,
    )
    with pytest.raises(
        ValueError,
        match=r"checkpoint.pt is of a model of another size: temperature does not fit; remove it",
    ):
        d.train(told)
    assert not (place / "s").exists()
