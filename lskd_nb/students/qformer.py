"""One pass of BLIP-2's Q-Former over several texts of each image, padding left out.

The same weights and the same numbers as Hugging Face's ``Blip2QFormerModel``, arranged for many
texts about few images. In cross-attention every query token looks at the image by itself, so the
queries of all texts of an image can stand side by side, and the image's keys and values are
computed once, not once for each text. Half the tokens of a padded batch are padding: here those
that are none stand end to end, and are padded within a row's attention alone, to the longest of
some rows that are about as long. The last layer computes what its reader wants: the queries for
matching, the words that are to be predicted from for the language model.

    rows_RTH   R texts about B images, R / B of each; the first Q of T are query tokens
        | end to end, without padding: all query tokens, then all words
        v
    hidden_NH
        | each layer:
        |   self-attention within a row, by the mask       (G, heads, T, T) for each G rows
        |   queries side by side, R x Q -> B x (R / B · Q)  (B, R / B · Q, H)
        |   cross-attention to the images' keys and values  (R · Q, H) again
        v
    hidden_WH, W of the N tokens                           letters as in ``blip2``
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

ROWS_TOGETHER = 48  # whose attention is padded to the longest of them; on a GPU all


@dataclass(frozen=True)
class ImageKeysValues:
    """What the queries of each layer may look at: keys and values of B images, by heads.

    They are (B, heads, P, H / heads); None stands for layers that do not look.
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
            pairs.append((_by_heads(block, block.key(image)), _by_heads(block, block.value(image))))
        else:
            pairs.append(None)
    return ImageKeysValues(tuple(pairs))


def run_qformer(
    qformer: nn.Module,
    embeddings: Tensor,
    mask: Tensor | None,
    queries: int,
    image: Tensor | ImageKeysValues | None,
    wanted: Tensor | None = None,
) -> Tensor:
    """(R, T, H) embeddings, the first ``queries`` of T being query tokens -> (W, H) outputs of the
    ``wanted`` tokens: those of the queries, then those of the words, each row by row.

    ``mask``: (R, 1, T or 1, T) bool, True where a row may look; None: everywhere. What nobody sees
    is padding. ``wanted``: (R, T) bool, of the queries all or none; None: all but padding.
    ``image``: (B, P, D) with R a multiple of B, rows grouped by image, or what
    ``image_keys_values`` made of it; None without queries. Where ``qformer.gradient_checkpointing``
    is set, each layer is computed again in the backward pass instead of keeping what is inside it.
    """
    seen_image = image_keys_values(qformer, image) if isinstance(image, Tensor) else image
    if mask is None:
        real_RT = embeddings.new_ones(embeddings.shape[:2], dtype=torch.bool)
    else:
        real_RT = mask.any(2)[:, 0]
    looks = [_looks(real_RT, real_RT, mask, queries)] * len(qformer.encoder.layer)
    if wanted is not None:
        looks[-1] = _looks(wanted, real_RT, mask, queries)
    hidden_NH = embeddings.flatten(0, 1).index_select(0, _end_to_end(real_RT, queries))
    hidden_NH = qformer.dropout(qformer.layernorm(hidden_NH))
    again = getattr(qformer, "gradient_checkpointing", False) and torch.is_grad_enabled()
    for number, layer in enumerate(qformer.encoder.layer):
        looked = seen_image.layers[number] if queries and layer.has_cross_attention else None
        given = (layer, hidden_NH, looks[number], looked)
        if again:
            hidden_NH = checkpoint(_through, *given, use_reentrant=False)
        else:
            hidden_NH = _through(*given)
    return hidden_NH


# --------------------------------------------------------------------------- tokens without padding


@dataclass(frozen=True)
class Alike:
    """G rows of like length: the numbers of their tokens that look, (G, A), and that are seen,
    (G, S), both padded by any, and who may see whom, (G, 1, A or 1, S) bool; None: everybody all.
    """

    looking: Tensor
    seen: Tensor
    mask: Tensor | None


@dataclass(frozen=True)
class Looks:
    """Who looks at whom in a layer that is given N tokens and gives A of them.

    ``asking`` (A,) are their numbers, the first ``queries`` of them query tokens. ``back`` (A,) is
    where each stands among all groups' outputs.
    """

    asking: Tensor
    queries: int
    groups: tuple[Alike, ...]
    back: Tensor


