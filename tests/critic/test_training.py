"""The critic's training: in processes of its own, killed and resumed, and what each step sees."""

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lskd_nb.critic import published
from lskd_nb.critic import training as t
from lskd_nb.critic.model import CriticExample, as_drawn, ids_shuffled, load_critic, score
from lskd_nb.mini.pretraining.base import fresh_student
from lskd_nb.records import read_parquet, write_parquet
from lskd_nb.regions import Region, mentions
from lskd_nb.students.views import FrozenFeatures, View
from lskd_nb.training import launch

REGIONS = tuple(Region(i, (i, i, i + 20.0, i + 25.0), "thing", 0.5) for i in range(7))

PUBLISHED = dict(
    embedding_lr=0.0,
    fresh_shuffles=True,
    drawn_at_most=5,
    mentioned_share=0.6,
    head_hidden=768,
    image_size=480,
)


def example(n: int) -> CriticExample:
    return CriticExample(
        View(f"m{n % 4}.png", REGIONS),
        f"What is [{n % 7}] about to do?",
        f"Answer: Look {n}. Rationale: [{n % 7}] is near [{(n + 2) % 7}].",
        float(n % 3 > 0),
        n / 12,
        1 - n / 12,
    )


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """Four images, a base, and twelve examples about seven regions each."""
    folder, rng = tmp_path_factory.mktemp("world"), np.random.default_rng(0)
    for i in range(4):
        Image.fromarray(rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)).save(
            folder / f"m{i}.png"
        )
    t.write_examples([example(n) for n in range(12)], folder / "examples.parquet")
    fresh_student(0, hidden=32, layers=2, vision_width=24, vision_layers=1, image_size=32).save(
        folder / "base"
    )
    return folder


def config(world: Path, out: Path, **changes) -> t.CriticConfig:
    told = t.CriticConfig(
        student=str(world / "base"),
        examples=str(world / "examples.parquet"),
        image_root=str(world),
        out=str(out),
        steps=8,
        batch=8,
        lr=1e-3,
        swaps=0.3,
        fresh_shuffles=True,
        drawn_at_most=5,
        mentioned_share=0.6,
        head_hidden=16,
        checkpoint_every=2,
        threads=1,
        bf16=False,
    )
    return replace(told, **changes)


def losses(told: t.CriticConfig) -> np.ndarray:
    lines = launch.loss_curve(told)
    assert [line["step"] for line in lines] == list(range(1, told.steps + 1))
    names = ("loss", "accept", "qa_score", "rationale_score")
    return np.array([[line[name] for name in names] for line in lines])


def test_examples_come_back_as_they_were(world, tmp_path):
    assert t.read_examples(world / "examples.parquet") == [
        replace(e, qa_score=float(np.float32(e.qa_score)), rationale_score=float(np.float32(r)))
        for e in map(example, range(12))
        for r in [e.rationale_score]
    ]
    unlabelled = replace(example(0), qa_score=None)
    t.write_examples([example(1), unlabelled], tmp_path / "e.parquet")
    with pytest.raises(ValueError, match=r"e.parquet, row 1: its labels are \(0.0, None, 1.0\)"):
        t.read_examples(tmp_path / "e.parquet")
    t.write_examples([], tmp_path / "e.parquet")
    with pytest.raises(ValueError, match="e.parquet has no examples"):
        t.read_examples(tmp_path / "e.parquet")


def test_two_processes_train_to_the_losses_of_one(world, tmp_path):
    one, both = config(world, tmp_path / "one"), config(world, tmp_path / "both")
    t.train(one)
    lines = launch.train_one(both, processes=2)
    assert len(lines) == 8 and launch.finished(both) and not launch.finished(replace(both, seed=1))
    found = losses(one)
    assert len(np.unique(found[:, 0])) == 8
    np.testing.assert_allclose(losses(both), found, atol=2e-4)
    for a, b in zip(
        load_critic(one.out).parameters(), load_critic(both.out).parameters(), strict=True
    ):
        torch.testing.assert_close(a, b, atol=2e-4, rtol=1e-2)


