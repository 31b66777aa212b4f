"""Registered modules."""

from .losses import HSLRLoss, SSLRLoss

__all__ = ['HSLRLoss', 'SSLRLoss']
