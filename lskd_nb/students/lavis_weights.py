"""Published weights of stage-1 BLIP-2 in LAVIS's layout, read into the student's classes.

LAVIS (BSD-3-Clause) publishes ``.pth`` files: BLIP-2's pretraining with EVA-CLIP's ViT-G or CLIP's
ViT-L, the COCO finetuning; LSKD's student and critic are of the same kind. The temperature and the
LM head, which Hugging Face's class has no place for, come along. Position embeddings are
interpolated to another image size as LAVIS does it. ``loading`` makes a student of a file.
"""

import math
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import (
    Blip2Config,
    Blip2ForImageTextRetrieval,
    Blip2QFormerConfig,
    Blip2VisionConfig,
)
from transformers.models.blip_2.modeling_blip_2 import Blip2VisionEmbeddings

from lskd_nb.students.lavis_layout import POSITION, lavis_name

TOKENIZER = "bert-base-uncased"  # LAVIS's, [DEC] added
EPSILON = 1e-5  # of ln_vision; Hugging Face's default is 1e-6
# of LSKD's critic: hidden layers of its own, used in training alone
CRITIC_HEADS = ("qa_head.", "r_head.")
WRAPPED = re.compile(r"^(?:module\.|_orig_mod\.)+")  # what wrappers put before a network's names
PASSED_OVER = ("omegaconf.", "typing.Any")  # classes of configurations, not built


class NormedEmbeddings(Blip2VisionEmbeddings):
    """CLIP's embeddings of patches and positions, with its norm before the first layer."""

    def __init__(self, config: Blip2VisionConfig):
        super().__init__(config)
        self.pre_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, pixel_values: Tensor, interpolate_pos_encoding: bool = False) -> Tensor:
        return self.pre_layernorm(super().forward(pixel_values, interpolate_pos_encoding))


class LavisBlip2(Blip2ForImageTextRetrieval):
    """The network with LAVIS's vision encoders: ``ln_vision`` has its own epsilon, and ViT-L a norm
    before the first layer.

    ``config.vision_config`` tells (``post_layernorm_eps``, ``pre_layernorm``), so that a saved
    student is loaded as what it is.
    """

    def __init__(self, config: Blip2Config):
        super().__init__(config)
        vision = config.vision_config
        self.vision_model.post_layernorm.eps = vision.post_layernorm_eps
        if vision.pre_layernorm:
            self.vision_model.embeddings = NormedEmbeddings(vision)


def network_class(config: Blip2Config) -> type[Blip2ForImageTextRetrieval]:
    """The class a configuration was saved from."""
    if hasattr(config.vision_config, "post_layernorm_eps"):
        return LavisBlip2
    return Blip2ForImageTextRetrieval


# ------------------------------------------------------------------------------------ reading files


def read_checkpoint(path: str | Path) -> tuple[dict[str, Tensor], int | None]:
    """The weights of a ``.pth`` file, plain or under "model", and the image size its training
    configuration tells, if it does.

    Names are those of the network alone: what DistributedDataParallel and ``torch.compile`` put
    before them is taken off. Only tensors and plain containers are unpickled. Raises
    ``FileNotFoundError``, and ``ValueError`` for what is no such file, and for weights that are no
    numbers.
    """
    held = _unpickled(Path(path))
    weights = held.get("model", held) if isinstance(held, dict) else held
    if not isinstance(weights, dict) or not weights:
        raise ValueError(
            f"{path} holds no weights: expected a dictionary of tensors, or one under 'model'"
        )
    named: dict[str, Tensor] = {}
    for key, weight in weights.items():
        if not isinstance(weight, Tensor):
            raise ValueError(f"{path}: {key!r} is {type(weight).__name__}, expected a tensor")
        name = WRAPPED.sub("", str(key))
        if name in named:
            raise ValueError(f"{path} holds {name} twice, once as {key}")
        named[name] = weight
    check_numbers(named, path)
    told = held.get("config")
    told = told.get("model") if isinstance(told, dict) else None
    return named, told.get("image_size") if isinstance(told, dict) else None


class _Left:
    """What stands for an object of a checkpoint that is of no use here, and is not built."""

    def __init__(self, *_: object) -> None: ...

    def __setstate__(self, _: object) -> None: ...


def _unpickled(path: Path) -> object:
    """What a ``.pth`` file holds, read in torch's safe mode.

    A configuration of OmegaConf's classes, as some trainers leave it beside the weights, is passed
    over: none of its code runs. Any other class is refused by name. torch's own messages are not
    passed on, since they advise to switch the safe mode off.
    """
    others: list[str] = []
    try:
        # a file that is no archive, or not torch's, has no such list
        with suppress(Exception):
            others = sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
        passed = [name for name in others if name.startswith(PASSED_OVER)]
        if len(passed) == len(others):
            with torch.serialization.safe_globals([(_Left, name) for name in passed]):
                return torch.load(path, map_location="cpu", weights_only=True)
        others = [name for name in others if name not in passed]
    except FileNotFoundError:
        raise FileNotFoundError(f"no checkpoint at {path}") from None
    except Exception:
        pass
    why = f"it has {', '.join(others[:3])} in it" if others else "it is damaged, or of another kind"
    raise ValueError(
        f"{path} is not a checkpoint of tensors alone, and nothing else is unpickled: {why}"
    )


