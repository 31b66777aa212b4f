"""Registered modules."""

from .heads import BNNeckHead, FusedLinearClsHead
from .losses import HSLRLoss, SSLRLoss

__all__ = ['BNNeckHead', 'FusedLinearClsHead', 'HSLRLoss', 'SSLRLoss']
