"""Training the critic on labelled triples, in a process of its own.

Each step draws examples, tells some accepted ones of a wrong region (``region_swapped``), and sums
the three losses of ``critic.model``. The vision encoder is frozen. Our additions to the published
recipe are these swaps, several fixed numberings of an image's regions (``shuffles``) and a learning
rate of their own for the word embeddings; as published, regions are shuffled anew at each step
(``fresh_shuffles``).

Run as ``python -m lskd_nb.critic.training CONFIG.json``, or by ``accelerate launch -m`` in any
number of processes, each of which has its part of the rows: it writes ``metrics.jsonl`` as it goes
and a checkpoint every so many steps, and a killed run goes on from there with the same numbers.
Without dropout the losses are those of a single process.
"""

import json
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import torch
from pydantic import ConfigDict
from torch import Tensor, nn
from torch.utils.data import Dataset

from lskd_nb.critic.model import (
    Critic,
    CriticExample,
    Drawing,
    as_drawn,
    critic_loss,
    critic_losses,
    ids_shuffled,
    region_swapped,
)
from lskd_nb.records import REGION, hash_of, read_parquet, write_parquet
from lskd_nb.regions import region_of
from lskd_nb.students.blip2 import autocast
from lskd_nb.students.loading import load_student
from lskd_nb.students.views import FrozenFeatures, View, encode_seen
from lskd_nb.training import distributed
from lskd_nb.training.loop import (
    IDENTITY,
    drawn_ahead,
    learn_from_parts,
    learning_rate,
    optimizer_of,
    read_config,
    set_learning_rate,
    train_resumably,
    trained,
)

EXAMPLES = pa.schema(
    [
        ("image", pa.string()),
        ("regions", pa.list_(REGION)),  # those that may be drawn
        ("question", pa.string()),
        ("text", pa.string()),  # answer and rationale, as the critic reads them
        ("accept", pa.float32()),
        ("qa_score", pa.float32()),
        ("rationale_score", pa.float32()),
    ]
)


@dataclass(frozen=True)
class CriticConfig:
    """Everything a critic's training depends on."""

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)
    module: ClassVar[str] = "lskd_nb.critic.training"

    student: str  # name or folder of the BLIP-2 it starts from
    examples: str  # Parquet, EXAMPLES
    image_root: str
    out: str  # folder of the trained critic
    steps: int
    batch: int = 64  # examples of a step, all processes together
    accumulation: int = 1  # parts that a batch is learned in, one after the other
    lr: float = 1e-5
    min_lr: float = 0.0
    weight_decay: float = 0.05
    beta2: float = 0.999  # AdamW's
    clip_norm: float = 0.0  # of the gradients of a step, at most; 0: as they are
    warmup: int = 0
    seed: int = 0
    swaps: float = 0.0  # share of a batch: region swaps of accepted triples, as rejects
    embedding_lr: float = 1.0  # of the word embeddings, as a multiple
    # further fixed numberings of each image's regions; a label holds under any of them
    shuffles: int = 0
    fresh_shuffles: bool = False  # instead: regions in a new random order at each step
    drawn_at_most: int = 0  # regions, the mentioned ones first; 0: all that were offered
    mentioned_share: float = 0.0  # share of draws that show nothing else (``Drawing``)
    head_hidden: int = 0  # width of a hidden layer of the two regressions; 0: none
    view_store: str | None = None
    checkpoint_every: int = 500  # steps; one file, replaced each time; 0: never
    max_tokens: int = 128
    image_size: int | None = None  # pixels; None: the base's own
    bf16: bool = True  # where the hardware multiplies it fast; weights and sums stay in float32
    # processes that draw images ahead, for each training process; of no use where features are
    # stored
    workers: int = 0
    threads: int = 0  # 0: torch's choice

    @property
    def drawing(self) -> Drawing:
        return Drawing(self.drawn_at_most, self.mentioned_share)

    def identity(self) -> str:
        """What a trained critic depends on, as JSON: the configuration, less where and how fast it
        runs, and the hashes of its examples and of what its base was trained from, if it was.
        """
        recipe = {k: v for k, v in asdict(self).items() if k not in FREE}
        # a student that was trained is known by what from: its folder may hold another one by now
        files = [Path(self.examples), Path(self.student) / IDENTITY]
        hashes = {str(path): hash_of([path]) for path in files if path.exists()}
        return json.dumps(recipe | {"files": hashes}, indent=1, sort_keys=True)


# fields on which no number depends
FREE = ("out", "threads", "workers", "checkpoint_every", "view_store")


# ----------------------------------------------------------------------------------- what it reads


def write_examples(rows: Iterable[CriticExample], path: str | Path) -> Path:
    """Write labelled examples as a file that ``CriticConfig.examples`` may name."""
    told = [
        dict(
            image=r.view.image,
            regions=[
                dict(id=g.id, box=list(g.box), label=g.label, score=g.score) for g in r.view.regions
            ],
            question=r.question,
            text=r.text,
            accept=r.accept,
            qa_score=r.qa_score,
            rationale_score=r.rationale_score,
        )
        for r in rows
    ]
    write_parquet(told, path, EXAMPLES)
    return Path(path)


def read_examples(path: str | Path) -> list[CriticExample]:
    """Labelled examples, in the file's order.

    Raises ``ValueError`` naming file and row for an example without a label, or where there is
    none at all.
    """
    rows = []
    for number, r in enumerate(read_parquet(path, EXAMPLES).to_pylist()):
        labels = r["accept"], r["qa_score"], r["rationale_score"]
        if any(value is None or not math.isfinite(value) for value in labels):
            raise ValueError(f"{path}, row {number}: its labels are {labels}, expected numbers")
        view = View(r["image"], tuple(region_of(g) for g in r["regions"]))
        rows.append(CriticExample(view, r["question"], r["text"], *labels))
    if not rows:
        raise ValueError(f"{path} has no examples: the critic needs labels to learn from")
    return rows


