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

import json
import math
import os
import shutil
import sys
import time
import zlib
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lskd_nb.records import CORPUS, atomic_path, read_parquet
from lskd_nb.regions import mentions, region_of, renumber, shuffle_ids
from lskd_nb.student import Student, autocast, counted_tokens, itc_loss, lm_loss, lm_mask, load_student
from lskd_nb.views import FrozenViews, View

CHECKPOINT = "checkpoint.pt"


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
    swaps: float = 0.0  # share of ITM's negative texts that are region swaps
    rehearsal: str | None = None  # Parquet of plain image-text pairs: image, question, text
    rehearsal_share: float = 0.0
    views: int = 0  # fixed views per row, 0: a fresh one each time
    view_store: str | None = None
    checkpoint_every: int = 50
    max_tokens: int = 128
    threads: int = 0  # 0: torch's choice


@dataclass(frozen=True)
class Row:
    """One text about one image. ``regions`` may be drawn; ids in the texts are theirs."""

    image: str
    question: str
    answer: str
    rationale: str
    regions: tuple
    mentioned: tuple[int, ...]


@dataclass(frozen=True)
class Drawn:
    """A row as one step sees it: its view, and texts renumbered to the view's ids. ``swapped`` is None without a swap."""

    view: View
    question: str
    text: str
    swapped: tuple[str, str] | None


def corpus_rows(path: str | Path) -> list[Row]:
    """Rows of a corpus. Raises ``ValueError`` naming the triple whose texts mention a region it does not have."""
    rows = []
    for r in read_parquet(path, CORPUS).to_pylist():
        regions = tuple(region_of(g) for g in r["references"])
        mentioned = tuple(mentions(" ".join((r["question"], r["answer"], r["rationale"]))))
        unknown = set(mentioned) - {g.id for g in regions}
        if unknown:
            raise ValueError(f"{path}: triple {r['triple_id']} mentions the regions {sorted(unknown)} that it has no boxes for")
        rows.append(Row(r["image"], r["question"], r["answer"], r["rationale"], regions, mentioned))
    return rows


def rehearsal_rows(path: str | Path) -> list[Row]:
    """Plain pairs (image, question, text); the question may be empty. Nothing is drawn."""
    import pyarrow.parquet as pq

    return [Row(r["image"], r["question"], r["text"], "", (), ()) for r in pq.read_table(path).to_pylist()]


def answer_text(answer: str, rationale: str = "") -> str:
    """What follows the question: with the rationale or without (LSKD trains on either, half each)."""
    return f"Answer: {answer} Rationale: {rationale}" if rationale else f"Answer: {answer}"


def fixed_view(row: Row, which: int) -> View:
    """One of a row's fixed shuffles, the same whatever is trained from it."""
    return View(row.image, _fixed_shuffle(row, which)[0]) if row.regions else View(row.image)


def _fixed_shuffle(row: Row, which: int):
    mentioned = row.mentioned if which % 2 else ()  # in turn: all regions, the mentioned ones
    return shuffle_ids(row.regions, mentioned, np.random.default_rng([_number(row.image), which, *row.mentioned]) if which % 2 else
                       np.random.default_rng([_number(row.image), which]), share_mentioned=1.0)


def drawn_row(row: Row, views: int, rng: np.random.Generator) -> Drawn:
    """Shuffle a row's regions and renumber its texts. With ``views`` > 0 the shuffle is one of that many fixed ones."""
    if not row.regions:
        text = answer_text(row.answer) if row.question else row.answer
        return Drawn(View(row.image), row.question, text, None)
    regions, mapping = _fixed_shuffle(row, int(rng.integers(views))) if views else shuffle_ids(row.regions, row.mentioned, rng)
    text = answer_text(row.answer, row.rationale if rng.random() < 0.5 else "")
    question, text = renumber(row.question, mapping), renumber(text, mapping)
    return Drawn(View(row.image, regions), question, text, _swap(question, text, len(regions), rng))


def _number(text: str) -> int:
    return zlib.crc32(text.encode())


def _swap(question: str, text: str, drawn: int, rng: np.random.Generator) -> tuple[str, str] | None:
    """Exchange a mentioned id with another drawn one, in the question and the rest."""
    mentioned = mentions(question) or mentions(text)
    if not mentioned or drawn < 2:
        return None
    one = mentioned[int(rng.integers(len(mentioned)))]
    other = int(rng.choice([i for i in range(drawn) if i != one]))
    mapping = {i: i for i in range(drawn)} | {one: other, other: one}
    return renumber(question, mapping), renumber(text, mapping)


def batch_at(step: int, config: DistillationConfig, rows: list[Row], plain: list[Row]) -> list[Drawn]:
    """The rows of a step, a function of the seed and the step alone: a resumed run sees what an unbroken one would."""
    rng = np.random.default_rng([config.seed, 1, step])
    rehearsed = round(config.batch * config.rehearsal_share) if plain else 0
    picked = [rows[i] for i in _epoch_indices(len(rows), config.batch - rehearsed, step, config.seed)]
    picked += [plain[i] for i in rng.integers(len(plain), size=rehearsed)] if rehearsed else []
    return [drawn_row(row, config.views, rng) for row in picked]


