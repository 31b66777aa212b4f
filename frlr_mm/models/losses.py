"""HS-LR and SS-LR as registered modules, with the contract of stock mmpretrain losses."""

from collections.abc import Sequence
from typing import Any, Optional, Union

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from frlr_mm.functional.common import Alpha, check_alpha, check_number, check_reduction
from frlr_mm.functional.fused_linear import fused_linear_hs_lr_loss, fused_linear_ss_lr_loss
from frlr_mm.functional.hs_lr import check_ratio, hs_lr_loss
from frlr_mm.functional.ss_lr import ss_lr_loss


class FocusRectifiedLoss(nn.Module):
    """Base class: what the two losses are built with and called with.

    A subclass names its function and that function's own parameters, which it keeps as attributes
    so that :class:`~frlr_mm.engine.hooks.FocusAnnealingHook` can move them.

    Args:
        reduction (str): 'none', 'mean' or 'sum'.
        loss_weight (float): A factor for the loss, >= 0.
        class_weight (Sequence[float], optional): A factor for both terms of each class (C,).
        pos_weight (Sequence[float], optional): A factor for the positive term of each class (C,).
    """

    focus_params: tuple[str, ...] = ()

    def __init__(
        self,
        reduction: str,
        loss_weight: float,
        class_weight: Union[float, Sequence[float], None],
        pos_weight: Union[float, Sequence[float], None],
    ) -> None:
        super().__init__()
        check_reduction('reduction', reduction)
        check_number('loss_weight', loss_weight)
        self.reduction = reduction
        self.loss_weight = loss_weight
        self._register_class_factor('class_weight', class_weight)
        self._register_class_factor('pos_weight', pos_weight)

    def _register_class_factor(
        self, name: str, values: Union[float, Sequence[float], None]
    ) -> None:
        factor = None
        if isinstance(values, (int, float)):
            check_number(name, values)
            factor = torch.tensor(float(values))
        elif values is not None:
            for i, value in enumerate(values):
                check_number(f'{name}[{i}]', value)
            factor = torch.tensor([float(value) for value in values])
        # A buffer follows the model to its device once, not at every step. It is no part of the
        # weights: checkpoints stay those of the stock recipe.
        self.register_buffer(name, factor, persistent=False)

    def loss_function(self, cls_score: Tensor, label: Tensor, **kwargs: Any) -> Tensor:
        """Call the loss's function with the module's own parameters."""
        raise NotImplementedError

    def fused_loss_function(
        self,
        features: Tensor,
        fc_weight: Tensor,
        fc_bias: Optional[Tensor],
        label: Tensor,
        **kwargs: Any,
    ) -> Tensor:
        """Call the function of the loss fused with a linear classifier."""
        raise NotImplementedError

    def forward(
        self,
        cls_score: Tensor,
        label: Tensor,
        weight: Optional[Tensor] = None,
        avg_factor: Union[int, float, Tensor, None] = None,
        reduction_override: Optional[str] = None,
        **kwargs: Any,
    ) -> Tensor:
        """Compute the loss.

        Args:
            cls_score (Tensor): Logits (N, C), float16, bfloat16, float32 or float64.
            label (Tensor): Class indices (N,) or (N, 1) of an integer dtype, in [0, C), or dense
                targets (N, C), in [0, 1] or below 0 for unknown entries.
            weight (Tensor, optional): A factor for each image (N,). Defaults to None.
            avg_factor (int | float | Tensor, optional): What 'mean' divides the sum of the images'
                losses by, in place of N. Defaults to None.
            reduction_override (str, optional): Replaces the module's ``reduction``. Defaults to
                None.
            **kwargs: What heads hand to losses in general; not used.

        Returns:
            Tensor: float32, or float64 for float64 logits: (N,) for 'none', else a scalar.

        Raises:
            TypeError: If a number is none or a dtype does not fit.
            ValueError: If a number, a shape, a reduction or, on the CPU, a label is out of range.
        """
        loss = self.loss_function(
            cls_score,
            label,
            weight=weight,
            avg_factor=avg_factor,
            **self._function_args(reduction_override, cls_score.shape[-1]),
        )
        return self.loss_weight * loss

    def forward_fused(
        self,
        features: Tensor,
        fc_weight: Tensor,
        fc_bias: Optional[Tensor],
        label: Tensor,
        weight: Optional[Tensor] = None,
        avg_factor: Union[int, float, Tensor, None] = None,
        reduction_override: Optional[str] = None,
        **kwargs: Any,
    ) -> Tensor:
        """Compute the loss of a linear classifier without holding its logits.

        Args:
            features (Tensor): Inputs of the classifier (N, D).
            fc_weight (Tensor): Its weights (C, D).
            fc_bias (Tensor, optional): Its bias (C,).
            label (Tensor): Class indices (N,) or (N, 1) of an integer dtype, in [0, C).
            weight (Tensor, optional): As for :meth:`forward`. Defaults to None.
            avg_factor (int | float | Tensor, optional): As for :meth:`forward`. Defaults to None.
            reduction_override (str, optional): As for :meth:`forward`. Defaults to None.
            **kwargs: As for :meth:`forward`.

        Returns:
            Tensor: float32, or float64 for float64 features: (N,) for 'none', else a scalar.

        Raises:
            TypeError: If a number is none or a dtype does not fit.
            ValueError: If a number, a shape, a reduction or, on the CPU, a label is out of range.
        """
        loss = self.fused_loss_function(
            features,
            fc_weight,
            fc_bias,
            label,
            sample_weight=weight,
            avg_factor=avg_factor,
            **self._function_args(reduction_override, fc_weight.shape[0]),
        )
        return self.loss_weight * loss

    @staticmethod
    def _expand(factor: Any, num_classes: int) -> Optional[Tensor]:
        return factor.expand(num_classes) if factor is not None and factor.ndim == 0 else factor

    def _function_args(self, reduction_override: Optional[str], num_classes: int) -> dict:
        if reduction_override is not None:
            check_reduction('reduction_override', reduction_override)
        return dict(
            class_weight=self._expand(self.class_weight, num_classes),
            pos_weight=self._expand(self.pos_weight, num_classes),
            reduction=reduction_override or self.reduction,
        )

    def extra_repr(self) -> str:
        """Return the parameters that ``print(model)`` shows."""
        names = (*self.focus_params, 'reduction', 'loss_weight')
        return ', '.join(f'{name}={getattr(self, name)!r}' for name in names)


@MODELS.register_module()
class HSLRLoss(FocusRectifiedLoss):
    """Logistic regression with hard selection of the negative classes (HS-LR).

    See :func:`frlr_mm.functional.hs_lr_loss` for the equation. A small ``ratio`` from the first
    step on hardly learns: start from the prior bias and anneal ``ratio`` by
    :class:`~frlr_mm.engine.hooks.FocusAnnealingHook`.

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
        class_weight: Union[float, Sequence[float], None] = None,
        pos_weight: Union[float, Sequence[float], None] = None,
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
        class_weight: Union[float, Sequence[float], None] = None,
        pos_weight: Union[float, Sequence[float], None] = None,
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
