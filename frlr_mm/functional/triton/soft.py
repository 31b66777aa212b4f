"""Soft selection of class indices and of dense labels: a row is read once and written once."""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from .._inputs import Terms
from ._arguments import factor_of_classes, on_device, outputs, row_major
from ._terms import negative_term, positive_term

# Logits of a row that one step works on.
_BLOCK = 2048


@triton.jit
def _index_kernel(
    score,
    row_stride,
    num_classes,
    loss,
    grad,
    class_weight,
    pos_weight,
    gamma,
    expected,
    index,
    scale,
    SELECTS: tl.constexpr,
    HAS_CLASS_WEIGHT: tl.constexpr,
    HAS_POS_WEIGHT: tl.constexpr,
    WITH_GRAD: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    target = tl.load(index + row).to(tl.int32)
    score += row * row_stride
    grad += row * num_classes
    positive, positive_slope = positive_term(tl.load(score + target).to(tl.float32))
    if HAS_CLASS_WEIGHT:
        of_target = tl.load(class_weight + target)
        positive, positive_slope = positive * of_target, positive_slope * of_target
    if HAS_POS_WEIGHT:
        of_target = tl.load(pos_weight + target)
        positive, positive_slope = positive * of_target, positive_slope * of_target
    total = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, num_classes, BLOCK):
        classes = start + tl.arange(0, BLOCK)
        inside = classes < num_classes
        # -inf, of the target and beyond the row, adds nothing.
        x = tl.load(score + classes, inside, -float('inf')).to(tl.float32)
        x = tl.where(classes == target, -float('inf'), x)
        term, slope = negative_term(x, gamma, SELECTS)
        if HAS_CLASS_WEIGHT:
            weight = tl.load(class_weight + classes, inside, 0.0)
            term, slope = weight * term, weight * slope
        total += term
        if WITH_GRAD:
            tl.store(
                grad + classes, (slope * (scale * expected)).to(grad.dtype.element_ty), inside
            )
    tl.store(loss + row, positive + scale * tl.sum(total))
    if WITH_GRAD:
        tl.debug_barrier()  # what the target has got in the loop comes first
        tl.store(grad + target, (positive_slope * expected).to(grad.dtype.element_ty))


@triton.jit
def _dense_kernel(
    score,
    row_stride,
    num_classes,
    loss,
    grad,
    class_weight,
    pos_weight,
    gamma,
    expected,
    label,
    label_stride,
    scales,
    SELECTS: tl.constexpr,
    HAS_CLASS_WEIGHT: tl.constexpr,
    HAS_POS_WEIGHT: tl.constexpr,
    WITH_GRAD: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    score += row * row_stride
    label += row * label_stride
    grad += row * num_classes
    of_positive, of_negative = tl.load(scales), tl.load(scales + 1)
    total = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, num_classes, BLOCK):
        classes = start + tl.arange(0, BLOCK)
        inside = classes < num_classes
        x = tl.load(score + classes, inside, 0.0).to(tl.float32)
        # (Beyond the last class, as for an unknown entry.)
        t = tl.load(label + classes, inside, 0).to(tl.float32)
        t = tl.where(inside, t, -1.0)
        positive = tl.where(t < 0, 0.0, of_positive * t)
        negative = tl.where(t < 0, 0.0, of_negative * (1.0 - t))
        if HAS_CLASS_WEIGHT:
            weight = tl.load(class_weight + classes, inside, 0.0)
            positive, negative = positive * weight, negative * weight
        if HAS_POS_WEIGHT:
            positive *= tl.load(pos_weight + classes, inside, 0.0)
        term, slope = negative_term(x, gamma, SELECTS)
        of_x, slope_of_x = positive_term(x)
        # (0 times -inf, of a class that is masked out, is not 0.)
        total += negative * term + tl.where(positive == 0.0, 0.0, positive * of_x)
        if WITH_GRAD:
            slope = (negative * slope + positive * slope_of_x) * expected
            tl.store(grad + classes, slope.to(grad.dtype.element_ty), inside)
    tl.store(loss + row, tl.sum(total))


def _launch(
    kernel: Any, score: Tensor, terms: Terms, with_grad: bool, expected: float, *arguments: Any
) -> tuple[Tensor, Tensor]:
    """Run a kernel of a program per row; return the losses of the images and their gradient."""
    score = row_major(score)
    loss, grad = outputs(score, with_grad)
    num_images, num_classes = score.shape
    block = min(_BLOCK, triton.next_power_of_2(num_classes))
    with on_device(score):
        kernel[(num_images,)](
            score,
            score.stride(0),
            num_classes,
            loss,
            grad,
            factor_of_classes(terms.class_weight, loss),
            factor_of_classes(terms.pos_weight, loss),
            float(terms.gamma),
            expected,
            *arguments,
            SELECTS=terms.gamma != 0,
            HAS_CLASS_WEIGHT=terms.class_weight is not None,
            HAS_POS_WEIGHT=terms.pos_weight is not None,
            WITH_GRAD=with_grad,
            BLOCK=block,
            num_warps=max(1, block // 256),
        )
    return loss, grad


def soft_index_rows(
    score: Tensor, index: Tensor, terms: Terms, k: int, with_grad: bool, expected: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Take every negative of class indices, weighted by p^gamma.

    Args:
        score (Tensor): Logits (N, C), float16, bfloat16 or float32, on a CUDA device.
        index (Tensor): Class indices, int64 (N, 1).
        terms (Terms): The selection, ``alpha`` and the class factors.
        k (int): C, where the ratio of hard selection takes every negative.
        with_grad (bool): Whether to make the gradient.
        expected (float): What the gradient is multiplied by. Defaults to 1.0.

    Returns:
        tuple[Tensor, Tensor]: The losses of the images, float32 (N,), and their gradient (N, C),
        empty where it is not wanted.
    """
    divisor = score.shape[1] - 1 if terms.ratio is None else k
    scale = 1.0 if terms.alpha == 'sum' else float(terms.alpha) / divisor
    return _launch(_index_kernel, score, terms, with_grad, expected, index.contiguous(), scale)


def soft_dense_rows(
    score: Tensor,
    label: Tensor,
    terms: Terms,
    scales: tuple[Tensor, Tensor],
    with_grad: bool,
    expected: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Take every negative of dense labels, weighted by p^gamma.

    Args:
        score (Tensor): Logits (N, C), float16, bfloat16 or float32, on a CUDA device.
        label (Tensor): Dense targets (N, C).
        terms (Terms): The selection and the class factors.
        scales (tuple[Tensor, Tensor]): The factors of t and 1 - t.
        with_grad (bool): Whether to make the gradient.
        expected (float): What the gradient is multiplied by. Defaults to 1.0.

    Returns:
        tuple[Tensor, Tensor]: As for :func:`soft_index_rows`.
    """
    label = row_major(label)
    arguments = (label, label.stride(0), torch.stack(scales).float())
    return _launch(_dense_kernel, score, terms, with_grad, expected, *arguments)
