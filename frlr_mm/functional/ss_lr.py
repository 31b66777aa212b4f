"""SS-LR: logistic regression whose focus is rectified by soft selection."""

from torch import Tensor

from .._checks import check_number
from ._inputs import Alpha, AvgFactor, Terms, check_inputs
from ._reduction import expected_gradient, reduce_loss
from ._rows import images_loss


def ss_lr_loss(
    cls_score: Tensor,
    label: Tensor,
    alpha: Alpha = 'sum',
    gamma: float = 0.25,
    weight: Tensor | None = None,
    class_weight: Tensor | None = None,
    pos_weight: Tensor | None = None,
    reduction: str = 'mean',
    avg_factor: AvgFactor = None,
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
            of negatives per image, averaged over the batch (C - 1 for single labels), so that
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
        TypeError: If a number is not one, or a dtype does not fit.
        ValueError: If a number, a shape, a reduction or, on the CPU, a label is out of range.

    Source: Dong, Zhu, Gong, "Single-Label Multi-Class Image Classification by Deep Logistic
    Regression", AAAI 2019, Eq. 6.
    """
    check_number('gamma', gamma)
    terms = Terms(alpha, gamma=gamma, class_weight=class_weight, pos_weight=pos_weight)
    label = check_inputs(cls_score, label, weight, terms, reduction, avg_factor)
    expected = expected_gradient(label.shape[0], weight, reduction, avg_factor)
    loss = images_loss(cls_score, label, terms, expected=expected)
    return reduce_loss(loss, weight, reduction, avg_factor)
