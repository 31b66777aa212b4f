"""How far the negative classes distract: numbers of a batch's gradient on the logits."""

import math

import torch
from torch import Tensor


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
    r"""Return how many negatives of an image share the gradient: the inverse participation ratio.

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
    """Return the smallest probability among the selected negatives of an image.

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
