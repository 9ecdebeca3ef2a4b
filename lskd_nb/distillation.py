"""Distillation: the student learns the filtered corpus from images with its regions drawn on them (LSKD, section 3.3).

Each step draws rows, shuffles which regions are shown and under which ids, and sums BLIP-2's losses. The vision encoder is
frozen. Three choices go beyond the published recipe, each a parameter:

- rows of one image are never each other's negatives in ITC, and ITM gets *region swaps* as hard negatives: the same text with
  two ids exchanged, which is wrong about this very image;
- the LM loss also runs *question-conditioned*: the queries see the question before the answer and rationale are generated;
- a share of each batch rehearses plain captions and questions, so that the student does not forget what it could do.

Run as ``python -m lskd_nb.distillation CONFIG.json``: it writes ``metrics.jsonl`` as it goes and a checkpoint every so many
steps, and a killed run goes on from there with the same numbers.
"""

import hashlib
import json
import math
import os
import shutil
import sys
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lskd_nb.batches import Drawn, batch_at, by_question, corpus_rows, image_number, rehearsal_rows
from lskd_nb.records import atomic_path
from lskd_nb.student import Student, autocast, itc_loss, lm_loss, load_student
from lskd_nb.views import FrozenViews

CHECKPOINT, IDENTITY = "checkpoint.pt", "trained_from.json"


@dataclass(frozen=True)
class DistillationConfig:
    """Everything a run of distillation depends on."""

    student: str  # name or folder of the base
    corpus: str  # Parquet, records.CORPUS
    image_root: str
    out: str  # folder of the trained student
    steps: int
    batch: int = 64
    lr: float = 1e-5
    min_lr: float = 1e-6
    weight_decay: float = 0.05
    warmup: int = 0
    seed: int = 0
    itc: float = 1.0  # weights of the losses
    itm: float = 1.0
    lm: float = 1.0
    lm_conditioned: float = 0.0
    swaps: float = 0.0  # share of ITM's second negatives that are region swaps
    exchanges: float = 0.0  # share of its first ones that have another row's answer or rationale
    embedding_lr: float = 1.0  # of the word embeddings, as a multiple: ids are words whose meaning is all new
    rehearsal: str | None = None  # Parquet of plain image-text pairs: image, question, text
    rehearsal_share: float = 0.0
    views: int = 0  # fixed views per row, 0: a fresh one each time
    view_store: str | None = None
    checkpoint_every: int = 50
    max_tokens: int = 128
    threads: int = 0  # 0: torch's choice


def losses(student: Student, image: Tensor, batch: list[Drawn], config: DistillationConfig, rng: np.random.Generator) -> dict[str, Tensor]:
    """ITC, ITM, LM and question-conditioned LM of a batch; ``image`` is (B, patches + 1, width)."""
    size, seen = len(batch), student.look(image)
    texts = student.tokenize([d.question for d in batch], [d.text for d in batch])
    image_ids = torch.tensor([image_number(d.view.image) for d in batch], device=image.device)
    itc, similarity = itc_loss(student.query_features(seen), student.text_features(texts), image_ids, student.temperature)
    three = [(d.question, d.text) for d in batch], *negative_texts(batch, similarity, config.swaps, config.exchanges, rng)
    by_image = [three[k][i] for i in range(size) for k in range(3)]
    match = student.itm_logits(seen, student.tokenize(*zip(*by_image, strict=True)))
    target = torch.zeros(3 * size, dtype=torch.long, device=image.device)
    target[::3] = 1
    found = {"itc": itc, "itm": F.cross_entropy(match, target)}
    for name, conditioned in (("lm", False), ("lm_conditioned", True)):
        if getattr(config, name) > 0:
            log_probability, counted = student.lm_log_probabilities(seen, texts, conditioned)
            found[name] = lm_loss(log_probability, counted, texts.ids[:, 1:])
    return found


