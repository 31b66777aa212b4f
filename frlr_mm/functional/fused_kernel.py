"""A linear classifier and its loss in one, for class counts whose logits do not fit in memory.

Logistic losses need no normaliser over the classes, so that the classes can be taken in chunks:
forward sums the terms of each chunk and drops its logits, backward computes them once more.
"""

from collections.abc import Iterator
from typing import Any, Optional, Union

import torch
from torch import Tensor
from torch.autograd import Function

from .common import empty_accumulation, to_accumulation_dtype
from .kernels import refuse_second_derivative, row_blocks, softplus
from .ss_lr import soft_slope, soft_terms

# A logit whose sigmoid, and the gradient of it, is exactly 0. It takes the target class out of the
# negatives; -inf would do the same to the loss, but not to its gradient (0 * inf).
NEGLIGIBLE = -1e4


def _place(matrix: Tensor, column: Tensor, value: Union[float, Tensor]) -> None:
    """Write one value a row (N, 1) at a column (N, 1), in the rows where that column exists."""
    exists = (column >= 0) & (column < matrix.shape[1])
    column = column.clamp(0, matrix.shape[1] - 1)
    matrix.scatter_(1, column, torch.where(exists, value, matrix.gather(1, column)))


class _FusedLinearLoss(Function):
    """The images' losses of a linear classifier, its logits computed chunk by chunk, twice.

    ``k`` is 0 for soft selection. Hard selection keeps, of each row, the smallest selected value
    and how many of the values equal to it are selected.
    """

    @staticmethod
    def forward(
        features: Tensor,
        weight: Tensor,
        bias: Optional[Tensor],
        index: Tensor,
        factor: Tensor,
        class_weight: Optional[Tensor],
        scale: float,
        gamma: float,
        k: int,
        dtype: torch.dtype,
        budget: int,
    ) -> tuple[Tensor, Tensor, Tensor]:
        target = (features.to(dtype) * weight[index.squeeze(1)].to(dtype)).sum(
            1, keepdim=True, dtype=empty_accumulation(features.to(dtype)).dtype
        )
        if bias is not None:
            target += bias[index]
        loss = torch.zeros_like(target)
        least, ties = torch.empty_like(target), torch.empty_like(target)
        num_rows, num_classes = _tile(features.shape[0], weight, dtype, k, budget)
        for rows in _steps(features.shape[0], num_rows):
            best = loss.new_full((loss[rows].shape[0], k), -torch.inf)
            for classes in _steps(weight.shape[0], num_classes):
                x = _logits(features[rows], weight, bias, classes, dtype)
                _place(x, index[rows] - classes.start, NEGLIGIBLE)
                each = None if class_weight is None else class_weight[classes].to(x)
                for block in row_blocks(x):
                    if k:
                        value = _selection_key(x[block], each)
                        best[block] = torch.cat([best[block], value], 1).topk(k, 1).values
                        continue
                    terms = soft_terms(x[block], gamma)[2]
                    terms = terms if each is None else terms.mul_(each)
                    loss[rows][block] += terms.sum(1, keepdim=True)
                del x  # before the next chunk's are made
            if k:
                least[rows] = best.amin(1, keepdim=True)
                ties[rows] = (best == least[rows]).sum(1, keepdim=True).to(best.dtype)
                terms = best if class_weight is not None else softplus(best)
                loss[rows] = terms.sum(1, keepdim=True)
        loss = factor * softplus(-target) + scale * loss
        return loss.squeeze(1), -factor * (-target).sigmoid(), torch.cat([least, ties], 1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        *tensors, ctx.scale, ctx.gamma, ctx.k, ctx.dtype, ctx.budget = inputs
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(*tensors, *output[1:])

    @staticmethod
    def backward(ctx: Any, grad_loss: Tensor, *_: Tensor) -> tuple:
        refuse_second_derivative()
        features, weight, bias, index, _, class_weight, target_slope, kept = ctx.saved_tensors
        wanted = ctx.needs_input_grad
        grad_features = torch.zeros_like(features, dtype=kept.dtype) if wanted[0] else None
        grad_weight = torch.zeros_like(weight) if wanted[1] else None
        grad_bias = torch.zeros_like(bias, dtype=kept.dtype) if wanted[2] else None
        grad_loss = grad_loss[:, None]
        # The very tiles of forward: other shapes may round the logits otherwise.
        num_rows, num_classes = _tile(features.shape[0], weight, ctx.dtype, ctx.k, ctx.budget)
        for rows in _steps(features.shape[0], num_rows):
            least, ties = kept[rows].clone().tensor_split(2, 1)
            for classes in _steps(weight.shape[0], num_classes):
                x = _logits(features[rows], weight, bias, classes, ctx.dtype)
                column = index[rows] - classes.start
                _place(x, column, NEGLIGIBLE)
                each = None if class_weight is None else class_weight[classes].to(x)
                for block in row_blocks(x):
                    if ctx.k:
                        slope = x[block].sigmoid()
                        slope.mul_(
                            _is_selected(_selection_key(x[block], each), least[block], ties[block])
                        )
                    else:
                        slope = soft_slope(*soft_terms(x[block], ctx.gamma), ctx.gamma)
                    x[block] = slope.mul_(ctx.scale if each is None else each * ctx.scale)
                _place(x, column, target_slope[rows])
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
        return grad_features, grad_weight, grad_bias, *[None] * 8


def _tile(
    num_images: int, weight: Tensor, dtype: torch.dtype, k: int, budget: int
) -> tuple[int, int]:
    """Return how many rows and how many classes of logits to hold at once."""
    num_classes, num_channels = weight.shape
    numbers = budget // (8 if dtype == torch.float64 else 4)
    # A CPU works in small blocks. A GPU holds what it computes of the logits, and what merges them
    # with the selected values; in half precision there are copies of the weights.
    copies, selected = (2, k) if weight.device.type == 'cpu' else (8, 7 * k)
    a_class = 0 if weight.dtype == dtype else 2 * num_channels
    num_rows = num_images
    if k:
        # To merge a chunk costs k comparisons more than its size: rather fewer rows than classes.
        num_rows = min(num_rows, numbers // (selected + copies * min(num_classes, 2 * k)))
    num_rows = max(1, num_rows)
    room = numbers - selected * num_rows
    return num_rows, min(num_classes, max(1, room // (copies * num_rows + a_class)))


def _steps(size: int, step: int) -> Iterator[slice]:
    return (slice(start, min(start + step, size)) for start in range(0, size, step))


def _logits(
    features: Tensor, weight: Tensor, bias: Optional[Tensor], classes: slice, dtype: torch.dtype
) -> Tensor:
    x = to_accumulation_dtype(features.to(dtype) @ weight[classes].to(dtype).t())
    return x if bias is None else x.add_(bias[classes])


def _selection_key(x: Tensor, class_weight: Optional[Tensor]) -> Tensor:
    """Return what hard selection compares: the terms, or the logits, which have their order."""
    return x if class_weight is None else softplus(x).mul_(class_weight)


def _is_selected(value: Tensor, least: Tensor, ties: Tensor) -> Tensor:
    """Tell which values hard selection took, of those equal to the least the first ``ties``."""
    tied = value == least
    rank = tied.cumsum(1, dtype=torch.int32)
    selected = (value > least) | (tied & (rank <= ties))
    ties -= rank[:, -1:]
    return selected


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    if total.dtype == a.dtype:
        total.addmm_(a, b)
    else:
        total += a @ b


def fused_images_loss(
    features: Tensor,
    weight: Tensor,
    bias: Optional[Tensor],
    label: Tensor,
    scale: float,
    gamma: float,
    k: int,
    class_weight: Optional[Tensor],
    pos_weight: Optional[Tensor],
    chunk_budget: int,
) -> Tensor:
    """Compute the images' losses of a linear classifier, differentiable once.

    Args:
        features (Tensor): (N, D).
        weight (Tensor): (C, D).
        bias (Tensor, optional): (C,).
        label (Tensor): Class indices (N,) or (N, 1).
        scale (float): The factor of each negative term.
        gamma (float): The temperature of soft selection.
        k (int): How many negatives of a row hard selection takes; 0 for soft selection.
        class_weight (Tensor, optional): (C,).
        pos_weight (Tensor, optional): (C,).
        chunk_budget (int): In bytes.

    Returns:
        Tensor: (N,), in the accumulation dtype.
    """
    index = label.view(-1, 1).long()
    factor = torch.ones_like(index, dtype=empty_accumulation(features).dtype)
    for class_factor in (class_weight, pos_weight):
        if class_factor is not None:
            factor = factor * class_factor.to(factor)[index]
    device, dtype = features.device.type, features.dtype
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
    with torch.autocast(device, enabled=False):
        loss, *_ = _FusedLinearLoss.apply(
            features,
            weight,
            bias,
            index,
            factor,
            class_weight,
            scale,
            gamma,
            k,
            dtype,
            int(chunk_budget),
        )
    return loss
