"""From the losses of images to one number, and the normalisers of dense labels over ranks."""

import torch
import torch.distributed as dist
from torch import Tensor

from ._inputs import AvgFactor, Terms


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return what numbers of a dtype are computed and added up in: float32, or float64."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def gradient_dtype(score: Tensor) -> torch.dtype:
    """Return what the gradient of logits is kept in until the backward pass.

    bfloat16 has the range of float32: kept in it, a gradient is rounded once more, no worse.
    float16 has not: what GradScaler lifts into its range would be lost before it is scaled.
    """
    if score.dtype == torch.bfloat16 and score.device.type != 'cpu':
        return score.dtype
    return accumulation_dtype(score.dtype)


def dense_scales(counts: Tensor, num_images: int, terms: Terms) -> tuple[Tensor, Tensor]:
    """Return the factors of t and 1 - t that turn sums into the ratios of the equations.

    Args:
        counts (Tensor): The normalisers (3,): the sums of t and of 1 - t over the known entries,
            and the number of images.
        num_images (int): N, the images that the mean over images divides by.
        terms (Terms): The selection and ``alpha``. Hard selection divides by k itself.

    Returns:
        tuple[Tensor, Tensor]: Both scalars, times N.
    """
    counts = torch.stack([counts[0], counts[2 if is_per_image(terms) else 1]])
    # 0 where the count is 0: a batch may hold neither a positive nor a negative.
    tiny = torch.finfo(counts.dtype).tiny
    scales = num_images * torch.where(counts > 0, 1 / counts.clamp(min=tiny), 0)
    alpha = 1.0 if terms.alpha == 'sum' else float(terms.alpha)
    return scales[0], alpha * scales[1]


def is_per_image(terms: Terms) -> bool:
    """Tell whether the negative terms are divided by the number of images, not of negatives."""
    return terms.alpha == 'sum' or terms.ratio is not None


def mean_over_ranks(counts: Tensor, cls_score: Tensor) -> Tensor:
    """Average the normalisers of a batch over the processes that train together.

    DistributedDataParallel averages gradients, and a mean of ratios is not the ratio of the joined
    batch. With normalisers averaged over ranks it is. Without a gradient there is nothing to make
    equal, and one rank may evaluate alone: then the counts stay local and no collective runs.

    Args:
        counts (Tensor): Any shape; the same on every rank.
        cls_score (Tensor): The logits, asked whether they take a gradient.

    Returns:
        Tensor: The counts, averaged over the ranks of the default process group.
    """
    if not (cls_score.requires_grad and torch.is_grad_enabled()):
        return counts
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return counts
    counts = counts.clone()
    dist.all_reduce(counts)
    return counts / dist.get_world_size()


def expected_gradient(
    num_images: int, weight: Tensor | None, reduction: str, avg_factor: AvgFactor
) -> float:
    """Return what the gradient of the images' losses is where nothing scales the reduced loss."""
    if weight is not None or reduction != 'mean' or isinstance(avg_factor, Tensor):
        return 1.0
    return 1.0 / ((num_images if avg_factor is None else avg_factor) or 1)


def reduce_loss(
    loss: Tensor, weight: Tensor | None, reduction: str, avg_factor: AvgFactor
) -> Tensor:
    """Weight the losses of the images and reduce them as stock mmpretrain losses do.

    Args:
        loss (Tensor): The loss of each image (N,).
        weight (Tensor, optional): (N,).
        reduction (str): 'none', 'mean' or 'sum'.
        avg_factor (int | float | Tensor, optional): What 'mean' divides by in place of N.

    Returns:
        Tensor: (N,) for 'none', else a scalar; 0 for a batch without images.
    """
    if weight is not None:
        loss = loss * weight.to(loss)
    if reduction == 'none':
        return loss
    if reduction == 'sum' or loss.shape[0] == 0:
        return loss.sum()
    if isinstance(avg_factor, Tensor):
        avg_factor = avg_factor.to(loss)  # a float64 one would make the loss float64
    return loss.mean() if avg_factor is None else loss.sum() / avg_factor
