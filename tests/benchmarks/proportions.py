"""Students with random weights: one whose parts stand to each other as in BLIP-2 ViT-G, small
enough for a CPU, and one as large as that; BLIP-2 FlanT5-XXL in its published sizes, and two
BLIP-2s that speak, at a quarter. Tiny ones walk through a benchmark where there is no GPU.

ViT-G has 39 layers of width 1408 and sees 257 patches, the Q-Former 12 of 768 with 32 queries and a
vocabulary of 30,523. Widths are a quarter here and the encoder has a quarter of its layers, the
Q-Former a quarter of its own: for one text per image the encoder takes most of the time, as it does
there.
"""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import (
    BertTokenizer,
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2ForImageTextRetrieval,
    Blip2QFormerConfig,
    Blip2VisionConfig,
    T5Config,
    T5Tokenizer,
)

from lskd_nb.mini.pretraining.base import vocabulary
from lskd_nb.regions import Region
from lskd_nb.students.blip2 import Student, dtype_of
from lskd_nb.students.generative import GenerativeStudent
from lskd_nb.students.views import View

REGIONS = (Region(0, (40.0, 60.0, 300.0, 420.0)), Region(1, (280.0, 100.0, 520.0, 460.0)))
VOCABULARY = 30523
WORDS = [
    "the",
    "person",
    "is",
    "about",
    "to",
    "run",
    "and",
    "play",
    "with",
    "a",
    "dog",
    "because",
    "it",
    "is",
    "raining",
    "and",
    "the",
    "man",
    "is",
    "holding",
    "an",
    "umbrella",
    "near",
    "a",
    "tree",
]  # noqa: SIM905


QUARTER_VIT = dict(
    hidden_size=352, intermediate_size=4 * 352, num_hidden_layers=10, num_attention_heads=4
)
QUARTER_Q_FORMER = dict(
    hidden_size=192, num_hidden_layers=3, num_attention_heads=3, intermediate_size=4 * 192
)
VIT_G = dict(hidden_size=1408, intermediate_size=6144, num_hidden_layers=39, num_attention_heads=16)
Q_FORMER = dict(
    hidden_size=768, num_hidden_layers=12, num_attention_heads=12, intermediate_size=3072
)
# a quarter of FLAN-T5-XL's widths and layers
QUARTER_T5 = dict(d_model=512, d_kv=64, d_ff=1280, num_layers=6, num_heads=8)
TINY_VIT = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2)
TINY_Q_FORMER = dict(
    hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64
)
FLAN_T5_XXL = dict(d_model=4096, d_kv=64, d_ff=10240, num_layers=24, num_heads=64)
TINY_T5 = dict(d_model=32, d_kv=8, d_ff=64, num_layers=1, num_heads=4)


def quarter_student(image_size: int = 224, dropout: float = 0.0) -> Student:
    """A quarter of ViT-G's widths and layers, in evaluation mode, float32."""
    return _student(QUARTER_VIT, QUARTER_Q_FORMER, image_size, dropout)


def whole_student(image_size: int = 480, dropout: float = 0.1) -> Student:
    """BLIP-2 ViT-G stage 1 in its published sizes, in evaluation mode, float32."""
    return _student(VIT_G, Q_FORMER, image_size, dropout)


def tiny_student(image_size: int = 56, dropout: float = 0.1) -> Student:
    """All of a student's parts, as small as they may be."""
    return _student(TINY_VIT, TINY_Q_FORMER, image_size, dropout)


def generative_student(
    device: torch.device, tiny: bool = False, image_size: int = 224
) -> GenerativeStudent:
    """BLIP-2 FlanT5-XXL in its published sizes, or a tiny one, made on ``device`` in the precision
    that it is loaded with there.
    """
    sizes = (TINY_VIT, TINY_Q_FORMER, TINY_T5) if tiny else (VIT_G, Q_FORMER, FLAN_T5_XXL)
    return GenerativeStudent(*_generative(sizes, device, image_size)).eval()


