"""Weights in LAVIS's layout, and LAVIS as a backend: against LAVIS's own network, tiny and with
random weights.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from transformers import BatchEncoding, Blip2Config, Blip2QFormerConfig, Blip2VisionConfig

from lskd_nb.critic.model import Critic
from lskd_nb.evaluation import choices
from lskd_nb.mini.pretraining.base import fresh_student, tokenizer
from lskd_nb.records import CORPUS, write_parquet
from lskd_nb.regions import Region
from lskd_nb.students import lavis_compat, loading
from lskd_nb.students.blip2 import Student, Texts, itc_loss, lm_loss
from lskd_nb.students.lavis_backend import LavisStudent, lavis_network
from lskd_nb.students.lavis_compat import import_lavis, one_process_group
from lskd_nb.students.lavis_layout import POSITION, from_lavis, lavis_name, to_lavis
from lskd_nb.students.lavis_weights import (
    CRITIC_HEADS,
    LavisBlip2,
    infer_config,
    read_checkpoint,
    resize_images,
)
from lskd_nb.students.loading import load_lavis, load_student
from lskd_nb.students.views import FrozenFeatures, View
from lskd_nb.training import distillation

SENTENCES = [
    "What is the dog about to do?",
    "a brown dog running",
    "it is raining and the sun is not shining",
]
WIDTH = {"eva": 176, "clip": 128}  # two heads each, as wide as the published encoders'


def tiny_config(vision: str = "eva", layers: int = 2) -> Blip2Config:
    """BLIP-2's proportions at tiny sizes, as LAVIS would build them."""
    clip = vision == "clip"
    encoder = Blip2VisionConfig(
        hidden_size=WIDTH[vision],
        intermediate_size=4 * WIDTH[vision],
        num_hidden_layers=layers,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
        hidden_act="quick_gelu" if clip else "gelu",
        layer_norm_eps=1e-5 if clip else 1e-6,
        pre_layernorm=clip,
    )
    qformer = Blip2QFormerConfig(
        vocab_size=len(tokenizer()),
        hidden_size=128,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=40,
        encoder_hidden_size=WIDTH[vision],
        use_qformer_text_input=True,
    )
    return Blip2Config(
        vision_config=encoder.to_dict(),
        qformer_config=qformer.to_dict(),
        num_query_tokens=5,
        image_text_hidden_size=16,
    )


def lavis_model(vision: str = "eva", layers: int = 2, seed: int = 0) -> nn.Module:
    """LAVIS's own network with random weights far from where training starts, in evaluation
    mode.
    """
    network = lavis_network(tiny_config(vision, layers), tokenizer(), epsilon=1e-5)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim():
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
        network.temp.fill_(0.05)
    network.max_txt_len = 16
    return network.eval()


@pytest.fixture(scope="module")
def eva() -> nn.Module:
    return lavis_model()


