"""Distillation: the student learns the corpus from images with regions drawn (LSKD, section 3.3).

Each step draws rows, shuffles which regions are shown and under which ids, and sums BLIP-2's
losses. The vision encoder is frozen. These choices go beyond the published recipe, each with a
parameter:

- rows of one image are never each other's negatives in ITC, and ITM gets hard negatives that are
  wrong about this very image: *region swaps* (the same text with two ids exchanged), *exchanges*
  (another row's answer or rationale after this question) and *near misses* (those of a row that
  asks the same and gives similar reasons);
- the LM loss also runs *question-conditioned*: the queries see the question before the answer and
  rationale are generated;
- a share of each batch rehearses plain captions and questions, so that the student does not forget
  what it could do;
- what is saved may lie between the base and the trained weights, which forgets less still (WiSE-FT,
  Wortsman et al. 2022).

Run as ``python -m lskd_nb.training.distillation CONFIG.json``, or by ``accelerate launch -m`` in
any number of processes: it writes ``metrics.jsonl`` as it goes and a checkpoint every so many
steps, and a killed run goes on from there with the same numbers. Without dropout the losses are
those of a single process.

Letters of shapes are those of ``students.blip2``; of W processes each has K = B / W images.
"""

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import ConfigDict
from torch import Tensor, nn
from torch.utils.data import Dataset

from lskd_nb.records import hash_of
from lskd_nb.students.blip2 import Student, autocast, itc_loss, lm_loss
from lskd_nb.students.loading import fresh_told, load_student
from lskd_nb.students.views import FrozenFeatures, encode_seen
from lskd_nb.training import distributed
from lskd_nb.training.batches import (
    Row,
    Sample,
    batch_at,
    by_question,
    corpus_rows,
    image_index,
    rehearsal_rows,
)
from lskd_nb.training.loop import (
    drawn_ahead,
    learn_from_parts,
    learning_rate,
    optimizer_of,
    read_config,
    set_learning_rate,
    train_resumably,
    trained,
)


@dataclass(frozen=True)
class DistillationConfig:
    """Everything a run of distillation depends on.

    Defaults are the reference release's, except ``batch``, ``image_size``, ``bf16`` and ``warmup``
    (``training.published`` tells what differs).
    """

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)
    module: ClassVar[str] = "lskd_nb.training.distillation"

    student: str  # name or folder of the base
    corpus: str  # Parquet, records.CORPUS
    image_root: str
    out: str  # folder of the trained student
    steps: int
    batch: int = 64  # rows of a step, all processes together
    # parts that a batch is learned in, one after the other, to save memory; each has its negatives
    # within itself, so ITC compares that many times fewer rows
    accumulation: int = 1
    lr: float = 1e-5
    min_lr: float = 1e-6
    weight_decay: float = 0.05
    beta2: float = 0.999  # AdamW's; 0.98 forgets the steepness of early steps sooner
    clip_norm: float = 0.0  # of the gradients of a step, at most; 0: as they are
    warmup: int = 0
    seed: int = 0
    itc: float = 1.0  # weights of the losses
    itm: float = 1.0
    lm: float = 1.0
    lm_conditioned: float = 0.0
    swaps: float = 0.0  # share of ITM's second negatives that are region swaps
    exchanges: float = 0.0  # share of its first ones that have another row's answer or rationale
    near_misses: float = 0.0  # share of the second ones that have those of a row with like reasons
    # of the word embeddings, as a multiple: ids are words whose meaning is all new
    embedding_lr: float = 1.0
    rehearsal: str | None = None  # Parquet of plain image-text pairs: image, question, text
    rehearsal_share: float = 0.0
    base_share: float = 0.0  # of the base in the weights that are saved
    views: int = 0  # fixed views per row, 0: a fresh one each time
    view_store: str | None = None
    # steps; 0: never. One file, replaced each time: 2.2 GB with ViT-G's Q-Former, so that every
    # 50th of 50,000 steps would write 2 TB for each training
    checkpoint_every: int = 1000
    prefix: str = "question: "  # before each question; the student must be asked with the same
    max_tokens: int = 128
    # pixels, the position embeddings interpolated; None: the base's own
    image_size: int | None = None
    backend: str = "hf"  # "lavis": LAVIS's own Q-Former
    bf16: bool = True  # where the hardware multiplies it fast; weights and sums stay in float32
    # weights, gradients and optimizer state parted among the processes (FSDP2), not copied
    shard: bool = False
    gradient_checkpointing: bool = False  # less memory, about a third more time
    # processes that draw images ahead, for each training process; of no use where features are
    # stored
    workers: int = 0
    threads: int = 0  # 0: torch's choice

    def __post_init__(self) -> None:
        if self.swaps + self.near_misses > 1 + 1e-9:
            raise ValueError(
                f"swaps {self.swaps:g} and near_misses {self.near_misses:g} are shares of the same"
                " negatives, ITM's second ones: together they may be 1 at most"
            )

    def identity(self) -> str:
        """What a trained student depends on, as JSON: the configuration, less where and how fast it
        runs, and its files' hashes.
        """
        recipe = {k: v for k, v in asdict(self).items() if k not in FREE}
        rehearsed = self.rehearsal if self.rehearsal_share else None
        hashes = {p: hash_of([Path(p)]) for p in (self.corpus, rehearsed) if p}
        return json.dumps(recipe | {"files": hashes}, indent=1, sort_keys=True)


