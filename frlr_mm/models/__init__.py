"""Registered modules."""

from .heads import FusedLinearClsHead
from .losses import HSLRLoss, SSLRLoss

__all__ = ['FusedLinearClsHead', 'HSLRLoss', 'SSLRLoss']