def _looks(asking_RT: Tensor, real_RT: Tensor, mask: Tensor | None, queries: int) -> Looks:
    """How the ``asking`` tokens look at the ``real`` ones of their rows."""
    asking_A, real_N = _end_to_end(asking_RT, queries), _end_to_end(real_RT, queries)
    looking_RT, seen_RT = _numbers(asking_A, asking_RT), _numbers(real_N, real_RT)
    groups, places = [], []
    together = len(real_RT) if real_RT.is_cuda else ROWS_TOGETHER
    for rows_G in real_RT.sum(1).argsort().split(together):
        asking_GA, seen_GS = _true_first(asking_RT[rows_G]), _true_first(real_RT[rows_G])
        sees = None
        if mask is not None:
            sees = mask[rows_G].take_along_dim(seen_GS[:, None, None], 3)
            if mask.shape[2] > 1:
                sees = sees.take_along_dim(asking_GA[:, None, :, None], 2)
        looking_GA = looking_RT[rows_G].take_along_dim(asking_GA, 1)
        groups.append(Alike(looking_GA, seen_RT[rows_G].take_along_dim(seen_GS, 1), sees))
        places.append((rows_G[:, None] * real_RT.shape[1] + asking_GA).flatten())
    back_A = _numbers(torch.cat(places), asking_RT).flatten()[asking_A]
    asking = seen_RT.flatten()[asking_A]
    return Looks(asking, int(asking_RT[:, :queries].sum()), tuple(groups), back_A)


def _end_to_end(chosen_RT: Tensor, queries: int) -> Tensor:
    """Places in R x T of the chosen tokens: query tokens first, then words, each row by row."""
    place_RT = torch.arange(chosen_RT.numel(), device=chosen_RT.device).view(chosen_RT.shape)
    parts = (slice(None, queries), slice(queries, None))
    return torch.cat([place_RT[:, part][chosen_RT[:, part]] for part in parts])


def _numbers(places: Tensor, like_RT: Tensor) -> Tensor:
    """(R, T): which of the tokens at these places stands there; 0 where there is none."""
    numbers = torch.zeros(like_RT.numel(), dtype=torch.long, device=places.device)
    numbers[places] = torch.arange(len(places), device=places.device)
    return numbers.view(like_RT.shape)


def _true_first(chosen_GT: Tensor) -> Tensor:
    """Places of the chosen tokens in each row; behind those of a shorter row, of any others."""
    return (~chosen_GT).byte().argsort(dim=1, stable=True)[:, : int(chosen_GT.sum(1).max())]


# ----------------------------------------------------------------------------------------- a layer


def _through(
    layer: nn.Module, hidden_NH: Tensor, looks: Looks, looked: tuple[Tensor, Tensor] | None
) -> Tensor:
    """One layer; ``looked``: the images' keys and values, None where it does not look at them."""
    own = layer.attention.attention
    asking_AH = hidden_NH.index_select(0, looks.asking)
    query_AH, key_NH, value_NH = own.query(asking_AH), own.key(hidden_NH), own.value(hidden_NH)
    seen = []
    for alike in looks.groups:
        query, key, value = (
            _by_heads(own, tokens_NH.index_select(0, numbers.flatten()).view(*numbers.shape, -1))
            for tokens_NH, numbers in (
                (query_AH, alike.looking),
                (key_NH, alike.seen),
                (value_NH, alike.seen),
            )
        )
        seen.append(_attend(own, query, key, value, alike.mask).flatten(0, 1))
    hidden_AH = layer.attention.output(torch.cat(seen).index_select(0, looks.back), asking_AH)
    queries_QH, words_WH = hidden_AH[: looks.queries], hidden_AH[looks.queries :]
    done = []
    if len(queries_QH):
        if looked:
            queries_QH = _look(layer.crossattention, queries_QH, *looked)
        done.append(layer.output_query(layer.intermediate_query(queries_QH), queries_QH))
    if len(words_WH):
        done.append(layer.output(layer.intermediate(words_WH), words_WH))
    return torch.cat(done)


def _look(block: nn.Module, queries_QH: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Cross-attention of all rows' query tokens to the keys and values of B images."""
    query_BQH = block.attention.query(queries_QH).view(len(keys), -1, queries_QH.shape[1])
    query = _by_heads(block.attention, query_BQH)
    seen_BQH = _attend(block.attention, query, keys, values, None)
    return block.output(seen_BQH.flatten(0, 1), queries_QH)


def _by_heads(attention: nn.Module, projected: Tensor) -> Tensor:
    """(N, any number, H) -> (N, heads, the same number, H / heads)."""
    heads = attention.num_attention_heads
    return projected.unflatten(2, (heads, -1)).transpose(1, 2).contiguous()


def _attend(
    attention: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None
) -> Tensor:
    """Multi-head attention of what ``_by_heads`` made, (N, number of queries, H)."""
    dropout = attention.attention_dropout if attention.training else 0.0
    if query.device.type == "cuda":
        found = F.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, dropout_p=dropout, scale=attention.scaling
        )
    else:  # the CPU's fused attention has a backward pass several times slower in bf16
        scores = query * attention.scaling @ key.transpose(-1, -2)
        if mask is not None:
            lowest = torch.finfo(scores.dtype).min
            scores = scores + torch.where(mask, 0.0, lowest).to(scores.dtype)
        found = F.dropout(scores.softmax(-1), dropout) @ value
    return found.transpose(1, 2).flatten(2)
