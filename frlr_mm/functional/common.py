"""What HS-LR and SS-LR share: checks, labels, normalisers, reduction."""

import math
import sys
from numbers import Real
from typing import Literal, Optional, Union

import torch
import torch.distributed as dist
from torch import Tensor

REDUCTIONS = ('none', 'mean', 'sum')
Alpha = Union[float, Literal['sum']]
_FLOAT_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_DENSE_DTYPES = (
    *_FLOAT_DTYPES,
    *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
)


def check_number(
    name: str, value: object, *, low: float = 0.0, high: float = math.inf, open_low: bool = False
) -> None:
    """Raise unless ``value`` is a finite real number in [low, high], or in (low, high].

    Raises:
        TypeError: If ``value`` is no real number.
        ValueError: If ``value`` is NaN, infinite or out of the range.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f'Expected `{name}` to be a number, but got {value!r}')
    # Comparisons alone, false for a NaN: torch.compile turns a number that changes between calls
    # into a symbol, which it can compare but not hand to math.isfinite.
    # (mypy does not know that a Real can be compared.)
    above = low < value if open_low else low <= value  # type: ignore[operator]
    # Also an int that no float can hold.
    if not (above and value <= high and value <= sys.float_info.max):
        bounds = f'{"(" if open_low else "["}{low:g}, {high:g}{")" if high == math.inf else "]"}'
        raise ValueError(f'Expected `{name}` to be in {bounds}, but got {value}')


def check_alpha(alpha: object) -> None:
    """Raise unless ``alpha`` is a number >= 0 or 'sum'."""
    if alpha != 'sum':
        check_number('alpha', alpha)


def check_reduction(name: str, reduction: object) -> None:
    """Raise a ValueError unless ``reduction`` is one of 'none', 'mean' and 'sum'."""
    if reduction not in REDUCTIONS:
        raise ValueError(f'Expected `{name}` to be one of {REDUCTIONS}, but got {reduction!r}')


def is_index_label(label: Tensor) -> bool:
    """Tell class indices, (N,) or integer (N, 1), from dense (N, C) targets."""
    is_column = label.ndim == 2 and label.shape[1] == 1
    is_dense_dtype = label.is_floating_point() or label.dtype == torch.bool
    return label.ndim == 1 or (is_column and not is_dense_dtype)


def check_inputs(
    cls_score: Tensor,
    label: Tensor,
    weight: Optional[Tensor],
    class_weight: Optional[Tensor],
    pos_weight: Optional[Tensor],
    reduction: str,
    avg_factor: Union[int, float, Tensor, None],
) -> None:
    """Check what the losses are called with.

    Shapes and dtypes are checked on every device, values on the CPU alone: reading a value on
    another device would make the host wait for it at every step.

    Raises:
        TypeError: If an argument is no dense tensor, or its dtype does not fit.
        ValueError: If a shape, a label's value or ``reduction`` does not fit.
    """
    check_tensor('cls_score', cls_score)
    check_tensor('label', label)
    check_float_dtype('cls_score', cls_score)
    if cls_score.ndim != 2:
        raise ValueError(
            f'Expected `cls_score` to have shape (N, C), but got {tuple(cls_score.shape)}'
        )
    num_images, num_classes = cls_score.shape

    if is_index_label(label):
        if label.is_floating_point() or label.is_complex() or label.dtype == torch.bool:
            raise TypeError(
                'Expected `label` of class indices to have an integer dtype, '
                f'but got {label.dtype}'
            )
        if label.shape[0] != num_images:
            raise ValueError(
                f'Expected `label` to have shape ({num_images},), one index for each '
                f'row of `cls_score`, but got {tuple(label.shape)}'
            )
        if num_classes < 2:
            raise ValueError(
                'Expected `cls_score` to have at least 2 classes where `label` holds '
                f'class indices, but got {num_classes}'
            )
    elif label.shape != cls_score.shape:
        raise ValueError(
            f'Expected `label` to have shape ({num_images},), ({num_images}, 1) or '
            f'({num_images}, {num_classes}), but got {tuple(label.shape)}'
        )
    elif label.dtype not in _DENSE_DTYPES:
        raise TypeError(f'Expected `label` to have a real dtype, but got {label.dtype}')
    _check_label_values(label, num_classes)

    check_factor('weight', weight, num_images, 'image')
    check_factor('class_weight', class_weight, num_classes, 'class')
    check_factor('pos_weight', pos_weight, num_classes, 'class')

    check_reduction('reduction', reduction)
    if avg_factor is not None:
        _check_avg_factor(avg_factor, num_images, reduction)


def check_tensor(name: str, value: object) -> None:
    """Raise a TypeError unless ``value`` is a dense tensor."""
    if not isinstance(value, Tensor):
        raise TypeError(f'Expected `{name}` to be a Tensor, but got {value!r:.200}')
    if value.layout is not torch.strided:
        raise TypeError(f'Expected `{name}` to be a dense tensor, but got {value.layout}')


def check_float_dtype(name: str, tensor: Tensor) -> None:
    """Raise a TypeError unless a tensor is of one of the four common floating-point dtypes."""
    if tensor.dtype not in _FLOAT_DTYPES:
        raise TypeError(
            f'Expected `{name}` to have a floating-point dtype of 16 bits or more, '
            f'but got {tensor.dtype}'
        )


def check_factor(name: str, value: Optional[Tensor], length: int, of: str) -> None:
    """Raise unless ``value`` is None or holds a real number for each image or class."""
    if value is None:
        return
    check_tensor(name, value)
    if value.shape != (length,):
        raise ValueError(
            f'Expected `{name}` to have shape ({length},), one for each {of}, '
            f'but got {tuple(value.shape)}'
        )
    if value.is_complex():
        raise TypeError(f'Expected `{name}` to have a real dtype, but got {value.dtype}')


def _check_avg_factor(
    avg_factor: Union[int, float, Tensor], num_images: int, reduction: str
) -> None:
    if reduction == 'sum':
        raise ValueError(
            f"Expected `avg_factor` to be None where `reduction` is 'sum', but got {avg_factor}"
        )
    if not isinstance(avg_factor, Tensor):
        check_number('avg_factor', avg_factor, open_low=num_images > 0)
    elif avg_factor.ndim != 0:
        raise ValueError(
            'Expected `avg_factor` to be a number or a tensor of shape (), '
            f'but got shape {tuple(avg_factor.shape)}'
        )
    elif avg_factor.is_complex():
        raise TypeError(f'Expected `avg_factor` to be real, but got {avg_factor.dtype}')


def _check_label_values(label: Tensor, num_classes: int) -> None:
    # A graph cannot hold a data-dependent `raise`; there an index out of range still fails in
    # `gather`, as it does on a GPU.
    if label.device.type != 'cpu' or label.numel() == 0 or torch.compiler.is_compiling():
        return
    if is_index_label(label):
        label = label.long()  # there is no `aminmax` of every integer dtype
    low, high = (value.item() for value in label.detach().aminmax())
    if is_index_label(label):
        if low < 0 or high >= num_classes:
            bad = low if low < 0 else high
            raise ValueError(
                f'Expected `label` to hold class indices in [0, {num_classes}), but got {bad}'
            )
    elif not high <= 1:  # also where it is NaN
        raise ValueError(
            'Expected `label` to hold targets in [0, 1], or below 0 for unknown '
            f'entries, but got {high}'
        )


def to_accumulation_dtype(tensor: Tensor) -> Tensor:
    """Return ``tensor`` in float32, or as it is where it is float64."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def empty_accumulation(like: Tensor, *shape: int) -> Tensor:
    """Return an uninitialised tensor in the dtype that ``like`` is accumulated in."""
    return like.new_empty(
        shape, dtype=torch.float64 if like.dtype == torch.float64 else torch.float32
    )


