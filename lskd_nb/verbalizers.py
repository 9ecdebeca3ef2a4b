"""The models that speak about images: BLIP-2 with a language model, and a generator of questions, by hub name or folder.

``Speaker`` loads a BLIP-2 with OPT (decoder only) or FLAN-T5 (encoder and decoder), for captions, regions and answers alike: the queries'
outputs come first, a prompt follows, and the language model goes on (BLIP-2, Li et al. 2023, section 3.3). The mini world's models
are of these classes. Checkpoints from the hub, in bf16 on a GPU, have not been run here.
"""

import hashlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lskd_nb.student import autocast, pixels

IMAGE_TOKEN = "<image>"


@dataclass(frozen=True)
class Verbalizers:
    """Which models speak, by hub name or folder; None leaves that descriptor out."""

    clip: str | None = None
    captioner: str | None = None
    region_captioner: str | None = None
    question_generator: str | None = None
    vqa: str | None = None
    narrator: str | None = None  # a captioner finetuned on Localized Narratives


@dataclass(frozen=True)
class Settings:
    """How they speak. ``region_view`` is "highlight" (the box drawn in the first colour) or "crop" (with a margin)."""

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
    cache: str | None = None  # folder of the vocabularies' text features; None: beside the output


class Speaker:
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
    def __call__(self, images: Sequence[Image.Image], prompts: Sequence[str], settings: Settings) -> list[tuple[str, float]]:
        """(text, probability of the text) for each image and prompt."""
        shown = stacked(images, self.model.config.vision_config.image_size).to(self.device)
        inputs = self.tokenizer(list(prompts), padding=True, return_tensors="pt").to(self.device)
        ids, mask = after_the_image(self.model, inputs.input_ids, inputs.attention_mask)
        with autocast(self.device):
            out = self.model.generate(
                pixel_values=shown, input_ids=ids, attention_mask=mask, return_dict_in_generate=True, output_logits=True, **_sampling(settings)
            )
        return _spoken(self.tokenizer, out, self.model.config.text_config.is_encoder_decoder)


class Asker:
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
        inputs = self.tokenizer(list(contexts), padding=True, truncation=True, return_tensors="pt").to(self.device)
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
        return [list(dict.fromkeys(filter(None, texts[i : i + number]))) for i in range(0, len(texts), number)]


# ------------------------------------------------------------------------------------------------ BLIP-2's input


def place_image_token(model, tokenizer) -> int:
    """The token id that holds the places of the queries' outputs in a BLIP-2's input, given to a model that has none.

    Checkpoints from before transformers 4.46 name none: "<image>" is appended to the tokenizer then, as ``Blip2Processor`` does. The
    embeddings of OPT and T5 have spare rows behind the tokenizer's last word; where there is none, one is added. Raises
    ``ValueError`` where the model's id is an ordinary word of the tokenizer: the two do not belong together.
    """
    from tokenizers import AddedToken

    config = model.config
    if config.image_token_id is None:
        tokenizer.add_tokens([AddedToken(IMAGE_TOKEN, normalized=False, special=True)], special_tokens=True)
        config.image_token_id = tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
    found = config.image_token_id
    if found < len(tokenizer) and found not in (*tokenizer.all_special_ids, tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)):
        word = tokenizer.convert_ids_to_tokens(found)
        raise ValueError(f"{config.name_or_path}: image_token_index {found} is the word {word!r} of its tokenizer, expected {IMAGE_TOKEN!r}")
    if found >= model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(found + 1)
    return found


