"""SS-LR: logistic regression whose focus is rectified by soft selection."""

from typing import Optional, Union

import torch
import torch.nn.functional as F
from torch import Tensor

from .common import (
    NEGLIGIBLE,
    Alpha,
    check_alpha,
    check_inputs,
    check_number,
    dense_positive,
    index_positive,
    is_index_label,
    mean_over_ranks,
    reduce_loss,
    safe_reciprocal,
    softplus,
    split_dense_label,
    to_accumulation_dtype,
)


def ss_lr_loss(cls_score: Tensor,
               label: Tensor,
               alpha: Alpha = 'sum',
               gamma: float = 0.5,
               weight: Optional[Tensor] = None,
               class_weight: Optional[Tensor] = None,
               pos_weight: Optional[Tensor] = None,
               reduction: str = 'mean',
               avg_factor: Union[int, float, Tensor, None] = None) -> Tensor:
    r"""Compute logistic regression with soft selection of the negative classes (SS-LR).

    .. math::
        L = \frac{\sum_{ij} t_{ij} \, s(-x_{ij})}{\sum_{ij} t_{ij}}
            + \alpha \, \frac{\sum_{ij} (1 - t_{ij}) \, p_{ij}^\gamma \, s(x_{ij})}
                             {\sum_{ij} (1 - t_{ij})}

    with :math:`p = \mathrm{sigmoid}(x)` and :math:`s(x) = \log(1 + e^x)`, so that
    :math:`s(-x) = -\log p` and :math:`s(x) = -\log(1 - p)`. The gradient also flows through the
    weight :math:`p^\gamma`. N is the number of images, C the number of classes. Plain logistic
    regression, summed over the classes, is ``gamma=0, alpha='sum'``.

    An entry of a dense label below 0 is unknown and takes part in neither term. Where processes
    train together, the normalisers of dense labels are those of the joined batch; every rank then
    has to call the loss.

    Args:
        cls_score (Tensor): Logits (N, C), of any floating-point dtype. Half precision is computed
            in float32.
        label (Tensor): Class indices (N,) or (N, 1) of an integer dtype, in [0, C), or dense
            targets (N, C) of any real dtype, in [0, 1] or below 0 for unknown entries.
        alpha (float | 'sum'): The weight of the negative term, >= 0. With 'sum' it is the number
            of negatives of an image, averaged over the batch (C - 1 for single labels), so that
            an image's negative terms are summed, not averaged. Defaults to 'sum'.
        gamma (float): The temperature of the selection, >= 0; at 0 every negative counts the
            same. Defaults to 0.5.
        weight (Tensor, optional): A factor for each image (N,). Defaults to None.
        class_weight (Tensor, optional): A factor for both terms of each class (C,). Defaults to
            None.
        pos_weight (Tensor, optional): A factor for the positive term of each class (C,). Defaults
            to None.
        reduction (str): 'none', 'mean' or 'sum'. Defaults to 'mean'.
        avg_factor (int | float | Tensor, optional): What 'mean' divides the sum of the images'
            losses by, in place of N. Defaults to None.

    Returns:
        Tensor: float32, or float64 for float64 logits. For 'none' the losses of the images (N,);
        their mean is L. Else a scalar.

    Raises:
        TypeError: If a number is none or a dtype does not fit.
        ValueError: If a number, a shape, a reduction or, on the CPU, a label is out of range.

    Source: Dong, Zhu, Gong, "Single-Label Multi-Class Image Classification by Deep Logistic
    Regression", AAAI 2019, Eq. 6.
    """
    check_alpha(alpha)
    check_number('gamma', gamma)
    check_inputs(cls_score, label, weight, class_weight, pos_weight, reduction, avg_factor)

    score = to_accumulation_dtype(cls_score)
    if is_index_label(label):
        loss = _index_loss(score, label.view(-1, 1).long(), alpha, gamma, class_weight, pos_weight)
    else:
        loss = _dense_loss(score, label, alpha, gamma, class_weight, pos_weight)
    return reduce_loss(loss, weight, reduction, avg_factor)


def _negative_terms(score: Tensor, gamma: float, class_weight: Optional[Tensor]) -> Tensor:
    terms = softplus(score)
    if gamma > 0:
        terms = torch.exp(gamma * F.logsigmoid(score)) * terms
    return terms if class_weight is None else terms * class_weight.to(score)


def _index_loss(score: Tensor, index: Tensor, alpha: Alpha, gamma: float,
                class_weight: Optional[Tensor], pos_weight: Optional[Tensor]) -> Tensor:
    positive = index_positive(score, index, class_weight, pos_weight)
    terms = _negative_terms(score.scatter(1, index, NEGLIGIBLE), gamma, class_weight)
    scale = 1.0 if alpha == 'sum' else alpha / (score.shape[1] - 1)
    return positive + scale * terms.sum(1)


def _dense_loss(score: Tensor, label: Tensor, alpha: Alpha, gamma: float,
                class_weight: Optional[Tensor], pos_weight: Optional[Tensor]) -> Tensor:
    num_images = score.shape[0]
    positive_target, negative_target = split_dense_label(label, score.dtype)
    if alpha == 'sum':
        alpha, num_negatives = 1.0, positive_target.new_full((), num_images)
    else:
        num_negatives = negative_target.sum()
    counts = torch.stack([positive_target.sum(), num_negatives])
    num_positives, num_negatives = mean_over_ranks(counts, score)

    positive = dense_positive(score, positive_target, class_weight, pos_weight)
    negative = (negative_target * _negative_terms(score, gamma, class_weight)).sum(1)
    return num_images * (positive * safe_reciprocal(num_positives)
                         + alpha * negative * safe_reciprocal(num_negatives))
