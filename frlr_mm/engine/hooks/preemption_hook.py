"""A checkpoint before a scheduler or Ctrl-C ends the training."""

import os
import signal
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from frlr_mm._checks import check_int
from frlr_mm.engine.checkpoints import INTERRUPTED
from frlr_mm.engine.files import replacing

SIGNALS = (signal.SIGTERM, signal.SIGINT)


@HOOKS.register_module()
class PreemptionHook(Hook):
    """Write a checkpoint at SIGTERM or Ctrl-C and end with status 143 or 130.

    The current iteration ends first; with gradient accumulation also those that its update needs,
    in a validation the validation. The checkpoint is ``interrupted.pth`` in the work folder, which
    ``--resume`` takes where it is the newest. A second Ctrl-C ends the program at once, without.

    Args:
        interval (int): With several processes, which have to stop at the same iteration, the
            iterations between two times that they ask each other for signals, >= 1. Defaults to
            10.

    Raises:
        ValueError: If ``interval`` is out of its range.
    """

    # After every hook that changes what a checkpoint holds.
    priority = 'LOWEST'

    def __init__(self, interval: int = 10) -> None:
        check_int('interval', interval, low=1)
        self.interval = interval
        self._signal = 0
        self._stop = 0
        self._interrupts = 0
        self._group: Any = None
        self._previous: dict = {}

    def before_train(self, runner: Runner) -> None:
        """Listen to the signals."""
        self._signal = self._stop = self._interrupts = 0
        if get_world_size() > 1 and self._group is None:
            # A group on the CPU: the accelerator need not be waited for.
            self._group = dist.new_group(backend='gloo')
        self._previous = {number: signal.signal(number, self._receive) for number in SIGNALS}

    def after_train(self, runner: Runner) -> None:
        """Leave the signals to whom they belonged."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self._interrupts += number == signal.SIGINT
        if self._interrupts > 1:
            raise KeyboardInterrupt
        # A launcher and a scheduler may both send SIGTERM: more of them change nothing.
        if not self._signal:
            self._signal = number
            # Not by logging or print, which may be in the middle of a line.
            os.write(2, f'\n{signal.Signals(number).name}: a checkpoint comes first\n'.encode())

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Stop if a signal came and the weights are updated."""
        if self._group is None or (runner.iter + 1) % self.interval == 0:
            self._agree()
        wrapper = runner.optim_wrapper
        if self._stop and (not isinstance(wrapper, OptimWrapper) or wrapper.should_update()):
            self._save_and_exit(runner, runner.iter + 1)

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Stop if a signal came during the validation."""
        if self._previous:  # in a training run
            self._agree()
            if self._stop:
                self._save_and_exit(runner, runner.iter)

    def _agree(self) -> None:
        number = torch.tensor(self._signal)
        if self._group is not None:
            dist.all_reduce(number, dist.ReduceOp.MAX, group=self._group)
        self._stop = int(number)

    def _save_and_exit(self, runner: Runner, iteration: int) -> None:
        runner.logger.warning(
            f'{signal.Signals(self._stop).name}: training stops after {iteration} iterations, '
            f'--resume goes on from {INTERRUPTED}'
        )
        meta = dict(epoch=runner.epoch, iter=iteration)
        runner.save_checkpoint(runner.work_dir, INTERRUPTED, meta=meta, by_epoch=False)
        if is_main_process():
            with replacing(Path(runner.work_dir, 'last_checkpoint')) as partial:
                partial.write_text(str(Path(runner.work_dir, INTERRUPTED)))
        if self._group is not None:
            dist.barrier(self._group)  # a launcher kills the others once the first has ended
        self.after_train(runner)
        raise SystemExit(128 + self._stop)
