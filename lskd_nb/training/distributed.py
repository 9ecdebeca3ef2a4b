"""What the processes of one training tell each other, so that W of them learn as one would.

Every process draws the whole batch (texts are cheap) and looks at its own part of the images. The
contrast needs all of them: features are gathered with their gradient, and each process computes the
loss of the whole batch. DistributedDataParallel averages gradients over processes, which is the
gradient of the mean of their losses. In a single process all of this does nothing.

Weights may also be *sharded* (FSDP2): each process keeps its part of every weight, gradient and
optimizer state, and gathers the others' when a layer is at work.
"""

import atexit
import os
from collections.abc import Sequence
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

Item = TypeVar("Item")
# seconds that a process waits for another before it ends: a machine that loses power says nothing
LOST_AFTER, LOST_AFTER_TOLD_BY = 900, "LSKD_LOST_AFTER"


def world_size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Which of them this is; the first, 0, writes the files."""
    return dist.get_rank() if dist.is_initialized() else 0


def local_part(
    batch: Sequence[Item], this: int | None = None, many: int | None = None
) -> Sequence[Item]:
    """A process's part of a batch, this one's unless told otherwise: neighbours, alike many."""
    each = len(batch) // (many or world_size())
    place = rank() if this is None else this
    return batch[place * each : (place + 1) * each]


def own_places(
    batch: int, accumulation: int, this: int | None = None, many: int | None = None
) -> list[Sequence[int]]:
    """The places in a batch that a process learns from, part by part.

    >>> [list(places) for places in own_places(8, 2, this=1, many=2)]
    [[2, 3], [6, 7]]
    """
    size = batch // accumulation
    return [local_part(range(start, start + size), this, many) for start in range(0, batch, size)]


def training_processes(batch: int, accumulation: int):
    """The accelerator, with or without other processes.

    A process that hears nothing of another for ``LOST_AFTER`` seconds ends with an error; the
    environment's LSKD_LOST_AFTER is another number of them. Raises ``ValueError`` where that is no
    such number, and where the batch can't be cut into equal parts for all processes.
    """
    from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs

    # networks have weights that not every loss needs
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    waits = InitProcessGroupKwargs(timeout=_patience())
    accelerator = Accelerator(cpu=not torch.cuda.is_available(), kwargs_handlers=[unused, waits])
    atexit.register(leave)
    if batch < 1 or batch % (accumulation * world_size()):
        raise ValueError(
            f"batch is {batch}: expected a multiple of accumulation × processes,"
            f" {accumulation} × {world_size()}"
        )
    return accelerator


def _patience() -> timedelta:
    told = os.environ.get(LOST_AFTER_TOLD_BY, str(LOST_AFTER))
    if not told.isdecimal() or not int(told):
        raise ValueError(f"{LOST_AFTER_TOLD_BY} is {told!r}: expected a whole number of seconds")
    # a millisecond more: accelerate passes on only what differs from the 600 seconds of NCCL
    return timedelta(seconds=int(told), milliseconds=1)


def all_gather_with_gradient(features: Tensor) -> Tensor:
    """(B / W, …) features of each process -> (B, …) of all, in order.

    Their gradients find the way back.
    """
    return _Gathered.apply(features.contiguous()) if world_size() > 1 else features


class _Gathered(torch.autograd.Function):
    """A part's gradient is the sum of what all processes found for it, as all depend on it."""

    @staticmethod
    def forward(ctx, part: Tensor) -> Tensor:
        parts = [torch.empty_like(part) for _ in range(world_size())]
        dist.all_gather(parts, part)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        return local_part(gradient)


def all_reduce_sum(value: Tensor) -> Tensor:
    """The sum over processes of a number without gradient."""
    if world_size() > 1:
        value = value.clone()
        dist.all_reduce(value)
    return value


def broadcast_from_first(value: Tensor) -> Tensor:
    """The first process's ``value``, for what is drawn at random and must be the same for all."""
    if world_size() > 1:
        dist.broadcast(value, 0)
    return value


def all_gather_objects(item: Item) -> list[Item]:
    """The ``item`` of each process."""
    items: list = [item] * world_size()
    if world_size() > 1:
        dist.all_gather_object(items, item)
    return items


def barrier() -> None:
    """Until all have come here."""
    if world_size() > 1:
        dist.barrier()


def leave() -> None:
    """End the connections to the other processes, before the interpreter takes down what they use:
    a process that ended without may be aborted, though all its work is done.
    """
    if dist.is_initialized():
        dist.destroy_process_group()


# ------------------------------------------------------------------------------------------- shards


def shard_model(
    model: nn.Module,
    layers: Sequence[nn.Module],
    alone: Sequence[nn.Parameter],
    device: torch.device,
) -> None:
    """Shard the weights of ``model`` among the processes, those of each of ``layers`` by
    themselves; ``alone`` are kept whole by all.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (world_size(),))
    for layer in layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh, ignored_params=set(alone))


def full_tensor(value: Tensor) -> Tensor:
    """A weight, gathered where it is sharded: all processes must ask for it."""
    return value.full_tensor() if is_sharded(value) else value


def local_shard(value: Tensor, like: Tensor) -> Tensor:
    """This process's part of a whole ``value``, sharded as ``like`` is."""
    if not is_sharded(like):
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)


def is_sharded(value: Tensor) -> bool:
    """Whether each process keeps only its part of ``value``."""
    return hasattr(value, "full_tensor")
