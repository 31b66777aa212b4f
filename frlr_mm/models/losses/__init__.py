"""The losses as registered modules, for the ``loss`` field of any stock head."""

from .hs_lr_loss import HSLRLoss
from .ss_lr_loss import SSLRLoss

__all__ = ['HSLRLoss', 'SSLRLoss']