@pytest.fixture(scope="module")
def words(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("words")
    tokenizer().save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def pixel_values() -> Tensor:
    return torch.randn(3, 3, 28, 28, generator=torch.Generator().manual_seed(1))


def write_checkpoint(network: nn.Module, path: Path, frozen: tuple[str, ...] = (), **more) -> Path:
    """A file as LAVIS's runner writes it: without the parameters that are frozen; weights under
    two names have only one parameter name.
    """
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(not name.startswith(frozen) if frozen else True)
    wants_gradient = {
        name: parameter.requires_grad for name, parameter in network.named_parameters()
    }
    weights = {
        name: weight
        for name, weight in network.state_dict().items()
        if wants_gradient.get(name, True)
    }
    torch.save(
        {
            "model": weights,
            "optimizer": {"state": {}, "param_groups": []},
            "scaler": None,
            "epoch": 3,
        }
        | more,
        path,
    )
    return path


def same_scores(
    network: nn.Module, student: Student, pixel_values: Tensor, atol: float = 1e-5
) -> bool:
    """Whether image features, ITM logits, and ITC features of LAVIS's own methods are a
    student's.
    """
    texts = student.tokenize([""] * 3, SENTENCES)
    with torch.no_grad():
        queries, image = network.forward_image(pixel_values)
        ours = student.encode_images(pixel_values)
        pairs = [
            (image, ours),
            (
                network.compute_itm(image, texts.ids, texts.mask),
                student.itm_logits(ours, texts)[:, 1],
            ),
            (F.normalize(network.vision_proj(queries), dim=-1), student.query_features(ours)),
            (
                F.normalize(
                    network.text_proj(
                        network.forward_text(
                            BatchEncoding({"input_ids": texts.ids, "attention_mask": texts.mask})
                        )
                    ),
                    dim=-1,
                ),
                student.text_features(texts),
            ),
        ]
    return all(torch.allclose(theirs, found, atol=atol) for theirs, found in pairs)


# ------------------------------------------------------------------------------------------- parity


@pytest.fixture(scope="module", params=["hf", "lavis"])
def student(request, eva, words, tmp_path_factory) -> Student:
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


def test_losses_and_gradients_are_lavis_own(eva, student, pixel_values, drawn):
    eva.requires_grad_(True).zero_grad()
    with one_process_group():
        theirs = eva({"image": pixel_values, "text_input": SENTENCES})
    theirs.loss.backward()

    image, texts, own = (
        student.encode_images(pixel_values),
        student.tokenize([""] * 3, SENTENCES),
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


def test_scores_are_lavis_own(eva, student, pixel_values):
    assert same_scores(eva, student, pixel_values, atol=1e-5)
    image = eva.extract_features({"image": pixel_values}, mode="image")
    text = eva.extract_features({"text_input": SENTENCES}, mode="text")
    texts = student.tokenize([""] * 3, SENTENCES)
    assert torch.allclose(
        image.image_embeds_proj,
        student.query_features(student.encode_images(pixel_values)),
        atol=1e-5,
    )
    assert torch.allclose(text.text_embeds_proj[:, 0], student.text_features(texts), atol=1e-5)


def test_both_backends_give_the_same_where_lavis_has_no_method(eva, pixel_values, tmp_path, words):
    path = write_checkpoint(eva, tmp_path / "p.pth")
    one, other = (
        load_student(str(path), tokenizer=words, backend=b).eval() for b in ("hf", "lavis")
    )
    image = one.encode_images(pixel_values)
    texts = one.tokenize(["What is [0] about to do?", "Why?", ""], SENTENCES)
    for a, b in zip(
        one.lm_log_probabilities(image, texts, True),
        other.lm_log_probabilities(image, texts, True),
        strict=True,
    ):
        assert torch.allclose(
            a[texts.mask[:, 1:].bool()].float(), b[texts.mask[:, 1:].bool()].float(), atol=1e-5
        )
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


# ------------------------------------------------------------------------------------ LAVIS's files


def test_temperature_and_lm_head_come_along(eva, words, tmp_path):
    student = load_student(str(write_checkpoint(eva, tmp_path / "p.pth")), tokenizer=words)
    assert student.temperature == eva.temp == torch.tensor(0.05)
    assert torch.equal(
        student.lm_head.transform.dense.weight, eva.Qformer.cls.predictions.transform.dense.weight
    )
    assert (
        torch.equal(student.lm_head.decoder.bias, eva.Qformer.cls.predictions.bias)
        and student.lm_head.decoder.bias.any()
    )
    assert student.lm_head.decoder.weight is student.word_embeddings
    assert student.blip2.vision_model.post_layernorm.eps == 1e-5 and student.image_size == 28


def test_plain_dictionaries_and_half_precision_are_read(eva, words, pixel_values, tmp_path):
    torch.save(
        {
            name: w.half() if name.startswith("visual_encoder.") else w
            for name, w in eva.state_dict().items()
        },
        tmp_path / "plain.pth",
    )
    student = load_student(str(tmp_path / "plain.pth"), tokenizer=words).eval()
    assert {p.dtype for p in student.parameters()} == {torch.float32}
    assert same_scores(eva, student, pixel_values, atol=0.05)


@pytest.mark.parametrize("vision", ["eva", "clip"])
def test_without_its_vision_encoder_a_file_needs_a_base(vision, words, pixel_values, tmp_path):
    network = lavis_model(vision)
    whole = load_lavis(write_checkpoint(network, tmp_path / "whole.pth"), tokenizer=words)
    whole.save(tmp_path / "folder")
    part = write_checkpoint(network, tmp_path / "part.pth", frozen=("visual_encoder.",))
    assert not [key for key in read_checkpoint(part)[0] if key.startswith("visual_encoder.")]
    with pytest.raises(
        ValueError, match=r"part.pth has no visual_encoder.pos_embed: .* name a base that has it"
    ):
        load_student(str(part), tokenizer=words)
    torch.save(
        network.visual_encoder.state_dict(), tmp_path / "encoder.pth"
    )  # as eva_vit_g.pth and clip_vit_L.pth are
    for base in ("folder", "whole.pth", "encoder.pth"):
        student = load_student(str(part), base=str(tmp_path / base), tokenizer=words).eval()
        assert same_scores(network, student, pixel_values), base
    assert (
        load_student(str(part), base=str(tmp_path / "folder")).tokenizer.get_vocab()
        == tokenizer().get_vocab()
    )


@pytest.mark.parametrize(("vision", "held", "kept"), [("eva", 40, 39), ("clip", 23, 21)])
def test_lavis_leaves_out_the_last_layers_of_a_bare_encoder(vision, held, kept, tmp_path):
    names = {
        "eva": ("pos_embed", "blocks.{}.attn.proj.bias"),
        "clip": ("positional_embedding", "transformer.resblocks.{}.ln_1.bias"),
    }[vision]
    encoder = {names[0]: torch.zeros((1, 5, 8) if vision == "eva" else (5, 8))} | {
        names[1].format(n): torch.full((8,), n) for n in range(held)
    }
    found, unknown = from_lavis(encoder | {"head.weight": torch.zeros(3, 8)}, "encoder.pth")
    assert unknown == ["visual_encoder.head.weight"]
    layers = {name: int(weight[0]) for name, weight in found.items() if ".layers." in name}
    assert sorted(layers.values()) == list(range(kept)) and all(
        f".layers.{n}." in name for name, n in layers.items()
    )
    assert found[POSITION].shape == (1, 5, 8)


def test_vit_l_is_saved_and_loaded_as_what_it_is(words, pixel_values, tmp_path):
    network = lavis_model("clip")
    student = load_student(
        str(write_checkpoint(network, tmp_path / "vitL.pth")), tokenizer=words
    ).eval()
    assert same_scores(network, student, pixel_values)
    student.save(tmp_path / "saved")
    again = load_student(str(tmp_path / "saved")).eval()
    assert torch.equal(student.encode_images(pixel_values), again.encode_images(pixel_values))
    assert (
        again.temperature == student.temperature
        and student.state_dict().keys() == again.state_dict().keys()
    )
    in_lavis = load_student(str(tmp_path / "saved"), backend="lavis").eval()
    assert all(
        torch.equal(a, b)
        for a, b in zip(
            network.state_dict().values(), in_lavis.blip2.state_dict().values(), strict=True
        )
    )
    in_lavis.save(tmp_path / "back")
    assert torch.equal(
        load_student(str(tmp_path / "back")).eval().encode_images(pixel_values),
        again.encode_images(pixel_values),
    )
    shape = FrozenFeatures(again, tmp_path).shape
    assert shape == FrozenFeatures(in_lavis, tmp_path).shape == (5, WIDTH["clip"])


def critic_checkpoint(network: nn.Module, path: Path) -> Path:
    """As LSKD's ``Blip2Critic`` is written: two heads more, no contrast, and the tied word
    embeddings under their second name alone, because freezing the LM head freezes them too.
    """
    hidden = network.Qformer.config.hidden_size
    for name in ("qa_head", "r_head"):
        setattr(
            network, name, nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1))
        )
    del network.vision_proj, network.text_proj, network.temp
    frozen = ("visual_encoder.", "Qformer.cls.", "Qformer.bert.embeddings.word_embeddings.")
    return write_checkpoint(
        network, path, frozen, config={"model": {"arch": "blip2_critic", "image_size": 28}}
    )


