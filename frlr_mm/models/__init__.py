"""Registered modules."""

from .. import registration  # noqa: F401 (first: it mends what is imported here)
from .classifiers import LogisticClassifier
from .heads import BNNeckHead, FusedLinearClsHead
from .losses import HSLRLoss, SSLRLoss

__all__ = ['BNNeckHead', 'FusedLinearClsHead', 'HSLRLoss', 'LogisticClassifier', 'SSLRLoss']