def training_views(rows: Iterable[CriticExample], config: CriticConfig) -> Iterator[View]:
    """Every view that training may ask for: each example's own, and those of its further
    numberings.

    Raises ``ValueError`` where each step draws new ones: they can't be computed before.
    """
    if config.fresh_shuffles:
        raise ValueError(
            "fresh_shuffles draws a new view at each step: there is nothing to store;"
            " set store_views to false"
        )
    for row in rows:
        drawn = as_drawn(row, config.drawing)
        for which in range(config.shuffles + 1):
            yield ids_shuffled(drawn, which).view


def all_views(
    train: Iterable[CriticExample], held_out: Iterable[CriticExample], config: CriticConfig
) -> Iterator[View]:
    """Every view of a training, and those under which the examples held out are scored."""
    yield from (as_drawn(row, config.drawing).view for row in held_out)
    yield from training_views(train, config)


def batch_at(step: int, rows: Sequence[CriticExample], config: CriticConfig) -> list[CriticExample]:
    """The examples of a step, a function of seed and step alone: resumed runs see what others
    would.
    """
    rng = np.random.default_rng([config.seed, 4, step])
    picked = rng.integers(len(rows), size=config.batch)
    numberings = rng.integers(config.shuffles + 1, size=config.batch)
    batch = []
    for row, which in zip(picked, numberings, strict=True):
        if config.fresh_shuffles:
            batch.append(as_drawn(rows[row], config.drawing, rng))
        else:
            batch.append(ids_shuffled(as_drawn(rows[row], config.drawing), int(which)))
    for place in range(round(config.swaps * config.batch)):
        if batch[place].accept and (wrong := region_swapped(batch[place], rng)) is not None:
            batch[place] = wrong
    return batch


@dataclass(frozen=True)
class Steps(Dataset):
    """What each step needs before the model is asked: this process's rows of each part of the
    batch, with their images, drawn or as stored features.
    """

    rows: list[CriticExample]
    config: CriticConfig
    views: FrozenFeatures
    place: tuple[int, int]  # this process, and how many there are

    def __getitem__(self, step: int) -> list[tuple[list[CriticExample], Tensor]]:
        told = self.config
        batch = batch_at(step, self.rows, told)
        places = distributed.own_places(told.batch, told.accumulation, *self.place)
        own = [[batch[i] for i in part] for part in places]
        return [(rows, self.views.stored_or_drawn([r.view for r in rows])) for rows in own]


# ------------------------------------------------------------------------------------ the training


class Objective(nn.Module):
    """A process's part of a step as a module to wrap: drawn images or stored features -> losses."""

    def __init__(self, critic: Critic, bf16: bool):
        super().__init__()
        self.critic, self.bf16 = critic, bf16

    def forward(self, seen: Tensor, batch: Sequence[CriticExample]) -> dict[str, Tensor]:
        """``seen`` is (K, S, S, 3) uint8, drawn, or (K, P, D), stored."""
        student = self.critic.blip2
        features_KPD = encode_seen(student, seen, self.bf16)
        with autocast(student.device, self.bf16):
            parts = critic_losses(self.critic, features_KPD, batch)
            return {"loss": critic_loss(parts), **parts}


def train(config: CriticConfig) -> Path:
    """Train, or go on training, and save the critic under ``config.out``; returns that folder.

    Raises ``ValueError`` where ``batch`` can't be cut into ``accumulation`` equal parts for the
    processes, where both kinds of shuffles are asked for, or where a loss is no number.
    """
    if trained(config.out, config.identity()):
        return Path(config.out)
    if config.fresh_shuffles and config.shuffles:
        raise ValueError(
            f"fresh_shuffles and shuffles {config.shuffles}: regions are numbered anew at each"
            " step, or in so many fixed ways; set one of the two to false or 0"
        )
    if config.threads:
        torch.set_num_threads(config.threads)
    accelerator = distributed.training_processes(config.batch, config.accumulation)
    rows = read_examples(config.examples)
    torch.manual_seed(config.seed)
    student = load_student(config.student, config.max_tokens, image_size=config.image_size)
    critic = Critic(student, config.head_hidden, config.drawing)
    views = FrozenFeatures(student, config.image_root, config.view_store)
    steps = Steps(rows, config, views, (distributed.rank(), distributed.world_size()))
    critic.to(accelerator.device)
    optimizer = optimizer_of(
        critic,
        student.word_embeddings,
        config.weight_decay,
        config.embedding_lr,
        (0.9, config.beta2),
    )
    objective = accelerator.prepare(Objective(critic, config.bf16))
    torch.manual_seed(config.seed + distributed.rank())
    critic.train()
    ahead: list = []  # the loader's iterator, made at the first step that is still to be done

    def step_of(step: int) -> dict:
        if not ahead:
            ahead.append(drawn_ahead(steps, range(step, config.steps), config.workers))
        set_learning_rate(optimizer, learning_rate(step, config))
        return learn_from_parts(
            next(ahead[0]),
            lambda part: objective(part[1], part[0]),
            lambda found: found["loss"],
            objective,
            optimizer,
            accelerator,
            config.clip_norm,
        )

    def save(folder: Path) -> None:
        if distributed.rank() == 0:
            critic.eval().save(folder)

    return train_resumably(
        config.out,
        config.identity(),
        critic,
        optimizer,
        config.steps,
        config.checkpoint_every,
        step_of,
        save,
    )


if __name__ == "__main__":
    train(read_config(sys.argv[1], CriticConfig))
