"""The losses as plain functions of tensors, on torch alone.

Importing this package loads neither mmengine nor mmpretrain nor matplotlib, and patches nothing.
"""

from ._select import num_selected
from .fused_linear import fused_linear_hs_lr_loss, fused_linear_ss_lr_loss
from .hs_lr import hs_lr_loss
from .ss_lr import ss_lr_loss

__all__ = [
    'fused_linear_hs_lr_loss',
    'fused_linear_ss_lr_loss',
    'hs_lr_loss',
    'num_selected',
    'ss_lr_loss',
]