def test_lskds_critic_is_read_over_a_base(eva, words, pixel_values, tmp_path):
    base = write_checkpoint(eva, tmp_path / "base.pth")
    network = lavis_model(seed=1)
    path = critic_checkpoint(network, tmp_path / "critic.pth")
    keys = read_checkpoint(path)[0].keys()
    assert (
        "Qformer.cls.predictions.decoder.weight" in keys
        and "Qformer.bert.embeddings.word_embeddings.weight" not in keys
    )
    with pytest.raises(ValueError, match=r"critic.pth holds weights .*qa_head.0.weight.* ignore"):
        load_student(str(path), base=str(base), tokenizer=words)
    network.visual_encoder.load_state_dict(eva.visual_encoder.state_dict())
    student = load_student(str(path), base=str(base), ignore=CRITIC_HEADS, tokenizer=words).eval()
    assert torch.equal(student.word_embeddings, network.Qformer.cls.predictions.decoder.weight)
    assert (
        torch.equal(student.blip2.vision_projection.weight, eva.vision_proj.weight)
        and student.temperature == eva.temp
    )
    texts = student.tokenize([""] * 3, SENTENCES)
    with torch.no_grad():
        _, image = network.forward_image(pixel_values)
        expected = network.compute_itm(image, texts.ids, texts.mask)
        found = Critic(student)(student.encode_images(pixel_values), [""] * 3, SENTENCES)[0][:, 1]
    assert torch.allclose(expected, found, atol=1e-5)


