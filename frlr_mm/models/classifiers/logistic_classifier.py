"""The stock classifier with sigmoid probabilities and, below a threshold, none of the classes."""

from typing import Any

import torch
from mmengine.registry import MODELS
from mmpretrain.models import ClsHead, ConformerHead, ImageClassifier, MultiTaskHead
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from ..._checks import check_number
from ..heads import ShardedLinearClsHead

# Heads whose prediction is the softmax of what they return, or of its sum.
_PREDICT_BY_SOFTMAX = (ClsHead.predict, ConformerHead.predict)


@MODELS.register_module()
class LogisticClassifier(ImageClassifier):
    """Image classifier whose predictions carry sigmoid probabilities, one for each class.

    It trains as :class:`mmpretrain.models.ImageClassifier` does and has its parameters, so that
    checkpoints serve both. ``pred_score`` is the sigmoid of the logits instead of their softmax:
    the order of the classes is the same, and an image that resembles none of them may have low
    scores throughout. ``mode='tensor'`` still returns logits.

    Heads that do not predict by a softmax, those of several labels and
    :class:`~frlr_mm.models.BNNeckHead`, predict as ever; so does
    :class:`~frlr_mm.models.ShardedLinearClsHead` on several processes.

    Args:
        *args: As for ``ImageClassifier``.
        reject_below (float, optional): The least score of a prediction, in [0, 1]. Below it
            ``pred_label`` is -1, "none of these"; ``pred_score``, by which metrics rank, stays.
            None stands for no such limit. ``tools/analysis/choose_threshold.py`` chooses one.
            Defaults to None.
        **kwargs: As for ``ImageClassifier``.

    Raises:
        TypeError: If ``reject_below`` is not a number.
        ValueError: If ``reject_below`` is out of range, or set for a head that does not predict
            one class; or if the head is one of several tasks.
    """

    def __init__(self, *args: Any, reject_below: float | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if isinstance(self.head, MultiTaskHead):
            raise ValueError(
                'Expected `head` of LogisticClassifier to be of one task, but got MultiTaskHead: '
                'use ImageClassifier'
            )
        if reject_below is not None:
            check_number('reject_below', reject_below, high=1.0)
            if not predicts_by_softmax(self.head):
                raise ValueError(
                    'Expected `reject_below` to be None with a head that does not predict one '
                    f'class per image from all logits, {type(self.head).__name__}, but got '
                    f'{reject_below}'
                )
        self.reject_below = reject_below

    def predict(
        self, inputs: Tensor, data_samples: list[DataSample | None] | None = None, **kwargs: Any
    ) -> list[DataSample]:
        """Predict the classes of images.

        Args:
            inputs (Tensor): Images (N, 3, H, W), normalised.
            data_samples (list[DataSample | None], optional): Where to set the predictions; None
                stands for new samples. Defaults to None.
            **kwargs: As for the head's ``predict``.

        Returns:
            list[DataSample]: The samples, with ``pred_score``, float32 (C,) in [0, 1], and
            ``pred_label``, int64 (1,): the class with the largest logit, or -1. Logits above 16
            all have a score of 1.0, the next number to it in float32.
        """
        if not predicts_by_softmax(self.head):
            return super().predict(inputs, data_samples, **kwargs)
        logits = sum_of_branches(self.head(self.extract_feat(inputs))).float()
        scores = logits.sigmoid()
        labels = self._reject(logits.argmax(1), scores)
        samples = [None] * len(scores) if data_samples is None else data_samples
        return [
            (DataSample() if sample is None else sample)
            .set_pred_score(score)
            .set_pred_label(label)
            for sample, score, label in zip(samples, scores, labels[:, None], strict=True)
        ]

    def decide(self, scores: Tensor) -> Tensor:
        """Return the labels of scores, such as those averaged over views of an image.

        Args:
            scores (Tensor): Scores (N, C), in [0, 1].

        Returns:
            Tensor: int64 (N,), the class with the largest score, or -1 if it is below
            ``reject_below``.
        """
        return self._reject(scores.argmax(1), scores)

    def _reject(self, labels: Tensor, scores: Tensor) -> Tensor:
        if self.reject_below is None:
            return labels
        return labels.masked_fill(scores.amax(1) < self.reject_below, -1)


def predicts_by_softmax(head: nn.Module | None) -> bool:
    """Tell whether a head predicts one class, by the softmax of its logits."""
    predict = getattr(type(head), 'predict', None)
    if isinstance(head, ShardedLinearClsHead) and predict is ShardedLinearClsHead.predict:
        # Of several processes, none has the logits of all classes.
        return head.fc.shard.world_size == 1
    return predict in _PREDICT_BY_SOFTMAX


def sum_of_branches(cls_score: Tensor | tuple[Tensor, ...]) -> Tensor:
    """Return the logits (N, C) that a head predicts by, given what it returns.

    ConformerHead returns the logits of its two branches, and predicts by their sum.
    """
    if isinstance(cls_score, Tensor):
        return cls_score
    return torch.stack(tuple(cls_score)).sum(0)
