"""BLIP-2 with FLAN-T5 and Mini-GPT4 with Vicuna, in the real layouts: tiny and random, with a
corpus to train on.
"""

import string
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2QFormerConfig,
    Blip2VisionConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaTokenizer,
    T5Config,
    T5Tokenizer,
)

from lskd_nb.mini.pretraining.base import vocabulary
from lskd_nb.records import CORPUS, write_parquet
from lskd_nb.students import generative as g
from lskd_nb.students.loading import load_generative
from lskd_nb.students.minigpt4 import mini_gpt4
from lskd_nb.training import generative as training

QUESTIONS = ("What is [0] about to do?", "Why does [1] do this and nothing else?", "Who?")
TARGETS = (
    "Answer: Throw the ball. Rationale: [0] is holding a ball.",
    "Answer: To rest.",
    "Answer: The dog [1].",
)
LETTERS = [c for c in string.printable if not c.isspace()]


def t5_tokenizer() -> T5Tokenizer:
    """T5's kind of tokenizer over the mini world's words and single letters."""
    pieces = [
        ("<pad>", 0.0),
        ("</s>", 0.0),
        ("<unk>", -2.0),
        ("▁", -3.0),
        *((c, -9.0) for c in LETTERS),
    ]
    return T5Tokenizer(
        vocab=pieces + [("▁" + w, -5.0) for w in vocabulary() if w.isalpha() and len(w) > 1],
        extra_ids=0,
    )


def llama_tokenizer() -> LlamaTokenizer:
    """LLaMA's kind of tokenizer with no merges: each letter is a token."""
    return LlamaTokenizer(
        vocab={w: i for i, w in enumerate(["<unk>", "<s>", "</s>", "▁", *LETTERS])}, merges=[]
    )


def save_flan_t5(folder: Path, width: int = 32) -> None:
    """The layout of Salesforce/blip2-flan-t5-xxl."""
    torch.manual_seed(0)
    words = t5_tokenizer()
    words.add_tokens(["<image>"], special_tokens=True)
    vision = Blip2VisionConfig(
        hidden_size=24,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=4,
        image_size=32,
        patch_size=16,
        initializer_range=0.05,
    )
    qformer = Blip2QFormerConfig(
        vocab_size=8,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        cross_attention_frequency=1,
        encoder_hidden_size=24,
        initializer_range=0.05,
    )
    text = T5Config(
        vocab_size=len(words),
        d_model=width,
        d_kv=8,
        d_ff=64,
        num_layers=1,
        num_heads=4,
        decoder_start_token_id=0,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
    )
    model = Blip2ForConditionalGeneration(
        Blip2Config(
            vision_config=vision.to_dict(),
            qformer_config=qformer.to_dict(),
            text_config=text.to_dict(),
            num_query_tokens=4,
            image_token_index=words.convert_tokens_to_ids("<image>"),
        )
    )
    torch.nn.init.normal_(model.query_tokens, std=0.2)
    model.language_model.lm_head.weight = torch.nn.Parameter(
        0.1 * torch.randn(len(words), width)
    )  # FLAN-T5's is its own
    model.save_pretrained(folder)
    words.save_pretrained(folder)


def save_vicuna(folder: Path, width: int = 40) -> None:
    """The layout of a Vicuna."""
    torch.manual_seed(1)
    words = llama_tokenizer()
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(words),
            hidden_size=width,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            initializer_range=0.1,
        )
    ).save_pretrained(folder)
    words.save_pretrained(folder)


def triple(number: int, region: int) -> dict:
    box = [[2.0, 2.0, 20.0, 30.0], [22.0, 4.0, 40.0, 30.0]]
    return dict(
        triple_id=f"t{number}",
        image_id=f"m{number % 3}",
        family="id",
        question=f"What is [{region}] about to do?",
        answer="Throw the ball.",
        rationale=f"[{region}] is holding a ball and [{1 - region}] is a dog.",
        regions=[0, 1],
        regions_offered=[0, 1],
        model="m",
        prompt="p",
        request="r",
        score=0.9,
        image=f"m{number % 3}.png",
        width=64,
        height=48,
        source="mini",
        split="train",
        references=[dict(id=i, box=box[i], label="thing", score=1.0) for i in (0, 1)],
    )


def save_world(folder: Path) -> Path:
    """Three images, a corpus of eight triples about them, both language models, and what Mini-GPT4
    adds.
    """
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    for i in range(3):
        Image.fromarray(rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)).save(
            folder / f"m{i}.png"
        )
    write_parquet([triple(n, n % 2) for n in range(8)], folder / "corpus.parquet", CORPUS)
    save_flan_t5(folder / "flan-t5")
    save_vicuna(folder / "vicuna")
    weights = {"llama_proj.weight": torch.randn(40, 24), "llama_proj.bias": torch.randn(40)}
    torch.save(
        {"model": weights, "optimizer": {"state": {}}, "config": {"run": {"lr": 1e-4}}, "epoch": 3},
        folder / "minigpt4.pth",
    )
    return folder


def load_students(world: Path) -> dict[str, g.GenerativeStudent]:
    return {
        "t5": load_generative(str(world / "flan-t5")),
        "llama": mini_gpt4(str(world / "flan-t5"), str(world / "vicuna"), world / "minigpt4.pth"),
    }


def training_config(world: Path, out: Path, **changes) -> training.GenerativeConfig:
    base = training.GenerativeConfig(
        student=str(world / "flan-t5"),
        corpus=str(world / "corpus.parquet"),
        image_root=str(world),
        out=str(out),
        steps=8,
        batch=4,
        lr=3e-3,
        min_lr=1e-3,
        checkpoint_every=3,
        threads=1,
    )
    return replace(base, **changes)
