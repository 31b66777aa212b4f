"""Label smoothing for the losses of this package."""

from typing import Any

import torch
from mmengine.registry import MODELS
from mmpretrain.models.losses import LabelSmoothLoss
from torch import Tensor

from .._checks import check_choice, check_int, check_number
from ..functional._inputs import AvgFactor, check_label, check_score, check_tensors, is_index_label
from .losses import FocusRectifiedLoss

MODES = ('original', 'classy_vision', 'multi_label')


@MODELS.register_module()
class LabelSmoothFRLRLoss(LabelSmoothLoss):
    r"""HS-LR or SS-LR on smoothed labels, the soft targets of the stock LabelSmoothLoss.

    With C classes and :math:`\epsilon` = ``label_smooth_val``, the target t becomes

    - original: :math:`(1 - \epsilon) t + \epsilon / C`,
    - classy_vision: the same with :math:`\epsilon / (1 + \epsilon)` in place of
      :math:`\epsilon`,
    - multi_label: :math:`1 - \epsilon` where t is above 0, else :math:`\epsilon`.

    Entries below 0, which are unknown, stay as they are. The losses' hooks find the loss inside.

    Args:
        loss (dict): The config of the loss, HSLRLoss or SSLRLoss; its ``loss_weight`` and its
            ``reduction`` are those of the whole.
        label_smooth_val (float): How much is smoothed, in [0, 1).
        num_classes (int, optional): The number of classes C; None takes that of the logits.
            Defaults to None.
        mode (str): 'original', 'classy_vision' or 'multi_label'. Defaults to 'original'.

    Raises:
        TypeError: If a number is not one, or ``loss`` is another loss.
        ValueError: If ``label_smooth_val``, ``num_classes`` or ``mode`` is out of range.
    """

    def __init__(
        self,
        loss: dict,
        label_smooth_val: float,
        num_classes: int | None = None,
        mode: str = 'original',
    ) -> None:
        check_choice('mode', mode, MODES)
        check_number('label_smooth_val', label_smooth_val)
        if label_smooth_val >= 1:
            raise ValueError(
                f'Expected `label_smooth_val` to be in [0, 1), but got {label_smooth_val}'
            )
        if num_classes is not None:
            check_int('num_classes', num_classes, low=1)
        super().__init__(float(label_smooth_val), num_classes, use_sigmoid=True, mode=mode)
        # What the base class hands smoothed labels to.
        self.ce = MODELS.build(loss)
        if not isinstance(self.ce, FocusRectifiedLoss):
            raise TypeError(
                f'Expected `loss` to be HSLRLoss or SSLRLoss, but got {type(self.ce).__name__}'
            )

    def forward(
        self,
        cls_score: Tensor,
        label: Tensor,
        weight: Tensor | None = None,
        avg_factor: AvgFactor = None,
        reduction_override: str | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Smooth the labels and compute the loss inside; arguments and errors are its own.

        (The base class makes one-hot labels by a function that waits for the GPU at each step and
        knows no empty batch.)
        """
        check_tensors(cls_score=cls_score, label=label)
        check_score(cls_score)
        if self.num_classes not in (None, cls_score.shape[1]):
            raise ValueError(
                f'Expected `cls_score` to have {self.num_classes} columns, `num_classes`, but got '
                f'{cls_score.shape[1]}'
            )
        label = check_label(label, *cls_score.shape)
        if is_index_label(label):
            label = label == torch.arange(cls_score.shape[1], device=label.device)
        return self.ce(
            cls_score,
            self.smooth_label(label.float()),
            weight=weight,
            avg_factor=avg_factor,
            reduction_override=reduction_override,
        )

    def original_smooth_label(self, one_hot_like_label: Tensor) -> Tensor:
        """Smooth labels (N, C) of one class per image; unknown entries stay."""
        smooth = one_hot_like_label * (1 - self._eps) + self._eps / one_hot_like_label.shape[1]
        return one_hot_like_label.where(one_hot_like_label < 0, smooth)

    def multilabel_smooth_label(self, one_hot_like_label: Tensor) -> Tensor:
        """Smooth labels (N, C) of any number of classes per image; unknown entries stay."""
        smooth = torch.where(one_hot_like_label > 0, 1 - self._eps, self._eps)
        return one_hot_like_label.where(one_hot_like_label < 0, smooth)
