"""The losses as plain functions of tensors, on torch alone.

Importing this package loads neither mmengine nor mmpretrain nor matplotlib, and patches nothing.
"""

from ._select import num_selected
from .fused_linear import fused_linear_hs_lr_loss, fused_linear_ss_lr_loss
from .hs_lr import hs_lr_loss
from .sharded_linear import (
    sharded_linear_hs_lr_loss,
    sharded_linear_ss_lr_loss,
    sharded_linear_topk,
)
from .sharding import ClassShard
from .ss_lr import ss_lr_loss

__all__ = [
    'ClassShard',
    'fused_linear_hs_lr_loss',
    'fused_linear_ss_lr_loss',
    'hs_lr_loss',
    'num_selected',
    'sharded_linear_hs_lr_loss',
    'sharded_linear_ss_lr_loss',
    'sharded_linear_topk',
    'ss_lr_loss',
]