def test_killed_and_resumed_it_ends_like_an_unbroken_one(world, tmp_path, kill_midway):
    whole, told = config(world, tmp_path / "whole"), config(world, tmp_path / "killed", steps=8)
    t.train(whole)
    (tmp_path / "c.json").write_text(json.dumps(asdict(told)))
    log = tmp_path / "killed.training" / "metrics.jsonl"
    kill_midway(
        lambda: subprocess.Popen(
            [sys.executable, "-m", t.CriticConfig.module, "c.json"], cwd=tmp_path
        ),
        lambda: log.exists() and len(log.read_text().splitlines()) >= 5,
        Path(told.out),
    )
    assert (log.parent / "checkpoint.pt").exists()
    t.train(told)
    assert (losses(whole) == losses(told)).all()
    for a, b in zip(
        load_critic(whole.out).parameters(), load_critic(told.out).parameters(), strict=True
    ):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    "changes", [dict(accumulation=4), dict(workers=2), dict(view_store="views")], ids=str
)
def test_what_saves_memory_or_time_changes_no_number(world, tmp_path, changes):
    fixed = dict(steps=3, fresh_shuffles=False, shuffles=1)
    plain = config(world, tmp_path / "plain", **fixed)
    if "view_store" in changes:
        changes = dict(view_store=str(tmp_path / "views"))
        views = FrozenFeatures(fresh(world), world, tmp_path / "views")
        views.prepare(t.training_views(t.read_examples(plain.examples), plain))
    other = replace(plain, out=str(tmp_path / "other"), **changes)
    t.train(plain)
    t.train(other)
    tolerance = 2e-3 if other.view_store else 2e-5  # features are stored in bf16
    np.testing.assert_allclose(losses(plain), losses(other), atol=tolerance)


def fresh(world: Path):
    from lskd_nb.students.loading import load_student

    return load_student(str(world / "base")).eval()


def test_every_stored_view_is_one_that_training_asks_for(world, tmp_path):
    told = config(world, tmp_path / "s", fresh_shuffles=False, shuffles=2, batch=600, swaps=0.0)
    rows = t.read_examples(told.examples)
    asked = {row.view.key for row in t.batch_at(0, rows, told)}
    assert asked == {view.key for view in t.training_views(rows, told)}
    with pytest.raises(ValueError, match="fresh_shuffles draws a new view .* set store_views to f"):
        list(t.training_views(rows, replace(told, fresh_shuffles=True)))


def test_fresh_shuffles_draw_at_most_five_the_mentioned_ones_among_them(world, tmp_path):
    told = config(world, tmp_path / "s", batch=400, swaps=0.0)
    rows = t.read_examples(told.examples)
    batches = [t.batch_at(step, rows, told) for step in range(2)]
    assert batches[0] != batches[1] and batches[0] == t.batch_at(0, rows, told)
    alone, orders = 0, set()
    for seen in batches[0]:
        ids = [r.id for r in seen.view.regions]
        assert ids == list(range(len(ids))) and len(ids) in (2, 5)
        assert set(mentions(seen.question + seen.text)) <= set(ids)
        n = int(seen.text.split("Look ")[1].split(".")[0])
        boxes = {r.id: r.box for r in seen.view.regions}
        assert [boxes[i] for i in mentions(seen.text)] == [
            REGIONS[i].box for i in mentions(example(n).text)
        ]
        alone += len(ids) == 2
        orders.add(tuple(boxes.values()))
    assert 0.5 < alone / 400 < 0.7 and len(orders) > 100


def test_what_does_not_go_together_is_named(world, tmp_path):
    with pytest.raises(ValueError, match="batch is 8: expected a multiple of .*, 3 × 1"):
        t.train(config(world, tmp_path / "s", accumulation=3))
    with pytest.raises(ValueError, match="fresh_shuffles and shuffles 2"):
        t.train(config(world, tmp_path / "s", shuffles=2))
    with pytest.raises(ValueError, match="step 2"):
        t.train(config(world, tmp_path / "s", lr=float("inf")))


