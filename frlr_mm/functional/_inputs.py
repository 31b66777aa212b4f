"""What the losses are called with: checks of tensors and labels, and ``Terms``."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from .._checks import check_choice, check_number
from ._torch import is_compiling

Alpha = float | Literal['sum']
AvgFactor = int | float | Tensor | None
REDUCTIONS = ('none', 'mean', 'sum')
_FLOAT_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_DENSE_DTYPES = (
    *_FLOAT_DTYPES,
    *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
)


@dataclass(frozen=True)
class Terms:
    """What is summed over the classes of an image, in the words of the paper.

    Args:
        alpha (float | 'sum'): The weight of the negative term, >= 0.
        gamma (float): The temperature of soft selection, >= 0. Defaults to 0.0.
        ratio (float, optional): The share of the classes that hard selection takes, in (0, 1];
            None stands for soft selection. Defaults to None.
        class_weight (Tensor, optional): A factor for both terms of each class (C,). Defaults to
            None.
        pos_weight (Tensor, optional): A factor for the positive term of each class (C,). Defaults
            to None.

    Raises:
        TypeError: If ``alpha`` is not a number.
        ValueError: If ``alpha`` is out of range.
    """

    alpha: Alpha
    gamma: float = 0.0
    ratio: float | None = None
    class_weight: Tensor | None = None
    pos_weight: Tensor | None = None

    def __post_init__(self) -> None:
        if self.alpha != 'sum':
            check_number('alpha', self.alpha)


def is_index_label(label: Tensor) -> bool:
    """Tell class indices, (N,) or integer (N, 1), from dense (N, C) targets."""
    is_column = label.ndim == 2 and label.shape[1] == 1
    is_dense_dtype = label.is_floating_point() or label.dtype == torch.bool
    return label.ndim == 1 or (is_column and not is_dense_dtype)


def is_transformed() -> bool:
    """Tell whether torch.func transforms or forward-mode differentiation are at work.

    They see through plain operations alone, not through a gradient that is written by hand.
    """
    if is_compiling():
        return False
    return (
        torch._C._are_functorch_transforms_active()
        or torch.autograd.forward_ad._current_level >= 0
    )


def is_eager(tensor: Tensor) -> bool:
    """Tell whether ``tensor`` has values, here and now.

    It has none while anything traces (torch.compile, torch.jit.trace, a dispatch mode such as
    that of make_fx), in a torch.func transform, and where ``tensor`` is of a class that stands
    for values elsewhere (FakeTensor, DTensor).
    """
    return (
        not is_compiling()
        and type(tensor) in (Tensor, torch.nn.Parameter)
        and not torch._C._are_functorch_transforms_active()
        and not torch._C._len_torch_dispatch_stack()
        and not torch.jit.is_tracing()  # type: ignore[attr-defined]
    )


def is_eager_on_cpu(tensor: Tensor) -> bool:
    """Tell whether values of ``tensor`` can be read at once, here and now.

    Reading a value on another device would make the host wait for it at every step.
    """
    return tensor.device.type == 'cpu' and is_eager(tensor)


def check_inputs(
    cls_score: Tensor,
    label: Tensor,
    weight: Tensor | None,
    terms: Terms,
    reduction: str,
    avg_factor: AvgFactor,
) -> Tensor:
    """Check what the losses are called with, and return the label in one of two forms.

    Shapes and dtypes are checked on every device, the values of labels on the CPU alone.

    Args:
        cls_score (Tensor): The logits.
        label (Tensor): The labels.
        weight (Tensor, optional): The factor for each image.
        terms (Terms): The class factors of it are checked; it has checked its numbers itself.
        reduction (str): 'none', 'mean' or 'sum'.
        avg_factor (int | float | Tensor, optional): What 'mean' divides by.

    Returns:
        Tensor: Class indices, int64 (N, 1), or dense targets as they are (N, C). C is at least 2
        with class indices, so that the shape tells the two apart.

    Raises:
        TypeError: If an argument is not a dense tensor, or its dtype does not fit.
        ValueError: If a shape, a label's value or ``reduction`` does not fit.
    """
    check_tensors(cls_score=cls_score, label=label)
    check_score(cls_score)
    label = check_label(label, *cls_score.shape)
    if weight is not None:
        check_factor('weight', weight, cls_score.shape[0], 'image')
    if terms.class_weight is not None:
        check_factor('class_weight', terms.class_weight, cls_score.shape[1], 'class')
    if terms.pos_weight is not None:
        check_factor('pos_weight', terms.pos_weight, cls_score.shape[1], 'class')
    check_reduction(reduction, avg_factor, cls_score.shape[0])
    return label


def check_tensors(**tensors: object) -> None:
    """Raise a TypeError unless all values are dense tensors."""
    for name, value in tensors.items():
        if not isinstance(value, Tensor):
            raise TypeError(f'Expected `{name}` to be a Tensor, but got {value!r:.200}')
        if value.layout is not torch.strided:
            raise TypeError(f'Expected `{name}` to be a dense tensor, but got {value.layout}')


def check_float_dtypes(**tensors: Tensor) -> None:
    """Raise a TypeError unless all tensors have one of the four common floating-point dtypes."""
    for name, tensor in tensors.items():
        if tensor.dtype not in _FLOAT_DTYPES:
            raise _wrong_float_dtype(name, tensor)


def _wrong_float_dtype(name: str, tensor: Tensor) -> TypeError:
    return TypeError(
        f'Expected `{name}` to have a floating-point dtype of 16 bits or more, '
        f'but got {tensor.dtype}'
    )


def check_score(cls_score: Tensor) -> None:
    """Raise unless logits have a floating-point dtype and shape (N, C)."""
    check_float_dtypes(cls_score=cls_score)
    if cls_score.ndim != 2:
        raise ValueError(
            f'Expected `cls_score` to have shape (N, C), but got {tuple(cls_score.shape)}'
        )


def check_label(label: Tensor, num_images: int, num_classes: int) -> Tensor:
    """Check labels of N images, and return indices as int64 (N, 1), dense ones as they are."""
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
        label = label.detach().reshape(-1, 1).long()
        # Where it is not checked, an index out of range still fails in `gather`.
        if label.numel() and is_eager_on_cpu(label):
            low, high = label.aminmax()
            if low < 0 or high >= num_classes:
                raise ValueError(
                    f'Expected `label` to hold class indices in [0, {num_classes}), '
                    f'but got {low if low < 0 else high}'
                )
        return label
    if label.shape != (num_images, num_classes):
        raise ValueError(
            f'Expected `label` to have shape ({num_images},), ({num_images}, 1) or '
            f'({num_images}, {num_classes}), but got {tuple(label.shape)}'
        )
    if label.dtype not in _DENSE_DTYPES:
        raise TypeError(f'Expected `label` to have a real dtype, but got {label.dtype}')
    if label.numel() and is_eager_on_cpu(label):
        highest = label.detach().amax().item()
        if not highest <= 1:  # also where it is NaN
            raise ValueError(
                'Expected `label` to hold targets in [0, 1], or below 0 for unknown '
                f'entries, but got {highest}'
            )
    return label


def check_factor(name: str, value: Tensor, length: int, of: str) -> None:
    """Raise unless ``value`` holds a real number for each image or class.

    Args:
        name (str): The argument, for the error.
        value (Tensor): Its value.
        length (int): How many numbers there should be.
        of (str): What each is for, 'image' or 'class'.

    Raises:
        TypeError: If ``value`` is not a dense tensor of real numbers.
        ValueError: If its shape is not (length,).
    """
    check_tensors(**{name: value})
    if value.shape != (length,):
        raise ValueError(
            f'Expected `{name}` to have shape ({length},), one for each {of}, '
            f'but got {tuple(value.shape)}'
        )
    if value.is_complex():
        raise TypeError(f'Expected `{name}` to have a real dtype, but got {value.dtype}')


def check_reduction(reduction: str, avg_factor: AvgFactor, num_images: int) -> None:
    """Raise unless the reduction is known and ``avg_factor`` fits it.

    Args:
        reduction (str): 'none', 'mean' or 'sum'.
        avg_factor (int | float | Tensor, optional): What 'mean' divides by.
        num_images (int): The size of the batch; an empty one may be divided by 0.

    Raises:
        TypeError: If ``avg_factor`` is not a real number or tensor.
        ValueError: If ``reduction`` or ``avg_factor`` is out of range, or the two do not fit.
    """
    if reduction not in REDUCTIONS:
        check_choice('reduction', reduction, REDUCTIONS)
    if avg_factor is None:
        return
    if reduction == 'sum':
        raise ValueError(
            f"Expected `avg_factor` to be None where `reduction` is 'sum', but got {avg_factor}"
        )
    if type(avg_factor) is int and 0 < avg_factor < 1 << 53:  # what heads hand over
        return
    if not isinstance(avg_factor, Tensor):
        check_number('avg_factor', avg_factor, open_low=num_images > 0)
    elif avg_factor.ndim != 0:
        raise ValueError(
            'Expected `avg_factor` to be a number or a tensor of shape (), '
            f'but got shape {tuple(avg_factor.shape)}'
        )
    elif avg_factor.is_complex():
        raise TypeError(f'Expected `avg_factor` to be real, but got {avg_factor.dtype}')
