"""HS-LR: logistic regression whose focus is rectified by hard selection."""

import math
from typing import Optional, Union

import torch
from torch import Tensor

from . import ss_lr
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
    attach_sparse_gradient,
    count_dense_label,
    index_positive,
    row_blocks,
    softplus,
    takes_gradient,
    weigh_dense_label,
)

# floor(100 * 0.29) is 28 in floating point. No ratio that means something differs by less.
_FLOOR_TOLERANCE = 1e-6


def check_ratio(ratio: object) -> None:
    """Raise unless ``ratio`` is a number in (0, 1]."""
    check_number('ratio', ratio, high=1.0, open_low=True)


def num_selected(num_classes: int, ratio: float) -> int:
    """Return k, how many negatives HS-LR selects in a row: floor(C * ratio), at least 1.

    Args:
        num_classes (int): C, the number of classes.
        ratio (float): The selected share of the classes, in (0, 1].

    Returns:
        int: k, in [1, C].
    """
    return max(1, math.floor(num_classes * ratio + _FLOOR_TOLERANCE))


def hs_lr_loss(
    cls_score: Tensor,
    label: Tensor,
    alpha: Alpha = 'sum',
    ratio: float = 0.1,
    weight: Optional[Tensor] = None,
    class_weight: Optional[Tensor] = None,
    pos_weight: Optional[Tensor] = None,
    reduction: str = 'mean',
    avg_factor: Union[int, float, Tensor, None] = None,
) -> Tensor:
    r"""Compute logistic regression with hard selection of the negative classes (HS-LR).

    .. math::
        L = \frac{\sum_{ij} t_{ij} \, s(-x_{ij})}{\sum_{ij} t_{ij}}
            + \alpha \, \frac{1}{N} \sum_i \frac{1}{k}
              \sum_{j \in \mathrm{top}_k(i)} (1 - t_{ij}) \, s(x_{ij}),
        \qquad k = \max(1, \lfloor C \cdot ratio \rfloor)

    with :math:`s(x) = \log(1 + e^x)`, so that :math:`s(-x) = -\log p` and
    :math:`s(x) = -\log(1 - p)` for :math:`p = \mathrm{sigmoid}(x)`. Row i's selection
    :math:`\mathrm{top}_k(i)` holds its k largest negative terms, ``class_weight`` included. N is
    the number of images, C the number of classes.

    An entry of a dense label below 0 is unknown: that class does not exist for that image. It
    takes part in neither term, and k is counted from the image's known classes. Where processes
    train together, the normalisers of dense labels are those of the joined batch; every rank then
    has to call the loss.

    Args:
        cls_score (Tensor): Logits (N, C), float16, bfloat16, float32 or float64. Half precision is
            computed in float32.
        label (Tensor): Class indices (N,) or (N, 1) of an integer dtype, in [0, C), or dense
            targets (N, C) of any real dtype, in [0, 1] or below 0 for unknown entries.
        alpha (float | 'sum'): The weight of the negative term, >= 0. With 'sum' it is k, the
            number selected, so that an image's selected terms are summed, not averaged. Defaults
            to 'sum'.
        ratio (float): The share of the classes that is selected, in (0, 1]. Defaults to 0.1.
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
    Regression", AAAI 2019, Eq. 5.
    """
    check_alpha(alpha)
    check_ratio(ratio)
    check_inputs(cls_score, label, weight, class_weight, pos_weight, reduction, avg_factor)

    with_grad = takes_gradient(cls_score)
    num_images, num_classes = cls_score.shape
    score = cls_score.detach()
    if is_index_label(label):
        index, k = label.view(-1, 1).long(), num_selected(num_classes, ratio)
        scale = 1.0 if alpha == 'sum' else float(alpha) / k
        if k == num_classes:
            # Nothing to select: soft selection without focus.
            loss, grad = ss_lr.index_loss(
                score, index, scale, 0.0, class_weight, pos_weight, with_grad
            )
            if grad is not None:
                loss = attach_gradient(cls_score, loss, grad)
        else:
            loss, entries = _index_loss(
                score, index, scale, k, class_weight, pos_weight, with_grad
            )
            if entries is not None:
                loss = attach_sparse_gradient(cls_score, loss, *entries)
    else:
        num_positives = count_dense_label(label, score)[0]
        counts = torch.stack([num_positives, torch.full_like(num_positives, num_images)])
        scales = tuple(
            num_images * safe_reciprocal(count) for count in mean_over_ranks(counts, cls_score)
        )
        loss, grad = _dense_loss(
            score, label, scales, alpha, ratio, class_weight, pos_weight, with_grad
        )
        if grad is not None:
            loss = attach_gradient(cls_score, loss, grad)
    return reduce_loss(loss, weight, reduction, avg_factor)