def after_the_image(model, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Token ids and mask (N, L) behind the image's places: (N, queries + L) each."""
    places = ids.new_full((len(ids), model.query_tokens.shape[1]), model.config.image_token_id)
    return torch.cat([places, ids], dim=1), torch.cat([torch.ones_like(places), mask], dim=1)


def freeze_all_but_the_bridge(model) -> None:
    """Of a BLIP-2, train what lies between vision encoder and language model: query tokens, Q-Former and projection, in float32."""
    model.requires_grad_(False)
    model.query_tokens.data = model.query_tokens.data.float()
    model.query_tokens.requires_grad_(True)
    for part in (model.qformer, model.language_projection):
        part.float().requires_grad_(True).train()


def prompt_padding_side(model, tokenizer) -> str:
    """Where prompts of one batch are filled up, so that an answer does not depend on the others in its batch.

    T5 counts the words between, hence its prompts directly follow the image; a decoder goes on from the last place, so there its prompts
    end. The mini world's T5 is used as its other figures were made: its tokenizer is BERT's, with [CLS], and fills up on the left.
    """
    return "right" if model.config.text_config.is_encoder_decoder and tokenizer.cls_token is None else "left"


def _sampling(settings: Settings) -> dict:
    torch.manual_seed(settings.seed)
    common = dict(max_new_tokens=settings.max_new_tokens, num_beams=1)
    return common | (dict(do_sample=True, temperature=settings.temperature) if settings.temperature > 0 else dict(do_sample=False))


def _spoken(tokenizer, out, encoder_decoder: bool) -> list[tuple[str, float]]:
    """Texts and their probabilities from generated ids and logits (a decoder-only model repeats its prompt)."""
    new = out.sequences[:, 1:] if encoder_decoder else out.sequences[:, -len(out.logits) :]
    log_probability = torch.stack(out.logits, 1).float().log_softmax(-1)
    picked = log_probability.gather(-1, new[:, : log_probability.shape[1], None]).squeeze(-1)
    counted = new[:, : picked.shape[1]] != tokenizer.pad_token_id
    totals = (picked * counted).sum(1).exp().tolist()
    texts = tokenizer.batch_decode(new, skip_special_tokens=True)
    return [(" ".join(t.split()), p) for t, p in zip(texts, totals, strict=True)]


# ------------------------------------------------------------------------------------------------ loading


def load_model(kind, name: str, device: torch.device, dtype: torch.dtype | None = None):
    """A model of Hugging Face's class ``kind``, by hub name or folder, in evaluation mode: bf16 on a GPU, else float32, unless told.

    Raises ``ValueError`` where a hundredth of the weights or more is not in the checkpoint: it is of another kind, and they would be
    random.
    """
    model, told = kind.from_pretrained(name, dtype=dtype or dtype_of(device), output_loading_info=True)
    missing = set(told["missing_keys"])
    share = sum(p.numel() for n, p in model.named_parameters() if n in missing) / sum(p.numel() for p in model.parameters())
    if share > 0.01:
        raise ValueError(f"{name} is no {kind.__name__}: {share:.0%} of its weights are missing, {min(missing)} for one")
    return model.eval().to(device)


def dtype_of(device: torch.device) -> torch.dtype:
    return torch.bfloat16 if device.type == "cuda" else torch.float32


def image_processor(name: str):
    """How a checkpoint's own ``preprocessor_config.json`` has images prepared; None for a folder that has none.

    Always by Pillow: where torchvision is installed, transformers would take its resizing, and pixels would differ by up to 0.015.
    """
    from transformers import AutoImageProcessor

    if Path(name).is_dir() and not any((Path(name) / f).exists() for f in ("preprocessor_config.json", "processor_config.json")):
        return None
    return AutoImageProcessor.from_pretrained(name, backend="pil")


def stacked(images: Sequence[Image.Image], size: int, prepare=None) -> Tensor:
    """(N, 3, size, size) float32: prepared by ``prepare``, a processor of the model's, else resized to a square as BLIP-2 has it."""
    if prepare is not None:
        return prepare(images=list(images), return_tensors="pt").pixel_values
    with ThreadPoolExecutor(2) as readers:  # resizing releases Python's lock
        return torch.from_numpy(np.stack(list(readers.map(lambda image: pixels(image, size), images))))


def version_of(name: str, model) -> str:
    """The hub commit a model was loaded from, or a hash of the weights in its folder."""
    commit = getattr(model.config, "_commit_hash", None)
    return commit[:12] if commit else hash_of(sorted(Path(name).glob("*.safetensors")) or sorted(Path(name).glob("*.bin")))[:12]


def hash_of(files: Iterable[Path]) -> str:
    """SHA-256 of the files' contents, one after the other; weights of many gigabytes pass through little memory."""
    digest = hashlib.sha256()
    for file in files:
        with open(file, "rb") as content:
            while block := content.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()