def test_what_no_file_has_starts_fresh_and_says_so(eva, words, tmp_path):
    lacking = {
        key: w
        for key, w in eva.state_dict().items()
        if key != "temp" and not key.startswith("Qformer.cls.")
    }
    torch.save({"model": lacking}, tmp_path / "lacking.pth")
    with pytest.warns(UserWarning, match=r"lacking.pth lacks temp, Qformer.cls.* start fresh"):
        student = load_student(str(tmp_path / "lacking.pth"), tokenizer=words)
    assert student.temperature == torch.tensor(0.07)
    student.blip2.save_pretrained(tmp_path / "hub")  # the hub's folders hold no more than this
    student.tokenizer.save_pretrained(tmp_path / "hub")
    torch.save(
        {key: w for key, w in lacking.items() if not key.startswith("visual_encoder.")},
        tmp_path / "part.pth",
    )
    with pytest.warns(
        UserWarning, match=r"part.pth with base .*hub lacks temp, Qformer.cls.* start fresh"
    ):
        load_student(str(tmp_path / "part.pth"), base=str(tmp_path / "hub"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"Qformer.bert.encoder.layer.1.output.dense.weight": torch.zeros(128, 63)},
            (
                r"bad.pth: Qformer.bert.encoder.layer.1.output.dense.weight has shape \(128, 63\),"
                r" expected \(128, 64\)"
            ),
        ),
        (
            {
                "visual_encoder.blocks.1.attn.q_bias": torch.zeros(3),
                "visual_encoder.blocks.1.attn.v_bias": torch.zeros(3),
            },
            r"bad.pth: visual_encoder.blocks.1.attn.qkv.bias has shape \(9,\), expected \(528,\)",
        ),
        (
            {"query_tokens": torch.zeros(5, 128)},
            r"bad.pth: query_tokens has shape \(5, 128\), expected 3 dimensions",
        ),
        (
            {"itm_head.weight": None, "text_proj.bias": None},
            r"bad.pth lacks text_proj.bias, itm_head.weight: name a base",
        ),
        (
            {"visual_encoder.blocks.0.attn.v_bias": None},
            r"bad.pth holds weights .* visual_encoder.blocks.0.attn.q_bias",
        ),
        (
            {"opt_proj.weight": torch.zeros(2)},
            (
                r"bad.pth holds weights that a student has no place for: opt_proj.weight; name them"
                r" in ignore"
            ),
        ),
        (
            {"Qformer.bert.encoder.layer.0.gate.bias": torch.zeros(2)},
            r"bad.pth holds weights .*: Qformer.bert.encoder.layer.0.gate.bias;",
        ),
        (
            {"Qformer.cls.predictions.decoder.weight": torch.zeros(3, 128)},
            (
                r"bad.pth: Qformer.bert.embeddings.word_embeddings.weight and"
                r" Qformer.cls.predictions.decoder.weight should be one weight"
            ),
        ),
    ],
)
def test_wrong_weights_are_named(eva, words, tmp_path, change, message):
    weights = {key: w for key, w in (eva.state_dict() | change).items() if w is not None}
    torch.save({"model": weights}, tmp_path / "bad.pth")
    with pytest.raises(ValueError, match=message):
        load_student(str(tmp_path / "bad.pth"), tokenizer=words)


