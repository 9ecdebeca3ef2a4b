"""Several processes learn what one learns from the same batches, however they were started,
killed and started again.
"""

import json
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from lskd_nb.records import CORPUS, write_parquet
from lskd_nb.students.loading import load_student
from lskd_nb.training import distillation as d
from lskd_nb.training import launch


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    from PIL import Image

    from lskd_nb.mini.pretraining.base import fresh_student

    folder, rng = tmp_path_factory.mktemp("world"), np.random.default_rng(0)
    box = [[2.0, 2.0, 20.0, 30.0], [22.0, 4.0, 40.0, 30.0], [44.0, 6.0, 62.0, 40.0]]
    for i in range(5):
        Image.fromarray(rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)).save(
            folder / f"m{i}.png"
        )
    words = ("dog", "ball", "boat", "tent", "lamp")
    write_parquet(
        [
            dict(
                triple_id=f"t{n}",
                image_id=f"m{n % 5}",
                family="id",
                question=f"What is [{n % 3}] about to do?",
                answer=f"Look at the {words[n % 5]}.",
                rationale=f"[{n % 3}] is next to [{(n + 1) % 3}], a {words[n % 4]}.",
                regions=[n % 3],
                regions_offered=[0, 1, 2],
                model="m",
                prompt="p",
                request="r",
                score=0.9,
                image=f"m{n % 5}.png",
                width=64,
                height=48,
                source="mini",
                split="train",
                references=[dict(id=i, box=box[i], label="thing", score=1.0) for i in range(3)],
            )
            for n in range(15)
        ],
        folder / "corpus.parquet",
        CORPUS,
    )
    fresh_student(0, hidden=32, layers=2, vision_width=24, vision_layers=1, image_size=32).save(
        folder / "base"
    )
    return folder


def config(world: Path, out: Path, **changes) -> d.DistillationConfig:
    base = d.DistillationConfig(
        student=str(world / "base"),
        corpus=str(world / "corpus.parquet"),
        image_root=str(world),
        out=str(out),
        steps=8,
        batch=8,
        lr=1e-3,
        lm=0.5,
        lm_conditioned=0.5,
        swaps=0.5,
        exchanges=0.5,
        checkpoint_every=2,
        threads=1,
        bf16=False,
    )
    return replace(base, **changes)


def losses(lines: list[dict]) -> np.ndarray:
    return np.array(
        [[line[name] for name in ("itc", "itm", "lm", "lm_conditioned")] for line in lines]
    )


def kill_midway(told: d.DistillationConfig, steps: int) -> None:
    """Start the training in two processes and kill both, and their launcher, once ``steps`` are
    done; begin again where it had ended before the kill came.
    """
    for _ in range(10):
        process = psutil.Process(launch._start(told, 2).pid)
        while len(launch.loss_curve(told)) < steps:
            alive = process.status() != psutil.STATUS_ZOMBIE
            assert alive, Path(f"{told.out}.log").read_text()[-2000:]
            time.sleep(0.01)
        family = process.children(recursive=True)
        training = 0
        for member in [*family, process]:
            with suppress(psutil.NoSuchProcess):  # it had ended
                named = "lskd_nb.training.distillation" in member.cmdline()
                training += named and member is not process  # the launcher names it too
                member.kill()
        process.wait()
        if not Path(told.out).exists():
            assert training == 2
            return
        shutil.rmtree(told.out)
    raise AssertionError("every kill came too late to prove anything")


# copied ones are killed on two hosts, in tests/test_two_hosts.py
@pytest.mark.parametrize(
    "shard", [pytest.param(False, marks=pytest.mark.endurance), True], ids=["copied", "sharded"]
)
def test_two_processes_killed_and_resumed_train_to_the_losses_of_one(world, tmp_path, shard):
    alone = d.train(config(world, tmp_path / "alone", base_share=0.25))
    told = config(world, tmp_path / "both", base_share=0.25, shard=shard)
    kill_midway(told, 5)
    seen: list[int] = []
    curves = launch.train_all(
        {"both": told}, processes=2, on_steps=lambda c: seen.append(len(c["both"])), look=0.05
    )
    one = losses([json.loads(line) for line in (alone / "metrics.jsonl").read_text().splitlines()])
    assert one.shape == losses(curves["both"]).shape == (8, 4) and len(np.unique(one[:, 0])) == 8
    np.testing.assert_allclose(losses(curves["both"]), one, atol=2e-4)
    for a, b in zip(
        load_student(str(alone)).parameters(), load_student(told.out).parameters(), strict=True
    ):
        torch.testing.assert_close(a, b, atol=2e-4, rtol=1e-2)
    assert (
        seen[-1] == 8 and launch.finished(told) and launch.train_all({"both": told}) == curves
    )  # finished: nothing is started


