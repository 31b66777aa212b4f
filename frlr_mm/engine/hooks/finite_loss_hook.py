"""No update from a loss that is no number."""

import logging
from typing import Any

import torch
import torch.distributed as dist
from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor, nn

from frlr_mm._checks import check_number


class NonFiniteLossError(FloatingPointError):
    """A loss is NaN or infinite."""


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """Stop before a NaN or infinite loss reaches the weights.

    The error names the iteration, the learning rate and the images of the batch. With several
    processes all stop if one has to. The loss is read between the forward and the backward pass;
    mmengine reads it once more for its log.

    Args:
        max_skips (int): How many such batches are left out, with a warning, before training
            stops, >= 0. A batch that is left out changes neither the weights nor the optimizer nor
            running statistics, where gradients are accumulated it adds none, and the log counts
            its loss as 0. Defaults to 0.

    Raises:
        ValueError: If ``max_skips`` is out of its range.
        NonFiniteLossError: In training, at the batch after the last that may be skipped.
    """

    def __init__(self, max_skips: int = 0) -> None:
        check_number('max_skips', max_skips)
        self.max_skips = max_skips
        self.skipped = 0
        self._handles: list[Any] = []
        self._statistics: list[Tensor] = []
        self._drop_step = False

    def before_train(self, runner: Runner) -> None:
        """Listen to the model's losses."""
        self.after_train(runner)
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        self._runner = runner
        self._handles = [model.register_forward_hook(self._check, with_kwargs=True)]
        if self.max_skips:
            self._handles += [
                model.register_forward_pre_hook(self._remember_statistics),
                runner.optim_wrapper.optimizer.register_step_pre_hook(self._before_step),
            ]

    def after_train(self, runner: Runner) -> None:
        """Leave the model as it was."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _remember_statistics(self, model: nn.Module, args: tuple) -> None:
        if model.training:
            self._statistics = [buffer.detach().clone() for buffer in model.buffers()]

    def _check(self, model: nn.Module, args: tuple, kwargs: dict, output: Any) -> Any:
        if not model.training or kwargs.get('mode', 'tensor') != 'loss':
            return output
        losses = {
            name: value if isinstance(value, Tensor) else torch.stack(list(value))
            for name, value in output.items()
            if 'loss' in name
        }
        finite = torch.stack([value.detach().isfinite().all() for value in losses.values()]).all()
        if get_world_size() > 1:
            # float, which every backend reduces
            flag = finite.float()
            dist.all_reduce(flag, dist.ReduceOp.MIN)
            everywhere = bool(flag)
        else:
            everywhere = bool(finite)
        if everywhere:
            return output
        message = self._describe(losses, bool(finite), kwargs.get('data_samples'))
        self.skipped += 1
        if self.skipped > self.max_skips:
            raise NonFiniteLossError(message)
        print_log(
            f'{message}; skipped, {self.skipped} of at most {self.max_skips}',
            'current',
            level=logging.WARNING,
        )
        for buffer, value in zip(model.buffers(), self._statistics):
            buffer.data.copy_(value)
        # Zero, but a function of every parameter, since DistributedDataParallel waits for all.
        zero = sum(p.sum() * 0 for p in model.parameters() if p.requires_grad)
        self._drop_step = True
        return {name: zero if 'loss' in name else value for name, value in output.items()}

    def _before_step(self, optimizer: torch.optim.Optimizer, args: tuple, kwargs: dict) -> None:
        if not self._drop_step:
            return
        self._drop_step = False
        gradients = [
            p.grad
            for group in optimizer.param_groups
            for p in group['params']
            if p.grad is not None
        ]
        if not any(bool(gradient.any()) for gradient in gradients):
            # Without a gradient an optimizer leaves a parameter and its state alone.
            for group in optimizer.param_groups:
                for parameter in group['params']:
                    parameter.grad = None

    def _describe(self, losses: dict[str, Tensor], here: bool, data_samples: Any) -> str:
        runner = self._runner
        rate = ', '.join(
            f'{name} {lr[0]:.4g}' for name, lr in runner.optim_wrapper.get_lr().items()
        )
        where = f'at iteration {runner.iter + 1}, epoch {runner.epoch + 1}, {rate}'
        if here:
            return f'The loss of another process is NaN or infinite {where}'
        values = ', '.join(
            f'{name} = {value.detach().float().mean():g}' for name, value in losses.items()
        )
        paths = [sample.get('img_path') for sample in data_samples or []]
        images = ', '.join(str(path) for path in paths if path is not None)
        return f'{values} {where}; images: {images or "without paths"}'
