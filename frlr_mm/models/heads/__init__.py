"""Heads that mmpretrain lacks."""

from .bnneck_head import BNNeckHead

__all__ = ['BNNeckHead']
