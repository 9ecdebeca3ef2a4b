"""One pass of BLIP-2's Q-Former over several texts of each image.

The same weights and the same numbers as Hugging Face's ``Blip2QFormerModel``, arranged for many
texts about few images: in cross-attention every query token looks at the image by itself, so the
queries of all texts of an image can stand side by side, and the image's keys and values are
computed once, not once for each text.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


@dataclass(frozen=True)
class ImageKeysValues:
    """What the queries of each layer may look at: keys and values (B, patches, hidden); None for
    layers that do not look.
    """

    layers: tuple[tuple[Tensor, Tensor] | None, ...]

    def __len__(self) -> int:
        return len(next(pair for pair in self.layers if pair)[0])


def image_keys_values(qformer: nn.Module, image: Tensor) -> ImageKeysValues:
    """Keys and values of (B, patches, width) image features, for any number of passes that look at
    the same images.

    Features are kept in bf16 whatever the model computes in; here they take its type, or
    autocast's.
    """
    if not torch.is_autocast_enabled(image.device.type):
        image = image.to(qformer.dtype)
    blocks = (
        layer.crossattention.attention if layer.has_cross_attention else None
        for layer in qformer.encoder.layer
    )
    return ImageKeysValues(
        tuple(
            (block.key(image), block.value(image)) if block is not None else None
            for block in blocks
        )
    )


def run_qformer(
    qformer: nn.Module,
    embeddings: Tensor,
    mask: Tensor | None,
    queries: int,
    image: Tensor | ImageKeysValues | None,
) -> Tensor:
    """(R, S, hidden) embeddings, the first ``queries`` of S being query tokens -> (R, S, hidden)
    outputs.

    ``mask``: (R, 1, S, S) bool, True where a row may look; None: everywhere. ``image``: (B,
    patches, width) with R a multiple of B, rows grouped by image, or what ``image_keys_values`` made of it;
    None without queries. Where ``qformer.gradient_checkpointing`` is set, each layer is computed
    again in the backward pass instead of keeping what is inside it.
    """
    seen_image = image_keys_values(qformer, image) if isinstance(image, Tensor) else image
    hidden = qformer.dropout(qformer.layernorm(embeddings))
    again = getattr(qformer, "gradient_checkpointing", False) and torch.is_grad_enabled()
    for number, layer in enumerate(qformer.encoder.layer):
        looked = seen_image.layers[number] if queries and layer.has_cross_attention else None
        hidden = (
            checkpoint(_through, layer, hidden, mask, queries, looked, use_reentrant=False)
            if again
            else _through(layer, hidden, mask, queries, looked)
        )
    return hidden


def _through(
    layer: nn.Module,
    hidden: Tensor,
    mask: Tensor | None,
    queries: int,
    looked: tuple[Tensor, Tensor] | None,
) -> Tensor:
    """One layer; ``looked`` are the keys and values of the images, None where it does not look
    at them.
    """
    own = layer.attention.attention
    seen = _attend(own, own.query(hidden), own.key(hidden), own.value(hidden), mask)
    hidden = layer.attention.output(seen, hidden)
    if not queries:
        return layer.output(layer.intermediate(hidden), hidden)
    asking = hidden[:, :queries]
    if looked:
        asking = _look(layer.crossattention, asking, *looked)
    asking = layer.output_query(layer.intermediate_query(asking), asking)
    if hidden.shape[1] > queries:
        words = hidden[:, queries:]
        asking = torch.cat([asking, layer.output(layer.intermediate(words), words)], dim=1)
    return asking


def _look(block: nn.Module, asking: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Cross-attention of (R, Q, hidden) query tokens to the keys and values of B images."""
    rows, queries, width = asking.shape
    side_by_side = asking.reshape(len(keys), rows // len(keys) * queries, width)
    seen = _attend(block.attention, block.attention.query(side_by_side), keys, values, None)
    return block.output(seen.reshape(rows, queries, width), asking)


def _attend(
    attention: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None
) -> Tensor:
    """Multi-head attention of projected inputs, (N, S, hidden) each."""
    heads = attention.num_attention_heads
    query, key, value = (
        t.view(len(t), t.shape[1], heads, -1).transpose(1, 2) for t in (query, key, value)
    )
    dropout = attention.attention_dropout if attention.training else 0.0
    if query.device.type == "cuda":
        found = F.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, dropout_p=dropout, scale=attention.scaling
        )
    else:  # the CPU's fused attention has a backward pass several times slower than the plain one
        scores = query @ key.transpose(-1, -2) * attention.scaling
        if mask is not None:
            scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
        found = F.dropout(scores.softmax(-1), dropout) @ value
    return found.transpose(1, 2).flatten(2)
