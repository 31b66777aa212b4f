"""What torch 2.1 has under other names."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

# Bound as it is: torch.compile takes the function itself for true while it traces.
is_compiling = getattr(torch.compiler, 'is_compiling', None) or torch._utils.is_compiling


def autocast_dtype(device_type: str) -> torch.dtype | None:
    """Return what autocast computes in on a kind of device, or None where it is off."""
    if hasattr(torch, 'get_autocast_dtype'):
        is_on = torch.is_autocast_enabled(device_type)
        return torch.get_autocast_dtype(device_type) if is_on else None
    if device_type == 'cpu':
        return torch.get_autocast_cpu_dtype() if torch.is_autocast_cpu_enabled() else None
    return torch.get_autocast_gpu_dtype() if torch.is_autocast_enabled() else None


def _is_old_gloo(group: Any) -> bool:
    """Tell whether a backend may lack these collectives, and bfloat16, as gloo in torch 2.1."""
    return not hasattr(dist, 'all_gather_single') and dist.get_backend(group) == 'gloo'


def all_gather_single(output: Tensor, own: Tensor, group: Any = None) -> None:
    """Join equal parts, one of each rank, in ``output``."""
    if hasattr(dist, 'all_gather_single'):
        dist.all_gather_single(output, own, group=group)
    elif _is_old_gloo(group):
        parts = output.view(dist.get_world_size(group), own.numel()).view(torch.uint8)
        # (A tensor of one number that was expanded counts as contiguous, but not for a view.)
        own = own.clone(memory_format=torch.contiguous_format).view(-1).view(torch.uint8)
        dist.all_gather(list(parts), own, group=group)
    else:
        dist.all_gather_into_tensor(output, own, group=group)


def reduce_scatter_single(output: Tensor, parts: Tensor, group: Any = None) -> None:
    """Add up what the ranks have, and put this rank's part of it into ``output``."""
    if hasattr(dist, 'reduce_scatter_single'):
        dist.reduce_scatter_single(output, parts, group=group)
    elif _is_old_gloo(group):
        total = parts.clone() if parts.dtype == torch.float64 else parts.float()
        dist.all_reduce(total, group=group)
        begin = dist.get_rank(group) * output.shape[0]
        output.copy_(total[begin : begin + output.shape[0]])
    else:
        dist.reduce_scatter_tensor(output, parts, group=group)


def keeps_graph() -> bool:
    """Tell whether the backward pass that is at work may be followed by another over its graph."""
    keep = getattr(torch._C._autograd, '_get_current_graph_task_keep_graph', None)
    return keep is None or keep()
