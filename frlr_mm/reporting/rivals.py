"""What the study compares the losses with, and mmpretrain lacks or needs a word of help for."""

from mmengine.registry import MODELS
from mmpretrain.models.heads import ArcFaceClsHead
from torch import Tensor, nn

from frlr_mm.models.heads import BNNeckHead


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
            total = total + nn.functional.softplus(terms).mean()
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
