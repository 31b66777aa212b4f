"""What the kernels are called with."""

import torch
from torch import Tensor

from .._reduction import gradient_dtype


def on_device(tensor: Tensor) -> torch.cuda.device_of:
    """Make the device of a tensor the current one, on which Triton launches."""
    return torch.cuda.device_of(tensor)


def row_major(matrix: Tensor) -> Tensor:
    """Return a matrix (N, C) with the numbers of a row side by side."""
    matrix = matrix.detach()
    if matrix.dtype == torch.bool:
        matrix = matrix.view(torch.uint8)
    return matrix if matrix.stride(1) == 1 else matrix.contiguous()


def outputs(score: Tensor, with_grad: bool) -> tuple[Tensor, Tensor]:
    """Return room for the losses of the images (N,) and for their gradient, (N, C) or (0,)."""
    loss = score.new_empty(score.shape[0], dtype=torch.float32)
    return loss, loss.new_empty(score.shape if with_grad else (0,), dtype=gradient_dtype(score))


def factor_of_classes(factor: Tensor | None, loss: Tensor) -> Tensor:
    """Return a factor of the classes as a kernel reads it; for None, what it does not read."""
    return loss if factor is None else factor.to(loss).contiguous()
