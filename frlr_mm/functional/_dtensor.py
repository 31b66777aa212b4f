"""Logits that are spread over devices: DTensors that are replicated or sharded over images."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ._inputs import Terms
from ._reduction import dense_scales


def is_dtensor(tensor: Tensor) -> bool:
    """Tell whether a tensor is a DTensor, without importing what may not be there."""
    return type(tensor) is not Tensor and hasattr(tensor, 'device_mesh')


def images_loss_of_dtensor(
    cls_score: Any, label: Any, terms: Terms, rows: Callable, count: Callable
) -> Tensor:
    """Compute the losses of the images where the logits are a DTensor.

    Args:
        cls_score (DTensor): Logits (N, C), replicated or sharded over images.
        label (Tensor): Class indices, int64 (N, 1), or dense targets (N, C): a DTensor of the same
            mesh, or the whole label on each rank.
        terms (Terms): The selection, ``alpha`` and the class factors.
        rows (Callable): Takes local logits, label, ``terms`` and the scales of dense targets, and
            returns the local losses.
        count (Callable): Takes the local part of dense targets, a dtype and ``terms``, and returns
            their normalisers.

    Returns:
        DTensor: (N,), placed as the logits.

    Raises:
        ValueError: If the logits are sharded over classes, or partial sums.
    """
    from torch.distributed.tensor import DTensor, Partial, Replicate, Shard

    mesh, placements = cls_score.device_mesh, cls_score.placements
    if not all(place == Replicate() or place == Shard(0) for place in placements):
        raise ValueError(
            'Expected `cls_score` to be replicated or sharded over images, but got placements '
            f'{placements}: redistribute it, as `cls_score.redistribute(placements=[Shard(0)])`'
        )
    if not is_dtensor(label):
        label = DTensor.from_local(label, mesh, [Replicate()] * mesh.ndim, run_check=False)
    is_dense = label.shape == cls_score.shape
    label = label.redistribute(mesh, placements).to_local()
    scales = None
    if is_dense:
        sums = [Partial() if place == Shard(0) else Replicate() for place in placements]
        counts = DTensor.from_local(
            count(label, cls_score.dtype, terms), mesh, sums, run_check=False
        )
        scales = dense_scales(counts.full_tensor(), cls_score.shape[0], terms)
    loss = rows(cls_score.to_local(), label, terms, scales)
    return DTensor.from_local(
        loss, mesh, placements, run_check=False, shape=torch.Size(cls_score.shape[:1]), stride=(1,)
    )
