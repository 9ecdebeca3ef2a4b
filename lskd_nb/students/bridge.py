"""BLIP-2's bridge to a frozen language model (Li et al. 2023, section 3.3): an image among words.

The Q-Former's query outputs, projected to the width of the language model, take the places of a
special token in its input. The bridge, which is query tokens, Q-Former and projection, is what is
trained.
"""

import torch
from torch import Tensor

IMAGE_TOKEN = "<image>"


def place_image_token(model, tokenizer) -> int:
    """The token id that holds the places of the queries' outputs, given to a model without one.

    Checkpoints from before transformers 4.46 name none: "<image>" is appended to the tokenizer
    then, as ``Blip2Processor`` does. The embeddings of OPT and T5 have spare rows behind the
    tokenizer's last word; where there is none, one is added. Raises ``ValueError`` where the
    model's id is an ordinary word of the tokenizer: the two do not belong together.
    """
    from tokenizers import AddedToken

    config = model.config
    if config.image_token_id is None:
        tokenizer.add_tokens(
            [AddedToken(IMAGE_TOKEN, normalized=False, special=True)], special_tokens=True
        )
        config.image_token_id = tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
    found = config.image_token_id
    if found < len(tokenizer) and found not in (
        *tokenizer.all_special_ids,
        tokenizer.convert_tokens_to_ids(IMAGE_TOKEN),
    ):
        word = tokenizer.convert_ids_to_tokens(found)
        raise ValueError(
            f"{config.name_or_path}: image_token_index {found} is the word {word!r}"
            f" of its tokenizer, expected {IMAGE_TOKEN!r}"
        )
    if found >= model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(found + 1)
    return found


def after_the_image(model, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Token ids and mask (N, L) behind the image's places: (N, queries + L) each."""
    places = ids.new_full((len(ids), model.query_tokens.shape[1]), model.config.image_token_id)
    return torch.cat([places, ids], dim=1), torch.cat([torch.ones_like(places), mask], dim=1)


def freeze_all_but_the_bridge(model) -> None:
    """Of a BLIP-2, train what lies between vision encoder and language model: query tokens,
    Q-Former and projection, in float32.
    """
    model.requires_grad_(False)
    model.query_tokens.data = model.query_tokens.data.float()
    model.query_tokens.requires_grad_(True)
    for part in (model.qformer, model.language_projection):
        part.float().requires_grad_(True).train()