@pytest.mark.parametrize("changes", [dict(gradient_checkpointing=True), dict(workers=2)], ids=str)
def test_what_saves_memory_or_time_changes_no_number(world, tmp_path, changes):
    plain, other = (
        launch.loss_curve(replace(told, out=str(d.train(told))))
        for told in (
            config(world, tmp_path / "plain", steps=3),
            config(world, tmp_path / "other", steps=3, **changes),
        )
    )
    np.testing.assert_allclose(losses(plain), losses(other), atol=1e-5)


def test_parts_of_a_batch_add_up_to_the_mean_of_their_gradients(world, tmp_path):
    told = config(world, tmp_path / "s", accumulation=2, itc=0.0, lm=0.0)
    student = load_student(told.student).train()
    rows = d.corpus_rows(told.corpus)
    steps = d.Steps(
        rows, [], d.by_question(rows), told, d.FrozenFeatures(student, told.image_root), (0, 1)
    )
    parts = steps[0]
    assert [len(batch) for batch, _ in parts] == [4, 4] and all(len(seen) == 4 for _, seen in parts)
    objectives = d.Objectives(student, told)
    for batch, seen in parts:
        torch.manual_seed(0)
        found = objectives(seen, batch, np.random.default_rng(0))
        ((found["itm"] + 0.5 * found["lm_conditioned"]) / 2).backward()
    expected = student.blip2.query_tokens.grad.clone()
    for number in range(2):
        student.zero_grad()
        torch.manual_seed(0)
        found = objectives(parts[number][1], parts[number][0], np.random.default_rng(0))
        (found["itm"] + 0.5 * found["lm_conditioned"]).backward()
        expected -= student.blip2.query_tokens.grad / 2
    assert expected.abs().max() < 1e-6


def test_a_batch_that_does_not_come_out_even_is_refused(world, tmp_path):
    with pytest.raises(
        ValueError, match="batch is 8: expected a multiple of accumulation × processes, 3 × 1"
    ):
        d.train(config(world, tmp_path / "s", accumulation=3))


@pytest.mark.parametrize("told", ["0", "ten", "-3", "1.5"])
def test_a_patience_that_is_none_is_refused(world, tmp_path, monkeypatch, told):
    monkeypatch.setenv("LSKD_LOST_AFTER", told)
    with pytest.raises(ValueError, match=f"LSKD_LOST_AFTER is '{told}': expected a whole number"):
        d.train(config(world, tmp_path / "s"))


def test_a_training_that_fails_is_named_with_its_reason(world, tmp_path):
    told = config(world, tmp_path / "s", student=str(tmp_path / "none"))
    with pytest.raises(
        RuntimeError,
        match="training 'first' ended with status 1: FileNotFoundError: no student at .*none",
    ):
        launch.train_all({"first": told, "second": config(world, tmp_path / "t")}, at_once=1)


DYING = """
import json, os, signal, sys
from pathlib import Path
told = json.loads(Path(sys.argv[1]).read_text())
if told["whole"]:
    Path(told["out"]).mkdir()
    Path(told["out"], "trained_from.json").write_text("me")
if os.environ.get("RANK") != "0":
    os.kill(os.getpid(), signal.SIGABRT)
"""


@dataclass(frozen=True)
class Dying:
    """A training one of whose processes is aborted, before or after all is done."""

    module = "dying_training"
    out: str
    whole: bool
    threads: int = 1

    def identity(self) -> str:
        return "me"


def test_an_aborted_process_is_named_by_its_signal_unless_the_training_is_whole(
    tmp_path, monkeypatch
):
    (tmp_path / "dying_training.py").write_text(DYING)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    done = {"done": Dying(str(tmp_path / "done"), whole=True)}
    assert launch.train_all(done) == {"done": []}
    with pytest.raises(RuntimeError, match=r"'half' ended with status 1: .*Signal 6 \(SIGABRT\)"):
        launch.train_all({"half": Dying(str(tmp_path / "half"), whole=False)}, processes=2)
