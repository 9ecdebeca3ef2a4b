"""Distillation: what a step sees, and that a killed run ends like an unbroken one."""

import json
import shutil
import subprocess
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from threading import Barrier, BrokenBarrierError

import numpy as np
import pytest
import torch
from PIL import Image

from lskd_nb.mini.pretraining.base import fresh_student
from lskd_nb.records import CORPUS, write_parquet
from lskd_nb.regions import Region
from lskd_nb.students.blip2 import Student
from lskd_nb.students.loading import load_student
from lskd_nb.students.views import FrozenFeatures, View, draw, open_image
from lskd_nb.training import batches, launch, loop
from lskd_nb.training import distillation as d


def config(world: Path, out: Path, **changes) -> d.DistillationConfig:
    base = d.DistillationConfig(
        student=str(world / "base"),
        corpus=str(world / "corpus.parquet"),
        image_root=str(world),
        out=str(out),
        steps=12,
        batch=6,
        lr=1e-3,
        lm_conditioned=0.5,
        swaps=0.7,
        views=2,
        view_store=str(out.parent / "views"),
        checkpoint_every=3,
        threads=1,
    )
    return replace(base, **changes)


def test_shares_of_hard_negatives_are_kept(world):
    rows = batches.corpus_rows(world / "corpus.parquet")
    drawn = [batches.draw_sample(r, 0, np.random.default_rng(i)) for i, r in enumerate(rows)]
    drawn = [replace(x, exchanged=("exchanged", "?")) for x in drawn]
    similarity = torch.zeros(len(drawn), len(drawn))
    of_batch = {(x.question, x.text) for x in drawn}
    told = config(world, world / "s", swaps=0.0)
    without, only = told, replace(told, swaps=1.0, exchanges=1.0)
    first, second = d.itm_negatives(drawn, similarity, without, np.random.default_rng(0))
    assert set(first) | set(second) <= of_batch
    first, second = d.itm_negatives(drawn, similarity, only, np.random.default_rng(0))
    assert set(first) == {("exchanged", "?")}
    assert all(
        n == x.swapped if x.swapped else n in of_batch for n, x in zip(second, drawn, strict=True)
    )
    half = replace(told, swaps=0.5, near_misses=0.5)
    drawn = [replace(x, near_miss=("near", "?")) for x in drawn if x.swapped] * 40
    similarity = torch.zeros(len(drawn), len(drawn))
    _, second = d.itm_negatives(drawn, similarity, half, np.random.default_rng(0))
    near = np.mean([n == ("near", "?") for n in second])
    with pytest.raises(ValueError, match="swaps 0.8 and near_misses 0.5"):
        replace(told, swaps=0.8, near_misses=0.5)
    assert 0.4 < near < 0.6 and set(second) <= {("near", "?"), *(x.swapped for x in drawn)}


def test_a_batch_of_one_image_still_has_negatives(world):
    rows = [r for r in batches.corpus_rows(world / "corpus.parquet") if r.image == "m0.png"]
    drawn = [batches.draw_sample(r, 0, np.random.default_rng(0)) for r in rows]
    student = fresh_student(0, hidden=32, layers=2, vision_width=24, vision_layers=1, image_size=32)
    image = FrozenFeatures(student, world).encode([x.view for x in drawn])
    found = d.losses(student, image, drawn, config(world, world / "s"), np.random.default_rng(0))
    assert len(drawn) == 3 and all(torch.isfinite(value) for value in found.values())


def test_word_embeddings_have_a_learning_rate_of_their_own():
    student = fresh_student(0, hidden=32, layers=2, vision_width=24, vision_layers=1, image_size=32)
    optimizer = d.optimizer_of(
        student, student.word_embeddings, weight_decay=0.05, embedding_lr=4.0
    )
    sizes = [sum(p.numel() for p in g["params"]) for g in optimizer.param_groups]
    assert sizes[0] == student.blip2.embeddings.word_embeddings.weight.numel()
    assert sum(sizes) == sum(p.numel() for p in student.parameters() if p.requires_grad)
    d.set_learning_rate(optimizer, 0.5)
    assert [g["lr"] for g in optimizer.param_groups] == [2.0, 0.5, 0.5]


