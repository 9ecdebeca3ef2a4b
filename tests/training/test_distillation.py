"""Distillation: what a step sees, and that a killed run ends like an unbroken one."""

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from lskd_nb.mini.pretraining.base import fresh_student
from lskd_nb.records import CORPUS, write_parquet
from lskd_nb.regions import Region, mentions
from lskd_nb.students.loading import load_student
from lskd_nb.students.views import FrozenFeatures, View, draw, open_image
from lskd_nb.training import batches, launch, loop
from lskd_nb.training import distillation as d


def triple(number: int, region: int, regions: int = 3) -> dict:
    box = [[2.0, 2.0, 20.0, 30.0], [22.0, 4.0, 40.0, 30.0], [44.0, 6.0, 62.0, 40.0]]
    return dict(
        triple_id=f"t{number}",
        image_id=f"m{number % 4}",
        family="id",
        question=f"What is [{region}] about to do?",
        answer="Throw the ball for the dog.",
        rationale=f"[{region}] is holding a ball and [{(region + 1) % regions}] is a dog.",
        regions=[region],
        regions_offered=list(range(regions)),
        model="m",
        prompt="p",
        request="r",
        score=0.9,
        image=f"m{number % 4}.png",
        width=64,
        height=48,
        source="mini",
        split="train",
        references=[dict(id=i, box=box[i], label="thing", score=1.0) for i in range(regions)],
    )


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    rng = np.random.default_rng(0)
    for i in range(4):
        Image.fromarray(rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)).save(
            folder / f"m{i}.png"
        )
    write_parquet([triple(n, n % 3) for n in range(12)], folder / "corpus.parquet", CORPUS)
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


def test_ids_and_boxes_follow_each_other(world):
    row = batches.corpus_rows(world / "corpus.parquet")[1]
    seen = set()
    for trial in range(40):
        drawn = batches.draw_sample(row, 0, np.random.default_rng(trial))
        subject = mentions(drawn.question)[0]
        box = {r.id: r.box for r in drawn.view.regions}
        assert box[subject] == row.regions[1].box  # whatever its new id, it is the same thing
        assert sorted(box) == list(range(len(box)))
        seen.add((subject, len(box)))
    assert {n for _, n in seen} == {2, 3}  # the mentioned ones only, or all that were offered
    assert {s for s, _ in seen} == {0, 1, 2}


def test_a_swap_tells_the_same_of_another_region(world):
    row = batches.corpus_rows(world / "corpus.parquet")[0]
    for trial in range(30):
        drawn = batches.draw_sample(row, 0, np.random.default_rng(trial))
        question, text = drawn.swapped
        assert (question, text) != (drawn.question, drawn.text)
        assert sorted(mentions(question + text)) == sorted(set(mentions(question + text)))
        assert set(mentions(question)) <= {r.id for r in drawn.view.regions}


def test_one_region_offers_no_swap():
    row = batches.Row("m.png", "Why is [0] here?", "To rest.", "", (Region(0, (0, 0, 9, 9)),), (0,))
    assert batches.draw_sample(row, 0, np.random.default_rng(0)).swapped is None


def test_a_plain_pair_is_denied_with_another_answer_to_its_question(tmp_path):
    pairs = [
        ("a.png", "Where is this?", "on the beach"),
        ("b.png", "Where is this?", "in a kitchen"),
        ("a.png", "", "a dog"),
        ("b.png", "Who?", "he"),
    ]
    pq.write_table(
        pa.Table.from_pylist([dict(image=i, question=q, text=t) for i, q, t in pairs]),
        tmp_path / "r.parquet",
    )
    rows = batches.rehearsal_rows(tmp_path / "r.parquet")
    drawn = [
        [
            batches.draw_sample(r, 2, np.random.default_rng(t), batches.by_question(rows))
            for t in range(9)
        ]
        for r in rows
    ]
    told = [
        {x.exchanged for x in several} - {None} for several in drawn
    ]  # now and then the few draws meet only the row itself
    assert told == [
        {("Where is this?", "Answer: in a kitchen")},
        {("Where is this?", "Answer: on the beach")},
        set(),
        set(),
    ]
    assert drawn[0][0].text == "Answer: on the beach" and drawn[2][0].text == "a dog"
    assert all(x.swapped is None for several in drawn for x in several)


