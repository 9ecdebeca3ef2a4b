"""The models that speak about images: BLIP-2 with a language model, and a generator of questions,
by hub name or folder.

``PromptedBlip2`` loads a BLIP-2 with OPT (decoder only) or FLAN-T5 (encoder and decoder), for
captions, regions and answers alike: the queries' outputs come first, a prompt follows, and the
language model goes on (BLIP-2, Li et al. 2023, section 3.3). The mini world's models are of these
classes. Checkpoints from the hub, in bf16 on a GPU, have not been run here.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lskd_nb.students.blip2 import autocast, pixels
from lskd_nb.students.bridge import after_the_image, place_image_token
from lskd_nb.students.loading import load_model, version_of


@dataclass(frozen=True)
class Verbalizers:
    """Which models speak, by hub name or folder; None leaves that descriptor out."""

    clip: str | None = None
    captioner: str | None = None
    region_captioner: str | None = None
    question_generator: str | None = None
    vqa: str | None = None
    narrator: str | None = None  # a captioner finetuned on Localized Narratives


def verbalizers_under(root: str | Path, **names: str) -> Verbalizers:
    """Models by their descriptors: each name is a folder below ``root``, or else one of the hub;
    an empty name leaves its descriptor out.
    """
    return Verbalizers(
        **{
            descriptor: str(Path(root) / name) if name and (Path(root) / name).is_dir() else name
            for descriptor, name in names.items()
            if name
        }
    )


@dataclass(frozen=True)
class Settings:
    """How they speak.

    ``region_view`` is "highlight" (the box drawn in the first colour) or "crop" (with a margin).
    """

    vocabularies: str = str(Path(__file__).parent / "vocabularies")
    top: tuple[int, int, int] = (1, 4, 2)  # places, objects, concepts kept
    caption_prompt: str = ""
    region_prompt: str = ""
    region_view: str = "highlight"
    vqa_prompt: str = "Question: {} Answer:"
    questions: int = 3
    max_new_tokens: int = 32
    temperature: float = 0.0  # 0: greedy
    batch: int = 128
    seed: int = 0
    narrative_prompt: str = ""
    narrative_tokens: int = 96  # a narrative is some 40 words long
    # what the question generator is asked, before what is known or, at {words}, around it; empty:
    # the words alone, for a generator that was trained on them
    question_prompt: str = ""
    cache: str | None = None  # folder of the vocabularies' text features; None: beside the output


PROMPTS = ("caption", "region", "narrative", "question")


def prompt_settings(prompts: Mapping[str, str]) -> dict[str, str]:
    """Prompts by what they ask for, as fields of ``Settings``; those not given are empty.

    Raises ``ValueError`` naming one that nothing reads.

    >>> prompt_settings({"caption": "a photo of"})
    {'caption_prompt': 'a photo of'}
    """
    unknown = sorted(set(prompts) - set(PROMPTS))
    if unknown:
        raise ValueError(f"prompts has {unknown[0]!r}; expected some of {', '.join(PROMPTS)}")
    return {f"{name}_prompt": text for name, text in prompts.items()}


class PromptedBlip2:
    """A BLIP-2 with a language model: a prompt and an image in, words out."""

    def __init__(self, name: str, device: torch.device):
        from transformers import AutoTokenizer, Blip2ForConditionalGeneration

        self.name, self.device = name, device
        self.model = load_model(Blip2ForConditionalGeneration, name, device)
        self.version = version_of(name, self.model)
        self.tokenizer = AutoTokenizer.from_pretrained(name)
        self.tokenizer.padding_side = prompt_padding_side(self.model, self.tokenizer)
        place_image_token(self.model, self.tokenizer)

    @torch.no_grad()
    def __call__(
        self, images: Sequence[Image.Image], prompts: Sequence[str], settings: Settings
    ) -> list[tuple[str, float]]:
        """(text, probability of the text) for each image and prompt."""
        shown = pixel_batch(images, self.model.config.vision_config.image_size).to(self.device)
        inputs = self.tokenizer(list(prompts), padding=True, return_tensors="pt").to(self.device)
        ids, mask = after_the_image(self.model, inputs.input_ids, inputs.attention_mask)
        with autocast(self.device):
            out = self.model.generate(
                pixel_values=shown,
                input_ids=ids,
                attention_mask=mask,
                return_dict_in_generate=True,
                output_logits=True,
                **_sampling(settings),
            )
        return _spoken(self.tokenizer, out, self.model.config.text_config.is_encoder_decoder)


class QuestionGenerator:
    """A text-to-text model that turns what is known of an image into a question about it."""

    def __init__(self, name: str, device: torch.device):
        from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

        self.name, self.device = name, device
        self.model = load_model(AutoModelForSeq2SeqLM, name, device)
        self.version = version_of(name, self.model)
        self.tokenizer = AutoTokenizer.from_pretrained(name)

    @torch.no_grad()
    def __call__(self, contexts: Sequence[str], settings: Settings) -> list[list[str]]:
        """Up to ``settings.questions`` different questions for each context, by beam search."""
        asked = [request_to_ask(settings.question_prompt, words) for words in contexts]
        inputs = self.tokenizer(asked, padding=True, truncation=True, return_tensors="pt").to(
            self.device
        )
        number = settings.questions
        with autocast(self.device):
            out = self.model.generate(
                input_ids=inputs.input_ids,
                attention_mask=inputs.attention_mask,
                num_beams=max(number, 1),
                num_return_sequences=number,
                do_sample=False,
                max_new_tokens=settings.max_new_tokens,
            )
        texts = [t.strip() for t in self.tokenizer.batch_decode(out, skip_special_tokens=True)]
        return [
            list(dict.fromkeys(filter(None, texts[i : i + number])))
            for i in range(0, len(texts), number)
        ]


def request_to_ask(prompt: str, words: str) -> str:
    """What a question generator reads: the words about an image, and what to make of them.

    >>> request_to_ask("Ask a question about this image: {words}", "a dog")
    'Ask a question about this image: a dog'
    >>> request_to_ask("Ask a question.", "a dog"), request_to_ask("", "a dog")
    ('Ask a question. a dog', 'a dog')
    """
    if "{words}" in prompt:
        return prompt.replace("{words}", words)
    return f"{prompt} {words}" if prompt else words


# ----------------------------------------------------------------------------------- BLIP-2's input


def prompt_padding_side(model, tokenizer) -> str:
    """Where prompts of one batch are filled up, so that an answer does not depend on the others in
    its batch.

    T5 counts the words between, hence its prompts directly follow the image; a decoder goes on from
    the last place, so there its prompts end. The mini world's T5 is used as its other figures were
    made: its tokenizer is BERT's, with [CLS], and fills up on the left.
    """
    if model.config.text_config.is_encoder_decoder and tokenizer.cls_token is None:
        return "right"
    return "left"


def _sampling(settings: Settings) -> dict:
    torch.manual_seed(settings.seed)
    common = dict(max_new_tokens=settings.max_new_tokens, num_beams=1)
    if settings.temperature > 0:
        return common | dict(do_sample=True, temperature=settings.temperature)
    return common | dict(do_sample=False)


def _spoken(tokenizer, out, encoder_decoder: bool) -> list[tuple[str, float]]:
    """Texts and probabilities from generated ids and logits (decoder-only: after the prompt)."""
    new = out.sequences[:, 1:] if encoder_decoder else out.sequences[:, -len(out.logits) :]
    log_probability = torch.stack(out.logits, 1).float().log_softmax(-1)
    picked = log_probability.gather(-1, new[:, : log_probability.shape[1], None]).squeeze(-1)
    counted = new[:, : picked.shape[1]] != tokenizer.pad_token_id
    totals = (picked * counted).sum(1).exp().tolist()
    texts = tokenizer.batch_decode(new, skip_special_tokens=True)
    return [(" ".join(t.split()), p) for t, p in zip(texts, totals, strict=True)]


def pixel_batch(images: Sequence[Image.Image], size: int, prepare=None) -> Tensor:
    """(N, 3, size, size) float32: prepared by ``prepare``, a processor of the model's, else
    resized to a square as BLIP-2 has it.
    """
    if prepare is not None:
        return prepare(images=list(images), return_tensors="pt").pixel_values
    with ThreadPoolExecutor(2) as readers:  # resizing releases Python's lock
        return torch.from_numpy(
            np.stack(list(readers.map(lambda image: pixels(image, size), images)))
        )
