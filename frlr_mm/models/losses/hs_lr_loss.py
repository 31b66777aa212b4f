"""HS-LR as a registered module."""

from collections.abc import Sequence
from typing import Any, Optional

from mmengine.registry import MODELS
from torch import Tensor

from frlr_mm.functional.common import Alpha, check_alpha
from frlr_mm.functional.fused_linear import fused_linear_hs_lr_loss
from frlr_mm.functional.hs_lr import check_ratio, hs_lr_loss

from .base import FocusRectifiedLoss


@MODELS.register_module()
class HSLRLoss(FocusRectifiedLoss):
    """Logistic regression with hard selection of the negative classes (HS-LR).

    See :func:`frlr_mm.functional.hs_lr_loss` for the equation. A small ``ratio`` from the first
    step on hardly learns: start from the prior bias and anneal ``ratio`` by
    :class:`~frlr_mm.hooks.FocusAnnealingHook`.

    Args:
        alpha (float | 'sum'): The weight of the negative term, >= 0. With 'sum' it is k, the
            number selected, so that an image's selected terms are summed, not averaged. Defaults
            to 'sum'.
        ratio (float): The share of the classes that is selected, in (0, 1]. Defaults to 0.1.
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
    Regression", AAAI 2019, Eq. 5.
    """

    focus_params = ('alpha', 'ratio')

    def __init__(
        self,
        alpha: Alpha = 'sum',
        ratio: float = 0.1,
        reduction: str = 'mean',
        loss_weight: float = 1.0,
        class_weight: Optional[Sequence[float]] = None,
        pos_weight: Optional[Sequence[float]] = None,
    ) -> None:
        super().__init__(reduction, loss_weight, class_weight, pos_weight)
        check_alpha(alpha)
        check_ratio(ratio)
        self.alpha = alpha
        self.ratio = ratio

    def loss_function(self, cls_score: Tensor, label: Tensor, **kwargs: Any) -> Tensor:
        """Call :func:`frlr_mm.functional.hs_lr_loss` with ``alpha`` and ``ratio``."""
        return hs_lr_loss(cls_score, label, alpha=self.alpha, ratio=self.ratio, **kwargs)

    def fused_loss_function(
        self,
        features: Tensor,
        fc_weight: Tensor,
        fc_bias: Optional[Tensor],
        label: Tensor,
        **kwargs: Any,
    ) -> Tensor:
        """Call :func:`frlr_mm.functional.fused_linear_hs_lr_loss` as ``loss_function`` does."""
        return fused_linear_hs_lr_loss(
            features, fc_weight, fc_bias, label, alpha=self.alpha, ratio=self.ratio, **kwargs
        )
