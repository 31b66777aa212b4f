"""No update from a loss that is NaN or infinite."""

from typing import Any

import torch
import torch.distributed as dist
from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor, nn

from .._unwrapped import unwrapped


class NonFiniteLossError(FloatingPointError):
    """A loss is NaN or infinite."""


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """Stop before a NaN or infinite loss reaches the weights.

    The error names the iteration, the learning rate and the images of the batch. With several
    processes all stop if one has to. The loss is read between the forward and the backward pass;
    mmengine reads it once more for its log.

    Raises:
        NonFiniteLossError: In training, at the first such loss.
    """

    def __init__(self) -> None:
        self._handle: Any = None

    def before_train(self, runner: Runner) -> None:
        """Listen to the model's losses."""
        self.after_train(runner)
        self._runner = runner
        self._handle = unwrapped(runner).register_forward_hook(self._check, with_kwargs=True)

    def after_train(self, runner: Runner) -> None:
        """Leave the model as it was."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    def _check(self, model: nn.Module, args: tuple, kwargs: dict, output: Any) -> None:
        if not model.training or kwargs.get('mode', 'tensor') != 'loss':
            return
        # Those of a list, which mmengine adds up, may differ in shape.
        losses = {
            name: [value] if isinstance(value, Tensor) else list(value)
            for name, value in output.items()
            if 'loss' in name
        }
        values = [value.detach() for part in losses.values() for value in part]
        finite = torch.stack([value.isfinite().all() for value in values]).all()
        everywhere = finite.float()  # which every backend reduces
        if get_world_size() > 1:
            dist.all_reduce(everywhere, dist.ReduceOp.MIN)
        if not everywhere:
            raise NonFiniteLossError(
                self._describe(losses, bool(finite), kwargs.get('data_samples'))
            )

    def _describe(self, losses: dict[str, list[Tensor]], here: bool, data_samples: Any) -> str:
        runner = self._runner
        rate = ', '.join(
            f'{name} {lr[0]:.4g}' for name, lr in runner.optim_wrapper.get_lr().items()
        )
        where = f'at iteration {runner.iter + 1}, epoch {runner.epoch + 1}, {rate}'
        if here:
            return f'The loss of another process is NaN or infinite {where}'
        # As mmengine logs them.
        values = ', '.join(
            f'{name} = {sum(value.detach().float().mean() for value in part):g}'
            for name, part in losses.items()
        )
        paths = [sample.get('img_path') for sample in data_samples or []]
        images = ', '.join(str(path) for path in paths if path is not None)
        return f'{values} {where}; images: {images or "without paths"}'
