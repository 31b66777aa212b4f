"""Registered modules."""

from .. import registration  # noqa: F401 (first: it mends what is imported here)
from .classifiers import LogisticClassifier
from .heads import BNNeckHead, FusedLinearClsHead
from .label_smooth_loss import LabelSmoothFRLRLoss
from .losses import HSLRLoss, SSLRLoss

__all__ = [
    'BNNeckHead',
    'FusedLinearClsHead',
    'HSLRLoss',
    'LabelSmoothFRLRLoss',
    'LogisticClassifier',
    'SSLRLoss',
]