# fmt: off
FREE = (  # fields on which no number depends
    "out", "threads", "workers", "checkpoint_every", "view_store", "gradient_checkpointing",
    "shard",
)
# fmt: on


def losses(
    student: Student,
    image: Tensor,
    batch: list[Sample],
    config: DistillationConfig,
    rng: np.random.Generator,
) -> dict[str, Tensor]:
    """ITC, ITM, LM and question-conditioned LM of a batch.

    ``image`` is (K, P, D), of this process's part of it. The mean over W processes is the loss of
    the batch: ITC is the whole batch's in each, the others are of the process's own rows.
    """
    seen, mine = student.image_keys_values(image), distributed.local_part(range(len(batch)))
    texts = student.tokenize([batch[i].question for i in mine], [batch[i].text for i in mine])
    image_ids_B = torch.tensor([image_index(d.view.image) for d in batch], device=image.device)
    queries_KQE, words_KE = student.query_features(seen), student.text_features(texts)
    queries_BQE = distributed.all_gather_with_gradient(queries_KQE)
    words_BE = distributed.all_gather_with_gradient(words_KE)
    itc, similarity_BB = itc_loss(queries_BQE, words_BE, image_ids_B, student.temperature)
    right = [(d.question, d.text) for d in batch]
    three = (right, *itm_negatives(batch, similarity_BB, config, rng))
    by_image = [three[k][i] for i in mine for k in range(3)]
    match_R2 = student.itm_logits(seen, student.tokenize(*zip(*by_image, strict=True)))
    target_R = torch.zeros(len(by_image), dtype=torch.long, device=image.device)
    target_R[::3] = 1
    found = {"itc": itc, "itm": F.cross_entropy(match_R2, target_R)}
    for name, conditioned in (("lm", False), ("lm_conditioned", True)):
        if getattr(config, name) > 0:
            predicted_KMV, counted_KM = student.lm_log_probabilities(seen, texts, conditioned)
            tokens = distributed.all_reduce_sum(counted_KM.sum()) / distributed.world_size()
            found[name] = lm_loss(predicted_KMV, counted_KM, texts.ids[:, 1:], tokens)
    return found


