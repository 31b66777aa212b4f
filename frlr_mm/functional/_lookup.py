"""Functions of half-precision numbers by lookup: there are only 65,536 such numbers.

A device that runs operation by operation then reads a logit as a place in a table, in place of
writing and reading a float32 matrix for each step of the arithmetic.
"""

import torch
from torch import Tensor

from ._torch import is_compiling

_COUNT = 1 << 16


def is_looked_up(score: Tensor) -> bool:
    """Tell whether a table is worth it: not on a CPU, not where a compiler fuses the steps."""
    return (
        score.dtype in (torch.bfloat16, torch.float16)
        and score.device.type != 'cpu'
        and not is_compiling()
        and score.numel() >= 2 * _COUNT
    )


def all_numbers(score: Tensor) -> Tensor:
    """Return all numbers of the half-precision dtype of ``score``, in float32 (65,536,)."""
    bits = torch.arange(-_COUNT // 2, _COUNT // 2, dtype=torch.int32, device=score.device)
    return bits.to(torch.int16).view(score.dtype).float()


def places(score: Tensor) -> Tensor:
    """Return where the numbers of ``score`` stand in ``all_numbers``, int32, one after another."""
    # (A tensor of one dimension: int16 plus a number would stay int16.)
    offset = torch.full((1,), _COUNT // 2, dtype=torch.int32, device=score.device)
    return torch.add(score.view(torch.int16), offset).flatten()
