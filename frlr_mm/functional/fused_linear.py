"""The losses together with the linear classifier before them, for very many classes."""

from typing import Optional, Union

from torch import Tensor

from .common import (
    Alpha,
    check_alpha,
    check_factor,
    check_float_dtype,
    check_inputs,
    check_number,
    check_tensor,
    is_index_label,
    reduce_loss,
)
from .fused_kernel import fused_images_loss
from .hs_lr import check_ratio, num_selected

CHUNK_BUDGET = 256 * 2**20


def fused_linear_ss_lr_loss(
    features: Tensor,
    weight: Tensor,
    bias: Optional[Tensor],
    label: Tensor,
    alpha: Alpha = 'sum',
    gamma: float = 0.25,
    sample_weight: Optional[Tensor] = None,
    class_weight: Optional[Tensor] = None,
    pos_weight: Optional[Tensor] = None,
    reduction: str = 'mean',
    avg_factor: Union[int, float, Tensor, None] = None,
    chunk_budget: int = CHUNK_BUDGET,
) -> Tensor:
    """Compute SS-LR of a linear classifier without ever holding its logits (N, C).

    It is ``ss_lr_loss(F.linear(features, weight, bias), label, ...)`` with the classes taken in
    chunks; backward computes the logits once more. Worth it from about 50,000 classes. N is the
    number of images, C the number of classes, D the number of channels.

    Args:
        features (Tensor): Inputs of the classifier (N, D), float16, bfloat16, float32 or float64.
        weight (Tensor): Weights of the classifier (C, D), of the same dtype.
        bias (Tensor, optional): Bias of the classifier (C,), of the same dtype.
        label (Tensor): Class indices (N,) or (N, 1) of an integer dtype, in [0, C). Dense targets
            are refused: they are as large as the logits.
        alpha (float | 'sum'): The weight of the negative term, >= 0. With 'sum' an image's
            negative terms are summed, not averaged. Defaults to 'sum'.
        gamma (float): The temperature of the selection, >= 0; at 0 every negative counts the
            same. Defaults to 0.25.
        sample_weight (Tensor, optional): A factor for each image (N,); it is ``weight`` of
            :func:`ss_lr_loss`. Defaults to None.
        class_weight (Tensor, optional): A factor for both terms of each class (C,). Defaults to
            None.
        pos_weight (Tensor, optional): A factor for the positive term of each class (C,). Defaults
            to None.
        reduction (str): 'none', 'mean' or 'sum'. Defaults to 'mean'.
        avg_factor (int | float | Tensor, optional): What 'mean' divides the sum of the images'
            losses by, in place of N. Defaults to None.
        chunk_budget (int): About how many bytes forward and backward may take each, beyond the
            inputs and their gradients. Defaults to 268435456.

    Returns:
        Tensor: float32, or float64 for float64 features. For 'none' the losses of the images
        (N,), else a scalar.

    Raises:
        TypeError: If a number is none or a dtype does not fit.
        ValueError: If a number, a shape, a reduction or, on the CPU, a label is out of range.

    Source: Dong, Zhu, Gong, "Single-Label Multi-Class Image Classification by Deep Logistic
    Regression", AAAI 2019, Eq. 6.
    """
    check_alpha(alpha)
    check_number('gamma', gamma)
    _check_fused(
        features,
        weight,
        bias,
        label,
        sample_weight,
        class_weight,
        pos_weight,
        reduction,
        avg_factor,
        chunk_budget,
    )
    scale = 1.0 if alpha == 'sum' else float(alpha) / (weight.shape[0] - 1)
    loss = fused_images_loss(
        features, weight, bias, label, scale, gamma, 0, class_weight, pos_weight, chunk_budget
    )
    return reduce_loss(loss, sample_weight, reduction, avg_factor)


