"""The stock linear head for class counts whose logits do not fit in memory."""

from typing import Any

import torch
from mmengine.registry import MODELS
from mmpretrain.models import LinearClsHead
from mmpretrain.structures import DataSample
from torch import Tensor

from ..losses import FocusRectifiedLoss


@MODELS.register_module()
class FusedLinearClsHead(LinearClsHead):
    """Linear head that never holds the logits of a batch while it trains.

    The choice from about 50,000 classes. Parameters, checkpoints and predictions are those of
    ``LinearClsHead``; the loss is the same to rounding. It takes class indices alone: no mixup, no
    label smoothing.

    Args:
        *args: As for ``LinearClsHead``.
        loss (dict | nn.Module): An ``HSLRLoss`` or ``SSLRLoss``, or its config.
        **kwargs: As for ``LinearClsHead``; ``cal_acc`` needs the logits and is refused.

    Raises:
        TypeError: If ``loss`` is another loss.
        ValueError: If ``cal_acc`` is set.
    """

    def __init__(self, *args: Any, loss: Any, **kwargs: Any) -> None:
        super().__init__(*args, loss=loss, **kwargs)
        if not isinstance(self.loss_module, FocusRectifiedLoss):
            raise TypeError(
                'Expected `loss` to be an HSLRLoss or an SSLRLoss, but got '
                f'{type(self.loss_module).__name__}'
            )
        if self.cal_acc:
            raise ValueError(
                'Expected `cal_acc` to be False: accuracy needs the logits of all '
                f'classes, but got {self.cal_acc}'
            )

    def loss(
        self, feats: tuple[Tensor, ...], data_samples: list[DataSample], **kwargs: Any
    ) -> dict[str, Tensor]:
        """Compute the loss from the features.

        Args:
            feats (tuple[Tensor]): Features of the backbone's stages; the last one, (N, D), counts.
            data_samples (list[DataSample]): The labels, ``gt_label`` of each.
            **kwargs: As for the loss module.

        Returns:
            dict[str, Tensor]: The loss.

        Raises:
            ValueError: If a sample carries ``gt_score``, a dense target.
        """
        if 'gt_score' in data_samples[0]:
            raise ValueError(
                'Expected `data_samples` to hold class indices, but got `gt_score`: '
                'use LinearClsHead with mixup, cutmix and label smoothing'
            )
        features = self.pre_logits(feats)
        label = torch.cat([sample.gt_label for sample in data_samples])
        return dict(loss=self._fused_loss(features, label, **kwargs))

    def _fused_loss(self, features: Tensor, label: Tensor, **kwargs: Any) -> Tensor:
        return self.loss_module.forward_fused(
            features, self.fc.weight, self.fc.bias, label, avg_factor=features.shape[0], **kwargs
        )