def test_it_learns_that_class_one_is_accept(world, tmp_path):
    for name, color in (("red", (250, 10, 10)), ("blue", (10, 10, 250))):
        Image.new("RGB", (40, 40), color).save(world / f"{name}.png")
    rows = [
        CriticExample(View(f"{image}.png"), "What is it?", "Answer: red", *labels)
        for image, labels in (("red", (1.0, 1.0, 1.0)), ("blue", (0.0, 0.0, 0.0)))
    ]
    told = config(
        world,
        tmp_path / "critic",
        examples=str(t.write_examples(rows, tmp_path / "e.parquet")),
        steps=60,
        lr=4e-3,
        warmup=10,
    )
    critic = load_critic(t.train(told))
    found = losses(told)[:, 0]
    assert np.mean(found[-10:]) < 0.5 * np.mean(found[:10])
    again = score(critic, rows, FrozenFeatures(critic.blip2, world))
    assert (again["score"] > 0.5).tolist() == [True, False]
    assert again["rationale_score"][0] > again["rationale_score"][1] + 0.3
    identity = json.loads((tmp_path / "critic/trained_from.json").read_text())
    assert identity["head_hidden"] == 16 and identity["drawn_at_most"] == 5


def test_the_identity_is_what_numbers_depend_on(world, tmp_path):
    told = config(world, tmp_path / "a")
    same = replace(told, out="b", threads=9, workers=3, checkpoint_every=7, view_store="v")
    assert told.identity() == same.identity()
    rows = read_parquet(told.examples, t.EXAMPLES).slice(0, 11)
    write_parquet(rows, tmp_path / "fewer.parquet", t.EXAMPLES)
    for changes in (
        dict(seed=1),
        dict(mentioned_share=0.5),
        dict(examples=str(tmp_path / "fewer.parquet")),
    ):
        assert replace(told, **changes).identity() != told.identity()


def test_a_critic_whose_base_was_trained_anew_is_another_one(world, tmp_path):
    told = config(world, tmp_path / "a", student=str(tmp_path / "reader"))
    (tmp_path / "reader").mkdir()
    (tmp_path / "reader/trained_from.json").write_text('{"lr": 1}')
    first = told.identity()
    (tmp_path / "reader/trained_from.json").write_text('{"lr": 2}')
    assert told.identity() != first
    hub = replace(told, student="organisation/base").identity()
    assert json.loads(hub)["files"].keys() == {told.examples}


def test_what_differs_from_the_published_critic_is_said(world, tmp_path):
    told = published.differences(
        t.CriticConfig("models/b", "e", "i", "o", 9, bf16=False, **PUBLISHED)
    )
    assert told == [published.Difference("begins with", published.BASE, "models/b")] + list(
        published.ALWAYS
    )
    mini = {d.what: (d.published, d.here) for d in published.differences(config(world, tmp_path))}
    assert mini["hidden layer of the two score heads"] == ("768 wide, ReLU", "16 wide, ReLU")
    assert mini["learning rate"] == ("1e-05", "0.001")
    plain = published.differences(asdict(t.CriticConfig("b", "e", "i", "o", 1)) | {"files": {}})
    found = {d.what: (d.published, d.here) for d in plain}
    assert found["order of the regions"] == ("new at each step", "fixed ones for each image")
    assert found["regions drawn"] == ("5 at most", "all offered")
    assert "learning rate" not in found


def test_numberings_are_of_what_is_drawn():
    told = t.CriticConfig("s", "e", "i", "o", 1, shuffles=2, drawn_at_most=3)
    views = list(t.training_views([example(3)], told))
    drawn = as_drawn(example(3), told.drawing)
    assert [v.key for v in views] == [ids_shuffled(drawn, n).view.key for n in range(3)]
    assert all(len(v.regions) == 3 for v in views)
