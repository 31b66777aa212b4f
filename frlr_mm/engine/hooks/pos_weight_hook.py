"""Weigh the positives of a class by how rare they are in the training data."""

from typing import Any

import numpy as np
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from mmpretrain.models import MultiTaskHead
from torch import nn

from frlr_mm._checks import check_number
from frlr_mm.datasets.label_counts import count_labels

from .prior_bias_hook import check_num_classes


@HOOKS.register_module()
class PosWeightHook(Hook):
    r"""Give the positives of rare classes more weight, by the label frequencies.

    Before training, the labels of the training data set are counted, and ``pos_weight`` of the
    head's loss becomes, for class j with the prior :math:`p_j` that
    :class:`~frlr_mm.engine.hooks.PriorBiasHook` has as well,

    .. math::
        w_j = w \, r_j \frac{\sum_i p_i}{\sum_i p_i r_i},\quad
        r_j = \left(\frac{1 - p_j}{p_j}\right)^e

    where e is ``exponent`` and w the ``pos_weight`` of the config, 1 where there is none. So the
    mean weight over all positives stays w; where that is a sequence, w is its mean over all
    positives.

    The loss is HSLRLoss, SSLRLoss or the stock CrossEntropyLoss with ``use_sigmoid=True``. What
    counts each class alike, such as the mAP, gains; what counts each label alike loses a little
    (docs/attributes.md). The probabilities of rare classes become larger than their frequency.

    Args:
        exponent (float): e, in [0, 1]; with 0 all classes have the weight w. Defaults to 0.25.

    Raises:
        TypeError: If ``exponent`` is not a number; before training, if the training data set
            shows no annotations.
        ValueError: If ``exponent`` is out of range; before training, if the head has no such
            loss or does not say its number of classes; if the head, the data set's classes and
            the labels do not agree about it; or if none or all labels are positive.
    """

    def __init__(self, exponent: float = 0.25) -> None:
        check_number('exponent', exponent, high=1.0)
        self.exponent = exponent

    def before_train(self, runner: Runner) -> None:
        """Set the weights; they follow from the data alone, also where training is resumed."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        dataset = runner.train_dataloader.dataset
        head = getattr(model, 'head', None)
        heads = head.task_heads.items() if isinstance(head, MultiTaskHead) else [(None, head)]
        for task, each in heads:
            losses = _find_losses(each)
            num_classes = getattr(each, 'num_classes', None)
            if num_classes is None:
                raise ValueError(
                    'Expected the head to have the attribute `num_classes` for PosWeightHook, '
                    f'but {type(each).__name__} has none'
                )
            if task is None:
                check_num_classes(model, dataset, num_classes)
            counts = count_labels(dataset, num_classes, task)
            prior = counts.prior()
            rarity = ((1 - prior) / prior) ** self.exponent
            rarity *= prior.sum() / (prior * rarity).sum()
            for loss in losses:
                given = np.asarray(1.0 if loss.pos_weight is None else loss.pos_weight)
                mean = float((prior * given).sum() / prior.sum())
                weight = mean * rarity
                loss.pos_weight = tuple(weight.tolist())
                runner.logger.info(
                    f'PosWeightHook: weights of the positives between {weight.min():.3g} and '
                    f'{weight.max():.3g} (mean over all positives {mean:.3g}), from '
                    f'{counts.num_images:,} images, {num_classes:,} classes'
                )


def _find_losses(head: nn.Module | None) -> list[Any]:
    """Return the losses of a head that weigh positives."""
    modules = [] if head is None else list(head.modules())
    # (The stock cross-entropy has the attribute with a softmax as well.)
    losses = [
        each
        for each in modules
        if hasattr(each, 'pos_weight') and getattr(each, 'use_sigmoid', True)
    ]
    if not losses:
        loss = type(getattr(head, 'loss_module', None)).__name__
        raise ValueError(
            'Expected the loss of `model.head` to be HSLRLoss, SSLRLoss or CrossEntropyLoss with '
            f'use_sigmoid=True for PosWeightHook, but got {loss}'
        )
    return losses
