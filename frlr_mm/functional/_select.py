"""Hard selection: the k largest values of each row; of equal ones the first classes win.

One representation serves every path: ``least`` (N, 1), the smallest selected value of a row, and
``ties`` (N, 1), how many of the values equal to it are selected. What is selected then follows
from the values alone, whatever the threads, the dtype or the algorithm.
"""

import importlib.util
import math

import torch
from torch import Tensor

from .._checks import check_number
from ._count import counts_ties, last_tied
from ._inputs import is_eager_on_cpu
from ._torch import is_compiling

# floor(100 * 0.29) is 28 in floating point. No ratio that means something differs by less.
_FLOOR_TOLERANCE = 1e-6
# So many float32 are a NaN with a sign; as integers they are the least, and are wrapped around.
_WRAP = 0x7FFFFE
# torch works without it.
_HAS_NUMPY = importlib.util.find_spec('numpy') is not None


def num_selected(num_classes: int, ratio: float) -> int:
    """Return k, how many negatives HS-LR selects in a row: floor(C * ratio), at least 1.

    Args:
        num_classes (int): C, the number of classes.
        ratio (float): The selected share of the classes, in (0, 1].

    Returns:
        int: k, in [1, C].

    Raises:
        TypeError: If ``ratio`` is not a number.
        ValueError: If it is out of range.
    """
    check_number('ratio', ratio, high=1.0, open_low=True)
    return max(1, math.floor(num_classes * ratio + _FLOOR_TOLERANCE))


def num_selected_of_known(label: Tensor, ratio: float) -> Tensor:
    """Return each row's own k for dense labels, where fewer of its classes may be known.

    Args:
        label (Tensor): (N, C); entries below 0 are unknown.
        ratio (float): The selected share of the known classes, in (0, 1].

    Returns:
        Tensor: int64 (N, 1), at least 1.
    """
    num_known = (label >= 0).sum(1, keepdim=True).double()
    return (num_known * ratio + _FLOOR_TOLERANCE).floor().clamp(min=1).long()


