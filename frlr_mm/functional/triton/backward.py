"""The backward pass of a kept gradient: what was expected to come is in it already."""

import triton
import triton.language as tl
from torch import Tensor

from ._arguments import on_device

_BLOCK = 4096


@triton.jit
def _kernel(
    grad,
    out,
    incoming,
    expected,
    num_classes,
    IS_IN_PLACE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    factor = tl.load(incoming + row)
    if IS_IN_PLACE:  # noqa: SIM102 (a constant: the compiler knows it)
        if factor == expected:
            return
    factor /= expected
    grad += row * num_classes
    out += row * num_classes
    for start in range(0, num_classes, BLOCK):
        classes = start + tl.arange(0, BLOCK)
        inside = classes < num_classes
        slope = factor * tl.load(grad + classes, inside, 0.0).to(tl.float32)
        tl.store(out + classes, slope.to(out.dtype.element_ty), inside)


def scale_rows(grad: Tensor, out: Tensor, incoming: Tensor, expected: float) -> None:
    """Multiply a gradient by what comes in, where that is not what was expected.

    Args:
        grad (Tensor): The gradient (N, C) times ``expected``.
        out (Tensor): Where it goes (N, C); it may be ``grad``, of which nothing is read or written
            then in the rows where ``incoming`` is ``expected``.
        incoming (Tensor): The gradient of the losses of the images, float32 (N,).
        expected (float): Not 0.
    """
    num_images, num_classes = grad.shape
    block = min(_BLOCK, triton.next_power_of_2(num_classes))
    with on_device(grad):
        _kernel[(num_images,)](
            grad,
            out,
            incoming.contiguous(),
            expected,
            num_classes,
            IS_IN_PLACE=out is grad,
            BLOCK=block,
            num_warps=max(1, block // 512),
        )
