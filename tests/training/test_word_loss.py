"""A batch may be cut into parts and shared among processes: what is learned is the same."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lskd_nb.records import CORPUS, write_parquet
from lskd_nb.students.generative import checkpoint_layers
from lskd_nb.students.loading import load_generative
from lskd_nb.training import generative as training
from lskd_nb.training import launch
from lskd_nb.training.loop import CHECKPOINT

TINY = SimpleNamespace(**run_path(str(Path(__file__).parents[1] / "students/tiny_generative.py")))
SAME = dict(atol=2e-5, rtol=1e-4)


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """With a student that has no dropout, ``still``: with it every part would have its own."""
    folder = TINY.save_world(tmp_path_factory.mktemp("words"))
    shutil.copytree(folder / "flan-t5", folder / "still")
    told = json.loads((folder / "still/config.json").read_text())
    told["qformer_config"] |= dict(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    (folder / "still/config.json").write_text(json.dumps(told))
    return folder


@pytest.fixture(scope="module")
def plain(world, tmp_path_factory) -> training.GenerativeConfig:
    """A training in one piece and one process, done."""
    told = still(world, tmp_path_factory.mktemp("plain") / "student")
    training.train(told)
    return told


def still(world: Path, out: Path, **changes) -> training.GenerativeConfig:
    changes = dict(student=str(world / "still"), steps=4) | changes
    return TINY.training_config(world, out, **changes)


def losses(config: training.GenerativeConfig) -> list[float]:
    return [line["lm"] for line in launch.loss_curve(config)]


def assert_same(one: training.GenerativeConfig, other: training.GenerativeConfig) -> None:
    np.testing.assert_allclose(losses(one), losses(other), **SAME)
    assert len(losses(one)) == 4 and len(set(losses(one))) == 4
    weights = dict(load_generative(other.out).named_parameters())
    for name, a in load_generative(one.out).named_parameters():
        if not name.endswith("key.bias"):  # attention does not depend on it: its gradient is noise
            assert (a - weights[name]).abs().mean() < 2e-4, name  # each moved by 1e-2


@pytest.mark.parametrize(
    "changes",
    [dict(accumulation=2), dict(gradient_checkpointing=True), dict(workers=2)],
    ids=lambda c: next(iter(c)),
)
def test_what_saves_memory_or_time_changes_no_number(world, plain, tmp_path, changes):
    told = still(world, tmp_path / "s", **changes)
    training.train(told)
    assert_same(plain, told)


def test_two_processes_learn_what_one_learns(world, plain, tmp_path):
    told = still(world, tmp_path / "s", accumulation=2, gradient_checkpointing=True)
    launch.train_one(told, processes=2)
    assert_same(plain, told)
    assert [line["cut"] for line in launch.loss_curve(told)] == [0] * 4


def test_targets_of_unlike_length_weigh_as_in_one_batch(world, tmp_path):
    """The mean of two parts' means is another loss than the mean over all tokens."""
    rows = [TINY.triple(n, n % 2) for n in range(8)]
    for row in rows[::3]:
        row["answer"], row["rationale"] = "Go.", ""
    write_parquet(rows, tmp_path / "corpus.parquet", CORPUS)
    whole, parts = (
        still(world, tmp_path / name, corpus=str(tmp_path / "corpus.parquet"), **more)
        for name, more in (("whole", {}), ("parts", dict(accumulation=4)))
    )
    for told in (whole, parts):
        training.train(told)
    assert_same(whole, parts)


@pytest.mark.parametrize("kind", ["t5", "llama"])
def test_checkpointed_layers_keep_less_and_find_the_same_gradient(world, kind):
    kept, gradients = [], []
    for checkpointed in (False, True):
        torch.manual_seed(0)
        told = still(world, world / "none")
        if kind == "llama":
            told = replace(told, language_model=str(world / "vicuna"))
        student = training.base_of(told).train()
        if checkpointed:
            checkpoint_layers(student.blip2.language_model)
        seen = torch.zeros(3, 5, 24)
        held: dict[int, int] = {}

        def keep(value: torch.Tensor, held=held) -> torch.Tensor:
            held[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
            return value

        weights = {p.untyped_storage().data_ptr() for p in student.parameters()}
        torch.manual_seed(0)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
            loss = student.loss(seen, TINY.QUESTIONS, TINY.TARGETS)
        loss.backward()
        kept.append(sum(size for place, size in held.items() if place not in weights))
        gradients.append(student.blip2.query_tokens.grad)
        assert student.generate(seen, TINY.QUESTIONS, max_new_tokens=3)  # it still speaks
    assert kept[1] < 0.7 * kept[0]
    torch.testing.assert_close(*gradients, **SAME)


def test_a_language_model_without_layers_is_told():
    with pytest.raises(ValueError, match="Linear has no layers to checkpoint: .*accumulation"):
        checkpoint_layers(torch.nn.Linear(2, 2))


def test_a_loss_that_is_no_number_ends_the_training_and_spoils_no_checkpoint(world, tmp_path):
    told = still(world, tmp_path / "s", lr=1e35, min_lr=1e35, checkpoint_every=1)
    with pytest.raises(FloatingPointError, match=r"step 2: .*lower lr \(1e\+35\)"):
        training.train(told)
    work = Path(told.out + ".training")
    state = torch.load(work / CHECKPOINT, weights_only=True)
    assert state["step"] == 1 and all(w.isfinite().all() for w in state["weights"].values())
    assert not Path(told.out).exists()


def test_what_can_not_be_learned_from_is_named(world, tmp_path):
    write_parquet([], tmp_path / "none.parquet", CORPUS)
    with pytest.raises(ValueError, match="none.parquet holds no triples: there is nothing"):
        training.train(still(world, tmp_path / "s", corpus=str(tmp_path / "none.parquet")))
    with pytest.raises(ValueError, match="batch is 4: expected a multiple .* 3 × 1"):
        training.train(still(world, tmp_path / "s", accumulation=3))