def itm_negatives(
    batch: list[Sample], similarity: Tensor, config: DistillationConfig, rng: np.random.Generator
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Two wrong (question, text) for each image: hard ones of the batch by ITC, or the row's own.

    BLIP-2 draws a hard text for each image and a hard image for each text. Both are pairs of the
    batch that do not belong together; drawn by image, the features of each image are used where
    they are. Of the first negatives a share ``exchanges`` is the row's exchange, of the second ones
    a share ``swaps`` its region swap and a share ``near_misses`` its near miss, where it has them.
    """
    likely_BB = similarity.softmax(1)
    # nan where the whole batch is of one image: then any other row will do
    any_other_BB = 1.0001 - torch.eye(len(batch), device=likely_BB.device)
    likely_BB = torch.where(likely_BB.isnan(), any_other_BB, likely_BB)
    hard_B2 = distributed.broadcast_from_first(torch.multinomial(likely_BB, 2, replacement=True))
    chosen: tuple[list[tuple[str, str]], list[tuple[str, str]]] = ([], [])
    for row, others in zip(batch, hard_B2.tolist(), strict=True):
        own = (
            ((row.exchanged, config.exchanges),),
            ((row.swapped, config.swaps), (row.near_miss, config.near_misses)),
        )
        for place, offered in enumerate(own):
            other = batch[others[place]]
            taken = (other.question, other.text)
            drawn = rng.random() if any(negative for negative, _ in offered) else 1.0
            for negative, share in offered:
                if 0 <= drawn < share and negative is not None:
                    taken = negative
                drawn -= share
            chosen[place].append(taken)
    return chosen


class Objectives(nn.Module):
    """A process's part of a step as a module to wrap: drawn images or stored features -> losses."""

    def __init__(self, student: Student, config: DistillationConfig):
        super().__init__()
        self.student, self.config = student, config

    def forward(
        self, seen: Tensor, batch: list[Sample], rng: np.random.Generator
    ) -> dict[str, Tensor]:
        """``seen`` is (K, S, S, 3) uint8, drawn, or (K, P, D), stored."""
        features_KPD = encode_seen(self.student, seen, self.config.bf16)
        with autocast(self.student.device, self.config.bf16):
            return losses(self.student, features_KPD, batch, self.config, rng)


@dataclass(frozen=True)
class Steps(Dataset):
    """What each step needs before the model is asked: the parts of its batch.

    With each part come the process's own images, drawn or as stored features.
    """

    rows: list[Row]
    plain: list[Row]
    asked: dict[str, list[Row]]
    config: DistillationConfig
    views: FrozenFeatures
    place: tuple[int, int]  # this process, and how many there are

    def __getitem__(self, step: int) -> list[tuple[list[Sample], Tensor]]:
        told = self.config
        batch = batch_at(
            step,
            self.rows,
            self.plain,
            self.asked,
            told.batch,
            told.rehearsal_share,
            told.views,
            told.seed,
            bool(told.near_misses),
        )
        size = told.batch // told.accumulation
        return [
            (part, self.views.stored_or_drawn([d.view for d in own]))
            for part in (batch[k : k + size] for k in range(0, told.batch, size))
            for own in [distributed.local_part(part, *self.place)]
        ]


def train(config: DistillationConfig) -> Path:
    """Train, or go on training, and save the student under ``config.out``; returns that folder.

    Raises ``ValueError`` where ``batch`` can't be cut into ``accumulation`` equal parts for the
    processes, or LAVIS's network is to do what it can't.
    """
    if trained(config.out, config.identity()):
        return Path(config.out)
    if config.threads:
        torch.set_num_threads(config.threads)
    if config.backend != "hf" and (config.shard or config.gradient_checkpointing):
        raise ValueError("shard and gradient_checkpointing need backend 'hf'")
    accelerator = distributed.training_processes(config.batch, config.accumulation)
    student = _base(config)
    if student.fresh and distributed.rank() == 0:
        print(fresh_told(config.student, student), flush=True)
    if config.gradient_checkpointing:
        student.blip2.qformer.gradient_checkpointing = True
    rows, plain = corpus_rows(config.corpus, config.prefix), []
    if config.rehearsal and config.rehearsal_share:
        plain = rehearsal_rows(config.rehearsal, config.prefix)
    steps = Steps(
        rows,
        plain,
        by_question([*rows, *plain]) if config.exchanges or config.near_misses else {},
        config,
        FrozenFeatures(student, config.image_root, config.view_store),
        (distributed.rank(), distributed.world_size()),
    )
    student.to(accelerator.device)
    objectives = Objectives(student, config)
    if config.shard:
        distributed.shard_model(
            objectives,
            list(student.blip2.vision_model.encoder.layers),
            [student.temperature],
            accelerator.device,
        )
    optimizer = optimizer_of(
        student,
        student.word_embeddings,
        config.weight_decay,
        config.embedding_lr,
        (0.9, config.beta2),
    )
    if not config.shard:
        objectives = accelerator.prepare(objectives)
    torch.manual_seed(config.seed + distributed.rank())
    student.train()
    ahead: list = []  # the loader's iterator, made at the first step that is still to be done

    def step_of(step: int) -> dict:
        if not ahead:
            ahead.append(drawn_ahead(steps, range(step, config.steps), config.workers))
        return _step(step, config, student, optimizer, accelerator, objectives, next(ahead[0]))

    def save(folder: Path) -> None:
        weights = {
            name: distributed.full_tensor(weight) for name, weight in student.state_dict().items()
        }
        if distributed.rank() == 0:
            trained_student = _base(config).eval()
            trained_student.load_state_dict(weights)
            if config.base_share:
                average_with_base(trained_student, _base(config), config.base_share)
            trained_student.save(folder)

    return train_resumably(
        config.out,
        config.identity(),
        student,
        optimizer,
        config.steps,
        config.checkpoint_every,
        step_of,
        save,
    )


def _base(config: DistillationConfig) -> Student:
    """The student that training begins with: what starts fresh is the same in every process, and
    each time it is asked for.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return load_student(
            config.student, config.max_tokens, image_size=config.image_size, backend=config.backend
        )


@torch.no_grad()
def average_with_base(student: Student, base: Student, share: float) -> None:
    """Move every trained weight towards the base's: (1 - share) · student + share · base."""
    for weight, old in zip(student.parameters(), base.parameters(), strict=True):
        if weight.requires_grad:
            weight.lerp_(old.to(weight.device), share)


def _step(
    step: int,
    config: DistillationConfig,
    student: Student,
    optimizer: torch.optim.Optimizer,
    accelerator,
    objectives: nn.Module,
    parts: list[tuple[list[Sample], Tensor]],
) -> dict:
    set_learning_rate(optimizer, learning_rate(step, config))
    rng = np.random.default_rng([config.seed, 3, step])
    told = learn_from_parts(
        parts,
        lambda part: objectives(part[1], part[0], rng),
        lambda found: sum(getattr(config, name) * value for name, value in found.items()),
        objectives,
        optimizer,
        accelerator,
        config.clip_norm,
    )
    student.temperature.data.clamp_(0.001, 0.5)
    return told


if __name__ == "__main__":
    train(read_config(sys.argv[1], DistillationConfig))
