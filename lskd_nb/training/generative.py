"""Training generative students: the language-model loss on their answers (LSKD, section 4.3).

Only "Answer: ... Rationale: ..." counts. Query tokens, Q-Former and projection are trained; LoRA
adapters (Hu et al. 2021) in the language model too, where ``lora_rank`` is given. Run as ``python
-m lskd_nb.training.generative CONFIG.json``; a killed run goes on with the same numbers.
"""

import json
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from pydantic import ConfigDict

from lskd_nb.records import hash_of
from lskd_nb.students.blip2 import autocast
from lskd_nb.students.generative import GenerativeStudent, add_lora
from lskd_nb.students.loading import load_generative
from lskd_nb.students.minigpt4 import mini_gpt4
from lskd_nb.students.views import FrozenFeatures
from lskd_nb.training.batches import Row, batch_at, corpus_rows
from lskd_nb.training.loop import (
    clip_gradients,
    learning_rate,
    optimizer_of,
    read_config,
    set_learning_rate,
    train_resumably,
    trained,
)


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
    batch: int = 64
    lr: float = 1e-5
    min_lr: float = 1e-6
    weight_decay: float = 0.05
    warmup: int = 0
    seed: int = 0
    max_tokens: int = 128
    views: int = 0  # fixed views per row, 0: a fresh one each time
    view_store: str | None = None
    checkpoint_every: int = 500
    threads: int = 0  # 0: torch's choice

    def identity(self) -> str:
        """What a trained student depends on, as JSON: the configuration, less where and how fast it
        runs, and its files' hashes.
        """
        recipe = {
            k: v
            for k, v in asdict(self).items()
            if k not in ("out", "threads", "checkpoint_every", "view_store")
        }
        return json.dumps(
            recipe
            | {"files": {f: hash_of([Path(f)]) for f in (self.corpus, self.projection) if f}},
            indent=1,
            sort_keys=True,
        )


def train(config: GenerativeConfig) -> Path:
    """Train, or go on training, and save the student under ``config.out``; returns that folder.

    A line of metrics has the loss of its step, and how many of its targets were cut at
    ``max_tokens``.
    """
    identity = config.identity()
    if trained(config.out, identity):
        return Path(config.out)
    if config.threads:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)  # of what starts fresh: adapters, a projection that is not given
    student = base_of(config)
    if config.lora_rank:
        add_lora(student, config.lora_rank, config.lora_alpha)
    rows = [whole(row) for row in corpus_rows(config.corpus)]
    views = FrozenFeatures(student, config.image_root, config.view_store)
    optimizer = optimizer_of(student, student.blip2.query_tokens, config.weight_decay, 1.0)
    student.train()

    def step_of(step: int) -> dict:
        batch = batch_at(step, rows, [], {}, config.batch, 0.0, config.views, config.seed)
        set_learning_rate(optimizer, learning_rate(step, config))
        image = views.features([d.view for d in batch])
        # dropout is a function of the step
        torch.manual_seed(int(np.random.SeedSequence([config.seed, step]).generate_state(1)[0]))
        with autocast(student.device):
            loss = student.loss(image, [d.question for d in batch], [d.text for d in batch])
        loss.backward()
        clip_gradients(optimizer)
        optimizer.step()
        optimizer.zero_grad()
        return {
            "lm": round(loss.item(), 5),
            "cut": sum(student.target_ids(d.text)[1] for d in batch),
        }

    return train_resumably(
        config.out,
        identity,
        student,
        optimizer,
        config.steps,
        config.checkpoint_every,
        step_of,
        student.save,
    )


def base_of(config: GenerativeConfig) -> GenerativeStudent:
    """The student that training begins with."""
    if config.language_model is None:
        if config.projection is not None:
            raise ValueError("a projection is Mini-GPT4's: it needs a language_model")
        return load_generative(config.student, config.max_tokens)
    return mini_gpt4(config.student, config.language_model, config.projection, config.max_tokens)


def whole(row: Row) -> Row:
    """A row whose answer brings its rationale along: both are what a generative student says."""
    if row.rationale:
        return replace(row, answer=f"{row.answer} Rationale: {row.rationale}", rationale="")
    return row


if __name__ == "__main__":
    train(read_config(sys.argv[1], GenerativeConfig))
