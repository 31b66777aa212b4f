"""What the study compares the losses with: rivals that mmpretrain lacks, and variants."""

from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, MODELS
from mmengine.runner import Runner
from mmpretrain.models.heads import ArcFaceClsHead
from torch import Tensor, nn
from torch.nn.functional import one_hot, softplus

from frlr_mm.functional._inputs import AvgFactor
from frlr_mm.models.heads import BNNeckHead
from frlr_mm.models.losses import HSLRLoss


@MODELS.register_module()
class TwoWayLoss(nn.Module):
    r"""Two-way multi-label loss: positives above negatives, within images and within classes.

    With :math:`P` the positives of a row or a column of logits :math:`x`, and :math:`N` its
    negatives, each row and each column that has both contributes

    .. math::
        \mathrm{softplus}\Big(T \log \sum_{p \in P} e^{-x_p / T} + \log \sum_{n \in N} e^{x_n}\Big)

    and the loss is the mean over rows plus the mean over columns.

    Args:
        temperature (float): :math:`T`, that of the positives, > 0. Defaults to 4.0.

    Source: Kobayashi, "Two-Way Multi-Label Loss", CVPR 2023.
    """

    def __init__(self, temperature: float = 4.0) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, cls_score: Tensor, label: Tensor, **kwargs: object) -> Tensor:
        """Return the loss.

        Args:
            cls_score (Tensor): Logits (N, C).
            label (Tensor): 1, 0, or below 0 where unknown (N, C).
            **kwargs (object): What heads pass to every loss; this one has its own normalisers.

        Returns:
            Tensor: A scalar.
        """
        total = cls_score.sum() * 0  # where no row and no column has both
        for score, target in ((cls_score, label), (cls_score.T, label.T)):
            both = (target > 0).any(1) & (target == 0).any(1)
            if not both.any():
                continue
            score, target = score[both], target[both]
            positive = (-score / self.temperature).masked_fill(target <= 0, -float('inf'))
            negative = score.masked_fill(target != 0, -float('inf'))
            terms = self.temperature * positive.logsumexp(1) + negative.logsumexp(1)
            total = total + softplus(terms).mean()
        return total


@MODELS.register_module()
class ArcFaceReIDHead(ArcFaceClsHead):
    """ArcFace for re-identification: mmpretrain's head behind the BNNeck of the other losses.

    Args as for :class:`mmpretrain.models.ArcFaceClsHead`; features and errors are those of
    :class:`~frlr_mm.models.BNNeckHead`.
    """

    def __init__(self, num_classes: int, in_channels: int, **kwargs: object) -> None:
        super().__init__(num_classes, in_channels, **kwargs)
        self.bn = nn.BatchNorm1d(in_channels)
        self.bn.bias.requires_grad_(False)

    pre_logits = BNNeckHead.pre_logits
    predict = BNNeckHead.predict


@MODELS.register_module()
class BatchHSLRLoss(HSLRLoss):
    """HS-LR that selects the hardest negatives of a batch, not of each image.

    Of N images and C classes, the largest ``N * max(1, floor(C * ratio))`` negative terms count,
    whatever their images; so easy images have few, hard ones many. Arguments are those of
    :class:`~frlr_mm.models.HSLRLoss` with ``alpha='sum'``.
    """

    def forward(
        self,
        cls_score: Tensor,
        label: Tensor,
        weight: Tensor | None = None,
        avg_factor: AvgFactor = None,
        reduction_override: str | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Return the loss.

        Args:
            cls_score (Tensor): Logits (N, C).
            label (Tensor): Class indices (N,), or 1, 0 and below 0 where unknown (N, C).
            weight (Tensor, optional): Not used. Defaults to None.
            avg_factor (int | float | Tensor, optional): Not used. Defaults to None.
            reduction_override (str, optional): Not used. Defaults to None.
            **kwargs: Not used.

        Returns:
            Tensor: A scalar.
        """
        num_images, num_classes = cls_score.shape
        target = one_hot(label, num_classes) if label.ndim == 1 else label
        is_positive, is_negative = target > 0, target == 0
        factor = torch.as_tensor(1.0 if self.pos_weight is None else self.pos_weight)
        positive = (factor.to(cls_score) * softplus(-cls_score))[is_positive].sum()
        terms = softplus(cls_score[is_negative])
        num = min(num_images * max(1, int(num_classes * self.ratio)), len(terms))
        selected = terms.topk(num).values.sum()
        return positive / is_positive.sum().clamp(min=1) + selected / num_images


# By type of loss: the parameter and the value that make it plain LR.
PLAIN_LR = {
    'HSLRLoss': ('ratio', 1.0),
    'BatchHSLRLoss': ('ratio', 1.0),
    'SSLRLoss': ('gamma', 0.0),
}


@HOOKS.register_module()
class LastPhaseHook(Hook):
    """Give a parameter of the loss another value for the last part of training.

    Args:
        param (str): The attribute of the head's loss.
        value (float): Its value from then on.
        begin (float): From when on, a share of training.
    """

    # After FocusAnnealingHook.
    priority = 'LOWEST'

    def __init__(self, param: str, value: float, begin: float) -> None:
        self.param = param
        self.value = value
        self.begin = begin

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        """Set the value where its time has come."""
        if runner.iter >= self.begin * runner.max_iters:
            setattr(runner.model.head.loss_module, self.param, self.value)
            runner.message_hub.update_scalar(f'train/{self.param}', self.value)