def least_and_ties(value: Tensor, k: int, row_k: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return what represents the k largest values of each row.

    Args:
        value (Tensor): (N, C), floating-point.
        k (int): In [1, C].
        row_k (Tensor, optional): A k of each row's own (N, 1), in [1, k], int64. Defaults to None.

    Returns:
        tuple[Tensor, Tensor]: ``least``, in the dtype of ``value``, and ``ties``, int64; both
        (N, 1).
    """
    best = value.topk(k, dim=1).values
    if is_compiling():  # a sum is written down; of what is gathered, all of `best` would be kept
        others = torch.arange(k, device=value.device) != (k if row_k is None else row_k) - 1
        least = best.masked_fill(others, 0).sum(1, keepdim=True)
    else:
        least = best[:, -1:] if row_k is None else best.gather(1, row_k - 1)
    # (What is greater is among the k largest: the row is not read again.)
    ties = (k if row_k is None else row_k) - _is_greater(best, least).sum(1, keepdim=True)
    return least, ties


def is_selected(value: Tensor, least: Tensor, ties: Tensor) -> Tensor:
    """Tell which values are selected: the greater ones and, of the equal ones, the first.

    Args:
        value (Tensor): (N, C).
        least (Tensor): The smallest selected value of each row (N, 1).
        ties (Tensor): How many of the values equal to it are selected (N, 1).

    Returns:
        Tensor: bool (N, C).
    """
    if counts_ties(value):
        last = last_tied(value, lambda some: some == least, ties)
        classes = torch.arange(value.shape[1], device=value.device)
        return _is_greater(value, least) | ((value == least) & (classes <= last))
    tied = value == least
    return _is_greater(value, least) | (tied & (tied.cumsum(1, dtype=torch.int32) <= ties))


def _is_greater(value: Tensor, least: Tensor) -> Tensor:
    return ~(value <= least)  # NaN counts as greater than any number, as in topk


def is_hardest(value: Tensor, k: int, row_k: Tensor) -> Tensor:
    """Tell which values are among the largest of their row.

    Args:
        value (Tensor): (N, C), floating-point.
        k (int): In [1, C].
        row_k (Tensor): How many of each row are (N, 1), in [1, k], int64.

    Returns:
        Tensor: bool (N, C).
    """
    if value.dtype != torch.float32 or not is_eager_on_cpu(value):
        return is_selected(value, *least_and_ties(value, k, row_k))
    keys = _largest_keys(value, k).sort(dim=1, descending=True).values
    mask = torch.zeros_like(value, dtype=torch.bool)
    return mask.scatter_(1, classes_of(keys, value.shape[1]), torch.arange(k) < row_k)


def hardest(value: Tensor, k: int, target: Tensor) -> Tensor:
    """Return the classes of the k largest values of each row, in any order.

    Args:
        value (Tensor): (N, C), floating-point.
        k (int): In [1, C - 1].
        target (Tensor): A class of each row that is not to be selected (N, 1), int64.

    Returns:
        Tensor: int64 (N, k), different classes in a row.
    """
    if value.dtype == torch.float32 and is_eager_on_cpu(value):
        return classes_of(_largest_keys(value, k, target), value.shape[1])
    value = value.scatter(1, target, -torch.inf)
    mask = is_selected(value, *least_and_ties(value, k)).byte()
    # No more than k entries are set; where NaN makes them fewer, any class fills the row.
    return mask.topk(k, dim=1, sorted=False).indices


def _largest_keys(value: Tensor, k: int, target: Tensor | None = None) -> Tensor:
    """Return the keys of the k largest values of each row but for the target (N, k)."""
    keys = _ordered_bits(value)
    if target is not None:
        keys.scatter_(1, target, torch.iinfo(torch.int32).min)
    return largest(_with_classes(keys, 0, value.shape[1]), k)


def class_keys(value: Tensor, first: int, num_classes: int) -> Tensor:
    """Return integers that stand for values and their classes, ordered as hard selection does it.

    On a CPU, NumPy's partition of integers is faster than any topk. The upper half of an integer
    has the order of the floats: the bits of a negative one are flipped, and NaN of either sign is
    wrapped around to the top. The lower half says which class the value is of, the first class
    highest, so that no two integers are equal.

    Args:
        value (Tensor): float32 (N, c), on a CPU.
        first (int): The class of its first column.
        num_classes (int): C, the number of all classes.

    Returns:
        Tensor: int64 (N, c).
    """
    return _with_classes(_ordered_bits(value), first, num_classes)


def _ordered_bits(value: Tensor) -> Tensor:
    # (Adding 0 turns -0.0 into 0.0, its equal, and makes a tensor that may be overwritten.)
    return flip((value + 0.0).view(torch.int32)).sub_(_WRAP)


def flip(bits: Tensor) -> Tensor:
    """Turn the bits of floats into integers of the same order, and back."""
    info = torch.iinfo(bits.dtype)
    return (bits >> (info.bits - 1)).bitwise_and_(info.max).bitwise_xor_(bits)


def _with_classes(bits: Tensor, first: int, num_classes: int) -> Tensor:
    last = num_classes - 1 - first
    classes = torch.arange(last, last - bits.shape[1], -1)
    return bits.long().bitwise_left_shift_(32).add_(classes)


def largest(keys: Tensor, k: int) -> Tensor:
    """Return the k largest keys of each row (N, k), in any order; ``keys`` may be overwritten."""
    if not _HAS_NUMPY or keys.shape[1] < 100:
        return keys.topk(k, dim=1, sorted=False).values
    keys.numpy().partition(keys.shape[1] - k, axis=1)
    return keys[:, keys.shape[1] - k :]


def values_of(keys: Tensor) -> Tensor:
    """Return the float32 values that keys stand for."""
    return flip((keys >> 32).int().add_(_WRAP)).view(torch.float32)


def classes_of(keys: Tensor, num_classes: int) -> Tensor:
    """Return the classes that keys stand for, in their place."""
    return keys.bitwise_and_(0xFFFFFFFF).neg_().add_(num_classes - 1)
