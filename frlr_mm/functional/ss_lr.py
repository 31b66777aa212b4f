"""SS-LR: logistic regression whose focus is rectified by soft selection."""

from typing import Optional, Union

import torch
from torch import Tensor

from .common import (
    Alpha,
    check_alpha,
    check_inputs,
    check_number,
    empty_accumulation,
    is_index_label,
    mean_over_ranks,
    reduce_loss,
    safe_reciprocal,
    to_accumulation_dtype,
)
from .kernels import (
    attach_gradient,
    count_dense_label,
    index_positive,
    row_blocks,
    softplus,
    takes_gradient,
    weigh_dense_label,
)


def ss_lr_loss(
    cls_score: Tensor,
    label: Tensor,
    alpha: Alpha = 'sum',
    gamma: float = 0.25,
    weight: Optional[Tensor] = None,
    class_weight: Optional[Tensor] = None,
    pos_weight: Optional[Tensor] = None,
    reduction: str = 'mean',
    avg_factor: Union[int, float, Tensor, None] = None,
) -> Tensor:
    r"""Compute logistic regression with soft selection of the negative classes (SS-LR).

    .. math::
        L = \frac{\sum_{ij} t_{ij} \, s(-x_{ij})}{\sum_{ij} t_{ij}}
            + \alpha \, \frac{\sum_{ij} (1 - t_{ij}) \, p_{ij}^\gamma \, s(x_{ij})}
                             {\sum_{ij} (1 - t_{ij})}

    with :math:`p = \mathrm{sigmoid}(x)` and :math:`s(x) = \log(1 + e^x)`, so that
    :math:`s(-x) = -\log p` and :math:`s(x) = -\log(1 - p)`. The gradient also flows through the
    weight :math:`p^\gamma`. N is the number of images, C the number of classes. Plain logistic
    regression of single labels, summed over the classes, is ``gamma=0, alpha='sum'``.

    An entry of a dense label below 0 is unknown and takes part in neither term. Where processes
    train together, the normalisers of dense labels are those of the joined batch; every rank then
    has to call the loss.

    Args:
        cls_score (Tensor): Logits (N, C), float16, bfloat16, float32 or float64. Half precision is
            computed in float32.
        label (Tensor): Class indices (N,) or (N, 1) of an integer dtype, in [0, C), or dense
            targets (N, C) of any real dtype, in [0, 1] or below 0 for unknown entries.
        alpha (float | 'sum'): The weight of the negative term, >= 0. With 'sum' it is the number
            of negatives of an image, averaged over the batch (C - 1 for single labels), so that
            an image's negative terms are summed, not averaged. Defaults to 'sum'.
        gamma (float): The temperature of the selection, >= 0; at 0 every negative counts the
            same. Defaults to 0.25.
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

    with_grad = takes_gradient(cls_score)
    num_images, num_classes = cls_score.shape
    score = cls_score.detach()
    if is_index_label(label):
        scale = 1.0 if alpha == 'sum' else alpha / (num_classes - 1)
        loss, grad = index_loss(
            score, label.view(-1, 1).long(), scale, gamma, class_weight, pos_weight, with_grad
        )
    else:
        num_positives, num_negatives = count_dense_label(label, score)
        if alpha == 'sum':
            alpha, num_negatives = 1.0, torch.full_like(num_negatives, num_images)
        num_positives, num_negatives = mean_over_ranks(
            torch.stack([num_positives, num_negatives]), cls_score
        )
        scales = (
            num_images * safe_reciprocal(num_positives),
            alpha * num_images * safe_reciprocal(num_negatives),
        )
        loss, grad = _dense_loss(score, label, scales, gamma, class_weight, pos_weight, with_grad)
    if grad is not None:
        loss = attach_gradient(cls_score, loss, grad)
    return reduce_loss(loss, weight, reduction, avg_factor)


def soft_terms(
    x: Tensor, gamma: float, out: Optional[Tensor] = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return p (in ``out``), p^gamma and the negative terms p^gamma * softplus(x) of logits."""
    p = torch.sigmoid(x, out=out)
    # The default without a power, which takes eight times as long; torch's reciprocal of a square
    # root is twice as fast as its square root.
    focus = p.rsqrt().rsqrt_() if gamma == 0.25 else p.pow(gamma)
    return p, focus, softplus(x).mul_(focus)


def soft_slope(p: Tensor, focus: Tensor, terms: Tensor, gamma: float) -> Tensor:
    """Overwrite p by the derivative of the terms, (1 - p) * gamma * terms + p * focus."""
    return torch.lerp(terms.mul_(gamma), focus, p, out=p)


@torch.no_grad()
def index_loss(
    score: Tensor,
    index: Tensor,
    scale: float,
    gamma: float,
    class_weight: Optional[Tensor],
    pos_weight: Optional[Tensor],
    with_grad: bool,
) -> tuple[Tensor, Optional[Tensor]]:
    """Compute the images' losses for class indices, and their gradient for the logits.

    Args:
        score (Tensor): Logits (N, C), without a graph.
        index (Tensor): The class of each image (N, 1), int64.
        scale (float): The factor of each negative term.
        gamma (float): The temperature of the selection.
        class_weight (Tensor, optional): (C,).
        pos_weight (Tensor, optional): (C,).
        with_grad (bool): Whether the gradient is wanted.

    Returns:
        tuple[Tensor, Tensor | None]: (N,) and (N, C), in the accumulation dtype.
    """
    positive, positive_slope = index_positive(score, index, class_weight, pos_weight)
    loss = positive.squeeze(1)
    grad = empty_accumulation(score, *score.shape) if with_grad else None
    for rows in row_blocks(score):
        x, target = to_accumulation_dtype(score[rows]), index[rows]
        p, focus, terms = soft_terms(x, gamma, None if grad is None else grad[rows])
        if class_weight is not None or scale != 1:
            each = scale if class_weight is None else scale * class_weight.to(x)
            focus, terms = focus.mul_(each), terms.mul_(each)
        loss[rows] += terms.scatter_(1, target, 0).sum(1)
        if grad is not None:
            slope = soft_slope(p, focus, terms, gamma)
            slope.scatter_(1, target, positive_slope[rows])
        del p, focus, terms  # before the next block's are made
    return loss, grad


@torch.no_grad()
def _dense_loss(
    score: Tensor,
    label: Tensor,
    scales: tuple,
    gamma: float,
    class_weight: Optional[Tensor],
    pos_weight: Optional[Tensor],
    with_grad: bool,
) -> tuple[Tensor, Optional[Tensor]]:
    loss = empty_accumulation(score, score.shape[0])
    grad = empty_accumulation(score, *score.shape) if with_grad else None
    for rows in row_blocks(score):
        x = to_accumulation_dtype(score[rows])
        positive, negative = weigh_dense_label(label[rows], x, scales, class_weight, pos_weight)
        p, focus, terms = soft_terms(x, gamma, None if grad is None else grad[rows])
        focus, terms = focus.mul_(negative), terms.mul_(negative)
        loss[rows] = terms.sum(1) + (positive * softplus(-x)).sum(1)
        if grad is not None:
            slope = soft_slope(p, focus, terms, gamma)
            slope.sub_(positive.mul_((-x).sigmoid()))
        del p, focus, terms, positive, negative
    return loss, grad
