"""Captioning: a BLIP-2 is finetuned to describe regions or narrate images (LSKD, section 3.1).

The vision encoder and the language model stay frozen; the query tokens, the Q-Former and the
projection between the two learn to make the language model say what people wrote (BLIP-2, Li et al.
2023, section 3.3). With OPT the prompt and the text follow the image's places and only the text
counts; with FLAN-T5 the encoder reads places and prompt, the decoder says the text.

Run as ``accelerate launch -m lskd_nb.verbalization.captioning CONFIG.json`` on any number of
processes: it writes ``metrics.jsonl`` as it goes and a checkpoint every so many steps, and a killed
run goes on from there with the same numbers. What it saves is loaded by
``verbalizers.PromptedBlip2``. Run with tiny models only; with the hub's, in bf16, not yet.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from pydantic import ConfigDict
from torch import Tensor, nn
from torch.utils.data import Dataset

from lskd_nb.records import hash_of, read_parquet
from lskd_nb.students.blip2 import autocast
from lskd_nb.students.bridge import after_the_image, freeze_all_but_the_bridge, place_image_token
from lskd_nb.students.loading import load_model
from lskd_nb.students.views import normalised, open_image
from lskd_nb.training import distributed, word_loss
from lskd_nb.training.batches import epoch_indices
from lskd_nb.training.loop import drawn_ahead, optimizer_of, read_config, train_resumably, trained
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
    batch: int = 64  # rows of a step, all processes together
    accumulation: int = 1  # parts that a batch is learned in, one after the other
    lr: float = 1e-5
    min_lr: float = 0.0
    weight_decay: float = 0.05
    warmup: int = 0
    max_tokens: int = 64  # of a text, its end mark included
    seed: int = 0
    checkpoint_every: int = 500
    workers: int = 0  # processes that draw images ahead, for each training process
    threads: int = 0  # 0: torch's choice

    def identity(self) -> str:
        """What a finetuned captioner depends on, as JSON: the configuration, less where and how
        fast it runs, and the rows' hash.
        """
        recipe = {
            k: v
            for k, v in asdict(self).items()
            if k not in ("out", "threads", "workers", "checkpoint_every")
        }
        return json.dumps(
            recipe | {"rows_sha256": hash_of([Path(self.rows)])}, indent=1, sort_keys=True
        )


STAND_INS = 8  # other rows that are tried where a picture can't be read


def train(config: CaptioningConfig) -> Path:
    """Finetune, or go on finetuning, and save the captioner under ``config.out``.

    Returns that folder. A line of metrics has the loss of its step, the learning rate, and how many
    rows others stood in for, because their pictures could not be read (``Steps``).
    """
    identity = config.identity()
    if trained(config.out, identity):
        return Path(config.out)
    if config.threads:
        torch.set_num_threads(config.threads)
    accelerator = distributed.training_processes(config.batch, config.accumulation)
    model, tokenizer = load_trainable(config.model, accelerator.device)
    place = (distributed.rank(), distributed.world_size())
    steps = Steps(_rows(config), config, model.config.vision_config.image_size, place)
    optimizer = optimizer_of(model, model.query_tokens, config.weight_decay, 1.0)
    objective = accelerator.prepare(Objective(model, tokenizer, config))
    ahead: list = []  # the loader's iterator, made at the first step that is still to be done

    def step_of(step: int) -> dict:
        if not ahead:
            ahead.append(drawn_ahead(steps, range(step, config.steps), config.workers))
        parts, unreadable = [], 0
        for drawn, texts, troubles in next(ahead[0]):
            for trouble in troubles:
                print(f"step {step + 1}: {trouble}; another row stands in", flush=True)
            unreadable += len(troubles)
            told = told_ids(model, tokenizer, config.prompt, texts, config.max_tokens)
            parts.append(word_loss.Part((drawn, texts), sum(map(len, told))))
        loss = word_loss.learn(step, config, parts, objective, optimizer, accelerator)
        return {
            "loss": round(loss, 5),
            "lr": optimizer.param_groups[0]["lr"],
            "unreadable": int(word_loss.all_sum(unreadable, accelerator)),
        }

    def save(folder: Path) -> None:
        if distributed.rank() == 0:
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)

    return train_resumably(
        config.out, identity, model, optimizer, config.steps, config.checkpoint_every, step_of, save
    )


class Objective(nn.Module):
    """The loss of a part as a module to wrap: (K, S, S, 3) uint8, drawn, and texts."""

    def __init__(self, model, tokenizer, config: CaptioningConfig):
        super().__init__()
        self.model, self.tokenizer, self.config = model, tokenizer, config

    def forward(self, drawn: Tensor, texts: Sequence[str]) -> Tensor:
        shown = normalised(drawn.to(self.model.device, non_blocking=True))
        told = self.config
        with autocast(self.model.device):
            return caption_loss(
                self.model, self.tokenizer, shown, told.prompt, texts, told.max_tokens
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
    """How many parameters eye, bridge and tongue of a BLIP-2 have, and whether they are trained.

    Only its configuration is read, and no weight is made.
    """
    from transformers import Blip2Config, Blip2ForConditionalGeneration

    with torch.device("meta"):
        model = Blip2ForConditionalGeneration(Blip2Config.from_pretrained(name))
    freeze_all_but_the_bridge(model)
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


def _rows(config: CaptioningConfig) -> pa.Table:
    """What is learned from, in one piece, so that a step's rows are found without the others."""
    table = read_parquet(config.rows, CAPTIONS)
    if not len(table):
        raise ValueError(f"{config.rows} holds no rows to learn from")
    return table.drop_columns(["origin"]).combine_chunks()


