"""Training generative students: the language-model loss on their answers (LSKD, section 4.3).

Only "Answer: ... Rationale: ..." counts. Query tokens, Q-Former and projection are trained; LoRA
adapters (Hu et al. 2021) in the language model too, where ``lora_rank`` is given. Run as
``accelerate launch -m lskd_nb.training.generative CONFIG.json`` on any number of processes: each
has a copy of the model and learns from its own rows of a batch. A killed run goes on with the same
numbers; without dropout the losses are those of a single process.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import ClassVar

import torch
from pydantic import ConfigDict
from torch import Tensor, nn
from torch.utils.data import Dataset

from lskd_nb.records import hash_of
from lskd_nb.students.blip2 import autocast
from lskd_nb.students.generative import GenerativeStudent, add_lora, checkpoint_layers
from lskd_nb.students.loading import load_generative, whole_checkpoint
from lskd_nb.students.minigpt4 import mini_gpt4
from lskd_nb.students.views import FrozenFeatures, encode_seen
from lskd_nb.training import distributed, word_loss
from lskd_nb.training.batches import Row, Sample, batch_at, corpus_rows
from lskd_nb.training.loop import drawn_ahead, optimizer_of, read_config, train_resumably, trained


@dataclass(frozen=True)
class GenerativeConfig:
    """Everything that a generative student depends on.

    ``language_model`` and ``projection`` are for Mini-GPT4 alone.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)
    module: ClassVar[str] = "lskd_nb.training.generative"

    student: str  # name or folder of a BLIP-2 with a language model
    corpus: str  # Parquet, records.CORPUS
    image_root: str
    out: str  # folder of the trained student
    steps: int
    language_model: str | None = (
        None  # name or folder of a LLaMA or Vicuna in place of the BLIP-2's own
    )
    projection: str | None = None  # Mini-GPT4's checkpoint
    lora_rank: int = 0  # 0: the language model stays as it is
    lora_alpha: int = 16
    batch: int = 64  # rows of a step, all processes together
    accumulation: int = 1  # parts that a batch is learned in, one after the other
    lr: float = 1e-5
    min_lr: float = 1e-6
    weight_decay: float = 0.05
    warmup: int = 0
    seed: int = 0
    max_tokens: int = 128
    views: int = 0  # fixed views per row, 0: a fresh one each time
    view_store: str | None = None
    checkpoint_every: int = 500
    # of the language model's layers: less memory, about a third more time
    gradient_checkpointing: bool = False
    # processes that draw images ahead, for each training process; of no use where features are
    # stored
    workers: int = 0
    threads: int = 0  # 0: torch's choice

    def identity(self) -> str:
        """What a trained student depends on, as JSON: the configuration, less where and how fast it
        runs, and its files' hashes.
        """
        recipe = {k: v for k, v in asdict(self).items() if k not in FREE}
        return json.dumps(
            recipe
            | {"files": {f: hash_of([Path(f)]) for f in (self.corpus, self.projection) if f}},
            indent=1,
            sort_keys=True,
        )


# fmt: off
FREE = (  # fields on which no number depends
    "out", "threads", "workers", "checkpoint_every", "view_store", "gradient_checkpointing",
)
# fmt: on


class Objective(nn.Module):
    """The loss of a part as a module to wrap: images, drawn or as stored features, what is asked
    about them, and what is to be said.
    """

    def __init__(self, student: GenerativeStudent):
        super().__init__()
        self.student = student

    def forward(self, seen: Tensor, questions: Sequence[str], targets: Sequence[str]) -> Tensor:
        """``seen`` is (K, S, S, 3) uint8, drawn, or (K, P, D), stored."""
        device = self.student.device
        features_KPD = encode_seen(self.student, seen)
        with autocast(device):
            return self.student.loss(features_KPD, questions, targets)


@dataclass(frozen=True)
class Steps(Dataset):
    """A process's own parts of each step's batch: samples, and images drawn or as stored."""

    rows: Sequence[Row]
    config: GenerativeConfig
    views: FrozenFeatures
    place: tuple[int, int]  # this process, and how many there are

    def __getitem__(self, step: int) -> list[tuple[list[Sample], Tensor]]:
        told = self.config
        batch = batch_at(step, self.rows, [], {}, told.batch, 0.0, told.views, told.seed)
        return [
            (own := [batch[i] for i in places], self.views.stored_or_drawn([d.view for d in own]))
            for places in distributed.own_places(told.batch, told.accumulation, *self.place)
        ]


def train(config: GenerativeConfig) -> Path:
    """Train, or go on training, and save the student under ``config.out``; returns that folder.

    A line of metrics has the loss of its step, and how many of its targets were cut at
    ``max_tokens``. Raises ``ValueError`` for a corpus without triples, and where ``batch`` can't be
    cut into ``accumulation`` equal parts for the processes; ``FloatingPointError`` as
    ``word_loss.learn``.
    """
    identity = config.identity()
    if trained(config.out, identity):
        return Path(config.out)
    if config.threads:
        torch.set_num_threads(config.threads)
    accelerator = distributed.training_processes(config.batch, config.accumulation)
    rows = [whole(row) for row in corpus_rows(config.corpus)]
    torch.manual_seed(config.seed)  # of what starts fresh: adapters, a projection that is not given
    student = base_of(config, accelerator.device)
    if config.lora_rank:
        add_lora(student, config.lora_rank, config.lora_alpha)
    if config.gradient_checkpointing:
        checkpoint_layers(student.blip2.language_model)
    views = FrozenFeatures(student, config.image_root, config.view_store)
    steps = Steps(rows, config, views, (distributed.rank(), distributed.world_size()))
    optimizer = optimizer_of(student, student.blip2.query_tokens, config.weight_decay, 1.0)
    objective = accelerator.prepare(Objective(student))
    student.train()
    ahead: list = []  # the loader's iterator, made at the first step that is still to be done

    def step_of(step: int) -> dict:
        if not ahead:
            ahead.append(drawn_ahead(steps, range(step, config.steps), config.workers))
        parts, cut = [], 0
        for own, seen in next(ahead[0]):
            told = [student.target_ids(d.text) for d in own]
            cut += sum(was_cut for _, was_cut in told)
            given = (seen, [d.question for d in own], [d.text for d in own])
            parts.append(word_loss.Part(given, sum(len(ids) for ids, _ in told)))
        loss = word_loss.learn(step, config, parts, objective, optimizer, accelerator)
        return {"lm": round(loss, 5), "cut": int(word_loss.all_sum(cut, accelerator))}

    def save(folder: Path) -> None:
        if distributed.rank() == 0:
            student.save(folder)

    return train_resumably(
        config.out,
        identity,
        student,
        optimizer,
        config.steps,
        config.checkpoint_every,
        step_of,
        save,
    )


def base_of(config: GenerativeConfig, device: torch.device | None = None) -> GenerativeStudent:
    """The student that training begins with, on a GPU if there is one and no ``device`` is told."""
    if config.language_model is None:
        if config.projection is not None:
            raise ValueError("a projection is Mini-GPT4's: it needs a language_model")
        return load_generative(config.student, config.max_tokens, device)
    with whole_checkpoint(f"{config.student} or {config.language_model}"):
        return mini_gpt4(
            config.student, config.language_model, config.projection, config.max_tokens, device
        )


def whole(row: Row) -> Row:
    """A row whose answer brings its rationale along: both are what a generative student says."""
    if row.rationale:
        return replace(row, answer=f"{row.answer} Rationale: {row.rationale}", rationale="")
    return row


if __name__ == "__main__":
    train(read_config(sys.argv[1], GenerativeConfig))
