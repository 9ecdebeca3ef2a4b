"""Generative students: BLIP-2 with a language model answers in words (LSKD, section 4.3).

The paper trains BLIP-2 FlanT5-XXL and Mini-GPT4. Both are one network: a frozen vision encoder, a
Q-Former, a projection, and a frozen language model that reads the projected queries as words. Given
the highlighted image and the question it learns to say "Answer: ... Rationale: ...", by the
language-model loss on these words alone. Query tokens, Q-Former and projection are trained; LoRA
adapters (Hu et al. 2021) in the language model too, where ``lora_rank`` is given.

``training/generative.py`` trains it. Run with tiny random models in the real layouts; with the
published ones, on a GPU in bf16, not yet.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import Blip2ForConditionalGeneration, PreTrainedTokenizerBase
from transformers.modeling_layers import GradientCheckpointingLayer

from lskd_nb.students.blip2 import autocast
from lskd_nb.students.bridge import freeze_all_but_the_bridge, place_image_token
from lskd_nb.students.views import FrozenFeatures, View

IMAGE = "<ImageHere>"  # where the projected queries stand in a prompt
BLIP2_PROMPT = IMAGE + "{}"
MINI_GPT4_PROMPT = "###Human: <Img>" + IMAGE + "</Img> {} ###Assistant: "
MINI_GPT4_END = "###"


class GenerativeStudent(nn.Module):
    """A BLIP-2 with a language model; one with LLaMA or Vicuna is asked in Mini-GPT4's words.

    ``max_tokens`` cuts what it is taught to say.
    """

    def __init__(
        self,
        blip2: Blip2ForConditionalGeneration,
        tokenizer: PreTrainedTokenizerBase,
        max_tokens: int = 128,
    ):
        super().__init__()
        self.blip2, self.tokenizer, self.max_tokens = blip2, tokenizer, max_tokens
        self.decoder_only = blip2.config.use_decoder_only_language_model
        mini_gpt4 = blip2.config.text_config.model_type == "llama"
        self.prompt, self.end = (
            (MINI_GPT4_PROMPT, MINI_GPT4_END) if mini_gpt4 else (BLIP2_PROMPT, "")
        )
        self.image_token = place_image_token(blip2, tokenizer)
        freeze_all_but_the_bridge(blip2)

    @property
    def image_size(self) -> int:
        return self.blip2.config.vision_config.image_size

    @property
    def device(self) -> torch.device:
        return self.blip2.query_tokens.device

    def train(self, mode: bool = True) -> "GenerativeStudent":
        """The vision encoder and the language model are frozen: they stay in evaluation mode."""
        super().train(mode)
        self.blip2.vision_model.eval()
        self.blip2.language_model.eval()
        return self

    @torch.no_grad()
    def encode_images(self, pixels: Tensor) -> Tensor:
        """(B, 3, S, S) normalised pixels -> (B, P, D) features of the frozen vision encoder."""
        return self.blip2.vision_model(pixels).last_hidden_state

    def embed(self, image: Tensor, ids: Tensor) -> Tensor:
        """(B, patches + 1, width) features and (B, L) ids -> (B, L, hidden) input of the
        language model, projected queries in the image's places.
        """
        queries = self.blip2.query_tokens.expand(len(image), -1, -1)
        seen = self.blip2.qformer(
            query_embeds=queries, encoder_hidden_states=image.to(queries.dtype)
        ).last_hidden_state
        words = self.blip2.language_model.get_input_embeddings()(ids)
        return words.masked_scatter(
            (ids == self.image_token)[..., None],
            self.blip2.language_projection(seen).to(words.dtype),
        )

    def prompt_ids(self, question: str) -> list[int]:
        """Ids of the prompt, the image's places among them."""
        before, after = self.prompt.split(IMAGE)
        places = [self.image_token] * self.blip2.query_tokens.shape[1]
        said = after.format(question)
        if not before:
            return places + self._word_ids(said, add_special_tokens=True)
        start = [] if self.tokenizer.bos_token_id is None else [self.tokenizer.bos_token_id]
        # in pieces, as Mini-GPT4 has it
        return [*start, *self._word_ids(before), *places, *self._word_ids(said)]

    def target_ids(self, text: str) -> tuple[list[int], bool]:
        """Ids of what is to be said, its end mark last, and whether it was cut at ``max_tokens``
        (then its end is not taught).
        """
        spaced = f" {text}" if self.decoder_only and not self.end else text
        ids = [*self._word_ids(spaced + self.end), self.end_token]
        return ids[: self.max_tokens], len(ids) > self.max_tokens

    @property
    def end_token(self) -> int:
        """The language model's own end mark; a line break for BLIP-2's OPT."""
        end = self.blip2.language_model.generation_config.eos_token_id
        return end[0] if isinstance(end, list) else end

    def _word_ids(self, text: str, add_special_tokens: bool = False) -> list[int]:
        """Ids of a text, without places for images, whatever the text says."""
        return [
            i
            for i in self.tokenizer(text, add_special_tokens=add_special_tokens).input_ids
            if i != self.image_token
        ]

    def loss(self, image: Tensor, questions: Sequence[str], targets: Sequence[str]) -> Tensor:
        """Mean cross entropy of the targets' tokens and end marks, after image and question."""
        prompts = [self.prompt_ids(q) for q in questions]
        told = [self.target_ids(t)[0] for t in targets]
        if self.decoder_only:
            ids = _padded([p + t for p, t in zip(prompts, told, strict=True)], 0, self.device)
            mask = _padded(
                [[1] * (len(p) + len(t)) for p, t in zip(prompts, told, strict=True)],
                0,
                self.device,
            )
            labels = _padded(
                [[-100] * len(p) + t for p, t in zip(prompts, told, strict=True)], -100, self.device
            )
        else:
            ids = _padded(prompts, 0, self.device)
            mask = _padded([[1] * len(p) for p in prompts], 0, self.device)
            labels = _padded(told, -100, self.device)
        return self.blip2.language_model(
            inputs_embeds=self.embed(image, ids),
            attention_mask=mask,
            labels=labels,
            use_cache=False,
        ).loss

    @torch.no_grad()
    def generate(
        self, image: Tensor, questions: Sequence[str], max_new_tokens: int = 128, beams: int = 1
    ) -> list[str]:
        """What it answers, greedily or by beam search; texts as generated, less end marks."""
        prompts = [self.prompt_ids(q) for q in questions]
        ids, mask = (
            _padded(rows, 0, self.device, left=self.decoder_only)
            for rows in (prompts, [[1] * len(p) for p in prompts])
        )
        stop = dict(stop_strings=[self.end], tokenizer=self.tokenizer) if self.end else {}
        pad = self.end_token if self.tokenizer.pad_token_id is None else self.tokenizer.pad_token_id
        out = self.blip2.language_model.generate(
            inputs_embeds=self.embed(image, ids),
            attention_mask=mask,
            max_new_tokens=max_new_tokens,
            num_beams=beams,
            do_sample=False,
            pad_token_id=pad,
            **stop,
        )
        texts = self.tokenizer.batch_decode(out, skip_special_tokens=True)
        return [" ".join((t.split(self.end)[0] if self.end else t).split()) for t in texts]

    def save(self, folder: str | Path) -> None:
        """Write the whole model in Hugging Face's layout, adapters merged into the language
        model (this ends the training).
        """
        if hasattr(self.blip2.language_model, "merge_and_unload"):
            self.blip2.language_model = self.blip2.language_model.merge_and_unload()
        self.blip2.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)


