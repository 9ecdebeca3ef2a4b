"""The models that speak about images: BLIP-2 with a language model, and a generator of questions,
by hub name or folder.

``PromptedBlip2`` loads a BLIP-2 with OPT (decoder only) or FLAN-T5 (encoder and decoder), for
captions, regions and answers alike: the queries' outputs come first, a prompt follows, and the
language model goes on (BLIP-2, Li et al. 2023, section 3.3). The mini world's models are of these
classes. Checkpoints from the hub, in bf16 on a GPU, have not been run here.

The vision encoder is frozen, and BLIP-2's published checkpoints have the same one. So the way from
an image to words is cut in three, and of one image each part is done once, whoever asks:

    images -> see, the vision encoder -> read, Q-Former and projection -> say, the language model
              once for all models that     once for each model              for each prompt
              have the same one
"""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from lskd_nb.students.blip2 import autocast
from lskd_nb.students.bridge import after_the_image, place_image_token
from lskd_nb.students.loading import load_model, version_of
from lskd_nb.students.views import normalised


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

    @property
    def vision(self) -> nn.Module:
        """The frozen vision encoder, which other models may have too (``share_vision``)."""
        return self.model.vision_model

    @property
    def image_size(self) -> int:
        return self.model.config.vision_config.image_size

    @torch.inference_mode()
    def see(self, images: Sequence[Image.Image]) -> Tensor:
        """(N, P, D) features of the vision encoder."""
        shown = normalised(squares(images, self.image_size).to(self.device))
        with autocast(self.device):
            return self.vision(shown).last_hidden_state

    @torch.inference_mode()
    def read(self, features: Tensor) -> Tensor:
        """(N, Q, W): what stands for each image among the words of the language model."""
        queries = self.model.query_tokens.expand(len(features), -1, -1)
        with autocast(self.device):
            found = self.model.qformer(query_embeds=queries, encoder_hidden_states=features)
            return self.model.language_projection(found.last_hidden_state.to(features.dtype))

    @torch.inference_mode()
    def say(
        self, read: Tensor, prompts: Sequence[str], settings: Settings
    ) -> list[tuple[str, float]]:
        """(text, probability of the text) for each image, as it was read, and prompt."""
        inputs = self.tokenizer(list(prompts), padding=True, return_tensors="pt").to(self.device)
        ids, mask = after_the_image(self.model, inputs.input_ids, inputs.attention_mask)
        with autocast(self.device):
            words = self.model.get_input_embeddings()(inputs.input_ids)
            given = dict(inputs_embeds=torch.cat([read.to(words.dtype), words], dim=1))
            if not self.model.config.text_config.is_encoder_decoder:
                given["input_ids"] = ids
            out = self.model.language_model.generate(
                **given,
                attention_mask=mask,
                return_dict_in_generate=True,
                output_logits=True,
                **_sampling(settings),
            )
        return _spoken(self.tokenizer, out, self.model.config.text_config.is_encoder_decoder)

    def __call__(
        self, images: Sequence[Image.Image], prompts: Sequence[str], settings: Settings
    ) -> list[tuple[str, float]]:
        """(text, probability of the text) for each image and prompt."""
        return self.say(self.read(self.see(images)), prompts, settings)


# settings of a vision encoder that its tensors don't show; image_size is that of its pixels too
UNSHOWN = ("image_size", "num_attention_heads", "hidden_act", "layer_norm_eps")


def share_vision(speaker: PromptedBlip2, others: Iterable[PromptedBlip2]) -> None:
    """Give a model the vision encoder of one of ``others`` where theirs hold the same weights.

    Tensors, precision and settings are compared, no names: a finetuned copy keeps its own. What
    was held twice is freed.
    """
    for other in others:
        if _same_vision(speaker.vision, other.vision):
            speaker.model.vision_model = other.vision
            return


def _same_vision(one: nn.Module, other: nn.Module) -> bool:
    if any(getattr(one.config, name) != getattr(other.config, name) for name in UNSHOWN):
        return False
    mine, theirs = one.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(
        weight.dtype == theirs[name].dtype and torch.equal(weight, theirs[name])
        for name, weight in mine.items()
    )


class Looked:
    """What models have seen of some images: each vision encoder looks once, each model reads what
    it saw once.
    """

    def __init__(self, images: Sequence[Image.Image]):
        self.images = images
        self._seen: dict[nn.Module, Tensor] = {}
        self._read: dict[PromptedBlip2, Tensor] = {}

    def by(self, speaker: PromptedBlip2) -> Tensor:
        """(N, Q, W), as ``speaker`` reads the images."""
        if speaker.vision not in self._seen:
            self._seen[speaker.vision] = speaker.see(self.images)
        if speaker not in self._read:
            self._read[speaker] = speaker.read(self._seen[speaker.vision])
        return self._read[speaker]


class QuestionGenerator:
    """A text-to-text model that turns what is known of an image into a question about it."""

    def __init__(self, name: str, device: torch.device):
        from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

        self.name, self.device = name, device
        self.model = load_model(AutoModelForSeq2SeqLM, name, device)
        self.version = version_of(name, self.model)
        self.tokenizer = AutoTokenizer.from_pretrained(name)

    @torch.inference_mode()
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
    picked = torch.cat(
        [
            logits.float().log_softmax(-1).gather(-1, new[:, place : place + 1])
            for place, logits in enumerate(out.logits)
        ],
        dim=1,
    )
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
    return normalised(squares(images, size))


def squares(images: Sequence[Image.Image], size: int) -> Tensor:
    """(N, size, size, 3) uint8: images resized to a square, as BLIP-2 has it."""
    with ThreadPoolExecutor(2) as readers:  # resizing releases Python's lock
        resized = readers.map(lambda image: np.asarray(square(image, size)), images)
        return torch.from_numpy(np.stack(list(resized)))


def square(image: Image.Image, size: int) -> Image.Image:
    """An image resized to a square; itself where it is one of that size."""
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BICUBIC)
    return image.convert("RGB") if image.mode != "RGB" else image