def negative_texts(
    batch: list[Drawn], similarity: Tensor, swaps: float, exchanges: float, rng: np.random.Generator
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Two wrong (question, text) for each image: hard ones of the batch, as ITC finds them like the image, or the row's own.

    BLIP-2 draws a hard text for each image and a hard image for each text. Both are pairs of the batch that do not belong together;
    drawn by image, the features of each image are used where they are. Of the first negatives a share ``exchanges`` is the row's
    exchange, of the second ones a share ``swaps`` its region swap, where it has them.
    """
    hard = torch.multinomial(similarity.softmax(1), 2, replacement=True).tolist()
    chosen: tuple[list[tuple[str, str]], list[tuple[str, str]]] = ([], [])
    for row, others in zip(batch, hard, strict=True):
        for place, (own, share) in enumerate(((row.exchanged, exchanges), (row.swapped, swaps))):
            other = batch[others[place]]
            chosen[place].append(own if own is not None and rng.random() < share else (other.question, other.text))
    return chosen


def learning_rate(step: int, config: DistillationConfig) -> float:
    """Linear warm-up, then cosine from ``lr`` to ``min_lr``."""
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    progress = (step - config.warmup) / max(config.steps - config.warmup, 1)
    return config.min_lr + (config.lr - config.min_lr) * 0.5 * (1 + math.cos(math.pi * progress))


def train(config: DistillationConfig) -> Path:
    """Train, or go on training, and save the student under ``config.out``; returns that folder."""
    out = Path(config.out)
    if finished(config):
        return out
    if config.threads:
        torch.set_num_threads(config.threads)
    work = out.with_name(out.name + ".training")
    work.mkdir(parents=True, exist_ok=True)
    student = load_student(config.student, config.max_tokens)
    if torch.cuda.is_available():
        student.cuda()
    rows = corpus_rows(config.corpus)
    plain = rehearsal_rows(config.rehearsal) if config.rehearsal else []
    views = FrozenViews(student, config.image_root, config.view_store)
    asked = by_question([*rows, *plain])
    optimizer = optimizer_of(student, student.word_embeddings, config.weight_decay, config.embedding_lr)
    torch.manual_seed(config.seed)
    trained_from = identity_of(config)
    begin = _resume(work, trained_from, student, optimizer)
    student.train()
    started = time.time()
    for step in range(begin, config.steps):
        batch = batch_at(step, rows, plain, asked, config.batch, config.rehearsal_share, config.views, config.seed)
        line = _step(step, config, student, optimizer, views, batch)
        with open(work / "metrics.jsonl", "a") as log:
            log.write(json.dumps(line | {"seconds": round(time.time() - started, 2)}) + "\n")
        if (step + 1) % config.checkpoint_every == 0 and step + 1 < config.steps:
            _checkpoint(work, step + 1, trained_from, student, optimizer)
    student.eval()
    student.save(work)
    (work / CHECKPOINT).unlink(missing_ok=True)
    (work / IDENTITY).write_text(trained_from)
    if out.exists():
        shutil.rmtree(out)
    os.replace(work, out)
    return out


def finished(config: DistillationConfig) -> bool:
    """Whether ``config.out`` holds the student that this very configuration trains from these very files."""
    told = Path(config.out) / IDENTITY
    return told.exists() and told.read_text() == identity_of(config)


def identity_of(config: DistillationConfig) -> str:
    """What a trained student depends on, as JSON: the configuration, less where and how fast it runs, and its files' hashes."""
    recipe = {k: v for k, v in asdict(config).items() if k not in ("out", "threads", "checkpoint_every", "view_store")}
    hashes = {p: hashlib.sha256(Path(p).read_bytes()).hexdigest() for p in (config.corpus, config.rehearsal) if p}
    return json.dumps(recipe | {"files": hashes}, indent=1, sort_keys=True)


def optimizer_of(model: nn.Module, words: nn.Parameter, weight_decay: float, embedding_lr: float) -> torch.optim.AdamW:
    """AdamW over what is trained; the word embeddings are a group whose rate ``set_learning_rate`` multiplies by ``embedding_lr``."""
    others = [p for p in model.parameters() if p.requires_grad and p is not words]
    groups = [{"params": [words], "multiple": embedding_lr}, {"params": others, "multiple": 1.0}]
    return torch.optim.AdamW(groups, weight_decay=weight_decay, betas=(0.9, 0.98))


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate * group["multiple"]


def clip_gradients(optimizer: torch.optim.Optimizer, norm: float = 1.0) -> None:
    nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], norm)


def _step(step: int, config: DistillationConfig, student: Student, optimizer: torch.optim.Optimizer, views: FrozenViews,
          batch: list[Drawn]) -> dict:
    set_learning_rate(optimizer, learning_rate(step, config))
    image = views.features([d.view for d in batch])
    rng = np.random.default_rng([config.seed, 3, step])
    with autocast(student.device):
        parts = losses(student, image, batch, config, rng)
        total = sum(getattr(config, name) * value for name, value in parts.items())
    total.backward()
    clip_gradients(optimizer)
    optimizer.step()
    optimizer.zero_grad()
    student.temperature.data.clamp_(0.001, 0.5)
    return {"step": step + 1, **{name: round(value.item(), 5) for name, value in parts.items()}}


def _checkpoint(work: Path, step: int, identity: str, student: Student, optimizer) -> None:
    state = {
        "step": step,
        "identity": identity,
        "weights": {n: p.detach() for n, p in student.named_parameters() if p.requires_grad},
        "optimizer": optimizer.state_dict(),
        "rng": torch.get_rng_state(),
    }
    with atomic_path(work / CHECKPOINT) as temporary:
        torch.save(state, temporary)


def _resume(work: Path, identity: str, student: Student, optimizer) -> int:
    """The step to go on from; 0 where there is no checkpoint of this configuration."""
    path, metrics = work / CHECKPOINT, work / "metrics.jsonl"
    step = 0
    if path.exists():
        try:
            state = torch.load(path, weights_only=True)
        except Exception as error:
            raise ValueError(f"{path} is not a readable checkpoint ({error}); remove it to train from the start") from error
        if state.get("identity") == identity:
            step = state["step"]
            named = dict(student.named_parameters())
            with torch.no_grad():
                for name, weight in state["weights"].items():
                    named[name].copy_(weight)
            optimizer.load_state_dict(state["optimizer"])
            torch.set_rng_state(state["rng"])
    kept = metrics.read_text().splitlines()[:step] if metrics.exists() else []
    metrics.write_text("".join(line + "\n" for line in kept))
    return step


def read_config(path: str | Path) -> DistillationConfig:
    """Read a JSON configuration. Raises ``ValueError`` naming unknown or missing keys."""
    given = json.loads(Path(path).read_text())
    known = {f.name for f in fields(DistillationConfig)}
    if unknown := set(given) - known:
        raise ValueError(f"{path}: unknown keys {sorted(unknown)}; known are {sorted(known)}")
    try:
        return DistillationConfig(**given)
    except TypeError as error:
        raise ValueError(f"{path}: {error}") from error


if __name__ == "__main__":
    train(read_config(sys.argv[1]))
