"""Heads that mmpretrain lacks."""

from .bnneck_head import BNNeckHead
from .fused_linear_cls_head import FusedLinearClsHead
from .sharded_linear_cls_head import ShardedLinearClsHead

__all__ = ['BNNeckHead', 'FusedLinearClsHead', 'ShardedLinearClsHead']
