"""HS-LR and SS-LR as registered modules, with the contract of stock mmpretrain losses."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from .._checks import check_choice, check_class_factor, check_number
from ..functional import (
    ClassShard,
    fused_linear_hs_lr_loss,
    fused_linear_ss_lr_loss,
    hs_lr_loss,
    sharded_linear_hs_lr_loss,
    sharded_linear_ss_lr_loss,
    ss_lr_loss,
)
from ..functional._inputs import REDUCTIONS, Alpha, AvgFactor, Terms, check_tensors

ClassFactor = float | Sequence[float] | None


class FocusRectifiedLoss(nn.Module):
    """Base class: what the two losses are built with and called with.

    A subclass names its functions and their own parameters, which are attributes, so that
    :class:`~frlr_mm.engine.hooks.FocusAnnealingHook` can move them.

    Args:
        alpha (float | 'sum'): The weight of the negative term, >= 0.
        reduction (str): 'none', 'mean' or 'sum'.
        loss_weight (float): A factor for the loss, >= 0.
        class_weight (float | Sequence[float], optional): A factor for both terms of each class,
            one number for all or (C,).
        pos_weight (float | Sequence[float], optional): A factor for the positive term of each
            class, one number for all or (C,).

    Raises:
        TypeError: If a number is not one.
        ValueError: If a number or ``reduction`` is out of range.
    """

    focus_params: tuple[str, ...]
    function: Any
    fused_function: Any
    sharded_function: Any

    def __init__(
        self,
        alpha: Alpha,
        reduction: str,
        loss_weight: float,
        class_weight: ClassFactor,
        pos_weight: ClassFactor,
    ) -> None:
        super().__init__()
        check_choice('reduction', reduction, REDUCTIONS)
        Terms(alpha)  # checks it
        check_number('loss_weight', loss_weight)
        self.alpha = alpha
        self.reduction = reduction
        self.loss_weight = loss_weight
        self.class_weight = check_class_factor('class_weight', class_weight)
        self.pos_weight = check_class_factor('pos_weight', pos_weight)
        # Tensors of the two, by number of classes, device and dtype, with what they were made of:
        # made once, not at every step. They are not buffers, which a model that is built on the
        # meta device would lose.
        self._factors: dict[tuple, tuple[float | tuple, Tensor]] = {}

    def forward(
        self,
        cls_score: Tensor,
        label: Tensor,
        weight: Tensor | None = None,
        avg_factor: AvgFactor = None,
        reduction_override: str | None = None,
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
            TypeError: If a number is not one, or a dtype does not fit.
            ValueError: If a number, a shape, a reduction or, on the CPU, a label is out of range.
        """
        check_tensors(cls_score=cls_score)
        arguments = self._arguments(cls_score, cls_score.shape[-1:], reduction_override)
        loss = self.function(cls_score, label, weight=weight, avg_factor=avg_factor, **arguments)
        return self.loss_weight * loss

    def forward_fused(
        self,
        features: Tensor,
        fc_weight: Tensor,
        fc_bias: Tensor | None,
        label: Tensor,
        weight: Tensor | None = None,
        avg_factor: AvgFactor = None,
        reduction_override: str | None = None,
        shard: ClassShard | None = None,
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
            shard (ClassShard, optional): Which classes ``fc_weight`` and ``fc_bias`` are, where
                other processes have the others. Defaults to None.
            **kwargs: As for :meth:`forward`.

        Returns:
            Tensor: float32, or float64 for float64 features: (N,) for 'none', else a scalar.

        Raises:
            TypeError: If a number is not one, or a dtype does not fit.
            ValueError: If a number, a shape, a reduction or, on the CPU, a label is out of range.
        """
        num_classes = fc_weight.shape[0] if shard is None else shard.num_classes
        arguments = self._arguments(features, [num_classes], reduction_override)
        function = self.fused_function
        if shard is not None:
            function, arguments['shard'] = self.sharded_function, shard
        loss = function(
            features,
            fc_weight,
            fc_bias,
            label,
            sample_weight=weight,
            avg_factor=avg_factor,
            **arguments,
        )
        return self.loss_weight * loss

    def _arguments(
        self, like: Tensor, num_classes: Sequence[int], reduction_override: str | None
    ) -> dict:
        """Return what the module itself hands to its function."""
        arguments: dict[str, Any] = {'reduction': self.reduction}
        for name in self.focus_params:
            arguments[name] = getattr(self, name)
        if reduction_override is not None:
            check_choice('reduction_override', reduction_override, REDUCTIONS)
            arguments['reduction'] = reduction_override
        for name, factor in (
            ('class_weight', self.class_weight),
            ('pos_weight', self.pos_weight),
        ):
            if factor is not None:
                arguments[name] = self._factor(name, factor, like, num_classes)
        return arguments

    def _factor(
        self, name: str, factor: float | tuple, like: Tensor, num_classes: Sequence[int]
    ) -> Tensor:
        dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
        key = (name, *num_classes, like.device, dtype)
        # (PosWeightHook sets another.)
        if key not in self._factors or self._factors[key][0] is not factor:
            values = torch.tensor(factor, dtype=dtype, device=like.device)
            values = values if values.ndim else values.repeat(*num_classes)
            if type(values) is not Tensor:
                return values  # made while something traces, without values
            self._factors[key] = factor, values
        return self._factors[key][1]

    def extra_repr(self) -> str:
        """Return the parameters that ``print(model)`` shows."""
        names = (*self.focus_params, 'reduction', 'loss_weight')
        return ', '.join(f'{name}={getattr(self, name)!r}' for name in names)


@MODELS.register_module()
class HSLRLoss(FocusRectifiedLoss):
    """Logistic regression with hard selection of the negative classes (HS-LR).

    See :func:`frlr_mm.functional.hs_lr_loss` for the equation. A small ``ratio`` from the first
    step on learns less: start from the prior by :class:`~frlr_mm.engine.hooks.PriorBiasHook` and
    anneal ``ratio`` by :class:`~frlr_mm.engine.hooks.FocusAnnealingHook`.

    Args:
        alpha (float | 'sum'): The weight of the negative term, >= 0. With 'sum' it is k, the
            number selected, so that an image's selected terms are summed, not averaged. Defaults
            to 'sum'.
        ratio (float): The share of the classes that is selected, in (0, 1]. Defaults to 0.1.
        reduction (str): 'none', 'mean' or 'sum'. Defaults to 'mean'.
        loss_weight (float): A factor for the loss, >= 0. Defaults to 1.0.
        class_weight (float | Sequence[float], optional): A factor for both terms of each class,
            one number for all or (C,). Defaults to None.
        pos_weight (float | Sequence[float], optional): A factor for the positive term of each
            class, one number for all or (C,). Defaults to None.

    Raises:
        TypeError: If a number is not one.
        ValueError: If a number or ``reduction`` is out of range.

    Source: Dong, Zhu, Gong, "Single-Label Multi-Class Image Classification by Deep Logistic
    Regression", AAAI 2019, Eq. 5.
    """

    focus_params = ('alpha', 'ratio')
    function = staticmethod(hs_lr_loss)
    fused_function = staticmethod(fused_linear_hs_lr_loss)
    sharded_function = staticmethod(sharded_linear_hs_lr_loss)

    def __init__(
        self,
        alpha: Alpha = 'sum',
        ratio: float = 0.1,
        reduction: str = 'mean',
        loss_weight: float = 1.0,
        class_weight: ClassFactor = None,
        pos_weight: ClassFactor = None,
    ) -> None:
        check_number('ratio', ratio, high=1.0, open_low=True)
        super().__init__(alpha, reduction, loss_weight, class_weight, pos_weight)
        self.ratio = ratio


@MODELS.register_module()
class SSLRLoss(FocusRectifiedLoss):
    """Logistic regression with soft selection of the negative classes (SS-LR).

    See :func:`frlr_mm.functional.ss_lr_loss` for the equation. ``gamma=0`` is plain logistic
    regression (LR). Start from the prior by :class:`~frlr_mm.engine.hooks.PriorBiasHook`.

    Args:
        alpha (float | 'sum'): The weight of the negative term, >= 0. With 'sum' it is the number
            of negatives per image, averaged over the batch (C - 1 for single labels), so that
            an image's negative terms are summed, not averaged. Defaults to 'sum'.
        gamma (float): The temperature of the selection, >= 0; at 0 every negative counts the
            same. Defaults to 0.25.
        reduction (str): 'none', 'mean' or 'sum'. Defaults to 'mean'.
        loss_weight (float): A factor for the loss, >= 0. Defaults to 1.0.
        class_weight (float | Sequence[float], optional): A factor for both terms of each class,
            one number for all or (C,). Defaults to None.
        pos_weight (float | Sequence[float], optional): A factor for the positive term of each
            class, one number for all or (C,). Defaults to None.

    Raises:
        TypeError: If a number is not one.
        ValueError: If a number or ``reduction`` is out of range.

    Source: Dong, Zhu, Gong, "Single-Label Multi-Class Image Classification by Deep Logistic
    Regression", AAAI 2019, Eq. 6.
    """

    focus_params = ('alpha', 'gamma')
    function = staticmethod(ss_lr_loss)
    fused_function = staticmethod(fused_linear_ss_lr_loss)
    sharded_function = staticmethod(sharded_linear_ss_lr_loss)

    def __init__(
        self,
        alpha: Alpha = 'sum',
        gamma: float = 0.25,
        reduction: str = 'mean',
        loss_weight: float = 1.0,
        class_weight: ClassFactor = None,
        pos_weight: ClassFactor = None,
    ) -> None:
        check_number('gamma', gamma)
        super().__init__(alpha, reduction, loss_weight, class_weight, pos_weight)
        self.gamma = gamma
