"""A schedule for the focus of the losses."""

import logging
import math
from collections.abc import Sequence

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import IterBasedTrainLoop, Runner

from frlr_mm._checks import check_number
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
    or iteration alone, so a resumed training goes on exactly. The log shows it under the
    parameter's name.

    Args:
        param (str): 'ratio' (of HSLRLoss), 'gamma' (of SSLRLoss) or 'alpha' (of both).
        start_value (float): The value at ``begin``, in the range of the parameter.
        end_value (float): The value at ``end``, in the range of the parameter.
        schedule (str): 'linear', 'cosine' or 'exponential'; the last needs both values above 0.
            Defaults to 'exponential'.
        by_epoch (bool): Whether ``begin`` and ``end`` count epochs, else iterations. Defaults to
            True.
        begin (int): The epoch or iteration at which the value starts to move, >= 0. Defaults to 0.
        end (int, optional): The epoch or iteration from which it stays, > ``begin``. None is the
            end of training. Defaults to None.
        convert_to_iter_based (bool): Whether the value moves at every iteration though ``begin``
            and ``end`` count epochs. Defaults to True.

    Raises:
        TypeError: If a value is no number, or ``begin`` or ``end`` no int.
        ValueError: If an argument is out of its range; before training, if the model has no loss
            with the parameter, ``begin`` and ``end`` count epochs in a training by iterations, or
            training ends before ``begin``.
    """

    # After RuntimeInfoHook (VERY_HIGH), which records the iteration, before the logger.
    priority = 'NORMAL'

    def __init__(
        self,
        param: str,
        start_value: float,
        end_value: float,
        schedule: str = 'exponential',
        by_epoch: bool = True,
        begin: int = 0,
        end: int | None = None,
        convert_to_iter_based: bool = True,
    ) -> None:
        if param not in PARAMS:
            raise ValueError(f'Expected `param` to be one of {PARAMS}, but got {param!r}')
        if schedule not in SCHEDULES:
            raise ValueError(f'Expected `schedule` to be one of {SCHEDULES}, but got {schedule!r}')
        for name, value in (('start_value', start_value), ('end_value', end_value)):
            if param == 'ratio':
                check_number(name, value, high=1.0, open_low=True)
            else:
                check_number(name, value, open_low=schedule == 'exponential')
        for name, value in (('begin', begin), ('end', 1 if end is None else end)):
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f'Expected `{name}` to be an int, but got {value!r}')
        check_number('begin', begin)
        if end is not None:
            check_number('end', end, low=begin, open_low=True)
        self.param = param
        self.start_value = start_value
        self.end_value = end_value
        self.schedule = schedule
        self.by_epoch = by_epoch
        self.begin = begin
        self.end = end
        self.by_iter = not by_epoch or convert_to_iter_based
        self._losses: Sequence[FocusRectifiedLoss] = ()

    def before_train(self, runner: Runner) -> None:
        """Find the losses of the model."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        losses = [m for m in model.modules() if isinstance(m, FocusRectifiedLoss)]
        if not losses:
            raise ValueError(
                'FocusAnnealingHook found neither an HSLRLoss nor an SSLRLoss in '
                f'the model ({type(model).__name__})'
            )
        self._losses = [loss for loss in losses if self.param in loss.focus_params]
        if not self._losses:
            found = ', '.join(f'{type(loss).__name__} has {loss.focus_params}' for loss in losses)
            raise ValueError(
                'FocusAnnealingHook found no loss with the parameter '
                f'{self.param!r} in the model: {found}'
            )
        if self.by_epoch and isinstance(runner.train_loop, IterBasedTrainLoop):
            raise ValueError(
                'Expected `by_epoch` of FocusAnnealingHook to be False where '
                'training goes by iterations, but got True'
            )
        last = runner.max_epochs if self.by_epoch else runner.max_iters
        if self.begin >= last:
            raise ValueError(
                'Expected `begin` of FocusAnnealingHook to be below the end of '
                f'training, {last}, but got {self.begin}'
            )
        if self.end is not None and self.end > last:
            print_log(
                f'FocusAnnealingHook moves {self.param} until {self.end}, but training ends '
                f'at {last}: it will not reach {self.end_value}',
                'current',
                level=logging.WARNING,
            )

    def before_train_epoch(self, runner: Runner) -> None:
        """Set the value of the epoch."""
        if not self.by_iter:
            self._set_value(runner, runner.epoch, runner.max_epochs)

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        """Set the value of the iteration."""
        if self.by_iter:
            self._set_value(runner, runner.iter, runner.max_iters)

    def _set_value(self, runner: Runner, now: int, last: int) -> None:
        unit = len(runner.train_dataloader) if self.by_epoch and self.by_iter else 1
        begin = self.begin * unit
        end = last if self.end is None else self.end * unit
        value = self.get_value((now - begin) / (end - begin))
        for loss in self._losses:
            setattr(loss, self.param, value)
        runner.message_hub.update_scalar(f'train/{self.param}', float(value))

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