def test_a_base_of_other_sizes_is_refused(eva, words, tmp_path):
    part = write_checkpoint(eva, tmp_path / "part.pth", frozen=("visual_encoder.",))
    fresh_student(0, hidden=32, layers=2, vision_width=24, vision_layers=1, image_size=32).save(
        tmp_path / "mini"
    )
    with pytest.raises(
        ValueError,
        match=(
            r"part.pth: .* has shape .*, expected .* beside the other weights of .*part.pth with"
            r" base .*mini"
        ),
    ):
        load_student(str(part), base=str(tmp_path / "mini"))
    other = tokenizer()
    other.add_tokens([f"word{n}" for n in range(3)])
    other.save_pretrained(tmp_path / "more")
    weights = eva.state_dict()
    torch.save(
        {
            "model": (
                weights
                | {
                    key: torch.cat([w, w[:9]])
                    for key, w in weights.items()
                    if len(w.shape) and len(w) == len(tokenizer())
                }
            )
        },
        tmp_path / "larger.pth",
    )
    with pytest.raises(
        ValueError,
        match=(
            r"the tokenizer has \d+ tokens, \[DEC\] being number 5; .*larger.pth has \d+ word"
            r" embeddings"
        ),
    ):
        load_student(str(tmp_path / "larger.pth"), tokenizer=str(tmp_path / "more"))


class Malicious:
    def __reduce__(self):
        return Path.touch, (Path("owned"),)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"model": {"temp": torch.tensor(0.07)}, "config": Malicious()},
            "evil.pth is not a checkpoint of tensors alone",
        ),
        ({"model": {"temp": 0.07}}, r"evil.pth: 'temp' is float, expected a tensor"),
        ([torch.zeros(2)], r"evil.pth holds no weights"),
        ({"model": {}}, r"evil.pth holds no weights"),
        (b"not a checkpoint", "evil.pth is not a checkpoint of tensors alone"),
    ],
)
def test_files_that_are_no_checkpoints_are_refused(tmp_path, monkeypatch, content, message):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "evil.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(ValueError, match=message):
        load_student(str(path))
    assert not (tmp_path / "owned").exists()