def _padded(
    rows: Sequence[list[int]], value: int, device: torch.device, left: bool = False
) -> Tensor:
    longest = max(map(len, rows))
    filled = [
        [value] * (longest - len(r)) + r if left else r + [value] * (longest - len(r)) for r in rows
    ]
    return torch.tensor(filled, device=device)


def add_lora(student: GenerativeStudent, rank: int, alpha: int) -> None:
    """LoRA adapters beside every linear layer of the language model but its head.

    Raises ``ImportError`` without peft.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise ImportError("LoRA needs peft: pip install peft") from error
    adapters = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules="all-linear")
    student.blip2.language_model = get_peft_model(student.blip2.language_model, adapters).eval()


def checkpoint_layers(language_model: nn.Module) -> None:
    """Keep only what goes into each layer for the way back, and compute the rest again there.

    The layers are frozen and in evaluation mode, where Hugging Face's own switch does nothing; yet
    what is trained lies before them, or as adapters within them, so their insides are what fills
    the memory. Raises ``ValueError`` for a language model without layers to tell apart.
    """
    layers = [m for m in language_model.modules() if isinstance(m, GradientCheckpointingLayer)]
    if not layers:
        raise ValueError(
            f"{type(language_model).__name__} has no layers to checkpoint: train it without"
            " gradient_checkpointing, in more parts (accumulation)"
        )
    for layer in layers:
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)


# ------------------------------------------------------------------------------------------- asking


@torch.no_grad()
def answer(
    student: GenerativeStudent,
    image_root: str | Path,
    views: Sequence[View],
    questions: Sequence[str],
    batch: int = 32,
    max_new_tokens: int = 128,
    beams: int = 1,
    view_store: str | Path | None = None,
) -> list[str]:
    """What the student says to each question about its view, with the view's regions drawn;
    "Answer: ... Rationale: ..." once it is trained.

    Questions of like length are asked together, ``batch`` at a time. Raises ``ValueError`` unless
    there is one question for each view.
    """
    if len(views) != len(questions):
        raise ValueError(f"{len(views)} views and {len(questions)} questions: expected as many")
    student.eval()
    frozen, texts = FrozenFeatures(student, image_root, view_store), [""] * len(questions)
    order = sorted(range(len(questions)), key=lambda n: len(questions[n]))
    for start in range(0, len(order), batch):
        part = order[start : start + batch]
        with autocast(student.device):
            said = student.generate(
                frozen.features([views[n] for n in part]),
                [questions[n] for n in part],
                max_new_tokens,
                beams,
            )
        for n, text in zip(part, said, strict=True):
            texts[n] = text
    return texts
