"""What makes the losses fast: work in blocks of rows, and gradients written down by hand.

Each loss computes its images' losses and their gradient for the logits in one go, without a graph;
the functions at the end hand both to autograd.
"""

from typing import Any, Optional

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from .common import empty_accumulation, split_dense_label, to_accumulation_dtype

# How many logits a CPU works on at once: a handful of float32 temporaries of this size stay in
# the cache, and hundreds of rows of a thousand classes share the cost of calling an operation.
BLOCK_NUMEL = 1 << 17

# torch's vectorised log1p has a masked load for -0.0, and where AVX-512 masks a load from a page
# that is not mapped yet, AMD's Zen 4 takes a slow detour each time: log1p and softplus then run
# ten times slower. One real -0.0 maps the page for the life of the process.
torch.log1p(torch.full((64,), -0.0))


def softplus(x: Tensor) -> Tensor:
    """Return log(1 + exp(x)), exact to rounding at both ends in float32 and float64."""
    return F.softplus(x, threshold=40.0)


def row_blocks(cls_score: Tensor) -> list[slice]:
    """Return slices that cover the rows of (N, C): cache-sized on a CPU, else a single one.

    A GPU wants few large kernels, and a compiler fuses the operations by itself.
    """
    num_images, num_classes = cls_score.shape
    if cls_score.device.type != 'cpu' or torch.compiler.is_compiling():
        return [slice(0, num_images)]
    step = max(1, BLOCK_NUMEL // max(1, num_classes))
    return [slice(start, min(start + step, num_images)) for start in range(0, num_images, step)]


def takes_gradient(tensor: Tensor) -> bool:
    """Return whether what is computed from ``tensor`` now will be differentiated for it."""
    return torch.is_grad_enabled() and tensor.requires_grad


def index_positive(
    cls_score: Tensor, index: Tensor, *class_factors: Optional[Tensor]
) -> tuple[Tensor, Tensor]:
    """Return the positive term of each image for class indices, and its derivative.

    Args:
        cls_score (Tensor): Logits (N, C).
        index (Tensor): The class of each image (N, 1), int64.
        *class_factors (Tensor, optional): Factors of the term for each class (C,).

    Returns:
        tuple[Tensor, Tensor]: Both (N, 1).
    """
    x = to_accumulation_dtype(cls_score.gather(1, index))
    positive, slope = softplus(-x), -(-x).sigmoid()
    for class_factor in class_factors:
        if class_factor is not None:
            factor = class_factor.to(x)[index]
            positive, slope = positive * factor, slope * factor
    return positive, slope


def count_dense_label(label: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sums of t and of 1 - t over the known entries of a dense label."""
    dtype = empty_accumulation(like).dtype
    positives = torch.zeros((), dtype=dtype, device=like.device)
    negatives = positives
    for rows in row_blocks(label):
        positive, negative = split_dense_label(label[rows], dtype)
        positives, negatives = positives + positive.sum(), negatives + negative.sum()
    return positives, negatives


def weigh_dense_label(
    label: Tensor,
    like: Tensor,
    scales: tuple,
    class_weight: Optional[Tensor],
    pos_weight: Optional[Tensor],
) -> tuple[Tensor, Tensor]:
    """Return the factor of each entry's positive and of its negative term.

    Args:
        label (Tensor): (N, C) in [0, 1], or below 0 where unknown.
        like (Tensor): Of the dtype that is wanted.
        scales (tuple): A factor for t and one for 1 - t.
        class_weight (Tensor, optional): (C,).
        pos_weight (Tensor, optional): (C,).

    Returns:
        tuple[Tensor, Tensor]: Both (N, C).
    """
    positive, negative = split_dense_label(label, like.dtype)
    positive, negative = positive.mul_(scales[0]), negative.mul_(scales[1])
    if class_weight is not None:
        positive.mul_(class_weight.to(like))
        negative.mul_(class_weight.to(like))
    if pos_weight is not None:
        positive.mul_(pos_weight.to(like))
    return positive, negative


def refuse_second_derivative() -> None:
    """Raise where a backward pass is itself to be differentiated.

    Raises:
        RuntimeError: If called in a backward pass with ``create_graph=True``.
    """
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        raise RuntimeError(
            'Expected `create_graph` to be False: the gradient of this loss cannot '
            'be differentiated once more'
        )


class _DenseGradient(Function):
    """Identity of the images' losses whose gradient for the logits is known entry by entry."""

    @staticmethod
    def forward(cls_score: Tensor, loss: Tensor, grad: Tensor) -> Tensor:
        return loss.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        cls_score, _, grad = inputs
        ctx.dtype = cls_score.dtype
        ctx.save_for_backward(grad)

    @staticmethod
    def backward(ctx: Any, grad_loss: Tensor) -> tuple:
        refuse_second_derivative()
        (grad,) = ctx.saved_tensors
        grad_loss = grad_loss[:, None]
        if grad.dtype == ctx.dtype:
            return grad * grad_loss, None, None
        grad_score = torch.empty_like(grad, dtype=ctx.dtype)
        for rows in row_blocks(grad):
            grad_score[rows] = grad[rows] * grad_loss[rows]
        return grad_score, None, None


class _SparseGradient(Function):
    """The same where the gradient of each row is 0 but for a few entries."""

    @staticmethod
    def forward(
        cls_score: Tensor,
        loss: Tensor,
        chosen: Tensor,
        slope: Tensor,
        index: Tensor,
        index_slope: Tensor,
    ) -> Tensor:
        return loss.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        cls_score, _, *entries = inputs
        ctx.shape, ctx.dtype = cls_score.shape, cls_score.dtype
        ctx.save_for_backward(*entries)

    @staticmethod
    def backward(ctx: Any, grad_loss: Tensor) -> tuple:
        refuse_second_derivative()
        chosen, slope, index, index_slope = ctx.saved_tensors
        grad_loss = grad_loss[:, None]
        grad_score = grad_loss.new_zeros(ctx.shape, dtype=ctx.dtype)
        grad_score.scatter_(1, chosen, (slope * grad_loss).to(ctx.dtype))
        grad_score.scatter_(1, index, (index_slope * grad_loss).to(ctx.dtype))
        return grad_score, None, None, None, None, None


def attach_gradient(cls_score: Tensor, loss: Tensor, grad: Tensor) -> Tensor:
    """Make ``loss`` differentiable for ``cls_score``, once.

    Args:
        cls_score (Tensor): Logits (N, C).
        loss (Tensor): The images' losses (N,), without a graph.
        grad (Tensor): The gradient of each image's loss for its logits (N, C), in ``loss``'s
            dtype.

    Returns:
        Tensor: ``loss``, with a graph.
    """
    return _DenseGradient.apply(cls_score, loss, grad)


def attach_sparse_gradient(
    cls_score: Tensor,
    loss: Tensor,
    chosen: Tensor,
    slope: Tensor,
    index: Tensor,
    index_slope: Tensor,
) -> Tensor:
    """Make ``loss`` differentiable for ``cls_score``, once, by k + 1 entries of each row.

    Args:
        cls_score (Tensor): Logits (N, C).
        loss (Tensor): The images' losses (N,), without a graph.
        chosen (Tensor): The classes (N, k) that have a gradient, different ones in a row.
        slope (Tensor): The gradient of each image's loss for them (N, k).
        index (Tensor): One more class (N, 1); where ``chosen`` holds it too, this one counts.
        index_slope (Tensor): The gradient for it (N, 1).

    Returns:
        Tensor: ``loss``, with a graph.
    """
    return _SparseGradient.apply(cls_score, loss, chosen, slope, index, index_slope)
