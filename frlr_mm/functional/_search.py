"""The k largest values of rows that are spread over processes, as (least, ties).

Integers that have the order of the floats are searched four bits at a time: in each round every
process counts its values from 15 candidates on, and one sum over the processes tells between
which two the k-th largest value lies. Eight rounds settle 32 bits, whatever k and the number of
classes are.
"""

import torch
import torch.distributed as dist
from torch import Tensor

from ._select import flip
from ._torch import all_gather_single
from .sharding import ClassShard

_BITS = 4
_STEPS = 1 << _BITS
_INTEGERS = {torch.float32: torch.int32, torch.float64: torch.int64}


def _keys(value: Tensor) -> Tensor:
    # Adding 0 turns -0.0 into 0.0, its equal; NaN of either sign is the greatest, as in topk.
    keys = flip((value + 0.0).view(_INTEGERS[value.dtype]))
    return keys.masked_fill_(value.isnan(), torch.iinfo(keys.dtype).max)


def least_and_ties_over_ranks(
    best: Tensor, k: int, shard: ClassShard
) -> tuple[Tensor, Tensor, Tensor]:
    """Find the k largest values of rows over all processes; of equal ones the first ranks' win.

    Args:
        best (Tensor): The min(k, number of classes here) largest values of each row here, in
            descending order; float32 or float64 (N, at most k).
        k (int): In [1, C].
        shard (ClassShard): The processes, which all have to call this.

    Returns:
        tuple[Tensor, Tensor, Tensor]: ``least``, the smallest selected value of each row, how many
        of the values equal to it are selected here (``ties``), and how many values here are
        greater. All are (N, 1), in the dtype of ``best``.
    """
    keys = _keys(best.flip(1))
    info = torch.iinfo(keys.dtype)

    def count_from(candidates: Tensor) -> Tensor:
        # (32 bits are enough for classes, and half of what searchsorted would send.)
        below = torch.searchsorted(keys, candidates, out_int32=True)
        return below.neg_().add_(keys.shape[1])

    found = keys.new_full((keys.shape[0], 1), info.min)
    # How many values lie above the interval that is searched, over all processes.
    above = torch.zeros_like(found, dtype=torch.int32)
    steps = torch.arange(1, _STEPS, device=keys.device, dtype=keys.dtype)
    for shift in range(info.bits - _BITS, -1, -_BITS):
        counts = count_from(found + (steps << shift))
        dist.all_reduce(counts, group=shard.group)
        chosen = (counts >= k).sum(1, keepdim=True)  # counts do not rise
        above = torch.cat([counts, above], 1).gather(1, chosen)
        found += chosen.to(keys.dtype) << shift
    least = flip(found).view(best.dtype)
    from_least = count_from(found)
    # There is nothing above the greatest integer.
    greater = torch.where(found < info.max, count_from((found + 1).maximum(found)), 0)
    equal = (from_least - greater).squeeze(1)
    equal_of_ranks = equal.new_empty(shard.world_size * equal.shape[0])
    all_gather_single(equal_of_ranks, equal, group=shard.group)
    before = equal_of_ranks.view(shard.world_size, -1)[: shard.rank].sum(0)[:, None]
    ties = (k - above - before).clamp_(min=0).minimum(equal[:, None])
    return least, ties.to(best.dtype), greater.to(best.dtype)
