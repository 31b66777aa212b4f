"""HS-LR: logistic regression whose focus is rectified by hard selection."""

import math
from typing import Optional, Union

import torch
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


def hs_lr_loss(cls_score: Tensor,
               label: Tensor,
               alpha: Alpha = 'sum',
               ratio: float = 0.1,
               weight: Optional[Tensor] = None,
               class_weight: Optional[Tensor] = None,
               pos_weight: Optional[Tensor] = None,
               reduction: str = 'mean',
               avg_factor: Union[int, float, Tensor, None] = None) -> Tensor:
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
        cls_score (Tensor): Logits (N, C), of any floating-point dtype. Half precision is computed
            in float32.
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

    score = to_accumulation_dtype(cls_score)
    if is_index_label(label):
        loss = _index_loss(score, label.view(-1, 1).long(), alpha, ratio, class_weight, pos_weight)
    else:
        loss = _dense_loss(score, label, alpha, ratio, class_weight, pos_weight)
    return reduce_loss(loss, weight, reduction, avg_factor)


def _index_loss(score: Tensor, index: Tensor, alpha: Alpha, ratio: float,
                class_weight: Optional[Tensor], pos_weight: Optional[Tensor]) -> Tensor:
    k = num_selected(score.shape[1], ratio)
    positive = index_positive(score, index, class_weight, pos_weight)
    negative_score = score.scatter(1, index, NEGLIGIBLE)
    if class_weight is None:
        # softplus is monotone: select first, and take it of k values in place of C.
        hardest = softplus(negative_score.topk(k, dim=1, sorted=False).values)
    else:
        terms = softplus(negative_score) * class_weight.to(score)
        hardest = terms.topk(k, dim=1, sorted=False).values
    scale = 1.0 if alpha == 'sum' else float(alpha) / k
    return positive + scale * hardest.sum(1)


def _dense_loss(score: Tensor, label: Tensor, alpha: Alpha, ratio: float,
                class_weight: Optional[Tensor], pos_weight: Optional[Tensor]) -> Tensor:
    num_images, num_classes = score.shape
    positive_target, negative_target = split_dense_label(label, score.dtype)

    counts = torch.stack([positive_target.sum(), positive_target.new_full((), num_images)])
    num_positives, mean_num_images = mean_over_ranks(counts, score)
    positive = dense_positive(score, positive_target, class_weight, pos_weight)
    positive = positive * (num_images * safe_reciprocal(num_positives))

    terms = negative_target * softplus(score)
    if class_weight is not None:
        terms = terms * class_weight.to(score)
    k = num_selected(num_classes, ratio)
    hardest = terms.topk(k, dim=1).values
    # The row's own k: fewer of its classes may be known.
    num_known = (label >= 0).sum(1, keepdim=True).double()
    row_k = (num_known * ratio + _FLOOR_TOLERANCE).floor().clamp(min=1).to(score.dtype)
    selected = torch.arange(k, device=score.device) < row_k
    negative = torch.where(selected, hardest, 0).sum(1)
    scale = 1.0 if alpha == 'sum' else float(alpha) / row_k.squeeze(1)
    return positive + negative * scale * (num_images * safe_reciprocal(mean_num_images))
