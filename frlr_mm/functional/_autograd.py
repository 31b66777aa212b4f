"""Gradients written by hand, handed to autograd."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from ._inputs import is_eager
from ._torch import is_compiling, keeps_graph


def refuse_second_derivative() -> None:
    """Raise where a backward pass is itself to be differentiated.

    Raises:
        RuntimeError: If called in a backward pass with ``create_graph=True``.
    """
    if torch.is_grad_enabled() and not is_compiling():
        raise RuntimeError(
            'Expected `create_graph` to be False: the gradient of this loss cannot '
            'be differentiated once more'
        )


class DenseGradient(Function):
    """The images' losses (N,), differentiable once for logits (N, C), entry by entry.

    Applied to the logits, the losses and their gradient (N, C), both without a graph.
    """

    @staticmethod
    def forward(cls_score: Tensor, loss: Tensor, grad: Tensor) -> Tensor:
        return loss.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        ctx.dtype = inputs[0].dtype
        ctx.save_for_backward(inputs[2])

    @staticmethod
    def backward(ctx: Any, grad_loss: Tensor) -> tuple:
        refuse_second_derivative()
        (grad,) = ctx.saved_tensors
        if grad.dtype == ctx.dtype and not is_compiling() and not keeps_graph():
            return grad.mul_(grad_loss[:, None]), None, None
        # (`out` of the logits' dtype: no second matrix in the accumulation dtype.)
        grad_score = torch.empty_like(grad, dtype=ctx.dtype)
        return torch.mul(grad, grad_loss[:, None], out=grad_score), None, None


class KernelGradient(Function):
    """The same from kernels: applied to the logits, the losses, their gradient, and a number.

    The gradient has been multiplied by that number, which the losses' own is expected to be.
    (Without setup_context, with which torch takes longer to call a function than a kernel.)
    """

    @staticmethod
    def forward(
        ctx: Any, cls_score: Tensor, loss: Tensor, grad: Tensor, expected: float
    ) -> Tensor:
        ctx.dtype, ctx.expected = cls_score.dtype, expected
        ctx.save_for_backward(grad)
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, grad_loss: Tensor) -> tuple:
        refuse_second_derivative()
        (grad,) = ctx.saved_tensors
        if not is_eager(grad):
            factor = grad_loss[:, None] / ctx.expected
            return (grad * factor).to(ctx.dtype), None, None, None
        from .triton.backward import scale_rows

        is_ours = grad.dtype == ctx.dtype and not keeps_graph()
        out = grad if is_ours else torch.empty_like(grad, dtype=ctx.dtype)
        scale_rows(grad, out, grad_loss, ctx.expected)
        return out, None, None, None


class SparseGradient(Function):
    """The same where the gradient of each row is 0 but for k + 1 entries.

    Applied to the logits, the losses, k different classes of each row (N, k) and their gradients
    (N, k), one more class (N, 1) and its gradient (N, 1), which counts where the k hold it too.
    """

    @staticmethod
    def forward(
        cls_score: Tensor, loss: Tensor, chosen: Tensor, slope: Tensor, one: Tensor, one_s: Tensor
    ) -> Tensor:
        return loss.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        ctx.shape, ctx.dtype = inputs[0].shape, inputs[0].dtype
        ctx.save_for_backward(*inputs[2:])

    @staticmethod
    def backward(ctx: Any, grad_loss: Tensor) -> tuple:
        refuse_second_derivative()
        chosen, slope, one, one_slope = ctx.saved_tensors
        grad_loss = grad_loss[:, None]
        grad_score = grad_loss.new_zeros(ctx.shape, dtype=ctx.dtype)
        grad_score.scatter_(1, chosen, (slope * grad_loss).to(ctx.dtype))
        grad_score.scatter_(1, one, (one_slope * grad_loss).to(ctx.dtype))
        return grad_score, None, None, None, None, None
