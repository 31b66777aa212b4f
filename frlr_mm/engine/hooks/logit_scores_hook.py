"""Scores of logits beside the predictions, for metrics that ask for them."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor, nn

from ...models.classifiers.logistic_classifier import sum_of_branches
from .._unwrapped import unwrapped


@HOOKS.register_module()
class LogitScoresHook(Hook):
    """Add the largest logit and the energy of each image to what a classifier predicts.

    In validation and test, each sample gets ``largest_logit`` and ``energy``, the logarithm of the
    sum of the exponentials of the logits, as floats. Predictions hold probabilities alone, and of
    a softmax neither can be told from them.

    Raises:
        ValueError: Before validation or test, if the model averages over views or has no head.
    """

    def __init__(self) -> None:
        self._handles: list[Any] = []
        self._logits: Tensor | None = None

    def before_val(self, runner: Runner) -> None:
        """Listen to the model."""
        model = unwrapped(runner)
        head = getattr(model, 'head', None)
        if isinstance(model, BaseTTAModel) or not isinstance(head, nn.Module):
            raise ValueError(
                'Expected LogitScoresHook with a classifier that has a head and sees an image '
                f'once, but got {type(model).__name__}'
            )
        self._handles = [
            head.register_forward_hook(self._keep_logits),
            model.register_forward_hook(self._add_scores),
        ]

    def after_val(self, runner: Runner) -> None:
        """Listen no more."""
        for handle in self._handles:
            handle.remove()
        self._handles, self._logits = [], None

    before_test = before_val
    after_test = after_val

    def _keep_logits(self, head: nn.Module, args: tuple, output: Any) -> None:
        self._logits = sum_of_branches(output)

    def _add_scores(self, model: nn.Module, args: tuple, output: Any) -> None:
        if self._logits is None or not isinstance(output, list):
            return
        logits = self._logits.float()
        largest, energy = logits.amax(1).tolist(), logits.logsumexp(1).tolist()
        for sample, *values in zip(output, largest, energy, strict=True):
            for name, value in zip(('largest_logit', 'energy'), values, strict=True):
                sample.set_field(value, name)
