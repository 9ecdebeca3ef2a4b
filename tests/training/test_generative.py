"""Generative students are trained: what learns, what stays, adapters, and a killed training."""

import json
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from lskd_nb import mini
from lskd_nb.regions import Region
from lskd_nb.students import generative as g
from lskd_nb.students.loading import load_generative
from lskd_nb.students.views import View
from lskd_nb.training import generative as training
from lskd_nb.training.batches import Row
from lskd_nb.training.loop import read_config

WEIGHTS = Path(mini.__file__).parent / "weights"
TINY = SimpleNamespace(**run_path(str(Path(__file__).parents[1] / "students/tiny_generative.py")))
QUESTIONS, config = TINY.QUESTIONS, TINY.training_config


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    return TINY.save_world(tmp_path_factory.mktemp("generative"))


@pytest.fixture(scope="module")
def students(world) -> dict[str, g.GenerativeStudent]:
    return TINY.load_students(world)


def test_it_learns_and_leaves_vision_and_language_alone(world, tmp_path):
    told = config(world, tmp_path / "s", student=str(WEIGHTS / "vlm"), steps=30, lr=1e-2, views=2)
    out = training.train(told)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == 30 and np.mean([x["lm"] for x in lines[-5:]]) < 0.8 * np.mean(
        [x["lm"] for x in lines[:5]]
    )
    base, trained = load_generative(told.student), load_generative(str(out))
    changed = {
        n.split(".")[1]
        for (n, a), b in zip(base.named_parameters(), trained.parameters(), strict=True)
        if not torch.equal(a, b)
    }
    assert changed == {"query_tokens", "qformer", "language_projection"}
    before = (out / "metrics.jsonl").stat().st_mtime_ns
    assert (
        training.train(told) == out and (out / "metrics.jsonl").stat().st_mtime_ns == before
    )  # finished: not done again
    views = [View("m0.png", (Region(0, (2.0, 2.0, 20.0, 30.0)),)), View("m1.png")]
    texts = g.answer(trained, world, views, list(QUESTIONS[:2]), max_new_tokens=6)
    assert len(texts) == 2 and all(isinstance(t, str) for t in texts)
    with pytest.raises(ValueError, match="2 views and 1 questions"):
        g.answer(trained, world, views, ["Why?"])


def test_mini_gpt4_is_trained_from_its_parts(world, tmp_path):
    told = config(
        world,
        tmp_path / "s",
        steps=3,
        language_model=str(world / "vicuna"),
        projection=str(world / "minigpt4.pth"),
        max_tokens=40,
    )
    out = training.train(told)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [x["cut"] for x in lines] == [4, 4, 4]  # of letters there are more than forty
    trained = load_generative(str(out))
    assert trained.prompt == g.MINI_GPT4_PROMPT
    published = torch.load(world / "minigpt4.pth", weights_only=True)["model"]["llama_proj.weight"]
    assert not torch.equal(trained.blip2.language_projection.weight, published)


@pytest.mark.parametrize("kind", ["t5", "llama"])
def test_adapters_are_trained_and_merged(world, tmp_path, kind):
    pytest.importorskip("peft", reason="LoRA needs peft")
    parts = (
        dict(language_model=str(world / "vicuna"), projection=str(world / "minigpt4.pth"))
        if kind == "llama"
        else {}
    )
    told = config(world, tmp_path / "s", steps=4, lora_rank=4, **parts)
    trained = load_generative(str(training.train(told)))
    assert not any("lora" in n for n, _ in trained.named_parameters())
    torch.manual_seed(told.seed)  # the place of images in LLaMA's vocabulary is a new word
    base = training.base_of(told)
    changed = {
        n
        for (n, a), b in zip(
            base.blip2.language_model.named_parameters(),
            trained.blip2.language_model.parameters(),
            strict=True,
        )
        if not torch.equal(a, b)
    }
    linear = (".q", ".k", ".v", ".o", "wi_", "wo", "gate_proj", "up_proj", "down_proj")
    assert len(changed) > 6 and all(
        any(part in n for part in linear) for n in changed
    )  # not embeddings, norms and head


def test_without_peft_it_is_named(students, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ImportError, match="pip install peft"):
        g.add_lora(students["t5"], 4, 16)


def test_killed_training_ends_like_an_unbroken_one(world, tmp_path, kill_midway):
    whole = training.train(config(world, tmp_path / "whole", steps=12))
    told = config(world, tmp_path / "killed", steps=12)
    (tmp_path / "c.json").write_text(json.dumps(asdict(told)))
    log = tmp_path / "killed.training" / "metrics.jsonl"
    command = [sys.executable, "-m", "lskd_nb.training.generative", str(tmp_path / "c.json")]
    kill_midway(
        lambda: subprocess.Popen(command),
        lambda: log.exists() and len(log.read_text().splitlines()) >= 5,
        Path(told.out),
    )
    training.train(told)
    losses = [
        [json.loads(line)["lm"] for line in (f / "metrics.jsonl").read_text().splitlines()]
        for f in (whole, Path(told.out))
    ]
    assert losses[0] == losses[1] and len(losses[0]) == 12
    for one, other in zip(
        load_generative(str(whole)).parameters(),
        load_generative(told.out).parameters(),
        strict=True,
    ):
        assert torch.equal(one, other)


def test_the_rationale_is_always_taught():
    row = Row("a.png", "Why?", "To rest.", "[0] is sitting.", (Region(0, (0, 0, 9, 9)),), (0,))
    assert (
        training.whole(row).answer == "To rest. Rationale: [0] is sitting."
        and training.whole(row).rationale == ""
    )
    assert training.whole(replace(row, rationale="")) == replace(row, rationale="")


def test_a_vicuna_that_is_damaged_or_holds_no_numbers_is_named(world, tmp_path):
    told = config(world, tmp_path / "s", language_model=str(tmp_path / "vicuna"))
    shutil.copytree(world / "vicuna", tmp_path / "vicuna")
    weights = tmp_path / "vicuna/model.safetensors"
    whole = load_file(weights)
    whole["model.norm.weight"][2] = torch.nan
    save_file(whole, weights, metadata={"format": "pt"})
    with pytest.raises(ValueError, match="vicuna: 1 of 40 values of .*norm.weight are no numbers"):
        training.base_of(told)
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ValueError, match="vicuna can't be read: its files are damaged"):
        training.base_of(told)


def test_config_errors_name_the_key(tmp_path):
    given = dict(student="s", corpus="c", image_root="i", out="o", steps=3)
    (tmp_path / "c.json").write_text(json.dumps(given | dict(lora=3, batch="many")))
    with pytest.raises(ValueError, match="c.json: .*(batch.*lora|lora.*batch)"):
        read_config(tmp_path / "c.json", training.GenerativeConfig)
    (tmp_path / "c.json").write_text(json.dumps(given))
    assert read_config(tmp_path / "c.json", training.GenerativeConfig) == training.GenerativeConfig(
        **given
    )