def test_what_is_asked_for_must_make_sense(world, tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint at .*absent.pth"):
        load_student(str(tmp_path / "absent.pth"))
    with pytest.raises(ValueError, match="backend 'LAVIS': expected 'hf' or 'lavis'"):
        load_student(str(world / "base"), backend="LAVIS")
    with pytest.raises(ValueError, match="are for LAVIS .pth files"):
        load_student(str(world / "base"), base="Salesforce/blip2-itm-vit-g")


@pytest.mark.parametrize(
    "vision",
    [
        Blip2VisionConfig(pre_layernorm=False),  # the class's defaults are ViT-G's
        Blip2VisionConfig(
            hidden_size=1024,
            intermediate_size=4096,
            num_hidden_layers=21,
            hidden_act="quick_gelu",
            layer_norm_eps=1e-5,
            pre_layernorm=True,
        ),
    ],
)
def test_published_sizes_are_read_off_the_weights(vision):
    qformer = Blip2QFormerConfig(vocab_size=30523, use_qformer_text_input=True)
    vision.post_layernorm_eps = 1e-5
    config = Blip2Config(vision_config=vision.to_dict(), qformer_config=qformer.to_dict())
    with torch.device("meta"):
        shapes = {
            name: weight.shape
            for name, weight in Student(LavisBlip2(config), tokenizer()).state_dict().items()
        }
    theirs = to_lavis(
        {name: torch.zeros(()).expand(shape) for name, shape in shapes.items()},
        vision.pre_layernorm,
    )  # takes no memory
    last = "transformer.resblocks.20.mlp.c_fc" if vision.pre_layernorm else "blocks.38.mlp.fc1"
    assert theirs[f"visual_encoder.{last}.weight"].shape == (
        vision.intermediate_size,
        vision.hidden_size,
    )
    assert theirs["Qformer.bert.encoder.layer.10.crossattention.self.key.weight"].shape == (
        768,
        vision.hidden_size,
    )
    ours, unknown = from_lavis(theirs, "published.pth")
    assert not unknown and {name: weight.shape for name, weight in ours.items()} == shapes
    found = infer_config(ours, "published.pth")
    for part in ("vision_config", "qformer_config"):
        expected, read = getattr(config, part).to_dict(), getattr(found, part).to_dict()
        assert {name for name in expected if expected[name] != read.get(name)} <= {
            "post_layernorm_eps"
        }
    assert (found.num_query_tokens, found.image_text_hidden_size) == (32, 256)


# -------------------------------------------------------------------------------- other image sizes


@pytest.mark.parametrize("vision", ["eva", "clip"])
def test_position_embeddings_are_interpolated_as_lavis_does(vision, words, tmp_path):
    network, larger = (
        lavis_model(vision),
        lavis_network(larger_config(vision), tokenizer(), 1e-5).eval(),
    )
    weights = {
        key.removeprefix("visual_encoder."): w
        for key, w in network.state_dict().items()
        if key.startswith("visual_encoder.")
    }
    interpolate = sys.modules[type(network.visual_encoder).__module__].interpolate_pos_embed
    interpolate(larger.visual_encoder, weights)  # LAVIS's own, in place
    larger.load_state_dict(
        network.state_dict() | {f"visual_encoder.{key}": w for key, w in weights.items()}
    )
    path = write_checkpoint(network, tmp_path / "small.pth")
    torch.save(torch.load(path) | {"config": {"model": {"image_size": 60}}}, tmp_path / "told.pth")
    pixel_values = torch.randn(3, 3, 60, 60)
    for name, size in (("small.pth", 60), ("told.pth", None)):
        student = load_student(str(tmp_path / name), tokenizer=words, image_size=size).eval()
        assert student.image_size == 60
        assert same_scores(larger, student, pixel_values)
    load_student(str(path), tokenizer=words).save(tmp_path / "folder")
    student = load_student(str(tmp_path / "folder"), image_size=60)  # a folder or hub name
    student.save(tmp_path / "resized")
    for again in (
        student,
        load_student(str(tmp_path / "resized")),
        load_student(str(tmp_path / "resized"), backend="lavis"),
    ):
        assert again.image_size == 60 and same_scores(larger, again.eval(), pixel_values)
    with pytest.raises(ValueError, match="image_size 10 is smaller than a patch, 14 pixels"):
        load_student(str(path), tokenizer=words, image_size=10)


def larger_config(vision: str) -> Blip2Config:
    config = tiny_config(vision)
    config.vision_config.image_size = (
        60  # four patches and a rest, as 480 is 34 patches of 14 and a rest
    )
    return config


def test_resized_embeddings_stay_frozen_and_keep_their_class_token():
    student = fresh_student(0, hidden=32, layers=2, vision_width=24, vision_layers=1, image_size=32)
    before = student.blip2.vision_model.embeddings.position_embedding
    resize_images(student.blip2, 64)
    after = student.blip2.vision_model.embeddings.position_embedding
    assert (
        after.shape == (1, 17, 24)
        and not after.requires_grad
        and torch.equal(after[:, 0], before[:, 0])
    )
    assert student.encode_images(torch.randn(1, 3, 64, 64)).shape == (1, 17, 24)


def test_a_file_is_converted_once(eva, words, pixel_values, tmp_path, monkeypatch):
    path = write_checkpoint(eva, tmp_path / "p.pth")
    monkeypatch.setattr(
        sys, "argv", ["loading", str(path), str(tmp_path / "folder"), "--tokenizer", words]
    )
    loading.main()
    assert same_scores(eva, load_student(str(tmp_path / "folder")).eval(), pixel_values)


# ---------------------------------------------------------------------- LAVIS beside other packages


def test_lavis_is_imported_only_when_asked_for_and_leaves_nothing_behind():
    code = """
import importlib.util, sys
import lskd_nb.students.blip2, lskd_nb.training.distillation, lskd_nb.evaluation.choices
assert "lskd_nb.students.loading" in sys.modules and not [n for n in sys.modules if n.split(".")[0] == "lavis"]
import transformers.modeling_utils
from transformers import PreTrainedConfig, PreTrainedModel
def state():
    names = [set(dir(thing)) for thing in (transformers.modeling_utils, PreTrainedModel, PreTrainedConfig)]
    return *names, list(sys.meta_path), importlib.util.find_spec("torchvision")
before = state()
from lskd_nb.students.lavis_compat import DONE_WITHOUT, import_lavis
import_lavis()
from transformers.utils import is_torchvision_available
assert state() == before and is_torchvision_available() == (before[-1] is not None)
absent = [package for package in DONE_WITHOUT if importlib.util.find_spec(package) is None]
assert not [name for name in sys.modules if name.split(".")[0] in absent] and "lavis" not in sys.modules
if "timm" in absent:
    try:
        sys.modules["lavis.common.dist_utils"].download_cached_file("https://example.org/eva_vit_g.pth")
    except ImportError as error:
        assert "timm.models.hub.download_cached_file" in str(error)
    else:
        raise AssertionError("a placeholder was used in silence")
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_where_lavis_is_absent_its_backend_says_what_to_install(monkeypatch):
    monkeypatch.setattr(lavis_compat, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install --no-deps salesforce-lavis==1.0.2"):
        import_lavis.__wrapped__()
