"""Captioning: a BLIP-2 is finetuned to describe regions or narrate images (LSKD, section 3.1).

The vision encoder and the language model stay frozen; the query tokens, the Q-Former and the
projection between the two learn to make the language model say what people wrote (BLIP-2, Li et al.
2023, section 3.3). With OPT the prompt and the text follow the image's places and only the text
counts; with FLAN-T5 the encoder reads places and prompt, the decoder says the text.

Run as ``python -m lskd_nb.verbalization.captioning CONFIG.json``: it writes ``metrics.jsonl`` as it
goes and a checkpoint every so many steps, and a killed run goes on from there with the same
numbers. What it saves is loaded by ``verbalizers.PromptedBlip2``. Run with tiny models only; with
the hub's, on one GPU in bf16, not yet.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from PIL import Image
from pydantic import ConfigDict
from torch import Tensor

from lskd_nb.records import hash_of, read_parquet
from lskd_nb.students.blip2 import autocast, pixels
from lskd_nb.students.bridge import after_the_image, freeze_all_but_the_bridge, place_image_token
from lskd_nb.students.loading import load_model
from lskd_nb.students.views import open_image
from lskd_nb.training.batches import epoch_indices
from lskd_nb.training.loop import (
    clip_gradients,
    learning_rate,
    optimizer_of,
    read_config,
    set_learning_rate,
    train_resumably,
    trained,
)
from lskd_nb.verbalization.caption_rows import CAPTIONS
from lskd_nb.verbalization.describe import boxes_view
from lskd_nb.verbalization.verbalizers import PromptedBlip2, Settings


@dataclass(frozen=True)
class CaptioningConfig:
    """Everything that a finetuned captioner depends on."""

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)
    module: ClassVar[str] = "lskd_nb.verbalization.captioning"

    model: str  # name or folder of a BLIP-2 with OPT or FLAN-T5
    rows: str  # Parquet, captions.CAPTIONS
    image_root: str
    out: str  # folder of the trained model
    steps: int
    prompt: str = ""  # what the text follows; the verbalizer's settings must have the same
    view: Literal["highlight", "crop"] = "highlight"  # how a box is shown, likewise
    batch: int = 64
    lr: float = 1e-5
    min_lr: float = 0.0
    weight_decay: float = 0.05
    warmup: int = 0
    max_tokens: int = 64  # of a text, its end mark included
    seed: int = 0
    checkpoint_every: int = 500
    readers: int = 8  # threads that decode images
    threads: int = 0  # 0: torch's choice

    def identity(self) -> str:
        """What a finetuned captioner depends on, as JSON: the configuration, less where and how
        fast it runs, and the rows' hash.
        """
        recipe = {
            k: v
            for k, v in asdict(self).items()
            if k not in ("out", "threads", "readers", "checkpoint_every")
        }
        return json.dumps(
            recipe | {"rows_sha256": hash_of([Path(self.rows)])}, indent=1, sort_keys=True
        )


def train(config: CaptioningConfig) -> Path:
    """Finetune, or go on finetuning, and save the captioner under ``config.out``.

    Returns that folder.
    """
    identity = config.identity()
    if trained(config.out, identity):
        return Path(config.out)
    if config.threads:
        torch.set_num_threads(config.threads)
    model, tokenizer = load_trainable(
        config.model, torch.device("cuda" if torch.cuda.is_available() else "cpu")
    )
    optimizer = optimizer_of(model, model.query_tokens, config.weight_decay, 1.0)
    coming: list[Iterator[tuple[Tensor, list[str]]]] = []

    def step_of(step: int) -> dict:
        if not coming:
            coming.append(batches(config, model.config.vision_config.image_size, step))
        return _step(step, config, model, tokenizer, optimizer, *next(coming[0]))

    def save(folder: Path) -> None:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)

    return train_resumably(
        config.out, identity, model, optimizer, config.steps, config.checkpoint_every, step_of, save
    )


def load_trainable(name: str, device: torch.device):
    """A BLIP-2 and its tokenizer; what is trained is in float32, the frozen rest in the
    precision that it is read with.
    """
    from transformers import AutoTokenizer, Blip2ForConditionalGeneration

    model = load_model(Blip2ForConditionalGeneration, name, device)
    tokenizer = AutoTokenizer.from_pretrained(name)
    place_image_token(model, tokenizer)
    freeze_all_but_the_bridge(model)
    return model, tokenizer


def parts(name: str) -> dict[str, tuple[int, bool]]:
    """How many parameters eye, bridge and tongue of a BLIP-2 have, and whether they are trained."""
    model, _ = load_trainable(name, torch.device("cpu"))
    found = {"eye": [], "bridge": [], "tongue": []}
    for weight_name, weight in model.named_parameters():
        if weight_name.startswith("vision"):
            part = "eye"
        elif weight_name.startswith("language_model."):
            part = "tongue"
        else:
            part = "bridge"
        found[part].append(weight)
    return {
        part: (sum(w.numel() for w in weights), any(w.requires_grad for w in weights))
        for part, weights in found.items()
    }


def describe(name: str, shown: Sequence[Image.Image], prompt: str, batch: int = 32) -> list[str]:
    """What the captioner at a name or folder says of each image (``describe.region_view``)."""
    speaker = PromptedBlip2(name, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    said = []
    for start in range(0, len(shown), batch):
        some = shown[start : start + batch]
        said += [text for text, _ in speaker(some, [prompt] * len(some), Settings(batch=batch))]
    return said


def batches(config: CaptioningConfig, size: int, begin: int) -> Iterator[tuple[Tensor, list[str]]]:
    """((B, 3, size, size) pixels, texts) of each step from step ``begin`` on, each read while the
    one before is learned from.

    The rows of a step are a function of the seed and the step alone. Raises ``ValueError`` for an
    empty file of rows, an unreadable image, or one that has not the size its row says.
    """
    table = read_parquet(config.rows, CAPTIONS)
    if not len(table):
        raise ValueError(f"{config.rows} holds no rows to learn from")

    def view(row: dict) -> np.ndarray:
        picture = open_image(config.image_root, row["image"])
        if picture.size != (row["width"], row["height"]):
            raise ValueError(
                f"{row['image']} has {picture.size} pixels,"
                f" its row in {config.rows} {(row['width'], row['height'])}"
            )
        return pixels(boxes_view(picture, row["boxes"] or (), size, config.view), size)

    with ThreadPoolExecutor(1) as ahead, ThreadPoolExecutor(config.readers) as readers:

        def drawn(step: int) -> tuple[Tensor, list[str]]:
            rows = table.take(
                epoch_indices(len(table), config.batch, step, config.seed)
            ).to_pylist()
            return torch.from_numpy(np.stack(list(readers.map(view, rows)))), [
                row["text"] for row in rows
            ]

        coming = ahead.submit(drawn, begin)
        for step in range(begin, config.steps):
            shown, texts = coming.result()
            if step + 1 < config.steps:
                coming = ahead.submit(drawn, step + 1)
            yield shown, texts


def _step(
    step: int,
    config: CaptioningConfig,
    model,
    tokenizer,
    optimizer: torch.optim.Optimizer,
    shown: Tensor,
    texts: Sequence[str],
) -> dict:
    rate = learning_rate(step, config)
    set_learning_rate(optimizer, rate)
    # dropout is a function of the step
    torch.manual_seed(int(np.random.SeedSequence([config.seed, step]).generate_state(1)[0]))
    with autocast(model.device):
        loss = caption_loss(model, tokenizer, shown, config.prompt, texts, config.max_tokens)
    loss.backward()
    clip_gradients(optimizer)
    optimizer.step()
    optimizer.zero_grad()
    return {"loss": round(loss.item(), 5), "lr": rate}


def caption_loss(
    model, tokenizer, shown: Tensor, prompt: str, texts: Sequence[str], max_tokens: int
) -> Tensor:
    """Mean cross entropy of texts' tokens and end marks, after (B, 3, S, S) pixels and prompt.

    A text longer than ``max_tokens`` is cut, and its end is not taught. The end mark is the
    language model's own: a line break for BLIP-2's OPT.
    """
    end = model.language_model.generation_config.eos_token_id
    end = end[0] if isinstance(end, list) else end
    decoder_only = model.config.use_decoder_only_language_model
    start = tokenizer(prompt).input_ids
    spaced = [f" {t}" if prompt and decoder_only else t for t in texts]
    told = [
        [*ids, end][:max_tokens] for ids in tokenizer(spaced, add_special_tokens=False).input_ids
    ]
    if decoder_only:
        ids = _padded([start + t for t in told], tokenizer.pad_token_id)
        mask = _padded([[1] * (len(start) + len(t)) for t in told], 0)
        labels = _padded(
            [[-100] * (model.query_tokens.shape[1] + len(start)) + t for t in told], -100
        )
    else:
        ids = torch.tensor([start] * len(told))
        mask, labels = torch.ones_like(ids), _padded(told, -100)
    ids, mask = after_the_image(model, ids.to(model.device), mask.to(model.device))
    return model(
        pixel_values=shown.to(model.device),
        input_ids=ids,
        attention_mask=mask,
        labels=labels.to(model.device),
    ).loss


def _padded(rows: Sequence[list[int]], value: int) -> Tensor:
    longest = max(map(len, rows))
    return torch.tensor([row + [value] * (longest - len(row)) for row in rows])


if __name__ == "__main__":
    train(read_config(sys.argv[1], CaptioningConfig))
