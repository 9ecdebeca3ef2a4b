"""LAVIS's names and shapes of a stage-1 BLIP-2's weights, and the student's, each from the other.

The two networks compute the same; they differ in names, in how attention keeps its biases, and in
dimensions of size one. LAVIS's (BSD-3-Clause) are those of its ``Blip2Qformer``, with EVA-CLIP's
ViT-G or CLIP's ViT-L as the vision encoder.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

# Layers LAVIS keeps of eva_vit_g.pth (all but the last) and clip_vit_L.pth (21, where the paper
# says all but the last).
DEPTH = {"blocks": 39, "transformer.resblocks": 21}

# LAVIS's names -> ours. "#" is a layer's number; a name that ends in a dot stands for all that
# begin with it; the first that fits counts.
Q_FORMER = {
    "query_tokens": "blip2.query_tokens",
    "temp": "temperature",
    "itm_head.": "blip2.itm_head.",
    "vision_proj.": "blip2.vision_projection.",
    "text_proj.": "blip2.text_projection.",
    "ln_vision.": "blip2.vision_model.post_layernorm.",
    "Qformer.bert.embeddings.LayerNorm.": "blip2.qformer.layernorm.",
    "Qformer.bert.embeddings.word_embeddings.": "blip2.embeddings.word_embeddings.",
    "Qformer.bert.embeddings.position_embeddings.": "blip2.embeddings.position_embeddings.",
    "Qformer.bert.encoder.layer.#.attention.self.": (
        "blip2.qformer.encoder.layer.#.attention.attention."
    ),
    "Qformer.bert.encoder.layer.#.crossattention.self.": (
        "blip2.qformer.encoder.layer.#.crossattention.attention."
    ),
    "Qformer.bert.encoder.": "blip2.qformer.encoder.",
    "Qformer.cls.predictions.": "lm_head.",
}
EVA = {
    "visual_encoder.cls_token": "blip2.vision_model.embeddings.class_embedding",
    "visual_encoder.pos_embed": "blip2.vision_model.embeddings.position_embedding",
    "visual_encoder.patch_embed.proj.": "blip2.vision_model.embeddings.patch_embedding.",
    "visual_encoder.blocks.#.norm1.": "blip2.vision_model.encoder.layers.#.layer_norm1.",
    "visual_encoder.blocks.#.norm2.": "blip2.vision_model.encoder.layers.#.layer_norm2.",
    "visual_encoder.blocks.#.attn.qkv.": "blip2.vision_model.encoder.layers.#.self_attn.qkv.",
    "visual_encoder.blocks.#.attn.proj.": (
        "blip2.vision_model.encoder.layers.#.self_attn.projection."
    ),
    "visual_encoder.blocks.#.mlp.": "blip2.vision_model.encoder.layers.#.mlp.",
}
CLIP = {
    "visual_encoder.class_embedding": "blip2.vision_model.embeddings.class_embedding",
    "visual_encoder.positional_embedding": "blip2.vision_model.embeddings.position_embedding",
    "visual_encoder.conv1.": "blip2.vision_model.embeddings.patch_embedding.",
    "visual_encoder.ln_pre.": "blip2.vision_model.embeddings.pre_layernorm.",
    "visual_encoder.transformer.resblocks.#.ln_1.": (
        "blip2.vision_model.encoder.layers.#.layer_norm1."
    ),
    "visual_encoder.transformer.resblocks.#.ln_2.": (
        "blip2.vision_model.encoder.layers.#.layer_norm2."
    ),
    "visual_encoder.transformer.resblocks.#.attn.in_proj_": (
        "blip2.vision_model.encoder.layers.#.self_attn.qkv."
    ),
    "visual_encoder.transformer.resblocks.#.attn.out_proj.": (
        "blip2.vision_model.encoder.layers.#.self_attn.projection."
    ),
    "visual_encoder.transformer.resblocks.#.mlp.c_fc.": (
        "blip2.vision_model.encoder.layers.#.mlp.fc1."
    ),
    "visual_encoder.transformer.resblocks.#.mlp.c_proj.": (
        "blip2.vision_model.encoder.layers.#.mlp.fc2."
    ),
}
POSITION = "blip2.vision_model.embeddings.position_embedding"
# Weights of one tensor under two names: of LAVIS's files some have only the one, some only the
# other.
TIED = (
    ("blip2.embeddings.word_embeddings.weight", "lm_head.decoder.weight"),
    ("lm_head.decoder.bias", "lm_head.bias"),
)


def from_lavis(
    theirs: Mapping[str, Tensor], path: str | Path
) -> tuple[dict[str, Tensor], list[str]]:
    """LAVIS's weights under the names and in the shapes of ``Student.state_dict()``, and the keys
    that have no such name.

    A bare vision encoder (no ``visual_encoder.`` before its names) is cut to the layers that LAVIS
    keeps of it. Raises ``ValueError`` where one weight is there under two names and differs.
    """
    theirs = _whole_names(theirs)
    names = Q_FORMER | (CLIP if _is_clip(theirs) else EVA)
    ours: dict[str, Tensor] = {}
    unknown = []
    for key, weight in _with_joined_biases(theirs).items():
        name = translate(key, names)
        if name is not None:
            ours[name] = weight
        elif not key.endswith("embeddings.position_ids"):  # a buffer: 0, 1, 2 ...
            unknown.append(key)
    if _is_clip(theirs):
        _add_dimensions(ours)
    for one, other in TIED:
        if one in ours and other in ours and not torch.equal(ours[one], ours[other]):
            raise ValueError(
                f"{path}: {lavis_name(one)} and {lavis_name(other)}"
                " should be one weight, and differ"
            )
        if one in ours or other in ours:
            ours[one] = ours[other] = ours.get(one, ours.get(other))
    return ours, unknown


def to_lavis(weights: Mapping[str, Tensor], clip: bool) -> dict[str, Tensor]:
    """The inverse: a student's weights as LAVIS's ``Blip2Qformer``'s; ``clip``: of ViT-L.

    In LAVIS's ViT-G the attention's keys have no bias. A student's own is left out: it adds the
    same to all scores of a query, which the softmax takes away again.
    """
    weights = {**weights, "lm_head.bias": weights["lm_head.decoder.bias"]}
    theirs = {lavis_name(name, clip): weight for name, weight in weights.items()}
    if clip:
        if theirs.pop("visual_encoder.conv1.bias").any():
            raise ValueError("CLIP's patch embedding has no bias, and this student's has one")
        theirs["visual_encoder.class_embedding"] = theirs["visual_encoder.class_embedding"][0, 0]
        theirs["visual_encoder.positional_embedding"] = theirs[
            "visual_encoder.positional_embedding"
        ][0]
    for key in [k for k in theirs if k.endswith(".attn.qkv.bias")]:
        theirs[key.replace("qkv.bias", "q_bias")], _, theirs[key.replace("qkv.bias", "v_bias")] = (
            theirs.pop(key).chunk(3)
        )
    return theirs


def translate(key: str, names: Mapping[str, str]) -> str | None:
    """The name of ``key`` on the other side of a table; None where it has none.

    >>> translate("blocks.3.norm.weight", {"blocks.#.norm.": "layers.#.layer_norm."})
    'layers.3.layer_norm.weight'
    """
    number = re.search(r"\.(\d+)\.", key)
    pattern = key.replace(number[0], ".#.", 1) if number else key
    for one, other in names.items():
        if pattern == one or (one[-1] in "._" and pattern.startswith(one)):
            found = other + pattern[len(one) :]
            return found.replace("#", number[1]) if number else found
    return None


def lavis_name(name: str, clip: bool = False) -> str:
    """LAVIS's key of one of a student's weights.

    >>> lavis_name("blip2.vision_model.encoder.layers.3.layer_norm1.weight")
    'visual_encoder.blocks.3.norm1.weight'
    """
    names = Q_FORMER | (CLIP if clip else EVA)
    return translate(name, {ours: theirs for theirs, ours in names.items()}) or name


def _is_clip(theirs: Mapping[str, Tensor]) -> bool:
    return "visual_encoder.positional_embedding" in theirs


def _whole_names(theirs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    layers = next(
        (name for name in DEPTH if any(key.startswith(f"{name}.0.") for key in theirs)), None
    )
    if layers is None:
        return dict(theirs)
    beyond = re.compile(rf"{re.escape(layers)}\.(\d+)\.")
    kept = {
        k: w
        for k, w in theirs.items()
        if not ((m := beyond.match(k)) and int(m[1]) >= DEPTH[layers])
    }
    return {f"visual_encoder.{key}": weight for key, weight in kept.items()}


def _with_joined_biases(theirs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """EVA's attention has biases for queries and values; Hugging Face's has one for all three."""
    joined = dict(theirs)
    for key in [
        k for k in theirs if k.endswith(".attn.q_bias") and k.replace("q_bias", "v_bias") in theirs
    ]:
        query, value = joined.pop(key), joined.pop(key.replace("q_bias", "v_bias"))
        joined[key.replace("q_bias", "qkv.bias")] = torch.cat(
            [query, torch.zeros_like(query), value]
        )
    return joined


def _add_dimensions(ours: dict[str, Tensor]) -> None:
    """CLIP's embeddings without a batch dimension, its patches without a bias -> as Hugging
    Face's class has them.
    """
    embeddings = "blip2.vision_model.embeddings."
    ours[POSITION] = ours[POSITION][None]
    if (name := embeddings + "class_embedding") in ours:
        ours[name] = ours[name][None, None]
    if (name := embeddings + "patch_embedding.weight") in ours:
        ours[embeddings + "patch_embedding.bias"] = ours[name].new_zeros(len(ours[name]))
