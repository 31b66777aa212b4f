"""The losses together with the linear classifier before them, for very many classes."""

from torch import Tensor

from .._checks import check_number
from ._inputs import (
    Alpha,
    AvgFactor,
    Terms,
    check_factor,
    check_inputs,
    check_tensors,
    is_index_label,
)
from ._linear import check_classifier
from ._linear_once import linear_loss

CHUNK_BUDGET = 256 * 2**20


def fused_linear_ss_lr_loss(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    label: Tensor,
    alpha: Alpha = 'sum',
    gamma: float = 0.25,
    sample_weight: Tensor | None = None,
    class_weight: Tensor | None = None,
    pos_weight: Tensor | None = None,
    reduction: str = 'mean',
    avg_factor: AvgFactor = None,
    chunk_budget: int = CHUNK_BUDGET,
) -> Tensor:
    """Compute SS-LR of a linear classifier without ever holding its logits (N, C).

    It is ``ss_lr_loss(F.linear(features, weight, bias), label, ...)`` with the classes taken in
    chunks. The gradients are made with the loss where the reduction is 'mean' or 'sum'; with
    'none', and in float16, backward computes the logits once more. Worth it from about 50,000
    classes. N is the number of images, C the number of classes, D the number of channels.

    Args:
        features (Tensor): Inputs of the classifier (N, D), float16, bfloat16, float32 or float64.
        weight (Tensor): Weights of the classifier (C, D), of the same dtype.
        bias (Tensor, optional): Bias of the classifier (C,), of the same dtype.
        label (Tensor): Class indices (N,) or (N, 1) of an integer dtype, in [0, C). Dense targets
            are refused: they are as large as the logits.
        alpha (float | 'sum'): As for :func:`ss_lr_loss`. Defaults to 'sum'.
        gamma (float): As for :func:`ss_lr_loss`. Defaults to 0.25.
        sample_weight (Tensor, optional): A factor for each image (N,); it is ``weight`` of
            :func:`ss_lr_loss`. Defaults to None.
        class_weight (Tensor, optional): As for :func:`ss_lr_loss`. Defaults to None.
        pos_weight (Tensor, optional): As for :func:`ss_lr_loss`. Defaults to None.
        reduction (str): 'none', 'mean' or 'sum'. Defaults to 'mean'.
        avg_factor (int | float | Tensor, optional): As for :func:`ss_lr_loss`. Defaults to None.
        chunk_budget (int): About how many bytes forward and backward may take each, beyond the
            inputs and their gradients. Defaults to 268435456.

    Returns:
        Tensor: float32, or float64 for float64 features. For 'none' the losses of the images
        (N,), else a scalar.

    Raises:
        TypeError: If a number is not one, or a dtype does not fit.
        ValueError: If a number, a shape, a reduction or, on the CPU, a label is out of range.

    Source: Dong, Zhu, Gong, "Single-Label Multi-Class Image Classification by Deep Logistic
    Regression", AAAI 2019, Eq. 6.
    """
    check_number('gamma', gamma)
    terms = Terms(alpha, gamma=gamma, class_weight=class_weight, pos_weight=pos_weight)
    check_number('chunk_budget', chunk_budget, open_low=True)
    index = _check(features, weight, bias, label, terms, sample_weight, reduction, avg_factor)
    classifier = (features, weight, bias, index, terms)
    return linear_loss(*classifier, chunk_budget, sample_weight, reduction, avg_factor)


def fused_linear_hs_lr_loss(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    label: Tensor,
    alpha: Alpha = 'sum',
    ratio: float = 0.1,
    sample_weight: Tensor | None = None,
    class_weight: Tensor | None = None,
    pos_weight: Tensor | None = None,
    reduction: str = 'mean',
    avg_factor: AvgFactor = None,
    chunk_budget: int = CHUNK_BUDGET,
) -> Tensor:
    """Compute HS-LR of a linear classifier without ever holding its logits (N, C).

    It is ``hs_lr_loss(F.linear(features, weight, bias), label, ...)``, the rule for ties included,
    with the classes taken in chunks; see :func:`fused_linear_ss_lr_loss`. On a CPU, what is
    selected is kept until backward where half of ``chunk_budget`` holds it, in float32 and without
    ``class_weight``. On an NVIDIA GPU, without ``class_weight``, the gradients are made with the
    loss where those of SS-LR are, from the logits of as many images as the budget holds. Else
    backward computes the logits once more.

    Args:
        features (Tensor): As for :func:`fused_linear_ss_lr_loss`.
        weight (Tensor): As for :func:`fused_linear_ss_lr_loss`.
        bias (Tensor, optional): As for :func:`fused_linear_ss_lr_loss`.
        label (Tensor): As for :func:`fused_linear_ss_lr_loss`.
        alpha (float | 'sum'): As for :func:`hs_lr_loss`. Defaults to 'sum'.
        ratio (float): As for :func:`hs_lr_loss`. Defaults to 0.1.
        sample_weight (Tensor, optional): As for :func:`fused_linear_ss_lr_loss`. Defaults to None.
        class_weight (Tensor, optional): As for :func:`hs_lr_loss`. Defaults to None.
        pos_weight (Tensor, optional): As for :func:`hs_lr_loss`. Defaults to None.
        reduction (str): 'none', 'mean' or 'sum'. Defaults to 'mean'.
        avg_factor (int | float | Tensor, optional): As for :func:`hs_lr_loss`. Defaults to None.
        chunk_budget (int): As for :func:`fused_linear_ss_lr_loss`. Defaults to 268435456.

    Returns:
        Tensor: As for :func:`fused_linear_ss_lr_loss`.

    Raises:
        TypeError: If a number is not one, or a dtype does not fit.
        ValueError: If a number, a shape, a reduction or, on the CPU, a label is out of range.

    Source: Dong, Zhu, Gong, "Single-Label Multi-Class Image Classification by Deep Logistic
    Regression", AAAI 2019, Eq. 5.
    """
    check_number('ratio', ratio, high=1.0, open_low=True)
    terms = Terms(alpha, ratio=ratio, class_weight=class_weight, pos_weight=pos_weight)
    check_number('chunk_budget', chunk_budget, open_low=True)
    index = _check(features, weight, bias, label, terms, sample_weight, reduction, avg_factor)
    classifier = (features, weight, bias, index, terms)
    return linear_loss(*classifier, chunk_budget, sample_weight, reduction, avg_factor)


def _check(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    label: Tensor,
    terms: Terms,
    sample_weight: Tensor | None,
    reduction: str,
    avg_factor: AvgFactor,
) -> Tensor:
    check_classifier(features, weight, bias)
    check_tensors(label=label)
    if not is_index_label(label):
        raise ValueError(
            'Expected `label` to hold class indices (N,): the fused losses do not take '
            f'dense targets, but got shape {tuple(label.shape)}'
        )
    if sample_weight is not None:
        check_factor('sample_weight', sample_weight, features.shape[0], 'image')
    # The logits that there will never be, as far as their shape and dtype are asked for.
    cls_score = features.detach().new_empty(()).expand(features.shape[0], weight.shape[0])
    return check_inputs(cls_score, label, None, terms, reduction, avg_factor)
