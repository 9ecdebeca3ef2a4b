"""Students with random weights: one whose parts stand to each other as in BLIP-2 ViT-G, small
enough for a CPU, and one as large as that.

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
    Blip2ForImageTextRetrieval,
    Blip2QFormerConfig,
    Blip2VisionConfig,
)

from lskd_nb.mini.pretraining.base import vocabulary
from lskd_nb.regions import Region
from lskd_nb.students.blip2 import Student
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


def quarter_student(image_size: int = 224, dropout: float = 0.0) -> Student:
    """A quarter of ViT-G's widths and layers, in evaluation mode, float32."""
    vision = dict(
        hidden_size=352, intermediate_size=4 * 352, num_hidden_layers=10, num_attention_heads=4
    )
    return _student(
        vision,
        dict(
            hidden_size=192, num_hidden_layers=3, num_attention_heads=3, intermediate_size=4 * 192
        ),
        image_size,
        dropout,
    )


def whole_student(image_size: int = 480, dropout: float = 0.1) -> Student:
    """BLIP-2 ViT-G stage 1 in its published sizes, in evaluation mode, float32."""
    vision = dict(
        hidden_size=1408, intermediate_size=6144, num_hidden_layers=39, num_attention_heads=16
    )
    return _student(
        vision,
        dict(hidden_size=768, num_hidden_layers=12, num_attention_heads=12, intermediate_size=3072),
        image_size,
        dropout,
    )


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
    words = [*vocabulary(), *(f"[unused{n}]" for n in range(VOCABULARY))][:VOCABULARY]
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
