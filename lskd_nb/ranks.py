"""What the processes of one training tell each other, so that W of them learn what one would from the same batch.

Every process draws the whole batch (texts are cheap) and looks at its own part of the images. The contrast needs all of them: features are gathered
with their gradient, and each process computes the loss of the whole batch. DistributedDataParallel averages gradients over processes, which is the
gradient of the mean of their losses. In a single process all of this does nothing.
"""

from collections.abc import Sequence
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.nn.functional import all_gather

Item = TypeVar("Item")


def world() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Which of them this is; the first, 0, writes the files."""
    return dist.get_rank() if dist.is_initialized() else 0


def own(batch: Sequence[Item], this: int | None = None, many: int | None = None) -> Sequence[Item]:
    """A process's part of a batch, this one's unless told otherwise: neighbours, as many for each."""
    each = len(batch) // (many or world())
    place = rank() if this is None else this
    return batch[place * each : (place + 1) * each]


def gathered(features: Tensor) -> Tensor:
    """(B / W, …) features of each process -> (B, …) of all, in order; their gradients find the way back."""
    return torch.cat(all_gather(features.contiguous())) if world() > 1 else features


def summed(value: Tensor) -> Tensor:
    """The sum over processes of a number without gradient."""
    if world() > 1:
        value = value.clone()
        dist.all_reduce(value)
    return value


def from_first(value: Tensor) -> Tensor:
    """The first process's ``value``, for what is drawn at random and must be the same for all."""
    if world() > 1:
        dist.broadcast(value, 0)
    return value


def listed(item: Item) -> list[Item]:
    """The ``item`` of each process."""
    items: list = [item] * world()
    if world() > 1:
        dist.all_gather_object(items, item)
    return items


def wait() -> None:
    """Until all have come here."""
    if world() > 1:
        dist.barrier()
