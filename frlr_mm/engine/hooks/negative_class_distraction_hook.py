"""A monitor of how far the negative classes distract a training run."""

import inspect
import logging
import math
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from mmpretrain.models import AsymmetricLoss, CrossEntropyLoss, FocalLoss, LabelSmoothLoss
from torch import Tensor, nn

from frlr_mm._checks import check_int
from frlr_mm.diagnostics import (
    effective_negatives,
    negative_share,
    selection_threshold,
    split_loss,
)
from frlr_mm.engine._unwrapped import unwrapped
from frlr_mm.functional._reduction import accumulation_dtype
from frlr_mm.models.heads.fused_linear_cls_head import FusedLinearClsHead
from frlr_mm.models.losses import FocusRectifiedLoss, HSLRLoss

PREFIX = 'train/distraction'


@HOOKS.register_module()
class NegativeClassDistractionHook(Hook):
    """Log what positives and negatives have of the loss and of its gradient on the logits.

    At the first and each ``interval``-th iteration the loss is evaluated once more on the batch's
    logits, cut off from the model; training is the same with and without. Of the batch of this
    process, it sends to the message hub, below ``train/distraction/``:

    - ``positive_term``, ``negative_term``: the two parts of the loss, mean over images,
    - ``negative_share``: the share of the gradient that goes to negatives, by its L1 norm,
    - ``effective_negatives``: how many negatives per image share that gradient, the inverse
      participation ratio, mean over images,
    - ``selection_threshold``, for HSLRLoss alone: the smallest probability among the selected
      negatives, mean over images.

    A value that a batch does not have, because it has no gradient on negatives, is left out. The
    losses are HSLRLoss, SSLRLoss and, of mmpretrain, CrossEntropyLoss (``use_sigmoid=True``),
    FocalLoss and AsymmetricLoss. A soft target t counts t times as a positive and 1 - t times as a
    negative, an unknown one not at all. Where another loss takes the place of the first during
    training, as by SwitchRecipeHook, and cannot be split so, a warning says it once, and nothing
    is logged of it.

    Args:
        interval (int): The iterations from one evaluation to the next, >= 1. Defaults to 50.

    Raises:
        ValueError: If ``interval`` is out of its range; before the first iteration, if the model
            has not exactly one such loss, or FusedLinearClsHead, which makes no logits.
    """

    # After RuntimeInfoHook (VERY_HIGH), which records the iteration, before the logger.
    priority = 'NORMAL'

    def __init__(self, interval: int = 50) -> None:
        check_int('interval', interval, low=1)
        self.interval = interval
        self._handle: Any = None
        self._values: dict[str, Tensor] = {}
        self._warned: set[str] = set()

    def before_train(self, runner: Runner) -> None:
        """Make sure that the model has a loss to watch."""
        # One that goes on may have changed its loss, as SwitchRecipeHook does, and goes on so.
        if runner.iter == 0:
            find_sigmoid_loss(unwrapped(runner))

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        """Listen to the loss, in the iterations that count."""
        if not self._is_due(runner):
            return
        # Looked for each time: a hook may have exchanged the loss.
        try:
            loss = find_sigmoid_loss(unwrapped(runner))
        except ValueError as error:
            self._warn_once(f'{error}: nothing is logged of this loss')
            # Else the log would go on with the values of the loss before.
            scalars = runner.message_hub.log_scalars
            for name in [name for name in scalars if name.startswith(f'{PREFIX}/')]:
                del scalars[name]
            return
        self._handle = loss.register_forward_hook(self._evaluate, with_kwargs=True)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Send the values to the message hub."""
        if not self._is_due(runner):
            return
        if self._handle is not None:
            self._handle.remove()
            self._handle = None
            self._warn_once(
                'NegativeClassDistractionHook saw no logits: the loss was not called, or is part '
                'of a compiled model'
            )
        for name, value in self._values.items():
            number = value.item()
            if math.isfinite(number):
                runner.message_hub.update_scalar(f'{PREFIX}/{name}', number)
        self._values = {}

    def _is_due(self, runner: Runner) -> bool:
        # The iterations that a logger of the same interval shows, and the start.
        return runner.iter == 0 or self.every_n_train_iters(runner, self.interval)

    def _warn_once(self, text: str) -> None:
        if text not in self._warned:
            print_log(text, 'current', level=logging.WARNING)
            self._warned.add(text)

    def _evaluate(self, loss: nn.Module, args: tuple, kwargs: dict, output: Tensor) -> None:
        self._handle.remove()  # the first call of an iteration counts
        self._handle = None
        # The names of the first two differ among losses.
        given = inspect.signature(loss.forward).bind(*args, **kwargs).arguments
        score, label = list(given.values())[:2]
        score = score.detach().to(accumulation_dtype(score.dtype)).requires_grad_()
        with torch.enable_grad(), torch.autocast(score.device.type, enabled=False):
            positive, negative = split_loss(loss, score, label, given.get('weight'))
            (positive_grad,) = torch.autograd.grad(positive.sum(), score, retain_graph=True)
            (negative_grad,) = torch.autograd.grad(negative.sum(), score)
        self._values = dict(
            positive_term=positive.detach().mean(),
            negative_term=negative.detach().mean(),
            negative_share=negative_share(positive_grad, negative_grad),
            effective_negatives=effective_negatives(negative_grad),
        )
        if isinstance(loss, HSLRLoss):
            self._values['selection_threshold'] = selection_threshold(
                score.detach(), negative_grad
            )


def find_sigmoid_loss(model: nn.Module) -> nn.Module:
    """Find the loss of a model whose positives and negatives have parts of their own.

    Args:
        model (nn.Module): The model, not wrapped.

    Returns:
        nn.Module: The loss.

    Raises:
        ValueError: If there is not exactly one, or the model makes no logits.
    """
    for module in model.modules():
        if isinstance(module, FusedLinearClsHead):
            raise ValueError(
                'NegativeClassDistractionHook expected the logits of a batch, but got a '
                f'{type(module).__name__}, which makes none: use LinearClsHead'
            )
        if isinstance(module, LabelSmoothLoss):
            raise ValueError(
                'NegativeClassDistractionHook expected targets from the data, but got a '
                f'{type(module).__name__}, which makes its own'
            )
    kinds = (FocusRectifiedLoss, CrossEntropyLoss, FocalLoss, AsymmetricLoss)
    losses = [m for m in model.modules() if isinstance(m, kinds)]
    found = [loss for loss in losses if getattr(loss, 'use_sigmoid', True)]
    if len(found) != 1:
        names = [type(loss).__name__ + ('' if loss in found else ' (softmax)') for loss in losses]
        raise ValueError(
            'NegativeClassDistractionHook expected one loss with a sigmoid for each class '
            '(HSLRLoss, SSLRLoss, CrossEntropyLoss with use_sigmoid=True, FocalLoss or '
            f'AsymmetricLoss), but got {", ".join(names) or "none"}'
        )
    return found[0]