def fused_linear_hs_lr_loss(
    features: Tensor,
    weight: Tensor,
    bias: Optional[Tensor],
    label: Tensor,
    alpha: Alpha = 'sum',
    ratio: float = 0.1,
    sample_weight: Optional[Tensor] = None,
    class_weight: Optional[Tensor] = None,
    pos_weight: Optional[Tensor] = None,
    reduction: str = 'mean',
    avg_factor: Union[int, float, Tensor, None] = None,
    chunk_budget: int = CHUNK_BUDGET,
) -> Tensor:
    """Compute HS-LR of a linear classifier without ever holding its logits (N, C).

    It is ``hs_lr_loss(F.linear(features, weight, bias), label, ...)`` with the classes taken in
    chunks; backward computes the logits once more. Worth it from about 50,000 classes. N is the
    number of images, C the number of classes, D the number of channels. Of
    equal terms at the edge of an image's selection, those of the first classes are selected.

    Args:
        features (Tensor): Inputs of the classifier (N, D), float16, bfloat16, float32 or float64.
        weight (Tensor): Weights of the classifier (C, D), of the same dtype.
        bias (Tensor, optional): Bias of the classifier (C,), of the same dtype.
        label (Tensor): Class indices (N,) or (N, 1) of an integer dtype, in [0, C). Dense targets
            are refused: they are as large as the logits.
        alpha (float | 'sum'): The weight of the negative term, >= 0. With 'sum' an image's
            selected terms are summed, not averaged. Defaults to 'sum'.
        ratio (float): The share of the classes that is selected, in (0, 1]. Defaults to 0.1.
        sample_weight (Tensor, optional): A factor for each image (N,); it is ``weight`` of
            :func:`hs_lr_loss`. Defaults to None.
        class_weight (Tensor, optional): A factor for both terms of each class (C,). Defaults to
            None.
        pos_weight (Tensor, optional): A factor for the positive term of each class (C,). Defaults
            to None.
        reduction (str): 'none', 'mean' or 'sum'. Defaults to 'mean'.
        avg_factor (int | float | Tensor, optional): What 'mean' divides the sum of the images'
            losses by, in place of N. Defaults to None.
        chunk_budget (int): About how many bytes forward and backward may take each, beyond the
            inputs and their gradients. Defaults to 268435456.

    Returns:
        Tensor: float32, or float64 for float64 features. For 'none' the losses of the images
        (N,), else a scalar.

    Raises:
        TypeError: If a number is none or a dtype does not fit.
        ValueError: If a number, a shape, a reduction or, on the CPU, a label is out of range.

    Source: Dong, Zhu, Gong, "Single-Label Multi-Class Image Classification by Deep Logistic
    Regression", AAAI 2019, Eq. 5.
    """
    check_alpha(alpha)
    check_ratio(ratio)
    _check_fused(
        features,
        weight,
        bias,
        label,
        sample_weight,
        class_weight,
        pos_weight,
        reduction,
        avg_factor,
        chunk_budget,
    )
    k = num_selected(weight.shape[0], ratio)
    scale = 1.0 if alpha == 'sum' else float(alpha) / k
    loss = fused_images_loss(
        features, weight, bias, label, scale, 0.0, k, class_weight, pos_weight, chunk_budget
    )
    return reduce_loss(loss, sample_weight, reduction, avg_factor)


def _check_fused(
    features: Tensor,
    weight: Tensor,
    bias: Optional[Tensor],
    label: Tensor,
    sample_weight: Optional[Tensor],
    class_weight: Optional[Tensor],
    pos_weight: Optional[Tensor],
    reduction: str,
    avg_factor: Union[int, float, Tensor, None],
    chunk_budget: object,
) -> None:
    tensors = {'features': features, 'weight': weight}
    if bias is not None:
        tensors['bias'] = bias
    for name, tensor in tensors.items():
        check_tensor(name, tensor)
        check_float_dtype(name, tensor)
    check_tensor('label', label)
    if features.ndim != 2 or weight.ndim != 2 or features.shape[1] != weight.shape[1]:
        raise ValueError(
            'Expected `features` and `weight` to have shapes (N, D) and (C, D), but '
            f'got {tuple(features.shape)} and {tuple(weight.shape)}'
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(
            f'Expected `bias` to have shape ({weight.shape[0]},), but got {tuple(bias.shape)}'
        )
    if not is_index_label(label):
        raise ValueError(
            'Expected `label` to hold class indices (N,): the fused losses take no '
            f'dense targets, but got shape {tuple(label.shape)}'
        )
    check_factor('sample_weight', sample_weight, features.shape[0], 'image')
    check_number('chunk_budget', chunk_budget, open_low=True)
    # The logits that there will never be, as far as their shape and dtype are asked for.
    cls_score = features.detach().new_empty(()).expand(features.shape[0], weight.shape[0])
    check_inputs(cls_score, label, None, class_weight, pos_weight, reduction, avg_factor)
