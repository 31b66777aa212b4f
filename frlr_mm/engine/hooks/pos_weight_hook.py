"""Weights of the positives that follow from the training data."""

from typing import Any

import numpy as np
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from mmpretrain.models import MultiTaskHead
from torch import nn

from frlr_mm._checks import check_number
from frlr_mm.datasets.label_counts import LabelCounts, count_labels
from frlr_mm.engine._unwrapped import unwrapped


@HOOKS.register_module()
class PosWeightHook(Hook):
    r"""Set the weights of the positives by the label frequencies of the training data.

    Before training, the labels of the training data set are counted, and ``pos_weight`` of the
    head's loss becomes, for class j with the prior :math:`p_j` of
    :class:`~frlr_mm.engine.hooks.PriorBiasHook`,

    .. math::
        w_j = w^0_j \, m \, r_j \, \frac{\sum_i n_i w^0_i}{\sum_i n_i w^0_i r_i},\quad
        r_j = \left(\frac{1 - p_j}{p_j}\right)^e

    where :math:`w^0` is the ``pos_weight`` of the config, 1 where there is none, :math:`n_j` the
    number of positives of the class, e is ``exponent``, and m is 1 or, with ``per_image``, the
    number of positive labels of an average image. The positives of rare classes get more weight,
    those of frequent ones less: the mean weight over all positives stays, or becomes m times what
    it was.

    The loss is HSLRLoss, SSLRLoss or the stock CrossEntropyLoss with ``use_sigmoid=True``. What
    counts each class alike, such as the mAP, gains by the exponent; what counts each label alike
    loses a little (docs/attributes.md). The probabilities of rare classes become larger than
    their frequency.

    Args:
        exponent (float): e, in [0, 1]; 0 leaves the weights of the classes as they are. Defaults
            to 0.25.
        per_image (bool): Whether to multiply by the number of positive labels of an average image.
            HSLRLoss and SSLRLoss take the mean over positives: with ``alpha='sum'``, each of
            several positives of an image counts as much as a negative only by this factor.
            Defaults to False.

    Raises:
        TypeError: If ``exponent`` is not a number; before training, if the training data set
            shows no annotations.
        ValueError: If ``exponent`` is out of range; before training, if no head has such a loss;
            if neither head nor data set says the number of classes, or the labels or the
            ``pos_weight`` of the config have another; or if none or all labels are positive.
    """

    # The last before an iteration: another hook may have replaced the loss.
    priority = 'VERY_LOW'

    def __init__(self, exponent: float = 0.25, per_image: bool = False) -> None:
        check_number('exponent', exponent, high=1.0)
        self.exponent = exponent
        self.per_image = per_image
        self._heads: list[tuple[Any, LabelCounts, np.ndarray, float]] = []
        # By loss, what the config says: training may begin twice.
        self._given: dict[nn.Module, Any] = {}
        self._done: set[nn.Module] = set()

    def before_train(self, runner: Runner) -> None:
        """Set the weights; they follow from the data alone, also where training is resumed."""
        model = unwrapped(runner)
        dataset = runner.train_dataloader.dataset
        head = getattr(model, 'head', None)
        heads = head.task_heads.items() if isinstance(head, MultiTaskHead) else [(None, head)]
        self._heads, self._done = [], set()
        for task, each in heads:
            if not _find_losses(each):
                continue
            # CSRAClsHead, and heads without a layer, do not say it.
            classes = getattr(dataset, 'metainfo', {}).get('classes') or ()
            num_classes = getattr(each, 'num_classes', None) or len(classes)
            if not num_classes:
                raise ValueError(
                    'Expected `num_classes` of the head, or `classes` in the metainfo of the '
                    f'training data set, for PosWeightHook, but {type(each).__name__} and '
                    f'{type(dataset).__name__} have neither'
                )
            counts = count_labels(dataset, num_classes, task)
            prior = counts.prior()
            rarity = ((1 - prior) / prior) ** self.exponent
            factor = _positives_per_image(counts, task) if self.per_image else 1.0
            self._heads.append((each, counts, rarity, factor))
        if not self._heads:
            losses = [getattr(each, 'loss_module', None) for _, each in heads]
            raise ValueError(
                'Expected the loss of `model.head` to be HSLRLoss, SSLRLoss or CrossEntropyLoss '
                'with use_sigmoid=True for PosWeightHook, but got '
                + ', '.join(type(loss).__name__ for loss in losses)
            )
        self._set_weights(runner)

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        """Set the weights of a loss that a hook like SwitchRecipeHook has put in."""
        self._set_weights(runner)

    def _set_weights(self, runner: Runner) -> None:
        for head, counts, rarity, factor in self._heads:
            for loss in _find_losses(head):
                if loss in self._done:
                    continue
                self._done.add(loss)
                given = self._given.setdefault(loss, loss.pos_weight)
                given = np.asarray(1.0 if given is None else given)
                if given.shape not in ((), rarity.shape):
                    raise ValueError(
                        f'Expected `pos_weight` of {type(loss).__name__} to be a number or '
                        f'{len(rarity)} numbers, one for each class, but got {given.size}'
                    )
                positives = counts.positive
                mean = factor * (positives * given).sum() / positives.sum()
                weight = given * rarity
                weight *= mean * positives.sum() / (positives * weight).sum()
                loss.pos_weight = tuple(weight.tolist())
                runner.logger.info(
                    f'PosWeightHook: weights of the positives between {weight.min():.3g} and '
                    f'{weight.max():.3g} (mean over all positives {mean:.3g}), from '
                    f'{counts.num_images:,} images, {len(weight):,} classes'
                )


def _positives_per_image(counts: LabelCounts, task: str | None) -> float:
    """Return the number of positive labels of an average image.

    Of a task, images without a label for it do not count: its head leaves them out.
    """
    num_images = counts.num_images if task is None else counts.known.max()
    return float(counts.positive.sum() / num_images)


def _find_losses(head: nn.Module | None) -> list[Any]:
    """Return the losses of a head that weigh positives."""
    modules = [] if head is None else head.modules()
    # (The stock cross-entropy has the attribute with a softmax as well.)
    return [
        each
        for each in modules
        if hasattr(each, 'pos_weight') and getattr(each, 'use_sigmoid', True)
    ]