def _epoch_indices(size: int, batch: int, step: int, seed: int) -> list[int]:
    """Indices of one step when rows are shuffled anew each epoch and epochs follow each other without a gap."""
    positions = range(step * batch, (step + 1) * batch)
    orders = {e: np.random.default_rng([seed, 2, e]).permutation(size) for e in {p // size for p in positions}}
    return [int(orders[p // size][p % size]) for p in positions]


def losses(student: Student, image: Tensor, batch: list[Drawn], config: DistillationConfig, rng: np.random.Generator) -> dict[str, Tensor]:
    """ITC, ITM, LM and question-conditioned LM of a batch; ``image`` is (B, patches + 1, width)."""
    size, queries = len(batch), student.blip2.query_tokens.shape[1]
    texts = student.tokenize([d.question for d in batch], [d.text for d in batch])
    image_ids = torch.tensor([_number(d.view.image) for d in batch], device=image.device)
    if config.lm > 0:  # in the published LM pass the text only follows the queries: they come out as without it
        outputs = student.fused(image, student.start_ids(texts), lm_mask(texts.mask, torch.zeros_like(texts.prefix), queries))
        features = student.project_queries(outputs[:, :queries])
    else:
        features = student.query_features(image)
    itc, similarity = itc_loss(features, student.text_features(texts), image_ids, student.temperature)
    found = {"itc": itc}
    if config.lm > 0:
        found["lm"] = lm_loss(student.predict(outputs[:, queries:]), counted_tokens(texts, False), texts.ids[:, 1:])
    negatives = negative_texts(batch, similarity, config.swaps, rng)
    three = [(d.question, d.text) for d in batch], *negatives
    by_image = [three[k][i] for i in range(size) for k in range(3)]
    match = student.itm_logits(image, student.tokenize(*zip(*by_image, strict=True)))
    target = torch.zeros(3 * size, dtype=torch.long, device=image.device)
    target[::3] = 1
    found["itm"] = F.cross_entropy(match, target)
    if config.lm_conditioned > 0:
        log_probability, counted = student.lm_log_probabilities(image, texts, True)
        found["lm_conditioned"] = lm_loss(log_probability, counted, texts.ids[:, 1:])
    return found


def negative_texts(
    batch: list[Drawn], similarity: Tensor, swaps: float, rng: np.random.Generator
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Two wrong (question, text) for each image: hard ones of the batch, as ITC finds them like the image, the second one a swap.

    BLIP-2 draws a hard text for each image and a hard image for each text. Both are pairs of the batch that do not belong together;
    drawn by image, the features of each image are used where they are.
    """
    hard = torch.multinomial(similarity.softmax(1), 2, replacement=True).tolist()
    first = [(batch[a].question, batch[a].text) for a, _ in hard]
    second = [
        d.swapped if d.swapped is not None and rng.random() < swaps else (batch[b].question, batch[b].text)
        for d, (_, b) in zip(batch, hard, strict=True)
    ]
    return first, second


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
    parameters = [p for p in student.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=config.lr, weight_decay=config.weight_decay, betas=(0.9, 0.98))
    torch.manual_seed(config.seed)
    begin = _resume(work, config, student, optimizer)
    student.train()
    started = time.time()
    for step in range(begin, config.steps):
        line = _step(step, config, student, optimizer, parameters, views, rows, plain)
        with open(work / "metrics.jsonl", "a") as log:
            log.write(json.dumps(line | {"seconds": round(time.time() - started, 2)}) + "\n")
        if (step + 1) % config.checkpoint_every == 0 and step + 1 < config.steps:
            _checkpoint(work, step + 1, config, student, optimizer)
    student.eval()
    student.save(work)
    (work / CHECKPOINT).unlink(missing_ok=True)
    (work / "config_of_training.json").write_text(json.dumps(asdict(config), indent=1))
    if out.exists():
        shutil.rmtree(out)
    os.replace(work, out)
    return out


def finished(config: DistillationConfig) -> bool:
    """Whether ``config.out`` holds the student that this very configuration trains."""
    told = Path(config.out) / "config_of_training.json"
    return told.exists() and json.loads(told.read_text()) == asdict(config)


def _step(step, config, student, optimizer, parameters, views, rows, plain) -> dict:
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(step, config)
    batch = batch_at(step, config, rows, plain)
    image = views.features([d.view for d in batch])
    rng = np.random.default_rng([config.seed, 3, step])
    with autocast(student.device):
        parts = losses(student, image, batch, config, rng)
        total = sum(getattr(config, name) * value for name, value in parts.items())
    total.backward()
    nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
    optimizer.zero_grad()
    student.temperature.data.clamp_(0.001, 0.5)
    return {"step": step + 1, **{name: round(value.item(), 5) for name, value in parts.items()}}


def _checkpoint(work: Path, step: int, config: DistillationConfig, student: Student, optimizer) -> None:
    state = {
        "step": step,
        "config": json.dumps(asdict(config), sort_keys=True),
        "weights": {n: p.detach() for n, p in student.named_parameters() if p.requires_grad},
        "optimizer": optimizer.state_dict(),
        "rng": torch.get_rng_state(),
    }
    with atomic_path(work / CHECKPOINT) as temporary:
        torch.save(state, temporary)


def _resume(work: Path, config: DistillationConfig, student: Student, optimizer) -> int:
    """The step to go on from; 0 where there is no checkpoint of this configuration."""
    path, metrics = work / CHECKPOINT, work / "metrics.jsonl"
    step = 0
    if path.exists():
        try:
            state = torch.load(path, weights_only=True)
        except Exception as error:
            raise ValueError(f"{path} is not a readable checkpoint ({error}); remove it to train from the start") from error
        if state["config"] == json.dumps(asdict(config), sort_keys=True):
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
