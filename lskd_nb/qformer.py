"""One pass of BLIP-2's Q-Former over several texts of each image.

The same weights and the same numbers as Hugging Face's ``Blip2QFormerModel``, arranged for many texts about few images: in
cross-attention every query token looks at the image by itself, so the queries of all texts of an image can stand side by side,
and the image's keys and values are computed once, not once for each text.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def run_qformer(qformer: nn.Module, embeddings: Tensor, mask: Tensor | None, queries: int, image: Tensor | None) -> Tensor:
    """(R, S, hidden) embeddings, the first ``queries`` of S being query tokens -> (R, S, hidden) outputs.

    ``mask``: (R, 1, S, S) bool, True where a row may look; None: everywhere. ``image``: (B, patches, width) with R a multiple of
    B, rows grouped by image; None without queries.
    """
    hidden = qformer.dropout(qformer.layernorm(embeddings))
    for layer in qformer.encoder.layer:
        own = layer.attention.attention
        seen = _attend(own, own.query(hidden), own.key(hidden), own.value(hidden), mask)
        hidden = layer.attention.output(seen, hidden)
        if not queries:
            hidden = layer.output(layer.intermediate(hidden), hidden)
            continue
        asking = hidden[:, :queries]
        if layer.has_cross_attention:
            asking = _look(layer.crossattention, asking, image)
        asking = layer.output_query(layer.intermediate_query(asking), asking)
        if hidden.shape[1] > queries:
            words = hidden[:, queries:]
            asking = torch.cat([asking, layer.output(layer.intermediate(words), words)], dim=1)
        hidden = asking
    return hidden


def _look(block: nn.Module, asking: Tensor, image: Tensor) -> Tensor:
    """Cross-attention of (R, Q, hidden) query tokens to their (B, P, width) images."""
    rows, queries, width = asking.shape
    side_by_side = asking.reshape(len(image), rows // len(image) * queries, width)
    cross = block.attention
    seen = _attend(cross, cross.query(side_by_side), cross.key(image), cross.value(image), None)
    return block.output(seen.reshape(rows, queries, width), asking)


def _attend(attention: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """Multi-head attention of projected inputs, (N, S, hidden) each."""
    heads = attention.num_attention_heads
    query, key, value = (t.view(len(t), t.shape[1], heads, -1).transpose(1, 2) for t in (query, key, value))
    dropout = attention.attention_dropout if attention.training else 0.0
    if query.device.type == "cuda":
        found = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout, scale=attention.scaling)
    else:  # the CPU's fused attention has a backward pass several times slower than the plain one
        scores = query @ key.transpose(-1, -2) * attention.scaling
        if mask is not None:
            scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
        found = F.dropout(scores.softmax(-1), dropout) @ value
    return found.transpose(1, 2).flatten(2)
