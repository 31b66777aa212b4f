"""Loss and gradient of features, where the logits need to be computed only once.

``_linear`` computes them a second time in the backward pass. Three cases do without:

- Soft selection, reduced to one number: what an image's loss is multiplied by is known in advance,
  so that the gradients are made with the loss, up to a factor that backward brings.
- Hard selection on a CPU: the few selected classes and their derivatives are kept, and what the
  others have of the gradient is 0.
- Hard selection by a kernel, reduced to one number: as soft selection, but for whole rows of some
  images at a time.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from ._autograd import refuse_second_derivative
from ._inputs import AvgFactor, Terms, is_eager_on_cpu, is_transformed
from ._linear import (
    CHUNK_NUMEL,
    NEGLIGIBLE,
    linear_images_loss,
    logits,
    num_and_scale,
    place,
    positive_factor,
    steps,
    target_logits,
    tile,
)
from ._reduction import accumulation_dtype, reduce_loss
from ._rows import row_blocks
from ._select import class_keys, classes_of, largest, values_of
from ._terms import soft_slope, soft_terms, softplus
from ._torch import autocast_dtype, is_compiling, keeps_graph
from .triton import has_kernel

# What hard selection holds of a selected class while the gradients are made, in bytes.
_BYTES_PER_CLASS = 48


def linear_loss(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    index: Tensor,
    terms: Terms,
    chunk_budget: float,
    sample_weight: Tensor | None,
    reduction: str,
    avg_factor: AvgFactor,
) -> Tensor:
    """Compute the loss of a linear classifier, differentiable once.

    Args:
        features (Tensor): (N, D).
        weight (Tensor): (C, D).
        bias (Tensor, optional): (C,).
        index (Tensor): Class indices, int64 (N, 1).
        terms (Terms): The selection, ``alpha`` and the class factors.
        chunk_budget (float): In bytes.
        sample_weight (Tensor, optional): (N,).
        reduction (str): 'none', 'mean' or 'sum'.
        avg_factor (int | float | Tensor, optional): What 'mean' divides by.

    Returns:
        Tensor: (N,) for 'none', else a scalar; in the accumulation dtype.
    """
    reduce = partial(reduce_loss, weight=sample_weight, reduction=reduction, avg_factor=avg_factor)
    # (Tensors without values know no autocast.)
    device = 'cpu' if features.is_meta else features.device.type
    dtype = autocast_dtype(device) or features.dtype
    classifier = (features, weight, bias, index, terms)
    inputs = [each for each in (features, weight, bias) if each is not None]
    is_plain = (
        torch.is_grad_enabled()
        and any(each.requires_grad for each in inputs)
        and features.shape[0] > 0
        and not is_compiling()
        and not is_transformed()
    )
    k, _ = num_and_scale(weight.shape[0], terms)
    if is_plain and k and _keeps_selected(inputs, k, dtype, terms, chunk_budget):
        with torch.autocast(device, enabled=False):
            return reduce(_HardLinearLoss.apply(*classifier, int(chunk_budget)))
    factors = [each for each in (sample_weight, avg_factor) if isinstance(each, Tensor)]
    # What float16 loses before GradScaler's factor arrives, it would not bring back.
    is_known = reduction != 'none' and not any(each.requires_grad for each in factors)
    if k:  # a kernel selects from what a product of the very tensors gives
        is_known &= dtype == features.dtype == weight.dtype
        is_known = is_known and has_kernel(features.detach(), index, terms)
    if is_plain and is_known and dtype != torch.float16:
        probe = torch.zeros_like(features[:, 0], dtype=accumulation_dtype(dtype))
        (factor,) = torch.autograd.grad(reduce(probe.requires_grad_()), probe)
        with torch.autocast(device, enabled=False):
            loss = _HardRowsLoss if k else _SoftLinearLoss
            budget = int(chunk_budget)
            return loss.apply(*classifier, dtype, budget, reduce, factor[:, None])
    return reduce(linear_images_loss(*classifier, chunk_budget))


class _KnownGradients(Function):
    """A loss whose gradients are made with it and kept until backward, in ``ctx.grads``."""

    @staticmethod
    def backward(ctx: Any, grad_loss: Tensor) -> tuple:
        refuse_second_derivative()
        ctx.saved_tensors  # noqa: B018 (an error in a second backward pass without the graph)
        grads = ctx.grads
        if keeps_graph():
            grads = [None if grad is None else grad * grad_loss for grad in grads]
        else:
            ctx.grads = None
            for grad in grads:
                if grad is not None:
                    grad.mul_(grad_loss)
        return *grads, *[None] * 6


class _SoftLinearLoss(_KnownGradients):
    """The loss of soft selection."""

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        index: Tensor,
        terms: Terms,
        dtype: torch.dtype,
        budget: int,
        reduce: Callable[[Tensor], Tensor],
        factor: Tensor,
    ) -> Tensor:
        _, scale = num_and_scale(weight.shape[0], terms)
        target = target_logits(features, weight, bias, index, dtype, None)
        for_target = positive_factor(index, target, terms)
        target_slope = (-target).sigmoid_().neg_().mul_(for_target).mul_(factor)
        loss = torch.zeros_like(target)
        wanted = ctx.needs_input_grad
        grad_features = grad_weight = grad_bias = None
        if wanted[0]:
            grad_features = torch.zeros_like(features, dtype=target.dtype)
        if wanted[1]:
            grad_weight = torch.empty_like(weight)
        if bias is not None and wanted[2]:
            grad_bias = torch.empty_like(bias)
        factor = factor * scale
        in_kernel = has_kernel(features.detach(), index, terms)
        if in_kernel:
            from .triton.linear import soft_tile
        _, step = tile(features.shape[0], weight, dtype, 0, budget, None, in_kernel)
        inputs = features.to(dtype)
        for classes in steps(weight.shape[0], step):
            column = index - classes.start
            each = None if terms.class_weight is None else terms.class_weight[classes].to(loss)
            if in_kernel:
                x = inputs @ weight[classes].to(dtype).t()
                b = None if bias is None else bias[classes]
                soft_tile(x, b, column, target_slope, factor, each, terms.gamma, loss)
            else:
                x = logits(features, weight, bias, classes, dtype)
                place(x, column, NEGLIGIBLE)
                for rows in row_blocks(x):
                    p, focus, summands = soft_terms(x[rows], terms.gamma, out=x[rows])
                    if each is not None:
                        focus, summands = focus.mul_(each), summands.mul_(each)
                    loss[rows] += summands.sum(1, keepdim=True)
                    soft_slope(p, focus, summands, terms.gamma).mul_(factor[rows])
                    del p, focus, summands  # before the next block's are made
                place(x, column, target_slope)
                x = x.to(dtype)
            if grad_features is not None:
                weights = weight[classes].to(dtype)
                if grad_features.dtype == dtype:
                    grad_features.addmm_(x, weights)
                else:
                    grad_features += x @ weights
            if grad_weight is not None:
                if grad_weight.dtype == dtype:
                    torch.mm(x.t(), inputs, out=grad_weight[classes])
                else:
                    grad_weight[classes] = x.t() @ inputs
            if grad_bias is not None:
                grad_bias[classes] = x.sum(0, dtype=target.dtype)
            del x  # before the next chunk's are made
        ctx.save_for_backward(index)
        # (Not saved: autograd would copy a gradient that something else still refers to.)
        if grad_features is not None:
            grad_features = grad_features.to(features.dtype)
        ctx.grads = [grad_features, grad_weight, grad_bias]
        positive = for_target * softplus(-target)
        return reduce((positive + scale * loss).squeeze(1))


class _HardRowsLoss(_KnownGradients):
    """The loss of hard selection where a kernel selects from whole rows, some images at a time."""

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        index: Tensor,
        terms: Terms,
        dtype: torch.dtype,
        budget: int,
        reduce: Callable[[Tensor], Tensor],
        factor: Tensor,
    ) -> Tensor:
        from .triton.hard import hard_index_rows

        k, _ = num_and_scale(weight.shape[0], terms)
        loss = factor.new_empty(features.shape[0])
        wanted = ctx.needs_input_grad
        grad_features = torch.empty_like(features) if wanted[0] else None
        grad_weight = torch.zeros_like(weight) if wanted[1] else None
        grad_bias = None
        if bias is not None and wanted[2]:
            grad_bias = torch.zeros_like(bias, dtype=loss.dtype)
        # Logits and their gradient.
        num_rows = budget // (2 * features.element_size() * weight.shape[0])
        for rows in steps(features.shape[0], max(1, num_rows)):
            x = F.linear(features[rows], weight, bias)
            loss[rows], grad = hard_index_rows(x, index[rows], terms, k, True)
            grad.mul_(factor[rows])
            if grad_features is not None:
                torch.mm(grad, weight, out=grad_features[rows])
            if grad_weight is not None:
                grad_weight.addmm_(grad.t(), features[rows])
            if grad_bias is not None:
                grad_bias += grad.sum(0, dtype=grad_bias.dtype)
            del x, grad  # before the next rows' are made
        ctx.save_for_backward(index)
        if bias is not None and grad_bias is not None:
            grad_bias = grad_bias.to(bias.dtype)
        ctx.grads = [grad_features, grad_weight, grad_bias]
        return reduce(loss)


def _keeps_selected(
    inputs: list[Tensor], k: int, dtype: torch.dtype, terms: Terms, budget: float
) -> bool:
    """Tell whether the selected classes are worth keeping, and can be told apart by keys."""
    return (
        dtype == torch.float32
        and terms.class_weight is None
        and all(is_eager_on_cpu(each) and each.dtype == dtype for each in inputs)
        and _BYTES_PER_CLASS * inputs[0].shape[0] * k <= budget / 2  # the rest is for chunks
    )


class _HardLinearLoss(Function):
    """The images' losses of hard selection, which keeps what is selected: float32, on a CPU."""

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        index: Tensor,
        terms: Terms,
        budget: int,
    ) -> Tensor:
        (num_images, _), num_classes = features.shape, weight.shape[0]
        k, scale = num_and_scale(num_classes, terms)
        best = index.new_empty(num_images, 0)
        # To merge a chunk costs k comparisons more than its size.
        numel = min(max(CHUNK_NUMEL, 2 * k * num_images), budget // 16)
        for classes in steps(num_classes, max(1, numel // num_images)):
            x = logits(features, weight, bias, classes, features.dtype)
            place(x, index - classes.start, NEGLIGIBLE)
            merged = []
            for rows in row_blocks(x):
                keys = class_keys(x[rows], classes.start, num_classes)
                keys = largest(keys, min(k, keys.shape[1]))
                if best.shape[1]:
                    keys = torch.cat([best[rows], keys], 1)
                    keys = largest(keys, min(k, keys.shape[1]))
                merged.append(keys)
            best = torch.cat(merged)
            del x, merged  # before the next chunk's are made
        selected = values_of(best)
        target = target_logits(features, weight, bias, index, features.dtype, None)
        factor = positive_factor(index, target, terms)
        loss = factor * softplus(-target) + scale * softplus(selected).sum(1, keepdim=True)
        target_slope = (-target).sigmoid_().neg_().mul_(factor)
        chosen = torch.cat([classes_of(best, num_classes), index], 1)
        slope = torch.cat([selected.sigmoid_().mul_(scale), target_slope], 1)
        ctx.save_for_backward(features, weight, chosen, slope)
        return loss.squeeze(1)

    @staticmethod
    def backward(ctx: Any, grad_loss: Tensor) -> tuple:
        refuse_second_derivative()
        features, weight, chosen, slope = ctx.saved_tensors
        wanted, num_classes = ctx.needs_input_grad, weight.shape[0]
        slope = slope * grad_loss[:, None]
        grad_features = grad_weight = grad_bias = None
        if wanted[0]:
            grad_features = F.embedding_bag(chosen, weight, mode='sum', per_sample_weights=slope)
        if wanted[2]:
            grad_bias = slope.new_zeros(num_classes)
            grad_bias.scatter_add_(0, chosen.flatten(), slope.flatten())
        if wanted[1]:
            # The same transposed: the images of each class.
            found, order = chosen.flatten().int().sort(stable=True)
            starts = torch.searchsorted(found, torch.arange(num_classes, dtype=torch.int32))
            slope = slope.flatten()[order]
            images = order.div_(chosen.shape[1], rounding_mode='floor')
            grad_weight = F.embedding_bag(
                images, features, starts, mode='sum', per_sample_weights=slope
            )
        return grad_features, grad_weight, grad_bias, *[None] * 3
