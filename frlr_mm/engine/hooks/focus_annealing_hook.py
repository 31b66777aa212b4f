"""A schedule for the focus of the losses."""

import logging
import math

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import HOOKS
from mmengine.runner import IterBasedTrainLoop, Runner

from frlr_mm._checks import check_choice, check_number
from frlr_mm.engine._unwrapped import unwrapped
from frlr_mm.models.losses import FocusRectifiedLoss

PARAMS = ('ratio', 'gamma', 'alpha')
SCHEDULES = ('linear', 'cosine', 'exponential')


@HOOKS.register_module()
class FocusAnnealingHook(Hook):
    r"""Move a parameter of HSLRLoss or SSLRLoss between two values during training.

    With the progress :math:`s \in [0, 1]` from ``begin`` to ``end`` the value is, between
    :math:`v_0` = ``start_value`` and :math:`v_1` = ``end_value``,

    - linear: :math:`v_0 + (v_1 - v_0) s`,
    - cosine: :math:`v_1 + (v_0 - v_1) (1 + \cos \pi s) / 2`,
    - exponential: :math:`v_0 (v_1 / v_0)^s`.

    Before ``begin`` it is ``start_value``, from ``end`` on ``end_value``. It depends on the epoch
    or iteration and the length of training alone, so a resumed training run goes on exactly. The
    log shows it under the parameter's name.

    ``begin`` and ``end`` are counts if they are of type int, and shares of training if they are of
    type float: ``end=1`` is one epoch, ``end=1.0`` all of training, and ``end=0.8`` the first 80 %
    of it, whatever its length and whether that is given in epochs or iterations.

    Args:
        param (str): 'ratio' (of HSLRLoss), 'gamma' (of SSLRLoss) or 'alpha' (of both).
        start_value (float): The value at ``begin``, in the range of the parameter.
        end_value (float): The value at ``end``, in the range of the parameter.
        schedule (str): 'linear', 'cosine' or 'exponential'; the last needs both values above 0.
            Defaults to 'cosine'.
        by_epoch (bool): Whether counts are epochs, else iterations. Defaults to True.
        begin (int | float): When the value starts to move: the number of epochs or iterations
            before it, >= 0, or a share of training in [0, 1). Defaults to 0.
        end (int | float, optional): From when it stays: a number of epochs or iterations or a
            share of training in (0, 1], later than ``begin``. None is the end of training.
            Defaults to None.
        convert_to_iter_based (bool): Whether the value moves at every iteration though
            ``by_epoch`` is True. Defaults to True.

    Raises:
        TypeError: If a value, ``begin`` or ``end`` is not a number.
        ValueError: If an argument is out of its range; before training, if the model has no loss
            with the parameter, a count is one of epochs in training by iterations, or training
            ends before ``begin``.
    """

    # The last before an iteration: another hook may have replaced the loss.
    priority = 'VERY_LOW'

    def __init__(
        self,
        param: str,
        start_value: float,
        end_value: float,
        schedule: str = 'cosine',
        by_epoch: bool = True,
        begin: int | float = 0,
        end: int | float | None = None,
        convert_to_iter_based: bool = True,
    ) -> None:
        check_choice('param', param, PARAMS)
        check_choice('schedule', schedule, SCHEDULES)
        for name, value in (('start_value', start_value), ('end_value', end_value)):
            if param == 'ratio':
                check_number(name, value, high=1.0, open_low=True)
            else:
                check_number(name, value, open_low=schedule == 'exponential')
        _check_bound('begin', begin)
        if end is not None:
            _check_bound('end', end)
            if isinstance(begin, float) == isinstance(end, float):
                check_number('end', end, low=begin, open_low=True)
        self.param = param
        self.start_value = start_value
        self.end_value = end_value
        self.schedule = schedule
        self.by_epoch = by_epoch
        self.begin = begin
        self.end = end
        self.by_iter = not by_epoch or convert_to_iter_based

    def before_train(self, runner: Runner) -> None:
        """Check that the model has such a loss and training such a span."""
        losses = _find_losses(runner)
        if not losses:
            raise ValueError(
                'FocusAnnealingHook found neither an HSLRLoss nor an SSLRLoss in '
                f'the model ({type(unwrapped(runner)).__name__})'
            )
        if not any(self.param in loss.focus_params for loss in losses):
            found = ', '.join(f'{type(loss).__name__} has {loss.focus_params}' for loss in losses)
            raise ValueError(
                'FocusAnnealingHook found no loss with the parameter '
                f'{self.param!r} in the model: {found}'
            )
        # Shares and the whole of training have no unit.
        counts_epochs = self.by_epoch and (
            not self.by_iter or any(type(b) is int and b > 0 for b in (self.begin, self.end))
        )
        if counts_epochs and isinstance(runner.train_loop, IterBasedTrainLoop):
            raise ValueError(
                'Expected `by_epoch` of FocusAnnealingHook to be False where training goes by '
                'iterations, but got True; `begin` and `end` may be shares of training, such as '
                '0.8, as well'
            )
        begin, end, last = self._span(runner)
        unit = self._unit(runner)
        if begin >= last:
            raise ValueError(
                'Expected `begin` of FocusAnnealingHook to be below the end of '
                f'training, {last // unit}, but got {self.begin}'
            )
        if end <= begin:
            raise ValueError(
                f'Expected `end` of FocusAnnealingHook to be after `begin`, {self.begin}, but '
                f'got {self.end}'
            )
        if end > last:
            print_log(
                f'FocusAnnealingHook moves {self.param} until {self.end}, but training ends '
                f'at {last // unit}: it will not reach {self.end_value}',
                'current',
                level=logging.WARNING,
            )

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        """Set the value of the iteration or the epoch."""
        # Looked up each time, which costs some microseconds a layer: hooks like SwitchRecipeHook
        # put another loss in the place of the first.
        losses = [loss for loss in _find_losses(runner) if self.param in loss.focus_params]
        name = f'train/{self.param}'
        if not losses:
            # Else the log would go on with a value that no loss has.
            runner.message_hub.log_scalars.pop(name, None)
            return
        begin, end, _ = self._span(runner)
        now = runner.iter if self.by_iter else runner.epoch
        value = self.get_value((now - begin) / (end - begin))
        for loss in losses:
            setattr(loss, self.param, value)
        if self.by_iter or batch_idx == 0:
            runner.message_hub.update_scalar(name, float(value))

    def _unit(self, runner: Runner) -> int:
        """Return what a count is multiplied by: the iterations of an epoch, or 1."""
        by_epoch = self.by_epoch and not isinstance(runner.train_loop, IterBasedTrainLoop)
        return len(runner.train_dataloader) if by_epoch and self.by_iter else 1

    def _span(self, runner: Runner) -> tuple[float, float, int]:
        """Return ``begin``, ``end`` and the end of training, in iterations or epochs."""
        last = runner.max_iters if self.by_iter else runner.max_epochs
        unit = self._unit(runner)
        begin, end = (
            bound * (last if isinstance(bound, float) else unit)
            for bound in (self.begin, 1.0 if self.end is None else self.end)
        )
        return begin, end, last

    def get_value(self, progress: float) -> float:
        """Return the value at a progress, 0 at ``begin`` and 1 at ``end``, clipped to [0, 1]."""
        if progress <= 0:
            return self.start_value
        if progress >= 1:
            return self.end_value
        if self.schedule == 'linear':
            return self.start_value + (self.end_value - self.start_value) * progress
        if self.schedule == 'cosine':
            half_cosine = (1 + math.cos(math.pi * progress)) / 2
            return self.end_value + (self.start_value - self.end_value) * half_cosine
        return self.start_value * (self.end_value / self.start_value) ** progress


def _check_bound(name: str, value: int | float) -> None:
    """Raise unless ``value`` is a count or a share of training."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f'Expected `{name}` to be an int or a float, but got {value!r}')
    if isinstance(value, int):
        check_number(name, value, open_low=name == 'end')
    elif not (0 <= value < 1 if name == 'begin' else 0 < value <= 1):
        interval = '[0, 1)' if name == 'begin' else '(0, 1]'
        raise ValueError(
            f'Expected `{name}` to be in {interval}, a share of training, or an int, a count, but '
            f'got {value}'
        )


def _find_losses(runner: Runner) -> list[FocusRectifiedLoss]:
    return [m for m in unwrapped(runner).modules() if isinstance(m, FocusRectifiedLoss)]