def _select(x: Tensor, target: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k largest logits of each row, k < C, and where they are, but for the target."""
    if x.device.type != 'cpu' or x.dtype != torch.float32 or torch.compiler.is_compiling():
        return x.scatter(1, target, -math.inf).topk(k, dim=1, sorted=False)
    # A CPU selects faster among integers. These have the order of the floats: the bits of a
    # negative one are flipped, and NaN of either sign is wrapped around to the top.
    bits = x.contiguous().view(torch.int32)
    keys = (bits >> 31).bitwise_and_(0x7FFFFFFF).bitwise_xor_(bits).sub_(0x7FFFFE)
    keys.scatter_(1, target, torch.iinfo(torch.int32).min)
    num_classes = x.shape[1]
    if num_classes < 100 or torch.get_num_threads() > 1:
        chosen = keys.topk(k, dim=1, sorted=False).indices
    else:
        # On one thread NumPy is faster. In the lower half of a number is where its key has been.
        keys = keys.long().bitwise_left_shift_(32).add_(torch.arange(num_classes))
        keys.numpy().partition(num_classes - k, axis=1)
        chosen = keys[:, num_classes - k :].bitwise_and(0xFFFFFFFF)
    return x.gather(1, chosen), chosen


@torch.no_grad()
def _index_loss(
    score: Tensor,
    index: Tensor,
    scale: float,
    k: int,
    class_weight: Optional[Tensor],
    pos_weight: Optional[Tensor],
    with_grad: bool,
) -> tuple[Tensor, Optional[tuple]]:
    positive, positive_slope = index_positive(score, index, class_weight, pos_weight)
    loss = positive.squeeze(1)
    slope = empty_accumulation(score, score.shape[0], k if with_grad else 0)
    chosen = torch.empty_like(slope, dtype=torch.int64)
    for rows in row_blocks(score):
        x, target = to_accumulation_dtype(score[rows]), index[rows]
        if class_weight is None:
            # softplus is monotone: select first, and take it of k values in place of C.
            x, hardest = _select(x, target, k)
            terms, p = softplus(x), x.sigmoid()
        else:
            class_weight = class_weight.to(x)
            terms = softplus(x).mul_(class_weight).scatter_(1, target, 0)
            terms, hardest = terms.topk(k, dim=1, sorted=False)
            p = x.gather(1, hardest).sigmoid_().mul_(class_weight[hardest])
        loss[rows] += terms.sum(1).mul_(scale)
        if with_grad:
            chosen[rows], slope[rows] = hardest, p.mul_(scale)
    return loss, (chosen, slope, index, positive_slope) if with_grad else None


@torch.no_grad()
def _dense_loss(
    score: Tensor,
    label: Tensor,
    scales: tuple,
    alpha: Alpha,
    ratio: float,
    class_weight: Optional[Tensor],
    pos_weight: Optional[Tensor],
    with_grad: bool,
) -> tuple[Tensor, Optional[Tensor]]:
    loss = empty_accumulation(score, score.shape[0])
    grad = empty_accumulation(score, *score.shape) if with_grad else None
    k = num_selected(score.shape[1], ratio)
    for rows in row_blocks(score):
        x = to_accumulation_dtype(score[rows])
        positive, negative = weigh_dense_label(
            label[rows], x, (scales[0], 1.0), class_weight, pos_weight
        )
        terms, hardest = (negative * softplus(x)).topk(k, dim=1)
        # The row's own k: fewer of its classes may be known.
        num_known = (label[rows] >= 0).sum(1, keepdim=True).double()
        row_k = (num_known * ratio + _FLOOR_TOLERANCE).floor().clamp(min=1).to(x.dtype)
        scale = scales[1] if alpha == 'sum' else scales[1] * float(alpha) / row_k
        each = torch.where(torch.arange(k, device=x.device) < row_k, scale, 0)
        loss[rows] = (each * terms).sum(1) + (positive * softplus(-x)).sum(1)
        if grad is not None:
            slope = positive.mul_((-x).sigmoid()).neg_()
            p = negative.gather(1, hardest) * x.gather(1, hardest).sigmoid()
            grad[rows] = slope.scatter_add_(1, hardest, each * p)
    return loss, grad
