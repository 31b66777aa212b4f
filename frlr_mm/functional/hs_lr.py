"""HS-LR: logistic regression whose focus is rectified by hard selection."""

from torch import Tensor

from .._checks import check_number
from ._inputs import Alpha, AvgFactor, Terms, check_inputs
from ._reduction import expected_gradient, reduce_loss
from ._rows import images_loss


def hs_lr_loss(
    cls_score: Tensor,
    label: Tensor,
    alpha: Alpha = 'sum',
    ratio: float = 0.1,
    weight: Tensor | None = None,
    class_weight: Tensor | None = None,
    pos_weight: Tensor | None = None,
    reduction: str = 'mean',
    avg_factor: AvgFactor = None,
) -> Tensor:
    r"""Compute logistic regression with hard selection of the negative classes (HS-LR).

    .. math::
        L = \frac{\sum_{ij} t_{ij} \, s(-x_{ij})}{\sum_{ij} t_{ij}}
            + \alpha \, \frac{1}{N} \sum_i \frac{1}{k}
              \sum_{j \in \mathrm{top}_k(i)} (1 - t_{ij}) \, s(x_{ij}),
        \qquad k = \max(1, \lfloor C \cdot ratio \rfloor)

    with :math:`s(x) = \log(1 + e^x)`, so that :math:`s(-x) = -\log p` and
    :math:`s(x) = -\log(1 - p)` for :math:`p = \mathrm{sigmoid}(x)`. Row i's selection
    :math:`\mathrm{top}_k(i)` are the k largest of its negative terms; of equal terms the first
    classes are selected. N is the number of images, C the number of classes.

    An entry of a dense label below 0 is unknown and takes part in neither term, and an image's k
    is counted from its known classes. Where processes train together, the number of positives of
    dense labels is that of the joined batch; every rank then has to call the loss.

    Args:
        cls_score (Tensor): Logits (N, C), float16, bfloat16, float32 or float64. Half precision is
            computed in float32.
        label (Tensor): As for :func:`ss_lr_loss`.
        alpha (float | 'sum'): The weight of the negative term, >= 0. With 'sum' it is k, the
            number selected, so that an image's selected terms are summed, not averaged. Defaults
            to 'sum'.
        ratio (float): The share of the classes that is selected, in (0, 1]. Defaults to 0.1.
        weight (Tensor, optional): As for :func:`ss_lr_loss`. Defaults to None.
        class_weight (Tensor, optional): As for :func:`ss_lr_loss`; it multiplies the terms before
            the selection. Defaults to None.
        pos_weight (Tensor, optional): As for :func:`ss_lr_loss`. Defaults to None.
        reduction (str): 'none', 'mean' or 'sum'. Defaults to 'mean'.
        avg_factor (int | float | Tensor, optional): As for :func:`ss_lr_loss`. Defaults to None.

    Returns:
        Tensor: float32, or float64 for float64 logits. For 'none' the losses of the images (N,);
        their mean is L. Else a scalar.

    Raises:
        TypeError: If a number is not one, or a dtype does not fit.
        ValueError: If a number, a shape, a reduction or, on the CPU, a label is out of range.

    Source: Dong, Zhu, Gong, "Single-Label Multi-Class Image Classification by Deep Logistic
    Regression", AAAI 2019, Eq. 5.
    """
    check_number('ratio', ratio, high=1.0, open_low=True)
    terms = Terms(alpha, ratio=ratio, class_weight=class_weight, pos_weight=pos_weight)
    label = check_inputs(cls_score, label, weight, terms, reduction, avg_factor)
    expected = expected_gradient(label.shape[0], weight, reduction, avg_factor)
    loss = images_loss(cls_score, label, terms, expected=expected)
    return reduce_loss(loss, weight, reduction, avg_factor)
