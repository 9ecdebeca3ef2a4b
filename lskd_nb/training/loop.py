"""What all trainings share: a schedule, an optimizer, and that they may be killed.

Training leaves a line of metrics for each step, a checkpoint every so many, and a folder that is
there only when it is whole. A step must be a function of its number alone (its batch, and what is
random in it). Then a run that was killed goes on from its last checkpoint with the numbers an
unbroken one would have had. Of several processes that train together (``distributed``) the first
writes the files.
"""

import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Protocol, TypeVar

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from torch import nn
from torch.utils.data import DataLoader, Dataset

from lskd_nb.records import atomic_path, place_for
from lskd_nb.training import distributed

Config, Part = TypeVar("Config"), TypeVar("Part")
CHECKPOINT, IDENTITY, METRICS = "checkpoint.pt", "trained_from.json", "metrics.jsonl"


class Schedule(Protocol):
    """The part of a configuration that the learning rate depends on."""

    steps: int
    warmup: int
    lr: float
    min_lr: float


def learning_rate(step: int, config: Schedule) -> float:
    """Linear warm-up, then cosine from ``lr`` to ``min_lr``."""
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    progress = (step - config.warmup) / max(config.steps - config.warmup, 1)
    return config.min_lr + (config.lr - config.min_lr) * 0.5 * (1 + math.cos(math.pi * progress))


