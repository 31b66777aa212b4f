"""Heads that mmpretrain lacks."""

from .fused_linear_cls_head import FusedLinearClsHead

__all__ = ['FusedLinearClsHead']
