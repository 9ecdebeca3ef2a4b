"""One pass of BLIP-2's Q-Former over several texts of each image.

The same weights and the same numbers as Hugging Face's ``Blip2QFormerModel``, arranged for many
texts about few images: in cross-attention every query token looks at the image by itself, so the
queries of all texts of an image can stand side by side, and the image's keys and values are
computed once, not once for each text.

    rows_RTH   R texts about B images, R / B of each; the first Q of T are query tokens
        | each layer:
        |   self-attention within a row, by the mask       (R, T, H)
        |   queries side by side, R x Q -> B x (R / B · Q)  (B, R / B · Q, H)
        |   cross-attention to keys_BPH, values_BPH        (R, Q, H) again
        v
    hidden_RTH                                             letters as in ``blip2``
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


@dataclass(frozen=True)
class ImageKeysValues:
    """What the queries of each layer may look at: (B, P, H) keys and values, None in some layers.

    None stands for layers that do not look.
    """

    layers: tuple[tuple[Tensor, Tensor] | None, ...]

    def __len__(self) -> int:
        return len(next(pair for pair in self.layers if pair)[0])


def image_keys_values(qformer: nn.Module, image: Tensor) -> ImageKeysValues:
    """Keys and values of (B, P, D) image features, for any number of passes that look at them.

    Features are kept in bf16 whatever the model computes in; here they take its type, or
    autocast's.
    """
    if not torch.is_autocast_enabled(image.device.type):
        image = image.to(qformer.dtype)
    pairs = []
    for layer in qformer.encoder.layer:
        if layer.has_cross_attention:
            block = layer.crossattention.attention
            pairs.append((block.key(image), block.value(image)))
        else:
            pairs.append(None)
    return ImageKeysValues(tuple(pairs))


def run_qformer(
    qformer: nn.Module,
    embeddings: Tensor,
    mask: Tensor | None,
    queries: int,
    image: Tensor | ImageKeysValues | None,
) -> Tensor:
    """(R, T, H) embeddings, the first ``queries`` of T being query tokens -> (R, T, H) outputs.

    ``mask``: (R, 1, T, T) bool, True where a row may look; None: everywhere. ``image``: (B, P, D)
    with R a multiple of B, rows grouped by image, or what ``image_keys_values`` made of it; None
    without queries. Where ``qformer.gradient_checkpointing`` is set, each layer is computed again
    in the backward pass instead of keeping what is inside it.
    """
    seen_image = image_keys_values(qformer, image) if isinstance(image, Tensor) else image
    hidden_RTH = qformer.dropout(qformer.layernorm(embeddings))
    again = getattr(qformer, "gradient_checkpointing", False) and torch.is_grad_enabled()
    for number, layer in enumerate(qformer.encoder.layer):
        looked = seen_image.layers[number] if queries and layer.has_cross_attention else None
        given = (layer, hidden_RTH, mask, queries, looked)
        if again:
            hidden_RTH = checkpoint(_through, *given, use_reentrant=False)
        else:
            hidden_RTH = _through(*given)
    return hidden_RTH


def _through(
    layer: nn.Module,
    hidden_RTH: Tensor,
    mask_R1TT: Tensor | None,
    queries: int,
    looked: tuple[Tensor, Tensor] | None,
) -> Tensor:
    """One layer; ``looked``: the images' keys and values, None where it does not look at them."""
    own = layer.attention.attention
    projected = (own.query(hidden_RTH), own.key(hidden_RTH), own.value(hidden_RTH))
    seen_RTH = _attend(own, *projected, mask_R1TT)
    hidden_RTH = layer.attention.output(seen_RTH, hidden_RTH)
    if not queries:
        return layer.output(layer.intermediate(hidden_RTH), hidden_RTH)
    queries_RQH, words_RLH = hidden_RTH[:, :queries], hidden_RTH[:, queries:]
    if looked:
        queries_RQH = _look(layer.crossattention, queries_RQH, *looked)
    queries_RQH = layer.output_query(layer.intermediate_query(queries_RQH), queries_RQH)
    if not words_RLH.shape[1]:
        return queries_RQH
    return torch.cat([queries_RQH, layer.output(layer.intermediate(words_RLH), words_RLH)], dim=1)


def _look(block: nn.Module, queries_RQH: Tensor, keys_BPH: Tensor, values_BPH: Tensor) -> Tensor:
    """Cross-attention of the query tokens of R rows to the keys and values of B images."""
    rows, queries, width = queries_RQH.shape
    images = len(keys_BPH)
    side_by_side = queries_RQH.reshape(images, rows // images * queries, width)
    query = block.attention.query(side_by_side)
    seen = _attend(block.attention, query, keys_BPH, values_BPH, None)
    return block.output(seen.reshape(rows, queries, width), queries_RQH)


def _attend(
    attention: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None
) -> Tensor:
    """Multi-head attention of projected inputs: each of (N, any number, H)."""
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
