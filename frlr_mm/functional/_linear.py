"""Loss and gradient of features: a linear classifier whose logits are never held.

Logistic losses need no normaliser over the classes, so that the classes can be taken in chunks:
forward sums the terms of each chunk and drops its logits, backward computes them once more
(``_linear_once`` has the cases that do without). The contract is
``linear(features, weight, bias, index, terms)``: it returns the losses of the images (N,) and
keeps (least, ties) of hard selection.

Where the classes are spread over processes, each has the part of the losses that its classes make,
and all of them search for (least, ties) together.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from ._autograd import refuse_second_derivative
from ._inputs import Terms, check_float_dtypes, check_tensors
from ._reduction import accumulation_dtype
from ._rows import row_blocks
from ._search import least_and_ties_over_ranks
from ._select import is_selected, num_selected
from ._terms import soft_slope, soft_terms, softplus
from ._torch import autocast_dtype
from .sharding import ClassShard

# How many logits a CPU holds at once, where the budget allows it: memory that is used again and
# again, in a matrix that is large enough for a product to run at full speed.
CHUNK_NUMEL = 1 << 20
# A logit whose sigmoid, and the gradient of it, is exactly 0. It takes the target class out of the
# negatives; -inf would do the same to the loss, but not to its gradient (0 * inf).
NEGLIGIBLE = -1e4


def place(matrix: Tensor, column: Tensor, value: float | Tensor) -> None:
    """Write one value a row (N, 1) at a column (N, 1), in the rows where that column exists."""
    exists = (column >= 0) & (column < matrix.shape[1])
    column = column.clamp(0, matrix.shape[1] - 1)
    matrix.scatter_(1, column, torch.where(exists, value, matrix.gather(1, column)))


class _LinearLoss(Function):
    """The images' losses of a linear classifier, its logits computed chunk by chunk, twice.

    Hard selection keeps (least, ties) of each row; ties that a chunk takes are gone for the next.
    """

    @staticmethod
    def forward(
        features: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        index: Tensor,
        terms: Terms,
        dtype: torch.dtype,
        budget: int,
        shard: ClassShard | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        k, scale = num_and_scale(weight.shape[0] if shard is None else shard.num_classes, terms)
        class_weight, column = _own_classes(index, terms, shard)
        k_here = min(k, weight.shape[0])
        target = target_logits(features, weight, bias, column, dtype, shard)
        loss = torch.zeros_like(target)
        least, ties = torch.empty_like(target), torch.empty_like(target)
        num_rows, num_classes = tile(features.shape[0], weight, dtype, k, budget, shard)
        for rows in steps(features.shape[0], num_rows):
            best = loss.new_full((loss[rows].shape[0], k_here), -torch.inf)
            for classes in steps(weight.shape[0], num_classes):
                x = logits(features[rows], weight, bias, classes, dtype)
                place(x, column[rows] - classes.start, NEGLIGIBLE)
                each = None if class_weight is None else class_weight[classes].to(x)
                for block in row_blocks(x):
                    if k:
                        value = _selection_key(x[block], each)
                        best[block] = torch.cat([best[block], value], 1).topk(k_here, 1).values
                        continue
                    summands = soft_terms(x[block], terms.gamma)[2]
                    summands = summands if each is None else summands.mul_(each)
                    loss[rows][block] += summands.sum(1, keepdim=True)
                del x  # before the next chunk's are made
            if k:
                if shard is None:
                    least[rows] = best.amin(1, keepdim=True)
                    ties[rows] = (best == least[rows]).sum(1, keepdim=True).to(best.dtype)
                else:
                    least[rows], ties[rows], greater = least_and_ties_over_ranks(best, k, shard)
                    # The values descend; the term of one that is not selected is 0.
                    is_out = torch.arange(k_here, device=best.device) >= greater + ties[rows]
                    best.masked_fill_(is_out, NEGLIGIBLE if class_weight is None else 0)
                summands = best if class_weight is not None else softplus(best)
                loss[rows] = summands.sum(1, keepdim=True)
        factor = positive_factor(index, target, terms)
        positive = factor * softplus(-target)
        if shard is not None:
            positive.masked_fill_((column < 0) | (column >= weight.shape[0]), 0)
        loss = positive + scale * loss
        return loss.squeeze(1), -factor * (-target).sigmoid(), torch.cat([least, ties], 1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        *tensors, ctx.terms, ctx.dtype, ctx.budget, ctx.shard = inputs
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(*tensors, *output[1:])

    @staticmethod
    def backward(ctx: Any, grad_loss: Tensor, *_: Tensor) -> tuple:
        refuse_second_derivative()
        features, weight, bias, index, target_slope, kept = ctx.saved_tensors
        shard, gamma = ctx.shard, ctx.terms.gamma
        num_classes = weight.shape[0] if shard is None else shard.num_classes
        k, scale = num_and_scale(num_classes, ctx.terms)
        class_weight, column = _own_classes(index, ctx.terms, shard)
        wanted = ctx.needs_input_grad
        grad_features = torch.zeros_like(features, dtype=kept.dtype) if wanted[0] else None
        grad_weight = torch.zeros_like(weight) if wanted[1] else None
        grad_bias = torch.zeros_like(bias, dtype=kept.dtype) if wanted[2] else None
        grad_loss = grad_loss[:, None]
        # The very tiles of forward: other shapes may round the logits otherwise.
        num_rows, num_classes = tile(features.shape[0], weight, ctx.dtype, k, ctx.budget, shard)
        for rows in steps(features.shape[0], num_rows):
            least, ties = kept[rows].clone().tensor_split(2, 1)
            for classes in steps(weight.shape[0], num_classes):
                x = logits(features[rows], weight, bias, classes, ctx.dtype)
                target = column[rows] - classes.start
                place(x, target, NEGLIGIBLE)
                each = None if class_weight is None else class_weight[classes].to(x)
                for block in row_blocks(x):
                    if k:
                        slope = x[block].sigmoid()
                        slope.mul_(
                            _take(_selection_key(x[block], each), least[block], ties[block])
                        )
                    else:
                        slope = soft_slope(*soft_terms(x[block], gamma), gamma)
                    x[block] = slope.mul_(scale if each is None else each * scale)
                place(x, target, target_slope[rows])
                x.mul_(grad_loss[rows])
                x, inputs = x.to(ctx.dtype), features[rows].to(ctx.dtype)
                if grad_features is not None:
                    _add_product(grad_features[rows], x, weight[classes].to(ctx.dtype))
                if grad_weight is not None:
                    _add_product(grad_weight[classes], x.t(), inputs)
                if grad_bias is not None:
                    grad_bias[classes] += x.sum(0, dtype=grad_bias.dtype)
                del x
        if grad_features is not None:
            grad_features = grad_features.to(features.dtype)
        if grad_bias is not None:
            grad_bias = grad_bias.to(bias.dtype)
        return grad_features, grad_weight, grad_bias, *[None] * 5


def _own_classes(
    index: Tensor, terms: Terms, shard: ClassShard | None
) -> tuple[Tensor | None, Tensor]:
    """Return the factors of the classes here, and where among these the targets are (N, 1).

    A target that another process holds is in no column.
    """
    if shard is None:
        return terms.class_weight, index
    factors = terms.class_weight
    return None if factors is None else factors[shard.start : shard.stop], index - shard.start


def target_logits(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    column: Tensor,
    dtype: torch.dtype,
    shard: ClassShard | None,
) -> Tensor:
    """Return the logit of each image's target (N, 1); of another process's, anything finite."""
    if shard is not None:
        column = column.clamp(0, weight.shape[0] - 1)
    target = (features.to(dtype) * weight[column.squeeze(1)].to(dtype)).sum(
        1, keepdim=True, dtype=accumulation_dtype(dtype)
    )
    return target if bias is None else target.add_(bias[column])


def tile(
    num_images: int,
    weight: Tensor,
    dtype: torch.dtype,
    k: int,
    budget: int,
    shard: ClassShard | None,
    in_kernel: bool = False,
) -> tuple[int, int]:
    """Return how many rows and how many classes of logits to hold at once.

    The rows are as many on every process, since all search for what is selected of them together.
    """
    num_classes, num_channels = weight.shape
    if shard is not None:
        num_classes = shard.max_size
    k = min(k, num_classes)
    numbers = budget // (8 if dtype == torch.float64 else 4)
    # A CPU works in small blocks. A GPU holds what it computes of the logits, and what merges them
    # with the selected values; in half precision there are copies of the weights. A kernel works
    # in the place of the logits.
    copies, selected = (2, k) if weight.device.type == 'cpu' or in_kernel else (8, 7 * k)
    a_class = 0 if weight.dtype == dtype else 2 * num_channels
    num_rows = num_images
    if k:
        # To merge a chunk costs k comparisons more than its size: rather fewer rows than classes.
        num_rows = min(num_rows, numbers // (selected + copies * min(num_classes, 2 * k)))
    num_rows = max(1, num_rows)
    room = numbers - selected * num_rows
    step = room // (copies * num_rows + a_class)
    if weight.device.type == 'cpu' and not k:
        step = min(step, CHUNK_NUMEL // num_rows)
    return num_rows, min(num_classes, max(1, step))


def steps(size: int, step: int) -> Iterator[slice]:
    return (slice(start, min(start + step, size)) for start in range(0, size, step))


def logits(
    features: Tensor, weight: Tensor, bias: Tensor | None, classes: slice, dtype: torch.dtype
) -> Tensor:
    x = (features.to(dtype) @ weight[classes].to(dtype).t()).to(accumulation_dtype(dtype))
    return x if bias is None else x.add_(bias[classes])


def _selection_key(x: Tensor, class_weight: Tensor | None) -> Tensor:
    """Return what hard selection compares: the terms, or the logits, which have their order."""
    return x if class_weight is None else softplus(x).mul_(class_weight)


def _take(value: Tensor, least: Tensor, ties: Tensor) -> Tensor:
    """Tell what is selected of a chunk, and leave the ties that are left in ``ties``."""
    selected = is_selected(value, least, ties)
    ties -= (value == least).sum(1, keepdim=True)
    return selected


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    if total.dtype == a.dtype:
        total.addmm_(a, b)
    else:
        total += a @ b


def check_classifier(features: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    """Raise unless the tensors are those of a linear classifier.

    Args:
        features (Tensor): Inputs of the classifier (N, D).
        weight (Tensor): Its weights (C, D).
        bias (Tensor, optional): Its bias (C,), or None.

    Raises:
        TypeError: If one is no tensor, or not of floats.
        ValueError: If a shape does not fit.
    """
    tensors = dict(features=features, weight=weight)
    if bias is not None:
        tensors['bias'] = bias
    check_tensors(**tensors)
    check_float_dtypes(**tensors)
    if features.ndim != 2 or weight.ndim != 2 or features.shape[1] != weight.shape[1]:
        raise ValueError(
            'Expected `features` and `weight` to have shapes (N, D) and (C, D), but '
            f'got {tuple(features.shape)} and {tuple(weight.shape)}'
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(
            f'Expected `bias` to have shape ({weight.shape[0]},), but got {tuple(bias.shape)}'
        )


def linear_images_loss(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    index: Tensor,
    terms: Terms,
    chunk_budget: float,
    shard: ClassShard | None = None,
) -> Tensor:
    """Compute the images' losses of a linear classifier, differentiable once.

    Args:
        features (Tensor): (N, D).
        weight (Tensor): (C, D).
        bias (Tensor, optional): (C,).
        index (Tensor): Class indices, int64 (N, 1).
        terms (Terms): The selection, ``alpha`` and the class factors.
        chunk_budget (float): In bytes.
        shard (ClassShard, optional): Which classes ``weight`` and ``bias`` are, where they are not
            all of ``terms`` and ``index``. Defaults to None.

    Returns:
        Tensor: (N,), in the accumulation dtype: what the classes of ``weight`` make of the losses.
    """
    # (Tensors without values know no autocast.)
    device = 'cpu' if features.is_meta else features.device.type
    dtype = autocast_dtype(device) or features.dtype
    arguments = (features, weight, bias, index, terms, dtype, int(chunk_budget), shard)
    with torch.autocast(device, enabled=False):
        return _LinearLoss.apply(*arguments)[0]


def num_and_scale(num_classes: int, terms: Terms) -> tuple[int, float]:
    """Return k and the factor of each negative term; k is 0 where there is nothing to select."""
    k = 0 if terms.ratio is None else num_selected(num_classes, terms.ratio)
    scale = 1.0 if terms.alpha == 'sum' else float(terms.alpha) / (k or num_classes - 1)
    return 0 if k == num_classes else k, scale


def positive_factor(index: Tensor, like: Tensor, terms: Terms) -> Tensor:
    """Return the factor of each image's positive term (N, 1)."""
    factor = torch.ones_like(like)
    for class_factor in (terms.class_weight, terms.pos_weight):
        if class_factor is not None:
            factor *= class_factor.to(like)[index]
    return factor
