"""LAVIS's own network, tiny and with random weights, its checkpoints, and its scores."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import BatchEncoding, Blip2Config, Blip2QFormerConfig, Blip2VisionConfig

from lskd_nb.mini.pretraining.base import tokenizer
from lskd_nb.students.blip2 import Student
from lskd_nb.students.lavis_backend import lavis_network


@pytest.fixture(scope="session")
def sentences() -> list[str]:
    return [
        "What is the dog about to do?",
        "a brown dog running",
        "it is raining and the sun is not shining",
    ]


WIDTH = {"eva": 176, "clip": 128}  # two heads each, as wide as the published encoders'


@pytest.fixture(scope="session")
def tiny_config() -> Callable[..., Blip2Config]:
    """BLIP-2's proportions at tiny sizes, as LAVIS would build them."""

    def make(vision: str = "eva", layers: int = 2) -> Blip2Config:
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

    return make


@pytest.fixture(scope="session")
def lavis_model(tiny_config) -> Callable[..., nn.Module]:
    """LAVIS's own network with random weights far from where training starts, in evaluation
    mode.
    """

    def make(vision: str = "eva", layers: int = 2, seed: int = 0) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = lavis_network(tiny_config(vision, layers), tokenizer(), epsilon=1e-5)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in network.parameters():
                if parameter.dim():
                    parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
            network.temp.fill_(0.05)
        network.max_txt_len = 16
        return network.eval()

    return make


@pytest.fixture(scope="module")
def eva(lavis_model) -> nn.Module:
    return lavis_model()


@pytest.fixture(scope="module")
def words(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("words")
    tokenizer().save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def random_pixels() -> Tensor:
    return torch.randn(3, 3, 28, 28, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="session")
def write_checkpoint() -> Callable[..., Path]:
    """A file as LAVIS's runner writes it: without the parameters that are frozen; weights under
    two names have only one parameter name.
    """

    def make(network: nn.Module, path: Path, frozen: tuple[str, ...] = (), **more) -> Path:
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

    return make


@pytest.fixture(scope="session")
def same_scores(sentences) -> Callable[..., bool]:
    """Whether image features, ITM logits, and ITC features of LAVIS's own methods are a
    student's.
    """

    def make(
        network: nn.Module, student: Student, random_pixels: Tensor, atol: float = 1e-5
    ) -> bool:
        texts = student.tokenize([""] * 3, sentences)
        with torch.no_grad():
            queries, image = network.forward_image(random_pixels)
            ours = student.encode_images(random_pixels)
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
                                BatchEncoding(
                                    {"input_ids": texts.ids, "attention_mask": texts.mask}
                                )
                            )
                        ),
                        dim=-1,
                    ),
                    student.text_features(texts),
                ),
            ]
        return all(torch.allclose(theirs, found, atol=atol) for theirs, found in pairs)

    return make
