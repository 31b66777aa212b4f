"""The losses as plain functions of tensors: torch only, no registry, no config."""

from .hs_lr import hs_lr_loss, num_selected
from .ss_lr import ss_lr_loss

__all__ = ['hs_lr_loss', 'num_selected', 'ss_lr_loss']