def test_an_exchange_tells_another_answer_or_rationale_of_the_own_regions():
    regions = tuple(Region(i, (10.0 * i, 0.0, 10.0 * i + 9, 9.0)) for i in range(3))
    row = batches.Row(
        "a.png", "Why is [2] here?", "To rest.", "[2] is sitting and [0] is a dog.", regions, (2, 0)
    )
    rival = batches.Row(
        "b.png", "Why is [1] here?", "To swim.", "[1] is wet and [0] is a boat.", regions, (1, 0)
    )
    other = batches.Row("b.png", "Where is [1]?", "Here.", "[1] is here.", regions, (1,))
    asked = batches.by_question([row, rival, other])
    assert sorted(map(len, asked.values())) == [1, 2]
    seen = set()
    for trial in range(80):
        drawn = batches.draw_sample(row, 0, np.random.default_rng(trial), asked)
        if drawn.exchanged is None:
            continue
        question, text = drawn.exchanged
        asked_about, second = (
            mentions(drawn.text.split(" Rationale")[0] + drawn.question)[0],
            mentions(drawn.text)[-1:],
        )
        assert question == drawn.question and text != drawn.text
        answer, _, rationale = text.partition(" Rationale: ")
        assert bool(rationale) == (" Rationale: " in drawn.text)
        seen.add((answer, bool(rationale) and ("wet" in rationale)))
        if rationale:
            assert mentions(rationale) == [asked_about, *second]
    assert seen == {
        ("Answer: To swim.", False),
        ("Answer: To swim.", True),
        ("Answer: To rest.", True),
    }


def test_shares_of_hard_negatives_are_kept(world):
    rows = batches.corpus_rows(world / "corpus.parquet")
    drawn = [batches.draw_sample(r, 0, np.random.default_rng(i)) for i, r in enumerate(rows)]
    drawn = [replace(x, exchanged=("exchanged", "?")) for x in drawn]
    similarity = torch.zeros(len(drawn), len(drawn))
    of_batch = {(x.question, x.text) for x in drawn}
    first, second = d.itm_negatives(drawn, similarity, 0.0, 0.0, np.random.default_rng(0))
    assert set(first) | set(second) <= of_batch
    first, second = d.itm_negatives(drawn, similarity, 1.0, 1.0, np.random.default_rng(0))
    assert set(first) == {("exchanged", "?")}
    assert all(
        n == x.swapped if x.swapped else n in of_batch for n, x in zip(second, drawn, strict=True)
    )


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
    assert [g["lr"] for g in optimizer.param_groups] == [2.0, 0.5]


def test_every_row_is_seen_once_an_epoch():
    seen = [i for step in range(5) for i in batches.epoch_indices(10, 6, step, seed=3)]
    assert sorted(seen[:10]) == sorted(seen[10:20]) == sorted(seen[20:30]) == list(range(10))
    assert seen[:10] != seen[10:20]


def test_fixed_views_are_few_and_fresh_ones_many(world):
    def seen(row: batches.Row, views: int) -> set[str]:
        return {
            batches.draw_sample(row, views, np.random.default_rng(t)).view.key for t in range(40)
        }

    rows = batches.corpus_rows(world / "corpus.parquet")[:6]
    assert {len(seen(r, 2)) for r in rows} <= {1, 2} and any(len(seen(r, 2)) == 2 for r in rows)
    assert all(len(seen(r, 0)) > 4 for r in rows)


def test_unknown_region_names_the_triple(world, tmp_path):
    bad = triple(0, 0) | dict(answer="Give [7] the ball.")
    write_parquet([bad], tmp_path / "c.parquet", CORPUS)
    with pytest.raises(ValueError, match=r"triple t0 mentions the regions \[7\]"):
        batches.corpus_rows(tmp_path / "c.parquet")


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
    with pytest.raises(ValueError, match="checkpoint.pt is not a readable checkpoint"):
        d.train(config(world, tmp_path / "s"))


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


def test_a_student_is_known_by_what_it_was_trained_from(world, tmp_path):
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
