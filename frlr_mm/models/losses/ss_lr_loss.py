"""SS-LR as a registered module."""

from collections.abc import Sequence
from typing import Any, Optional

from mmengine.registry import MODELS
from torch import Tensor

from frlr_mm.functional.common import Alpha, check_alpha, check_number
from frlr_mm.functional.fused_linear import fused_linear_ss_lr_loss
from frlr_mm.functional.ss_lr import ss_lr_loss

from .base import FocusRectifiedLoss


@MODELS.register_module()
class SSLRLoss(FocusRectifiedLoss):
    """Logistic regression with soft selection of the negative classes (SS-LR).

    See :func:`frlr_mm.functional.ss_lr_loss` for the equation. ``gamma=0`` is plain logistic
    regression (LR). Start from the prior bias.

    Args:
        alpha (float | 'sum'): The weight of the negative term, >= 0. With 'sum' it is the number
            of negatives of an image, averaged over the batch (C - 1 for single labels), so that
            an image's negative terms are summed, not averaged. Defaults to 'sum'.
        gamma (float): The temperature of the selection, >= 0; at 0 every negative counts the
            same. Defaults to 0.25.
        reduction (str): 'none', 'mean' or 'sum'. Defaults to 'mean'.
        loss_weight (float): A factor for the loss, >= 0. Defaults to 1.0.
        class_weight (Sequence[float], optional): A factor for both terms of each class (C,).
            Defaults to None.
        pos_weight (Sequence[float], optional): A factor for the positive term of each class (C,).
            Defaults to None.

    Raises:
        TypeError: If a number is none.
        ValueError: If a number or ``reduction`` is out of range.

    Source: Dong, Zhu, Gong, "Single-Label Multi-Class Image Classification by Deep Logistic
    Regression", AAAI 2019, Eq. 6.
    """

    focus_params = ('alpha', 'gamma')

    def __init__(
        self,
        alpha: Alpha = 'sum',
        gamma: float = 0.25,
        reduction: str = 'mean',
        loss_weight: float = 1.0,
        class_weight: Optional[Sequence[float]] = None,
        pos_weight: Optional[Sequence[float]] = None,
    ) -> None:
        super().__init__(reduction, loss_weight, class_weight, pos_weight)
        check_alpha(alpha)
        check_number('gamma', gamma)
        self.alpha = alpha
        self.gamma = gamma

    def loss_function(self, cls_score: Tensor, label: Tensor, **kwargs: Any) -> Tensor:
        """Call :func:`frlr_mm.functional.ss_lr_loss` with ``alpha`` and ``gamma``."""
        return ss_lr_loss(cls_score, label, alpha=self.alpha, gamma=self.gamma, **kwargs)

    def fused_loss_function(
        self,
        features: Tensor,
        fc_weight: Tensor,
        fc_bias: Optional[Tensor],
        label: Tensor,
        **kwargs: Any,
    ) -> Tensor:
        """Call :func:`frlr_mm.functional.fused_linear_ss_lr_loss` as ``loss_function`` does."""
        return fused_linear_ss_lr_loss(
            features, fc_weight, fc_bias, label, alpha=self.alpha, gamma=self.gamma, **kwargs
        )
