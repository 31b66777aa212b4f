"""Hard selection by counting, which a compiler fuses: half precision takes no sort, ties no scan.

Integers that have the order of the floats are searched four bits at a time: each of four rounds
counts, in one pass over the row, how many values lie at 15 candidates or above, and goes on
between the two where the k-th largest is. Of the values that are equal to it, the first classes
are selected: a last pass counts them in segments, and only the last one's segment is looked into.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ._torch import is_compiling

_BITS = 4
_SEGMENT = 128
_INT16 = torch.iinfo(torch.int16)


def counts_ties(value: Tensor) -> bool:
    """Tell whether ties are to be counted in segments: compiled, but for a CPU, which scans."""
    return is_compiling() and value.device.type != 'cpu'


def is_countable(value: Tensor) -> bool:
    """Tell whether all is to be counted.

    Float32 would take eight rounds, whose code takes a compiler half a minute.
    """
    return counts_ties(value) and value.dtype in (torch.bfloat16, torch.float16)


def is_counted_in(value: Tensor, k: int, target: Tensor) -> Tensor:
    """Tell which values are among the k largest of their row but for the target.

    Args:
        value (Tensor): (N, C), float16 or bfloat16.
        k (int): In [1, C - 1].
        target (Tensor): A class of each row that is not to be selected, int64 (N, 1).

    Returns:
        Tensor: bool (N, C); of equal values the first classes.
    """
    classes = torch.arange(value.shape[1], device=value.device)
    # What is gathered from, and what two passes share, a compiler would write down: hence the keys
    # of what is gathered, and a comparison of integers there and of floats here.
    key, ties = _least_and_ties(_keys(value), _keys(value.gather(1, target)), k)
    last = last_tied(value, lambda some: _keys(some) == key, ties, target)
    least = _flip(key).to(torch.int16).view(value.dtype)
    selected = torch.where(value == least, classes <= last, ~(value <= least))
    return selected & (classes != target)


def _keys(value: Tensor) -> Tensor:
    """Return int32 in the order of the floats; NaN is the greatest, as in topk."""
    keys = _flip(value.view(torch.int16).int())
    # (-0.0 is equal to 0.0.)
    return torch.where(value == 0, 0, torch.where(value.isnan(), _INT16.max, keys))


def _flip(bits: Tensor) -> Tensor:
    """Turn the bits of floats, 16 in int32, into integers of the same order, and back."""
    return ((bits >> 31) & _INT16.max) ^ bits


def _least_and_ties(keys: Tensor, own: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k-th largest key of each row, and how many of its equals are selected; (N, 1).

    ``own`` (N, 1) is among the keys, and not counted.
    """
    least = torch.full_like(own, _INT16.min)
    above = torch.zeros_like(own)  # how many keys lie above the interval that is searched
    for shift in range(_INT16.bits - _BITS, -1, -_BITS):
        candidates = [least + (i << shift) for i in range(1, 1 << _BITS)]
        # One sum for each candidate: a compiler makes them in a single pass.
        counts = torch.cat(
            [
                (keys >= each).sum(1, keepdim=True, dtype=torch.int32) - (own >= each).int()
                for each in candidates
            ],
            1,
        )
        found = (counts >= k).sum(1, keepdim=True, dtype=torch.int32)
        above = torch.cat([counts, above], 1).gather(1, found.long())
        least = least + (found << shift)
    return least, k - above


def last_tied(
    value: Tensor,
    is_tied: Callable[[Tensor], Tensor],
    ties: Tensor,
    target: Tensor | None = None,
) -> Tensor:
    """Return the last class that is selected of those that tie.

    Args:
        value (Tensor): (N, C).
        is_tied (Callable[[Tensor], Tensor]): Tells which of some values (N, c) tie in their row.
        ties (Tensor): How many of them are selected, the first ones (N, 1).
        target (Tensor, optional): A class of each row that is not counted, int64 (N, 1). Defaults
            to None.

    Returns:
        Tensor: int64 (N, 1); -1 where none is selected.
    """
    num_images, num_classes = value.shape
    num_segments = (num_classes + _SEGMENT - 1) // _SEGMENT
    tied = F.pad(is_tied(value), (0, num_segments * _SEGMENT - num_classes))
    counts = tied.view(num_images, num_segments, _SEGMENT).sum(2, dtype=torch.int32)
    if target is not None:
        segments = torch.arange(num_segments, device=value.device)
        own = is_tied(value.gather(1, target)) & (segments == target // _SEGMENT)
        counts = counts - own.int()
    upto = counts.cumsum(1, dtype=torch.int32)
    segment = (upto < ties).sum(1, keepdim=True).clamp(max=num_segments - 1)
    left = ties - (upto - counts).gather(1, segment)
    classes = segment * _SEGMENT + torch.arange(_SEGMENT, device=value.device)
    tied = is_tied(value.gather(1, classes.clamp(max=num_classes - 1)))
    tied = tied & (classes < num_classes)
    if target is not None:
        tied = tied & (classes != target)
    last = segment * _SEGMENT + (tied.cumsum(1, dtype=torch.int32) < left).sum(1, keepdim=True)
    return torch.where(ties > 0, last, -1)
