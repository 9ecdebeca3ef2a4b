"""A step of learning to say texts: cut into parts, shared among processes, and the same numbers.

Generative students and captioners learn by one loss, the mean cross entropy of a batch's target
tokens, through a language model that stays frozen and may have billions of weights. A batch that
does not fit is learned in parts (``accumulation``), and each of several processes has its own rows
of it. Each part weighs as much as it has tokens, so what comes out is the loss and the gradient of
the whole batch, however it was cut; dropout alone is another for each part.
"""

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import nn

from lskd_nb.training import distributed
from lskd_nb.training.loop import Schedule, clip_gradients, learning_rate, set_learning_rate


class Recipe(Schedule, Protocol):
    """The part of a configuration that a step depends on."""

    out: str
    seed: int


@dataclass(frozen=True)
class Part:
    """What a process learns from at once: what the objective is called with, which returns the
    mean over so many target ``tokens``.
    """

    given: tuple
    tokens: int


def learn(
    step: int,
    config: Recipe,
    parts: Sequence[Part],
    objective: nn.Module,
    optimizer: torch.optim.Optimizer,
    accelerator,
) -> float:
    """One step from a process's parts of the batch; returns the loss of the whole batch.

    ``objective`` is as ``accelerator`` prepared it. Raises ``FloatingPointError`` naming the step
    where loss or gradient is no number any more, before the weights learn from it.
    """
    set_learning_rate(optimizer, learning_rate(step, config))
    tokens = all_sum(sum(part.tokens for part in parts), accelerator)
    loss = torch.zeros((), device=accelerator.device)
    for number, part in enumerate(parts):
        torch.manual_seed(_dropout_seed(config.seed, step, distributed.rank(), number))
        with nullcontext() if number + 1 == len(parts) else accelerator.no_sync(objective):
            weighed = objective(*part.given) * (part.tokens / tokens)
            # gradients are averaged over processes: their sum is the batch's
            (weighed * distributed.world_size()).backward()
        loss += weighed.detach()
    told = distributed.all_reduce_sum(loss).item()
    gradients = [p.grad for p in objective.parameters() if p.grad is not None]
    if not (math.isfinite(told) and nn.utils.get_total_norm(gradients).isfinite()):
        raise FloatingPointError(
            f"step {step + 1}: the loss is {told} and its gradient no number. The weights are as"
            f" before it; lower lr ({config.lr:g}) or lengthen warmup ({config.warmup}). Training"
            f" begins anew then; {config.out}.training holds this one's last checkpoint"
        )
    clip_gradients(optimizer)
    optimizer.step()
    optimizer.zero_grad()
    return told


def all_sum(number: float, accelerator) -> float:
    """The sum of all processes' ``number``."""
    held = torch.tensor(float(number), device=accelerator.device)
    return distributed.all_reduce_sum(held).item()


def _dropout_seed(seed: int, step: int, rank: int, part: int) -> int:
    """Dropout is a function of the step, whatever was drawn before."""
    place = [seed, step] if rank == part == 0 else [seed, step, rank, part]
    return int(np.random.SeedSequence(place).generate_state(1)[0])