def test_biases_norms_and_temperature_do_not_decay():
    student = fresh_student(0, hidden=32, layers=2, vision_width=24, vision_layers=1, image_size=32)
    optimizer = d.optimizer_of(student, student.word_embeddings, 0.05, 1.0, (0.9, 0.999))
    decay = {id(p): g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    names = {n: decay[id(p)] for n, p in student.named_parameters() if p.requires_grad}
    kept = {n for n, value in names.items() if not value}
    assert {n for n in names if n.endswith(".bias") or "norm" in n.lower()} | {
        "temperature"
    } == kept
    assert names["blip2.query_tokens"] == names["blip2.itm_head.weight"] == 0.05
    assert optimizer.defaults["betas"] == (0.9, 0.999)


def test_gradients_are_clipped_where_that_is_asked_for():
    weight = torch.nn.Parameter(torch.zeros(4))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    for norm, expected in ((0.0, 6.0), (1.5, 1.5)):
        weight.grad = torch.full((4,), 3.0)
        loop.clip_gradients(optimizer, norm)
        assert weight.grad.norm().item() == pytest.approx(expected, rel=1e-4)


def test_the_prefix_stands_before_every_question_that_is_one(world, tmp_path):
    pairs = [dict(image="m0.png", question=q, text="here") for q in ("Where is it?", "")]
    write_parquet(pairs, tmp_path / "rehearsal.parquet", batches.REHEARSAL)
    told = config(
        world,
        tmp_path / "s",
        batch=8,
        exchanges=1.0,
        rehearsal=str(tmp_path / "rehearsal.parquet"),
        rehearsal_share=0.5,
    )
    assert told.prefix == "question: "  # as the reference has it
    student, seen = load_student(told.student), []
    tokenize = student.tokenize

    def told_of(questions, texts):
        seen.extend(questions)
        return tokenize(questions, texts)

    student.tokenize = told_of
    rows = batches.corpus_rows(told.corpus, told.prefix)
    plain = batches.rehearsal_rows(told.rehearsal, told.prefix)
    batch = batches.batch_at(0, rows, plain, batches.by_question(rows + plain), 16, 0.5, 0, 0)
    image = FrozenFeatures(student, world).encode([x.view for x in batch])
    d.losses(student, image, batch, replace(told, swaps=1.0), np.random.default_rng(0))
    assert {q[:15] for q in seen} == {"", "question: What ", "question: Where"}
    assert not launch.finished(replace(told, prefix=""))
    assert json.loads(told.identity())["prefix"] == "question: "


def test_what_is_not_rehearsed_is_not_read(world, tmp_path):
    told = config(world, tmp_path / "s", steps=1, rehearsal=str(tmp_path / "none.parquet"))
    assert (d.train(told) / "metrics.jsonl").exists()


def test_an_empty_corpus_is_named(world, tmp_path):
    write_parquet([], tmp_path / "c.parquet", CORPUS)
    with pytest.raises(ValueError, match="c.parquet holds no triples: there is nothing to learn"):
        d.train(config(world, tmp_path / "s", corpus=str(tmp_path / "c.parquet")))


def test_a_loss_that_is_no_number_ends_the_training(world, tmp_path):
    told = config(world, tmp_path / "s", lr=1e30, steps=8, clip_norm=0.0)
    with pytest.raises(ValueError, match=r"s.training: \w+ is nan at step \d\. The learning rate"):
        d.train(told)


def test_config_errors_name_the_key(tmp_path):
    (tmp_path / "c.json").write_text(
        json.dumps(dict(student="s", corpus="c", image_root="i", out="o", stepps=3))
    )
    with pytest.raises(ValueError, match="stepps"):
        d.read_config(tmp_path / "c.json", d.DistillationConfig)
    (tmp_path / "c.json").write_text(json.dumps(dict(student="s")))
    with pytest.raises(ValueError, match="corpus"):
        d.read_config(tmp_path / "c.json", d.DistillationConfig)


def test_learning_rate_warms_up_and_ends_low():
    c = d.DistillationConfig("s", "c", "i", "o", steps=100, lr=1.0, min_lr=0.1, warmup=10)
    rates = [d.learning_rate(s, c) for s in range(100)]
    assert rates[0] == 0.1 and max(rates) == rates[10] == 1.0 and rates[-1] < 0.11


def test_it_learns_and_leaves_the_vision_encoder_alone(world, tmp_path):
    out = d.train(config(world, tmp_path / "s", steps=40, lr=5e-3))
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert np.mean([x["lm_conditioned"] for x in lines[-5:]]) < 0.7 * np.mean(
        [x["lm_conditioned"] for x in lines[:5]]
    )
    base, trained = load_student(str(world / "base")), load_student(str(out))
    for (name, a), b in zip(base.named_parameters(), trained.parameters(), strict=True):
        if "vision_model" in name:
            assert torch.equal(a, b)
    assert not torch.equal(base.blip2.query_tokens, trained.blip2.query_tokens)
    before = (out / "model.safetensors").stat().st_mtime_ns
    d.train(config(world, tmp_path / "s", steps=40, lr=5e-3))
    assert (out / "model.safetensors").stat().st_mtime_ns == before  # finished: not done again


def test_saved_weights_lie_between_base_and_trained(world, tmp_path):
    whole, mixed = (
        load_student(str(d.train(config(world, tmp_path / str(share), steps=3, base_share=share))))
        for share in (0.0, 0.25)
    )
    base = load_student(str(world / "base"))
    pairs = list(zip(base.parameters(), whole.parameters(), mixed.parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b, _ in pairs)
    for a, b, c in pairs:
        torch.testing.assert_close(c, 0.25 * a + 0.75 * b, rtol=1e-5, atol=1e-6)
    looks = [FrozenFeatures(student, world, tmp_path / "views").folder for student in (base, mixed)]
    assert looks[0] == looks[1], (
        "the frozen encoder is untouched to the bit, so its stored features serve all students"
    )


def test_killed_training_ends_like_an_unbroken_one(world, tmp_path, kill_midway):
    whole = d.train(config(world, tmp_path / "whole"))
    told = config(world, tmp_path / "killed")
    (tmp_path / "c.json").write_text(json.dumps(asdict(told)))
    log = tmp_path / "killed.training" / "metrics.jsonl"
    command = [sys.executable, "-m", "lskd_nb.training.distillation", str(tmp_path / "c.json")]
    kill_midway(
        lambda: subprocess.Popen(command),
        lambda: log.exists() and len(log.read_text().splitlines()) >= 5,
        Path(told.out),
    )
    d.train(told)
    losses = [
        [
            {k: v for k, v in json.loads(line).items() if k != "seconds"}
            for line in (f / "metrics.jsonl").read_text().splitlines()
        ]
        for f in (whole, Path(told.out))
    ]
    assert losses[0] == losses[1] and len(losses[0]) == 12
    for a, b in zip(
        load_student(str(whole)).parameters(), load_student(told.out).parameters(), strict=True
    ):
        assert torch.equal(a, b)


def test_damaged_checkpoint_is_named(world, tmp_path):
    work = tmp_path / "s.training"
    work.mkdir()
    (work / loop.CHECKPOINT).write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match="checkpoint.pt is not a readable checkpoint") as told:
        d.train(config(world, tmp_path / "s"))
    # torch's advice is not passed on, not as a cause either
    assert "trusted source" not in "".join(traceback.format_exception(told.value))


def test_a_checkpoint_of_another_optimizer_is_named(world, tmp_path):
    told = config(world, tmp_path / "s", steps=5, checkpoint_every=2)
    d.train(replace(told, out=str(tmp_path / "none"), checkpoint_every=0))  # none is written
    checkpoint = tmp_path / "s.training" / loop.CHECKPOINT
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Student, "save", lambda self, folder: 1 / 0)  # leaves the checkpoint
        with pytest.raises(ZeroDivisionError):
            d.train(told)
    state = torch.load(checkpoint, weights_only=True)
    groups = state["optimizer"]["param_groups"]
    groups[1]["params"] += groups.pop()["params"]  # as when biases decayed with all others
    torch.save(state, checkpoint)
    with pytest.raises(ValueError, match="checkpoint.pt has another optimizer's state"):
        d.train(told)


