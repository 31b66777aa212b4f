"""Rows of all processes joined, or added up; each is the backward pass of the other.

Processes may have unlike many rows, or none.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from ._torch import all_gather_single, reduce_scatter_single
from .sharding import ClassShard


def gather_sizes(num_rows: int, shard: ClassShard, device: torch.device) -> list[int]:
    """Return how many rows each process has, which may be none; the host waits for it.

    Args:
        num_rows (int): How many this process has.
        shard (ClassShard): The processes.
        device (torch.device): Where their backend computes.

    Returns:
        list[int]: One number a process.
    """
    own = torch.tensor([num_rows], device=device)
    every = own.new_empty(shard.world_size)
    all_gather_single(every, own, group=shard.group)
    return every.tolist()


def gather_rows(rows: Tensor, sizes: Sequence[int], shard: ClassShard) -> Tensor:
    """Join the rows of all processes, those of rank 0 first; not differentiable.

    Args:
        rows (Tensor): (N_r, ...).
        sizes (Sequence[int]): The number of rows of each process.
        shard (ClassShard): The processes.

    Returns:
        Tensor: (N, ...).
    """
    # Collectives take parts of one size.
    part = max(sizes)
    padded = rows.contiguous()
    if rows.shape[0] < part:
        padded = rows.new_zeros(part, *rows.shape[1:])
        padded[: rows.shape[0]] = rows
    every = rows.new_empty(part * len(sizes), *rows.shape[1:])
    all_gather_single(every, padded, group=shard.group)
    if min(sizes) == part:
        return every
    return torch.cat([each[:size] for each, size in zip(every.split(part), sizes)])


def add_rows(rows: Tensor, sizes: Sequence[int], shard: ClassShard) -> Tensor:
    """Add up what the processes have for all rows and return this process's; not differentiable.

    Args:
        rows (Tensor): (N, ...), of each process for all of them.
        sizes (Sequence[int]): The number of rows of each process.
        shard (ClassShard): The processes.

    Returns:
        Tensor: (N_r, ...).
    """
    part = max(sizes)
    padded = rows.contiguous()
    if min(sizes) < part:
        padded = rows.new_zeros(part * len(sizes), *rows.shape[1:])
        for each, own, size in zip(padded.split(part), rows.split(list(sizes)), sizes):
            each[:size] = own
    total = rows.new_empty(part, *rows.shape[1:])
    reduce_scatter_single(total, padded, group=shard.group)
    return total[: sizes[shard.rank]]


class GatherFeatures(Function):
    """:func:`gather_rows` whose backward pass is :func:`add_rows`.

    The gradient is that of the sum over the processes of their losses: what each of them would
    have for its own features if it held all classes.
    """

    @staticmethod
    def forward(features: Tensor, sizes: Sequence[int], shard: ClassShard) -> Tensor:
        return gather_rows(features, sizes, shard)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        _, ctx.sizes, ctx.shard = inputs

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple:
        # AddLosses has divided it.
        return add_rows(grad, ctx.sizes, ctx.shard) * ctx.shard.world_size, None, None


class AddLosses(Function):
    """:func:`add_rows` whose backward pass is :func:`gather_rows`, divided by W.

    What a shard gets is the gradient of the mean over the W processes of their losses, as
    DistributedDataParallel makes it for the rest of a model.
    """

    @staticmethod
    def forward(loss: Tensor, sizes: Sequence[int], shard: ClassShard) -> Tensor:
        return add_rows(loss, sizes, shard)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        _, ctx.sizes, ctx.shard = inputs

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple:
        return gather_rows(grad, ctx.sizes, ctx.shard) / ctx.shard.world_size, None, None
