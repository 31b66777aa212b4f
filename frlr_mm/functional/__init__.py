"""The losses as plain functions of tensors: torch only, no registry, no config."""

from .fused_linear import fused_linear_hs_lr_loss, fused_linear_ss_lr_loss
from .hs_lr import hs_lr_loss, num_selected
from .ss_lr import ss_lr_loss

__all__ = [
    'fused_linear_hs_lr_loss',
    'fused_linear_ss_lr_loss',
    'hs_lr_loss',
    'num_selected',
    'ss_lr_loss',
]
