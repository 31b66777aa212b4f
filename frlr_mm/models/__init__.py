"""Registered modules."""

from .. import registration  # noqa: F401 (first: it mends what is imported here)
from .heads import BNNeckHead, FusedLinearClsHead, ShardedLinearClsHead
from .losses import HSLRLoss, SSLRLoss
from .sharded_linear import keep_shards_from_ddp

__all__ = [
    'BNNeckHead',
    'FusedLinearClsHead',
    'HSLRLoss',
    'SSLRLoss',
    'ShardedLinearClsHead',
    'keep_shards_from_ddp',
]