def test_what_starts_fresh_is_said_and_is_the_same_each_time(world, tmp_path, capsys):
    shutil.copytree(world / "base", tmp_path / "hub")
    (tmp_path / "hub" / "stage1.safetensors").unlink()
    told = config(world, tmp_path / "s", student=str(tmp_path / "hub"), steps=1)
    torch.manual_seed(7)
    one = load_student(str(d.train(replace(told, lr=0.0, min_lr=0.0, weight_decay=0.0))))
    assert (
        "hub lacks temp, Qformer.cls" in (said := capsys.readouterr().out) and "no LM head" in said
    )
    torch.manual_seed(8)
    other = replace(told, out=str(tmp_path / "t"), lr=0.0, min_lr=0.0, base_share=0.5)
    for a, b in zip(one.parameters(), load_student(str(d.train(other))).parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_stored_views_equal_fresh_ones(world, tmp_path):
    student = load_student(str(world / "base")).eval()
    views = [
        View("m0.png", (Region(0, (2, 2, 20, 30)),)),
        View("m0.png"),
        View("m1.png", (Region(1, (2, 2, 20, 30)),)),
    ]
    stored = FrozenFeatures(student, world, tmp_path)
    assert stored.prepare(views + views[:1]) == 3
    assert stored.prepare(views) == 0
    again = FrozenFeatures(student, world, tmp_path)
    assert torch.equal(
        again.features(views), FrozenFeatures(student, world).encode(views).to(torch.bfloat16)
    )
    assert not torch.equal(again.features(views[:1]), again.features(views[1:2]))
    more = [View("m2.png")]
    assert again.prepare(more) == 1 and torch.equal(
        again.features(views[1:] + more)[2:], stored.encode(more).to(torch.bfloat16)
    )


def test_two_that_store_features_at_once_wait_for_each_other(world, tmp_path, monkeypatch):
    student = fresh_student(0, hidden=32, layers=2, vision_width=24, vision_layers=1, image_size=32)
    rows = batches.corpus_rows(world / "corpus.parquet")
    views = [batches.fixed_view(row, which) for row in rows for which in range(2)]
    parts = views[: len(views) // 2], views[len(views) // 2 :]
    at_once, encode = Barrier(2), FrozenFeatures.encode

    def slowly(self, some):
        with suppress(BrokenBarrierError):  # the lock lets only one of them come here
            at_once.wait(0.5)
        return encode(self, some)

    monkeypatch.setattr(FrozenFeatures, "encode", slowly)
    with ThreadPoolExecutor(2) as processes:
        list(processes.map(lambda p: FrozenFeatures(student, world, tmp_path).prepare(p, 2), parts))
    stored = FrozenFeatures(student, world, tmp_path).stored(views).float()
    monkeypatch.undo()
    direct = FrozenFeatures(student, world).encode(views).to(torch.bfloat16).float()
    assert torch.allclose(stored, direct, atol=0.05)


def test_boxes_are_drawn_after_resizing(world):
    drawn = np.asarray(draw(View("m0.png", (Region(0, (16, 12, 48, 36)),)), world, 32))
    assert tuple(drawn[8, 8]) == (5, 255, 55) and tuple(drawn[9, 9]) == (
        5,
        255,
        55,
    )  # two pixels of outline at any size
    assert tuple(drawn[10, 10]) != (5, 255, 55)


def test_images_outside_the_root_and_damaged_ones_are_refused(world, tmp_path):
    with pytest.raises(ValueError, match="leaves the image root"):
        open_image(world, "../secret.png")
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8 nothing")
    with pytest.raises(ValueError, match="bad.jpg is not a readable image"):
        open_image(tmp_path, "bad.jpg")
    with pytest.raises(FileNotFoundError, match="none.jpg"):
        open_image(tmp_path, "none.jpg")


def test_a_student_is_known_by_what_it_was_trained_from(world, tmp_path, triple):
    corpus = tmp_path / "corpus.parquet"
    write_parquet([triple(n, n % 3) for n in range(12)], corpus, CORPUS)
    told = config(world, tmp_path / "s", corpus=str(corpus), steps=2)
    d.train(told)
    assert launch.finished(told) and launch.finished(replace(told, threads=2, checkpoint_every=1))
    assert not launch.finished(replace(told, lr=2e-3))
    write_parquet([triple(n, n % 2) for n in range(12)], corpus, CORPUS)
    # the same configuration, but another corpus under the same name
    assert not launch.finished(told)


def test_a_large_jpeg_is_decoded_smaller_and_its_boxes_stay_where_they_are(tmp_path):
    small = Image.fromarray(np.random.default_rng(0).integers(0, 255, (9, 12, 3), dtype=np.uint8))
    small.resize((800, 600), Image.Resampling.BICUBIC).save(tmp_path / "p.jpg", quality=95)
    view = View("p.jpg", (Region(0, (200.0, 150.0, 600.0, 450.0)),))
    drawn = np.asarray(draw(view, tmp_path, 64)).astype(int)
    whole = open_image(tmp_path, "p.jpg")
    assert whole.size == (800, 600)
    plain = np.asarray(whole.resize((64, 64), Image.Resampling.BICUBIC)).astype(int)
    changed = np.abs(drawn - plain).max(-1) > 12
    assert changed[16:48, 16:48].mean() > 0.8 and tuple(drawn[16, 16]) == (5, 255, 55) == tuple(
        drawn[47, 47]
    )
    outside = np.ones((64, 64), bool)
    outside[16:48, 16:48] = False
    assert np.abs(drawn - plain)[outside].mean() < 1.5 and changed[outside].mean() < 0.01