@dataclass(frozen=True)
class Steps(Dataset):
    """A process's own parts of each step's batch: (K, S, S, 3) uint8, drawn, their texts, and what
    was wrong with the pictures that could not be read.

    The rows of a step are a function of the seed and the step alone. The readers of the sets have
    opened every picture once; where one is gone or damaged since, another row stands in for its
    row. Raises ``ValueError`` where so many can't be read that the image root is to blame, or
    pictures have not the size their rows say.
    """

    table: pa.Table
    config: CaptioningConfig
    size: int
    place: tuple[int, int]  # this process, and how many there are

    def __getitem__(self, step: int) -> list[tuple[Tensor, list[str], list[str]]]:
        told = self.config
        drawn = epoch_indices(len(self.table), told.batch, step, told.seed)
        return [
            self._part(step, places, self._taken([drawn[place] for place in places]))
            for places in distributed.own_places(told.batch, told.accumulation, *self.place)
        ]

    def _part(
        self, step: int, places: Sequence[int], rows: list[dict]
    ) -> tuple[Tensor, list[str], list[str]]:
        drawn, texts, troubles = [], [], []
        for place, row in zip(places, rows, strict=True):
            try:
                picture = self._view(row)
            except (OSError, ValueError) as error:
                troubles.append(str(error))
                picture, row = self._stand_in([self.config.seed, 4, step, place], error)
            drawn.append(picture)
            texts.append(row["text"])
        return torch.from_numpy(np.stack(drawn)), texts, troubles

    def _stand_in(self, drawn_from: list[int], first: Exception) -> tuple[np.ndarray, dict]:
        others = np.random.default_rng(drawn_from).integers(len(self.table), size=STAND_INS)
        for row in self._taken(others):
            try:
                return self._view(row), row
            except (OSError, ValueError):
                continue
        raise ValueError(
            f"{first}; nor could {STAND_INS} other pictures of {self.config.rows} be read: is"
            f" image_root, {self.config.image_root}, the folder that its rows were made below?"
        ) from first

    def _taken(self, places: Sequence[int]) -> list[dict]:
        return self.table.take(pa.array(np.asarray(places, dtype=np.int64))).to_pylist()

    def _view(self, row: dict) -> np.ndarray:
        picture = open_image(self.config.image_root, row["image"])
        if picture.size != (row["width"], row["height"]):
            raise ValueError(
                f"{row['image']} has {picture.size} pixels,"
                f" its row in {self.config.rows} {(row['width'], row['height'])}"
            )
        shown = boxes_view(picture, row["boxes"] or (), self.size, self.config.view)
        if shown.size != (self.size, self.size):
            shown = shown.resize((self.size, self.size), Image.Resampling.BICUBIC)
        return np.asarray(shown)


def caption_loss(
    model, tokenizer, shown: Tensor, prompt: str, texts: Sequence[str], max_tokens: int
) -> Tensor:
    """Mean cross entropy of texts' tokens and end marks, after (B, 3, S, S) pixels and prompt.

    A text longer than ``max_tokens`` is cut, and its end is not taught. The end mark is the
    language model's own: a line break for BLIP-2's OPT.
    """
    decoder_only = model.config.use_decoder_only_language_model
    start = tokenizer(prompt).input_ids
    told = told_ids(model, tokenizer, prompt, texts, max_tokens)
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


def told_ids(
    model, tokenizer, prompt: str, texts: Sequence[str], max_tokens: int
) -> list[list[int]]:
    """Ids of what is to be said, end marks last, cut at ``max_tokens``."""
    end = model.language_model.generation_config.eos_token_id
    end = end[0] if isinstance(end, list) else end
    decoder_only = model.config.use_decoder_only_language_model
    spaced = [f" {t}" if prompt and decoder_only else t for t in texts]
    return [
        [*ids, end][:max_tokens] for ids in tokenizer(spaced, add_special_tokens=False).input_ids
    ]


def _padded(rows: Sequence[list[int]], value: int) -> Tensor:
    longest = max(map(len, rows))
    return torch.tensor([row + [value] * (longest - len(row)) for row in rows])


if __name__ == "__main__":
    train(read_config(sys.argv[1], CaptioningConfig))
