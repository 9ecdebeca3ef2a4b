"""LAVIS's layout: names, sizes read off the weights, and other image sizes."""

import sys
from collections.abc import Callable

import pytest
import torch
from transformers import Blip2Config, Blip2QFormerConfig, Blip2VisionConfig

from lskd_nb.mini.pretraining.base import fresh_student, tokenizer
from lskd_nb.students.blip2 import Student
from lskd_nb.students.lavis_backend import lavis_network
from lskd_nb.students.lavis_layout import POSITION, from_lavis, to_lavis
from lskd_nb.students.lavis_weights import LavisBlip2, infer_config, resize_images
from lskd_nb.students.loading import load_student

# ---------------------------------------------------------------------------------- names and sizes


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
def test_position_embeddings_are_interpolated_as_lavis_does(
    larger_config, lavis_model, same_scores, write_checkpoint, vision, words, tmp_path
):
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
    random_pixels = torch.randn(3, 3, 60, 60)
    for name, size in (("small.pth", 60), ("told.pth", None)):
        student = load_student(str(tmp_path / name), tokenizer=words, image_size=size).eval()
        assert student.image_size == 60
        assert same_scores(larger, student, random_pixels)
    load_student(str(path), tokenizer=words).save(tmp_path / "folder")
    student = load_student(str(tmp_path / "folder"), image_size=60)  # a folder or hub name
    student.save(tmp_path / "resized")
    for again in (
        student,
        load_student(str(tmp_path / "resized")),
        load_student(str(tmp_path / "resized"), backend="lavis"),
    ):
        assert again.image_size == 60 and same_scores(larger, again.eval(), random_pixels)
    with pytest.raises(ValueError, match="image_size 10 is smaller than a patch, 14 pixels"):
        load_student(str(path), tokenizer=words, image_size=10)


@pytest.fixture(scope="session")
def larger_config(tiny_config) -> Callable[..., Blip2Config]:
    def make(vision: str) -> Blip2Config:
        config = tiny_config(vision)
        config.vision_config.image_size = (
            60  # four patches and a rest, as 480 is 34 patches of 14 and a rest
        )
        return config

    return make


def test_resized_embeddings_stay_frozen_and_keep_their_class_token():
    student = fresh_student(0, hidden=32, layers=2, vision_width=24, vision_layers=1, image_size=48)
    before = student.blip2.vision_model.embeddings.position_embedding
    resize_images(student.blip2, 96)
    after = student.blip2.vision_model.embeddings.position_embedding
    assert (
        after.shape == (1, 17, 24)
        and not after.requires_grad
        and torch.equal(after[:, 0], before[:, 0])
    )
    assert student.encode_images(torch.randn(1, 3, 96, 96)).shape == (1, 17, 24)