def check_numbers(weights: Mapping[str, Tensor], where: str | Path) -> None:
    """Raise ``ValueError`` naming the first weight that is not a number, or infinite: every score
    would be one as well, and the first choice always taken.
    """
    for name, weight in weights.items():
        if weight.is_floating_point() and weight.numel() and not weight.is_meta:
            low, high = torch.aminmax(weight.detach())
            if not (low.isfinite() and high.isfinite()):
                bad = int((~weight.detach().isfinite()).sum())
                raise ValueError(
                    f"{where}: {bad:,} of {weight.numel():,} values of {name} are no numbers"
                    " (NaN or infinite): what wrote the file had gone astray; take an earlier one"
                )


def infer_config(weights: Mapping[str, Tensor], where: str) -> Blip2Config:
    """The configuration that weights (by our names) are of.

    Heads are as wide as LAVIS has them: 88 in ViT-G, 64 elsewhere.
    """

    def shape(name: str, dimensions: int) -> torch.Size:
        if name not in weights:
            raise ValueError(
                f"{where} has no {lavis_name(name, clip)}: LAVIS leaves out what it has not"
                " trained, the vision encoder mostly; name a base that has it"
            )
        if weights[name].dim() != dimensions:
            raise ValueError(
                f"{where}: {lavis_name(name, clip)} has shape"
                f" {tuple(weights[name].shape)}, expected {dimensions} dimensions"
            )
        return weights[name].shape

    clip = "blip2.vision_model.embeddings.pre_layernorm.weight" in weights
    encoder, reader = "blip2.vision_model.encoder.layers.", "blip2.qformer.encoder.layer."
    _, positions, width = shape(POSITION, 3)
    patch = shape("blip2.vision_model.embeddings.patch_embedding.weight", 4)[-1]
    vocabulary, hidden = shape("blip2.embeddings.word_embeddings.weight", 2)
    looks = sorted(
        {_layer(n, reader) for n in weights if n.startswith(reader) and ".crossattention." in n}
    )
    layers = 1 + max((_layer(n, reader) for n in weights if n.startswith(reader)), default=0)
    vision = Blip2VisionConfig(
        hidden_size=width,
        intermediate_size=shape(f"{encoder}0.mlp.fc1.weight", 2)[0],
        num_hidden_layers=1 + max(_layer(n, encoder) for n in weights if n.startswith(encoder)),
        num_attention_heads=max(width // (64 if clip else 88), 1),
        image_size=math.isqrt(positions - 1) * patch,
        patch_size=patch,
        hidden_act="quick_gelu" if clip else "gelu",
        layer_norm_eps=1e-5 if clip else 1e-6,
        pre_layernorm=clip,
    )
    qformer = Blip2QFormerConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=max(hidden // 64, 1),
        intermediate_size=shape(f"{reader}0.intermediate.dense.weight", 2)[0],
        max_position_embeddings=shape("blip2.embeddings.position_embeddings.weight", 2)[0],
        cross_attention_frequency=looks[1] if len(looks) > 1 else layers,
        encoder_hidden_size=width,
        use_qformer_text_input=True,
    )
    return Blip2Config(
        vision_config=vision.to_dict(),
        qformer_config=qformer.to_dict(),
        num_query_tokens=shape("blip2.query_tokens", 3)[1],
        image_text_hidden_size=shape("blip2.vision_projection.weight", 2)[0],
    )


def _layer(name: str, prefix: str) -> int:
    return int(name[len(prefix) :].split(".")[0])


# -------------------------------------------------------------------------------------- image sizes


def resize_images(blip2: Blip2ForImageTextRetrieval, image_size: int) -> None:
    """Let a student look at images of another size: position embeddings interpolated
    bicubically, as LAVIS does, in place.
    """
    vision, embeddings = blip2.config.vision_config, blip2.vision_model.embeddings
    side = image_size // vision.patch_size
    if side < 1:
        raise ValueError(
            f"image_size {image_size} is smaller than a patch, {vision.patch_size} pixels"
        )
    old = embeddings.position_embedding
    if old.shape[1] != side**2 + 1:
        new = resized_positions(
            old.detach(), side, align_corners=getattr(vision, "pre_layernorm", False)
        )
        embeddings.position_embedding = nn.Parameter(new, requires_grad=old.requires_grad)
    embeddings.image_size = vision.image_size = image_size
    embeddings.num_patches, embeddings.num_positions = side**2, side**2 + 1


def resized_positions(table: Tensor, side: int, align_corners: bool) -> Tensor:
    """(1, 1 + n², width) -> (1, 1 + side², width); the class token's embedding stays.

    LAVIS aligns corners for ViT-L, not for ViT-G.
    """
    old = math.isqrt(table.shape[1] - 1)
    grid = table[:, 1:].float().reshape(1, old, old, -1).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, size=(side, side), mode="bicubic", align_corners=align_corners)
    return torch.cat([table[:, :1], grid.permute(0, 2, 3, 1).flatten(1, 2).to(table.dtype)], dim=1)