def quarter_speakers(folder: Path) -> list[Path]:
    """Two BLIP-2s with FLAN-T5 at a quarter of ViT-G's and T5-XL's widths and layers, saved: one
    vision encoder, Q-Formers and language models of their own, as in the published checkpoints.
    """
    saved, eye = [], None
    for seed, name in enumerate(("captions", "answers")):
        model, words = _generative(
            (QUARTER_VIT, QUARTER_Q_FORMER, QUARTER_T5), torch.device("cpu"), 224, seed
        )
        for weight in (
            model.query_tokens,
            model.vision_model.embeddings.position_embedding,
            model.vision_model.embeddings.class_embedding,
        ):
            torch.nn.init.normal_(weight, std=0.02)
        model.vision_model = eye = eye or model.vision_model
        model.save_pretrained(folder / name)
        words.save_pretrained(folder / name)
        saved.append(folder / name)
    return saved


def _generative(
    sizes: tuple[dict, dict, dict], device: torch.device, image_size: int, seed: int = 0
) -> tuple[Blip2ForConditionalGeneration, T5Tokenizer]:
    torch.manual_seed(seed)
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -2.0), ("▁", -3.0)]
    letters = [(c, -9.0) for c in "abcdefghijklmnopqrstuvwxyzARQ:.?[]0123456789"]
    spoken = [("▁" + word, -5.0) for word in dict.fromkeys(WORDS) if len(word) > 1]
    words = T5Tokenizer(vocab=pieces + letters + spoken, extra_ids=0)
    words.add_tokens(["<image>"], special_tokens=True)
    seen, read, text = sizes
    vision = Blip2VisionConfig(**seen, image_size=image_size, patch_size=14)
    qformer = Blip2QFormerConfig(
        **read, vocab_size=VOCABULARY, encoder_hidden_size=seen["hidden_size"]
    )
    language = T5Config(
        **text,
        vocab_size=32128,
        decoder_start_token_id=0,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
    )
    config = Blip2Config(
        vision_config=vision.to_dict(),
        qformer_config=qformer.to_dict(),
        text_config=language.to_dict(),
        num_query_tokens=32,
        image_token_index=words.convert_tokens_to_ids("<image>"),
    )
    with torch.device(device):
        model = Blip2ForConditionalGeneration._from_config(config, dtype=dtype_of(device))
    return model, words


def _student(sizes: dict, qformer_sizes: dict, image_size: int, dropout: float) -> Student:
    torch.manual_seed(0)
    vision = Blip2VisionConfig(
        **sizes, image_size=image_size, patch_size=14, initializer_range=0.02
    )
    qformer = Blip2QFormerConfig(
        **qformer_sizes,
        vocab_size=VOCABULARY,
        max_position_embeddings=512,
        encoder_hidden_size=sizes["hidden_size"],
        use_qformer_text_input=True,
        pad_token_id=0,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    config = Blip2Config(
        vision_config=vision.to_dict(),
        qformer_config=qformer.to_dict(),
        num_query_tokens=32,
        image_text_hidden_size=256,
    )
    blip2 = Blip2ForImageTextRetrieval(config)
    for weight in (
        blip2.query_tokens,
        blip2.vision_model.embeddings.position_embedding,
        blip2.vision_model.embeddings.class_embedding,
    ):
        torch.nn.init.normal_(weight, std=0.02)
    torch.nn.init.normal_(blip2.itm_head.weight)  # so that scores differ
    words = [*vocabulary(), *(f"unused{n}" for n in range(VOCABULARY))][:VOCABULARY]
    return Student(
        blip2,
        BertTokenizer(
            vocab={word: number for number, word in enumerate(words)},
            bos_token="[DEC]",
            do_lower_case=True,
        ),
    ).eval()


def sentence(rng: np.random.Generator, words: int) -> str:
    return " ".join(rng.choice(WORDS, words))


def images(folder: Path, number: int) -> list[View]:
    """JPEG files of 640 × 480 pixels, as views with two regions."""
    rng, views = np.random.default_rng(0), []
    for n in range(number):
        small = Image.fromarray(rng.integers(0, 255, (30, 40, 3), dtype=np.uint8))
        small.resize((640, 480), Image.Resampling.BICUBIC).save(folder / f"{n}.jpg", quality=90)
        views.append(View(f"{n}.jpg", REGIONS))
    return views