def optimizer_of(
    model: nn.Module,
    words: nn.Parameter,
    weight_decay: float,
    embedding_lr: float,
    betas: tuple[float, float] = (0.9, 0.98),
) -> torch.optim.AdamW:
    """AdamW over what is trained.

    The word embeddings are a group whose rate ``set_learning_rate`` multiplies by ``embedding_lr``.
    What has fewer than two dimensions, biases and norms and the temperature, does not decay, as in
    LAVIS.
    """
    others = [p for p in model.parameters() if p.requires_grad and p is not words]
    decayed, kept = ([p for p in others if (p.ndim < 2) == small] for small in (False, True))
    groups = [
        {"params": [words], "multiple": embedding_lr},
        {"params": decayed, "multiple": 1.0},
        {"params": kept, "multiple": 1.0, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, weight_decay=weight_decay, betas=betas)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate * group["multiple"]


def clip_gradients(optimizer: torch.optim.Optimizer, norm: float = 1.0) -> None:
    """Scale all gradients so that together they are no longer than ``norm``; 0: leave them."""
    if not norm:
        return
    parameters = [
        p for group in optimizer.param_groups for p in group["params"] if p.grad is not None
    ]
    parts = [[p for p in parameters if distributed.is_sharded(p) == kind] for kind in (True, False)]
    lengths = [
        distributed.full_tensor(nn.utils.get_total_norm([p.grad for p in part]))
        for part in parts
        if part
    ]
    total = torch.stack(lengths).norm() if len(lengths) > 1 else lengths[0]
    for part in parts:
        nn.utils.clip_grads_with_norm_(part, norm, total)


def drawn_ahead(steps: Dataset, numbers: range, workers: int) -> Iterator:
    """What ``steps`` gives for the ``numbers`` of steps in turn, drawn ahead by ``workers``
    processes, by this one where there are none.
    """
    # the loader draws a seed for its workers: not from the numbers that the model draws from
    own_seed = torch.Generator()
    return iter(DataLoader(steps, None, sampler=numbers, num_workers=workers, generator=own_seed))


def learn_from_parts(
    parts: Sequence[Part],
    losses_of: Callable[[Part], dict[str, torch.Tensor]],
    total: Callable[[dict[str, torch.Tensor]], torch.Tensor],
    objective: nn.Module,
    optimizer: torch.optim.Optimizer,
    accelerator,
    clip_norm: float,
) -> dict[str, float]:
    """One step from a process's parts of the batch, of equal weight; returns the losses' means over
    parts and processes.

    ``losses_of`` asks the ``objective``, as ``accelerator`` prepared it; ``total`` is what is
    learned by.
    """
    told: dict[str, torch.Tensor] = {}
    for number, part in enumerate(parts, 1):
        with nullcontext() if number == len(parts) else accelerator.no_sync(objective):
            found = losses_of(part)
            (total(found) / len(parts)).backward()
        told = {
            name: told.get(name, 0) + value.detach() / len(parts) for name, value in found.items()
        }
    clip_gradients(optimizer, clip_norm)
    optimizer.step()
    optimizer.zero_grad()
    return {
        name: round((distributed.all_reduce_sum(value) / distributed.world_size()).item(), 5)
        for name, value in told.items()
    }


def trained(out: str | Path, identity: str) -> bool:
    """Whether ``out`` holds what ``identity`` stands for."""
    told = Path(out) / IDENTITY
    return told.exists() and told.read_text() == identity


def train_resumably(
    out: str | Path,
    identity: str,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    steps: int,
    checkpoint_every: int,
    step_of: Callable[[int], dict],
    save: Callable[[Path], None],
) -> Path:
    """Call ``step_of(step)``, which learns and returns what is to be logged, for the steps that are
    still to be done; then ``save(folder)``.

    ``identity`` is what the model depends on, as text: a checkpoint of another identity is not
    used. Checkpoints hold the parameters of ``model`` that are trained, and ``optimizer``; each
    replaces the one before, and with ``checkpoint_every`` 0 there are none. ``out`` gets what
    ``save`` writes, ``metrics.jsonl`` and the identity; until then the work lies beside it. All
    processes call ``save``, since it may have to gather what they share; the first is the one to
    write. Raises ``ValueError`` naming the step whose loss is no number.
    """
    out, first = Path(out), distributed.rank() == 0
    work = out.with_name(out.name + ".training")
    work.mkdir(parents=True, exist_ok=True)
    begin, started = _resume(work, identity, model, optimizer), time.time()
    if first:
        _cut_log(work / METRICS, begin)
    for step in range(begin, steps):
        line = step_of(step)
        _check_numbers(line, step + 1, work)
        if first:
            with place_for(work / METRICS), open(work / METRICS, "a") as log:
                log.write(
                    json.dumps(
                        {"step": step + 1, **line, "seconds": round(time.time() - started, 2)}
                    )
                    + "\n"
                )
        if checkpoint_every and (step + 1) % checkpoint_every == 0 and step + 1 < steps:
            _checkpoint(work, step + 1, identity, model, optimizer)
    with room_for(work):
        save(work)
    distributed.barrier()
    if first:
        (work / CHECKPOINT).unlink(missing_ok=True)
        (work / IDENTITY).write_text(identity)
        if out.exists():
            shutil.rmtree(out)
        os.replace(work, out)
    distributed.barrier()
    return out


def _check_numbers(line: Mapping[str, object], step: int, work: Path) -> None:
    """What is not a number spreads to every weight at the next step: nothing can be learned."""
    for name, value in line.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(
                f"{work}: {name} is {value} at step {step}. The learning rate may be too high for"
                " this base, or gradients need clipping (clip_norm); started again, training goes"
                " on from its last checkpoint"
            )


def _checkpoint(work: Path, step: int, identity: str, model: nn.Module, optimizer) -> None:
    moments = optimizer.state_dict()
    state = {
        "step": step,
        "identity": identity,
        "weights": {
            n: distributed.full_tensor(p.detach())
            for n, p in model.named_parameters()
            if p.requires_grad
        },
        "optimizer": (
            moments
            | {
                "state": {
                    n: {k: distributed.full_tensor(v) for k, v in one.items()}
                    for n, one in moments["state"].items()
                }
            }
        ),
        "random": distributed.all_gather_objects(_random_state()),
    }
    if distributed.rank() == 0:
        with atomic_path(work / CHECKPOINT) as temporary, room_for(work / CHECKPOINT):
            torch.save(state, temporary)


@contextmanager
def room_for(path: Path) -> Iterator[None]:
    """Write weights.

    Raises ``OSError`` naming ``path`` where their libraries can't; they say so in errors of their
    own.
    """
    try:
        yield
    except (RuntimeError, SafetensorError) as error:
        raise OSError(
            f"{path} can't be written, is the disk full? ({' '.join(str(error).split())[:200]})"
        ) from error


def _random_state() -> list[torch.Tensor]:
    """State of the random numbers of the CPU and of the GPU in use, if any."""
    return [
        torch.get_rng_state(),
        *([torch.cuda.get_rng_state()] if torch.cuda.is_available() else []),
    ]


def _resume(work: Path, identity: str, model: nn.Module, optimizer) -> int:
    """The step to go on from; 0 where there is no checkpoint of this configuration.

    Where as many processes go on as there were, each gets its random state back; others keep the
    one they began with.
    """
    path = work / CHECKPOINT
    if not path.exists():
        return 0
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
    except Exception:  # torch's words advise to load without care, so they are not passed on
        raise ValueError(
            f"{path} is not a readable checkpoint, it is damaged or no training wrote it;"
            " remove it to train from the start"
        ) from None
    if state.get("identity") != identity:
        return 0
    named = dict(model.named_parameters())
    misfits = [
        n
        for n, weight in state["weights"].items()
        if n not in named or named[n].shape != weight.shape
    ]
    if misfits:
        raise ValueError(
            f"{path} is of a model of another size: {misfits[0]} does not fit;"
            " remove it to train from the start"
        )
    with torch.no_grad():
        for name, weight in state["weights"].items():
            named[name].copy_(distributed.local_shard(weight, named[name]))
    groups = [
        [len(group["params"]) for group in held["param_groups"]]
        for held in (state["optimizer"], optimizer.state_dict())
    ]
    if groups[0] != groups[1]:
        raise ValueError(
            f"{path} has another optimizer's state, {groups[0]} weights in its groups where"
            f" {groups[1]} are trained; remove it to train from the start"
        )
    optimizer.load_state_dict(state["optimizer"])
    for parameter, moments in optimizer.state.items():
        moments.update(
            {
                k: distributed.local_shard(v, parameter)
                for k, v in moments.items()
                if v.shape == parameter.shape and v.dim()
            }
        )
    if len(state["random"]) == distributed.world_size():
        cpu, *gpu = state["random"][distributed.rank()]
        torch.set_rng_state(cpu)
        if gpu and torch.cuda.is_available():
            torch.cuda.set_rng_state(gpu[0])
    return state["step"]


def _cut_log(log: Path, step: int) -> None:
    """Leave the lines of the first ``step`` steps: those after them are done again."""
    kept = log.read_text().splitlines()[:step] if log.exists() else []
    log.write_text("".join(line + "\n" for line in kept))


def read_config(path: str | Path, kind: type[Config]) -> Config:
    """Read a JSON configuration into the dataclass ``kind``.

    Raises ``ValueError`` naming the keys that are unknown, missing or of another type.
    """
    try:
        return TypeAdapter(kind).validate_json(Path(path).read_bytes())
    except ValidationError as error:
        told = "; ".join(
            f"{'.'.join(map(str, e['loc'])) or 'content'}: {e['msg']}" for e in error.errors()
        )
        raise ValueError(f"{path}: {told}") from error
