"""A tile of logits, some classes of all images: made by a product, used here, and dropped."""

import triton
import triton.language as tl
from torch import Tensor

from ._arguments import factor_of_classes, on_device
from ._terms import negative_term

_BLOCK = 2048


@triton.jit
def _kernel(
    score,
    num_classes,
    loss,
    factor,
    column,
    target_slope,
    bias,
    class_weight,
    gamma,
    SELECTS: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    HAS_CLASS_WEIGHT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    score += row * num_classes
    target, of_image = tl.load(column + row).to(tl.int32), tl.load(factor + row)
    total = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, num_classes, BLOCK):
        classes = start + tl.arange(0, BLOCK)
        inside = classes < num_classes
        # -inf, of the target and beyond the row, adds nothing.
        x = tl.load(score + classes, inside, -float('inf')).to(tl.float32)
        if HAS_BIAS:
            x += tl.load(bias + classes, inside, 0.0)
        x = tl.where(classes == target, -float('inf'), x)
        term, slope = negative_term(x, gamma, SELECTS)
        if HAS_CLASS_WEIGHT:
            weight = tl.load(class_weight + classes, inside, 0.0)
            term, slope = weight * term, weight * slope
        total += term
        tl.store(score + classes, (of_image * slope).to(score.dtype.element_ty), inside)
    tl.store(loss + row, tl.load(loss + row) + tl.sum(total))
    tl.debug_barrier()  # what the target has got in the loop comes first
    is_here = (target >= 0) & (target < num_classes)
    of_target = tl.load(target_slope + row)
    tl.store(score + target, of_target.to(score.dtype.element_ty), is_here)


def soft_tile(
    x: Tensor,
    bias: Tensor | None,
    column: Tensor,
    target_slope: Tensor,
    factor: Tensor,
    class_weight: Tensor | None,
    gamma: float,
    loss: Tensor,
) -> None:
    """Add the negative terms of a tile to the losses, and overwrite its logits by their gradient.

    Args:
        x (Tensor): Logits without their bias (N, c), bfloat16 or float32, contiguous.
        bias (Tensor, optional): That of the classes of the tile (c,).
        column (Tensor): Where the targets are, int64 (N, 1); in no column if not in [0, c).
        target_slope (Tensor): The gradient there, float32 (N, 1).
        factor (Tensor): What the gradient of each image is multiplied by, float32 (N, 1).
        class_weight (Tensor, optional): A factor for each class of the tile (c,).
        gamma (float): The temperature of the selection.
        loss (Tensor): float32 (N, 1), contiguous; added to.
    """
    num_images, num_classes = x.shape
    block = min(_BLOCK, triton.next_power_of_2(num_classes))
    with on_device(x):
        _kernel[(num_images,)](
            x,
            num_classes,
            loss,
            factor.contiguous(),
            column.contiguous(),
            target_slope.contiguous(),
            factor_of_classes(bias, loss),
            factor_of_classes(class_weight, loss),
            float(gamma),
            SELECTS=gamma != 0,
            HAS_BIAS=bias is not None,
            HAS_CLASS_WEIGHT=class_weight is not None,
            BLOCK=block,
            num_warps=max(1, block // 256),
        )
