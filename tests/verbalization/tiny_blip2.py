"""BLIP-2 with OPT and with T5, in the layout of the hub's checkpoints: tiny, random but for a
language model that knows a few texts.
"""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    GPT2Tokenizer,
    OPTConfig,
    T5Config,
    T5Tokenizer,
)

from lskd_nb.records import write_parquet
from lskd_nb.regions import LocatedImage
from lskd_nb.students.bridge import place_image_token
from lskd_nb.verbalization import captioning as c
from lskd_nb.verbalization.caption_rows import CAPTIONS, caption_row

COLORS = {
    "red": (220, 30, 30),
    "green": (30, 200, 60),
    "blue": (40, 60, 220),
    "white": (250, 250, 250),
}
TEXTS = [f"this is a {color} box" for color in COLORS]
PROMPT = "the region shows :"


def opt_tokenizer() -> GPT2Tokenizer:
    """OPT's: bytes and merges, "</s>" before each text and for its end, ids 0 to 3 as in the
    published one.
    """
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.train_from_iterator(
        [*TEXTS, PROMPT, "Question: what is it? Answer:"],
        trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=["<s>", "<pad>", "</s>", "<unk>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )
    told = json.loads(bpe.to_str())["model"]
    return GPT2Tokenizer(
        vocab=told["vocab"],
        merges=[tuple(m) for m in told["merges"]],
        bos_token="</s>",
        eos_token="</s>",
        unk_token="</s>",
        pad_token="<pad>",
        add_bos_token=True,
    )


def t5_tokenizer() -> T5Tokenizer:
    """T5's: <pad> 0, </s> 1, <unk> 2, pieces with scores; "</s>" ends each text."""
    words = sorted(
        {w for t in [*TEXTS, PROMPT, "Question: what is it? Answer:"] for w in t.split()}
    )
    pieces = [
        ("<pad>", 0.0),
        ("</s>", 0.0),
        ("<unk>", 0.0),
        *((f"▁{w}", -3.0) for w in words),
        ("▁", -4.0),
        *((x, -6.0) for x in "abcdefghijklmnopqrstuvwxyz:?QA"),
    ]
    return T5Tokenizer(vocab=pieces, extra_ids=0)


def tiny_blip2(
    kind: str, spare: int = 8, taught: bool = True
) -> tuple[Blip2ForConditionalGeneration, GPT2Tokenizer | T5Tokenizer]:
    """Random but for its language model, which knows the TEXTS from reading, as frozen ones do,
    where it is ``taught``.
    """
    tokenizer = opt_tokenizer() if kind == "opt" else t5_tokenizer()
    size = (
        len(tokenizer) + spare
    )  # the published embeddings have rows to spare behind the last word
    if kind == "opt":
        text = OPTConfig(
            vocab_size=size,
            hidden_size=32,
            ffn_dim=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            word_embed_proj_dim=32,
            dropout=0.0,
            max_position_embeddings=96,
            bos_token_id=2,
            pad_token_id=1,
            eos_token_id=tokenizer.convert_tokens_to_ids("Ċ"),
            init_std=0.1,
        )
    else:
        text = T5Config(
            vocab_size=size,
            d_model=32,
            d_kv=16,
            d_ff=64,
            num_layers=2,
            num_decoder_layers=2,
            num_heads=2,
            dropout_rate=0.0,
            decoder_start_token_id=0,
            feed_forward_proj="gated-gelu",
            tie_word_embeddings=False,
        )
    qformer = dict(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        cross_attention_frequency=1,
        initializer_range=0.1,
    )
    vision = dict(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
        initializer_range=0.1,
    )
    torch.manual_seed(0)
    model = Blip2ForConditionalGeneration(
        Blip2Config(
            vision_config=vision,
            qformer_config=qformer,
            text_config=text.to_dict(),
            num_query_tokens=4,
        )
    )
    torch.nn.init.normal_(model.query_tokens, std=0.5)
    for embedding in (
        model.vision_model.embeddings.class_embedding,
        model.vision_model.embeddings.position_embedding,
    ):
        torch.nn.init.normal_(embedding, std=0.02)
    place_image_token(model, tokenizer)
    if taught:
        teach_texts(model, tokenizer)
    return model.eval(), tokenizer


def teach_texts(model: Blip2ForConditionalGeneration, tokenizer) -> None:
    """The language model learns to go on with the colour whose word stands at the image's
    places.
    """
    optimizer = torch.optim.Adam(model.language_model.parameters(), lr=5e-3)
    words = torch.tensor(
        [tokenizer(f" {color}", add_special_tokens=False).input_ids[-1] for color in COLORS]
    )
    for step in range(80):
        read = model.get_input_embeddings()(words)[:, None].expand(-1, 4, -1)
        model.get_image_features = lambda *_, read=read, **__: SimpleNamespace(
            pooler_output=read, qformer_outputs=None, vision_outputs=None
        )
        loss = c.caption_loss(
            model, tokenizer, torch.zeros(4, 3, 28, 28), PROMPT if step % 2 else "", TEXTS, 32
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    del model.get_image_features
    model.zero_grad()


def save_blip2(kind: str, folder: Path, taught: bool = True) -> Path:
    model, tokenizer = tiny_blip2(kind, taught=taught)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_boxes(folder: Path) -> Path:
    """Pictures with two boxes of different colours, and a text about each."""
    rng, rows = np.random.default_rng(0), []
    for number in range(24):
        canvas = np.full((40, 80, 3), 120, dtype=np.uint8)
        image = LocatedImage(str(number), f"{number}.png", 80, 40, (), "boxes", "train")
        for box, index in zip(
            ((4, 6, 34, 36), (46, 4, 76, 34)), rng.permutation(4)[:2], strict=True
        ):
            canvas[box[1] : box[3], box[0] : box[2]] = list(COLORS.values())[index]
            rows.append(caption_row(image, [box], TEXTS[index], "boxes"))
        Image.fromarray(canvas).save(folder / image.path)
    write_parquet(rows, folder / "rows.parquet", CAPTIONS)
    return folder


def training_config(model: Path, boxes: Path, out: Path, **changes) -> c.CaptioningConfig:
    base = c.CaptioningConfig(
        model=str(model),
        rows=str(boxes / "rows.parquet"),
        image_root=str(boxes),
        out=str(out),
        steps=50,
        batch=12,
        prompt=PROMPT,
        view="crop",
        lr=6e-3,
        min_lr=1e-3,
        warmup=5,
        max_tokens=24,
        checkpoint_every=4,
        threads=1,
    )
    return replace(base, **changes)
