"""Registered modules."""

from .heads import BNNeckHead
from .losses import HSLRLoss, SSLRLoss

__all__ = ['BNNeckHead', 'HSLRLoss', 'SSLRLoss']
