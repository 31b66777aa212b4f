"""How far the negative classes distract: numbers of a batch's gradient on the logits."""

import copy
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .functional._inputs import is_index_label
from .functional._terms import split_dense_label
from .models.losses import FocusRectifiedLoss


def negative_share(positive_grad: Tensor, negative_grad: Tensor) -> Tensor:
    r"""Return the share of the gradient that the negatives have, by its L1 norm.

    .. math:: \frac{\sum_{ij} |g^-_{ij}|}{\sum_{ij} |g^+_{ij}| + \sum_{ij} |g^-_{ij}|}

    Args:
        positive_grad (Tensor): The gradient of the positive part of the loss on the logits (N, C).
        negative_grad (Tensor): That of the negative part (N, C).

    Returns:
        Tensor: A scalar in [0, 1], NaN where both gradients are 0.
    """
    negative = negative_grad.abs().sum()
    return negative / (positive_grad.abs().sum() + negative)


def effective_negatives(negative_grad: Tensor) -> Tensor:
    r"""Return how many negatives per image share the gradient: the inverse participation ratio.

    .. math:: \frac{(\sum_j |g^-_{ij}|)^2}{\sum_j (g^-_{ij})^2}

    averaged over the images i. It is n where n negatives have the same gradient and the others
    none.

    Args:
        negative_grad (Tensor): The gradient of the negative part of the loss on the logits (N, C).

    Returns:
        Tensor: A scalar in [1, C]. Images without such a gradient are left out; NaN without any.
    """
    size = negative_grad.abs()
    size = size / size.amax(1, keepdim=True)  # squares of small gradients would be 0
    return (size.sum(1).square() / size.square().sum(1)).nanmean()


def selection_threshold(cls_score: Tensor, negative_grad: Tensor) -> Tensor:
    """Return the smallest probability among the selected negatives, averaged over images.

    Args:
        cls_score (Tensor): The logits (N, C).
        negative_grad (Tensor): The gradient of the negative part of the loss on the logits (N, C),
            which is 0 where a class is not selected.

    Returns:
        Tensor: A scalar in (0, 1), the mean over images. Images without a selected negative are
        left out; NaN without any.
    """
    probability = cls_score.sigmoid().masked_fill(negative_grad == 0, math.inf).amin(1)
    return probability.masked_fill(probability.isinf(), torch.nan).nanmean()


def split_loss(
    loss: nn.Module, score: Tensor, label: Tensor, weight: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Split the losses of the images into the parts of their positives and negatives.

    The split is exact for HSLRLoss, SSLRLoss and cross-entropy, and for hard targets. The focal
    and the asymmetric loss are not sums of two parts where a target is soft; there they are the
    losses of the targets 1 and 0, times t and 1 - t.

    Args:
        loss (nn.Module): The loss.
        score (Tensor): Logits (N, C).
        label (Tensor): Class indices (N,) or (N, 1), or dense targets (N, C).
        weight (Tensor, optional): A factor for each image (N,). Defaults to None.

    Returns:
        tuple[Tensor, Tensor]: Both (N,), differentiable.
    """
    if isinstance(loss, FocusRectifiedLoss):
        positive_alone: Any = copy.copy(loss)
        positive_alone.alpha = 0.0
        total, positive = (
            part.forward(score, label, weight=weight, reduction_override='none')
            for part in (loss, positive_alone)
        )
        return positive, total - positive
    if is_index_label(label):
        label = F.one_hot(label.flatten().long(), score.shape[1])
    parts = [
        share
        * loss.forward(score, torch.full_like(score, hard), weight, reduction_override='none')
        for hard, share in zip((1, 0), split_dense_label(label, score.dtype), strict=True)
    ]
    return parts[0].sum(1), parts[1].sum(1)
