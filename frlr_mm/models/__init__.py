"""Registered modules."""

from .. import registration  # noqa: F401 (first: it mends what is imported here)
from .classifiers import LogisticClassifier
from .heads import BNNeckHead, FusedLinearClsHead, ShardedLinearClsHead
from .label_smooth_loss import LabelSmoothFRLRLoss
from .losses import HSLRLoss, SSLRLoss
from .sharded_linear import keep_shards_from_ddp

__all__ = [
    'BNNeckHead',
    'FusedLinearClsHead',
    'HSLRLoss',
    'LabelSmoothFRLRLoss',
    'LogisticClassifier',
    'SSLRLoss',
    'ShardedLinearClsHead',
    'keep_shards_from_ddp',
]
