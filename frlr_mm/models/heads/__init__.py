"""Heads that mmpretrain lacks."""

from .bnneck_head import BNNeckHead
from .fused_linear_cls_head import FusedLinearClsHead

__all__ = ['BNNeckHead', 'FusedLinearClsHead']
