"""LAVIS as a backend: losses, gradients and scores are those of its own network, in the notebooks'
functions too.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from lskd_nb.evaluation import choices
from lskd_nb.mini.pretraining.base import fresh_student
from lskd_nb.records import CORPUS, write_parquet
from lskd_nb.regions import Region
from lskd_nb.students.blip2 import Student, Texts, itc_loss, lm_loss
from lskd_nb.students.lavis_backend import LavisStudent
from lskd_nb.students.lavis_compat import one_process_group
from lskd_nb.students.lavis_layout import lavis_name
from lskd_nb.students.loading import load_student
from lskd_nb.students.views import FrozenFeatures, View
from lskd_nb.training import distillation

# ------------------------------------------------------------------------------------------- parity


@pytest.fixture(scope="module", params=["hf", "lavis"])
def student(write_checkpoint, request, eva, words, tmp_path_factory) -> Student:
    """The weights of ``eva``, by way of a file, in either backend."""
    path = write_checkpoint(eva, tmp_path_factory.mktemp("eva") / "pretrained.pth")
    return load_student(str(path), tokenizer=words, backend=request.param).eval()


@pytest.fixture
def drawn(monkeypatch) -> Iterator[list[int]]:
    """The rows that LAVIS draws as negatives while it computes its losses."""
    chosen: list[int] = []
    multinomial = torch.multinomial

    def recording(*arguments, **named):
        found = multinomial(*arguments, **named)
        chosen.extend(found.flatten().tolist())
        return found

    monkeypatch.setattr(torch, "multinomial", recording)
    yield chosen


def test_losses_and_gradients_are_lavis_own(sentences, eva, student, random_pixels, drawn):
    eva.requires_grad_(True).zero_grad()
    with one_process_group():
        theirs = eva({"image": random_pixels, "text_input": sentences})
    theirs.loss.backward()

    image, texts, own = (
        student.encode_images(random_pixels),
        student.tokenize([""] * 3, sentences),
        torch.arange(3),
    )
    queries, read = student.query_features(image), student.text_features(texts)
    itc, _ = itc_loss(queries, read, own, student.temperature)
    assert len(drawn) == 6  # an image for each text, then a text for each image
    matched = student.itm_logits(
        torch.cat([image, image[drawn[:3]], image]),
        texts[torch.tensor([0, 1, 2, 0, 1, 2, *drawn[3:]])],
    )
    itm = F.cross_entropy(matched, torch.tensor([1, 1, 1, 0, 0, 0, 0, 0, 0]))
    log_probability, counted = student.lm_log_probabilities(image, texts, conditioned=False)
    lm = lm_loss(log_probability, counted, texts.ids[:, 1:])
    for name, ours in {"itc": itc, "itm": itm, "lm": lm}.items():
        assert abs(ours.item() - theirs[f"loss_{name}"].item()) < 1e-5, name

    # What LAVIS gathers from its processes carries no gradient, be there one process or many: in
    # ITC only the asking side learns.
    half = [
        (torch.einsum("iqd,td->itq", *pair).amax(-1) / student.temperature)
        for pair in ((queries, read.detach()), (queries.detach(), read))
    ]
    one_sided = (
        sum(
            F.cross_entropy(similarity, own, label_smoothing=0.1)
            for similarity in (half[0], half[1].T)
        )
        / 2
    )
    assert torch.isclose(one_sided, itc, atol=1e-5)
    student.zero_grad()
    (one_sided + itm + lm).backward()
    if isinstance(student, LavisStudent):
        found = {name: p.grad for name, p in student.blip2.named_parameters()}
    else:
        found = {lavis_name(name): p.grad for name, p in student.named_parameters()}
        found["Qformer.cls.predictions.bias"] = found.pop(
            "Qformer.cls.predictions.decoder.bias"
        )  # one weight in LAVIS
    expected = {
        name: p.grad
        for name, p in eva.named_parameters()
        if not name.startswith(("visual_encoder.", "ln_vision."))
    }  # frozen here
    assert len(expected) > 100
    for name, gradient in expected.items():
        assert torch.allclose(found[name], gradient, atol=1e-5), name


def test_scores_are_lavis_own(same_scores, sentences, eva, student, random_pixels):
    assert same_scores(eva, student, random_pixels, atol=1e-5)
    image = eva.extract_features({"image": random_pixels}, mode="image")
    text = eva.extract_features({"text_input": sentences}, mode="text")
    texts = student.tokenize([""] * 3, sentences)
    assert torch.allclose(
        image.image_embeds_proj,
        student.query_features(student.encode_images(random_pixels)),
        atol=1e-5,
    )
    assert torch.allclose(text.text_embeds_proj[:, 0], student.text_features(texts), atol=1e-5)


def test_both_backends_give_the_same_where_lavis_has_no_method(
    sentences, write_checkpoint, eva, random_pixels, tmp_path, words
):
    path = write_checkpoint(eva, tmp_path / "p.pth")
    one, other = (
        load_student(str(path), tokenizer=words, backend=b).eval() for b in ("hf", "lavis")
    )
    image = one.encode_images(random_pixels)
    texts = one.tokenize(["What is [0] about to do?", "Why?", ""], sentences)
    for a, b in zip(
        one.lm_log_probabilities(image, texts, True),
        other.lm_log_probabilities(image, texts, True),
        strict=True,
    ):
        assert torch.allclose(a.float(), b.float(), atol=1e-5)
    many: Texts = texts[torch.tensor([0, 1, 2, 2, 1, 0])]  # two texts of each image
    assert torch.allclose(
        one.itm_logits(one.image_keys_values(image), many),
        other.itm_logits(other.image_keys_values(image), many),
        atol=1e-5,
    )
    twice = one.lm_log_probabilities(image.repeat_interleave(2, 0), many, False)[0]
    assert torch.allclose(twice, other.lm_log_probabilities(image, many, False)[0], atol=1e-5)
    assert other.blip2.Qformer.bert.embeddings.position_ids.tolist() == [list(range(40))]


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_any_student_runs_in_lavis(dropout):
    student = fresh_student(
        0, hidden=32, layers=2, vision_width=24, vision_layers=1, image_size=32
    ).eval()
    with torch.no_grad():
        for (
            parameter
        ) in student.parameters():  # biases of attention's keys, which LAVIS has not, among them
            if parameter.dim():
                parameter.add_(
                    0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
                )
    student.blip2.config.qformer_config.hidden_dropout_prob = dropout
    other = LavisStudent.of(student)
    assert other.blip2.Qformer.bert.embeddings.dropout.p == dropout
    other.eval()
    image = torch.randn(2, 3, 32, 32)
    texts = student.tokenize(["Why?", "What?"], ["because", "a dog"])
    assert torch.allclose(student.encode_images(image), other.encode_images(image), atol=1e-5)
    features = student.encode_images(image)
    assert torch.allclose(
        student.itm_logits(features, texts), other.itm_logits(features, texts), atol=1e-5
    )
    other.train()
    assert not other.blip2.visual_encoder.training and other.blip2.Qformer.training
    assert (
        not any(p.requires_grad for p in other.blip2.visual_encoder.parameters())
        and not other.blip2.ln_vision.weight.requires_grad
    )


# ------------------------------------------------------------ a backend in the notebooks' functions


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    rng = np.random.default_rng(0)
    for number in range(3):
        Image.fromarray(rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)).save(
            folder / f"m{number}.png"
        )
    boxes = [[2.0, 2.0, 20.0, 30.0], [22.0, 4.0, 40.0, 30.0]]
    rows = [
        dict(
            triple_id=f"t{n}",
            image_id=f"m{n}",
            family="id",
            question="What is [0] about to do?",
            answer="Throw the ball.",
            rationale=f"[{n % 2}] is holding a ball.",
            regions=[0],
            regions_offered=[0, 1],
            model="m",
            prompt="p",
            request="r",
            score=0.9,
            image=f"m{n}.png",
            width=64,
            height=48,
            source="mini",
            split="train",
            references=[
                dict(id=i, box=box, label="thing", score=1.0) for i, box in enumerate(boxes)
            ],
        )
        for n in range(3)
    ]
    write_parquet(rows, folder / "corpus.parquet", CORPUS)
    fresh_student(0, hidden=32, layers=2, vision_width=24, vision_layers=1, image_size=32).save(
        folder / "base"
    )
    return folder


@pytest.fixture
def in_fp32(monkeypatch) -> None:
    """No bf16, so that two backends can be compared to the last digits."""
    features = FrozenFeatures.features
    monkeypatch.setattr(
        FrozenFeatures, "features", lambda self, views: features(self, views).float()
    )
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)


def test_distillation_trains_either_backend_alike(world, tmp_path, monkeypatch, in_fp32):
    common = distillation.DistillationConfig(
        student=str(world / "base"),
        corpus=str(world / "corpus.parquet"),
        image_root=str(world),
        out="",
        steps=4,
        batch=3,
        lr=1e-3,
        lm_conditioned=0.5,
        swaps=0.5,
        views=1,
        checkpoint_every=2,
        threads=1,
    )
    lines = {}
    for backend in ("hf", "lavis"):
        out = distillation.train(replace(common, out=str(tmp_path / backend), backend=backend))
        lines[backend] = [
            json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()
        ]
    for one, other in zip(lines["hf"], lines["lavis"], strict=True):
        assert all(
            abs(one[name] - other[name]) < 1e-3 for name in ("itc", "itm", "lm", "lm_conditioned")
        )
    assert lines["lavis"][-1]["lm"] < lines["lavis"][0]["lm"] - 0.1
    base, one, other = (
        load_student(path)
        for path in (str(world / "base"), str(tmp_path / "hf"), str(tmp_path / "lavis"))
    )
    assert type(other) is Student  # what LAVIS has trained is saved as any student is
    start, a, b = (
        torch.cat(
            [
                p.flatten()
                for name, p in s.named_parameters()
                if p.requires_grad and name != "lm_head.bias"
            ]
        )  # unused: decoder.bias is
        for s in (base, one, other)
    )
    assert (a - b).norm() < 0.01 * (a - start).norm()


@pytest.mark.parametrize("asked", ["shard", "gradient_checkpointing"])
def test_what_lavis_can_not_do_is_refused(world, tmp_path, asked):
    told = distillation.DistillationConfig(
        str(world / "base"),
        str(world / "corpus.parquet"),
        str(world),
        str(tmp_path / "s"),
        steps=1,
        batch=3,
        backend="lavis",
    )
    with pytest.raises(ValueError, match="shard and gradient_checkpointing need backend 'hf'"):
        distillation.train(replace(told, **{asked: True}))


def test_a_killed_lavis_training_goes_on(world, tmp_path, monkeypatch, in_fp32):
    whole = distillation.DistillationConfig(
        backend="lavis",
        student=str(world / "base"),
        corpus=str(world / "corpus.parquet"),
        image_root=str(world),
        out=str(tmp_path / "whole"),
        steps=4,
        batch=3,
        lr=1e-3,
        views=1,
        checkpoint_every=2,
        threads=1,
    )
    distillation.train(whole)
    step = distillation._step

    def killed(number: int, *arguments):
        if number == 3:
            raise KeyboardInterrupt
        return step(number, *arguments)

    monkeypatch.setattr(distillation, "_step", killed)
    with pytest.raises(KeyboardInterrupt):
        distillation.train(replace(whole, out=str(tmp_path / "again")))
    monkeypatch.setattr(distillation, "_step", step)
    distillation.train(replace(whole, out=str(tmp_path / "again")))
    for a, b in zip(
        load_student(str(tmp_path / "whole")).parameters(),
        load_student(str(tmp_path / "again")).parameters(),
        strict=True,
    ):
        assert torch.equal(a, b)


def test_evaluation_scores_either_backend_alike(world, in_fp32):
    items = [
        choices.Item(
            f"i{n}",
            f"m{n}",
            View(f"m{n}.png", (Region(0, (2.0, 2.0, 20.0, 30.0), "thing"),)),
            "What is [0] about to do?",
            ("Answer: Run.", "Answer: Throw the ball for the dog.", "Answer: Sleep."),
            1,
            "vcr.q_a",
        )
        for n in range(3)
    ]
    scores = []
    for backend in ("hf", "lavis"):
        student = load_student(str(world / "base"), backend=backend).eval()
        scores.append(choices.match_scores(student, items, FrozenFeatures(student, world)))
    assert np.allclose(scores[0], scores[1], atol=1e-5)
    assert np.ptp(scores[0]) > 0.01


def test_what_is_asked_for_must_make_sense(world, tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint at .*absent.pth"):
        load_student(str(tmp_path / "absent.pth"))
    with pytest.raises(ValueError, match="backend 'LAVIS': expected 'hf' or 'lavis'"):
        load_student(str(world / "base"), backend="LAVIS")
    with pytest.raises(ValueError, match="are for LAVIS .pth files"):
        load_student(str(world / "base"), base="Salesforce/blip2-itm-vit-g")
