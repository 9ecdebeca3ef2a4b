"""Mini-GPT4 (Zhu et al. 2023), put together from its published parts.

It is the vision encoder and Q-Former of BLIP-2 FlanT5-XXL (``Salesforce/blip2-flan-t5-xxl``), the
language model Vicuna v0 (LLaMA's licence), and one linear layer between the two that Mini-GPT4
trained: ``prerained_minigpt4_7b.pth`` and ``pretrained_minigpt4.pth`` (13B; BSD-3-Clause) hold
``{"model": {"llama_proj.weight", "llama_proj.bias"}}``. Hugging Face's BLIP-2 takes a LLaMA as its
language model, so the whole is one more BLIP-2 and is saved and loaded as such. Not run with the
published files, only with random ones in their layout.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    Blip2Config,
    Blip2ForConditionalGeneration,
)
from transformers.utils import logging

from lskd_nb.students.blip2 import dtype_of
from lskd_nb.students.generative import GenerativeStudent
from lskd_nb.students.lavis_weights import check_numbers, read_checkpoint

# Mini-GPT4's names to Hugging Face's
PROJECTION_KEYS = {"llama_proj.weight": "weight", "llama_proj.bias": "bias"}


def mini_gpt4(
    blip2: str,
    language_model: str,
    projection: str | Path | None,
    max_tokens: int = 128,
    device: torch.device | None = None,
) -> GenerativeStudent:
    """Mini-GPT4 from a BLIP-2 (less its language model), a LLaMA or Vicuna, its own checkpoint.

    Without ``projection`` a fresh one is trained. Raises ``ValueError`` naming the file, keys and
    shapes where a checkpoint does not fit.
    """
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    text = AutoConfig.from_pretrained(language_model)
    if text.model_type != "llama":
        raise ValueError(
            f"{language_model} is a {text.model_type!r} model;"
            " expected llama, of which Vicuna is one"
        )
    old = Blip2Config.from_pretrained(blip2)
    # Vicuna takes this place below
    hollow = text.to_dict() | dict(num_hidden_layers=0, vocab_size=8, pad_token_id=None)
    config = Blip2Config(
        vision_config=old.vision_config.to_dict(),
        qformer_config=old.qformer_config.to_dict(),
        text_config=hollow,
        num_query_tokens=old.num_query_tokens,
    )
    with _quiet():  # it would list the whole language model as left out
        model, told = Blip2ForConditionalGeneration.from_pretrained(
            blip2,
            config=config,
            dtype=dtype_of(device),
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    if missing := sorted(
        k
        for k in told["missing_keys"]
        if not k.startswith(("language_model.", "language_projection."))
    ):
        raise ValueError(
            f"{blip2} lacks {missing[0]} and {len(missing) - 1} more:"
            " expected a BLIP-2 with a language model"
        )
    model.language_model = AutoModelForCausalLM.from_pretrained(
        language_model, dtype=dtype_of(device)
    )
    model.config.text_config = model.language_model.config
    model.language_projection.reset_parameters()
    if projection is not None:
        model.language_projection.load_state_dict(
            read_projection(projection, tuple(model.language_projection.weight.shape))
        )
    check_numbers(dict(model.named_parameters()), f"{blip2} with {language_model}")
    return GenerativeStudent(
        model.to(device), AutoTokenizer.from_pretrained(language_model), max_tokens
    ).eval()


@contextmanager
def _quiet() -> Iterator[None]:
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def read_projection(path: str | Path, shape: tuple[int, int]) -> dict[str, Tensor]:
    """Weight and bias of Mini-GPT4's projection, (language model's width, Q-Former's width) and
    (language model's width,).

    Nothing but tensors is unpickled. Raises ``ValueError`` naming missing keys, or a key with its
    shape and the one expected, and as ``read_checkpoint``.
    """
    weights, _ = read_checkpoint(path)
    if missing := sorted(set(PROJECTION_KEYS) - set(weights)):
        raise ValueError(
            f"{path} lacks {missing}; it has {sorted(weights)[:8]}. Expected Mini-GPT4's own"
            " checkpoint, of version 1: prerained_minigpt4_7b.pth or pretrained_minigpt4.pth"
        )
    if unknown := sorted(set(weights) - set(PROJECTION_KEYS)):
        raise ValueError(f"{path} has weights beside Mini-GPT4's projection: {unknown[:8]}")
    expected = {"weight": shape, "bias": shape[:1]}
    for key, name in PROJECTION_KEYS.items():
        if tuple(weights[key].shape) != expected[name]:
            raise ValueError(
                f"{path}: {key} is {tuple(weights[key].shape)}, expected {expected[name]}: that of"
                " the 7B model goes with Vicuna 7B, that of the 13B with Vicuna 13B"
            )
    return {name: weights[key].float() for key, name in PROJECTION_KEYS.items()}
