"""What torch 2.1 has under other names."""

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist

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


def _renamed(name: str, old_name: str) -> Callable | None:
    """Return a collective of torch.distributed, which a build of torch may lack."""
    return getattr(dist, name, None) or getattr(dist, old_name, None)


# Of equal parts, one a rank, side by side in one tensor.
all_gather_single: Any = _renamed('all_gather_single', 'all_gather_into_tensor')
reduce_scatter_single: Any = _renamed('reduce_scatter_single', 'reduce_scatter_tensor')


def keeps_graph() -> bool:
    """Tell whether the backward pass that is at work may be followed by another over its graph."""
    keep = getattr(torch._C._autograd, '_get_current_graph_task_keep_graph', None)
    return keep is None or keep()