def split_dense_label(label: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Split dense labels into the weight of the positive and of the negative term of each entry.

    Args:
        label (Tensor): (N, C) in [0, 1], or below 0 where unknown.
        dtype (torch.dtype): The dtype of what is returned.

    Returns:
        tuple[Tensor, Tensor]: t and 1 - t, both (N, C) and both 0 where the label is unknown. A
        NaN stays one.
    """
    target = label.detach().to(dtype)
    unknown = target < 0
    return target.masked_fill(unknown, 0), (1 - target).masked_fill(unknown, 0)


def mean_over_ranks(counts: Tensor, cls_score: Tensor) -> Tensor:
    """Average the normalisers of a batch over the processes that train together.

    DistributedDataParallel averages gradients, and a mean of ratios is not the ratio of the joined
    batch. With normalisers averaged over ranks it is. Without a gradient there is nothing to make
    equal, and one rank may evaluate alone: then the counts stay local and no collective runs.

    Args:
        counts (Tensor): Any shape; the same on every rank.
        cls_score (Tensor): The logits, asked whether they take a gradient.

    Returns:
        Tensor: The counts, averaged over the ranks of the default process group.
    """
    if not (cls_score.requires_grad and torch.is_grad_enabled()):
        return counts
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return counts
    counts = counts.clone()
    dist.all_reduce(counts)
    return counts / dist.get_world_size()


def safe_reciprocal(count: Tensor) -> Tensor:
    """Return 1 / count, and 0 where the count is 0: a batch may hold no positive or negative."""
    return torch.where(count > 0, 1 / count.clamp(min=torch.finfo(count.dtype).tiny), 0)


def reduce_loss(
    loss: Tensor,
    weight: Optional[Tensor],
    reduction: str,
    avg_factor: Union[int, float, Tensor, None],
) -> Tensor:
    """Weight the losses of the images and reduce them as stock mmpretrain losses do.

    Args:
        loss (Tensor): The loss of each image (N,).
        weight (Tensor, optional): (N,).
        reduction (str): 'none', 'mean' or 'sum'.
        avg_factor (int | float | Tensor, optional): What 'mean' divides by in place of N.

    Returns:
        Tensor: (N,) for 'none', else a scalar; 0 for a batch without images.
    """
    if weight is not None:
        loss = loss * weight.to(loss)
    if reduction == 'none':
        return loss
    if reduction == 'sum' or loss.shape[0] == 0:
        return loss.sum()
    return loss.sum() / (loss.shape[0] if avg_factor is None else avg_factor)
