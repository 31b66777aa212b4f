"""The contracts of ``_rows`` and ``_linear_once`` on CUDA in Triton kernels.

A kernel reads the logits of a row and writes its loss and its gradient, which takes many passes
over memory else. Nothing else of the package needs Triton.
"""

import functools
import importlib.metadata

import torch
from torch import Tensor

from .._inputs import Terms, is_eager

# What the tests run Triton's interpreter on where there is no GPU.
_DEVICE = 'cuda'
_DTYPES = (torch.float16, torch.bfloat16, torch.float32)


@functools.cache
def _has_triton() -> bool:
    """Tell whether a Triton that knows the kernels' language is installed; torch brings one."""
    try:
        return int(importlib.metadata.version('triton').split('.')[0]) >= 3
    except importlib.metadata.PackageNotFoundError:
        return False


def has_kernel(score: Tensor, label: Tensor, terms: Terms) -> bool:
    """Tell whether there is a kernel for a batch.

    float64 has none, nor has hard selection of dense labels or with factors of the classes.

    Args:
        score (Tensor): Logits (N, C), or the features (N, D) that they are made from.
        label (Tensor): Class indices, int64 (N, 1), or dense targets (N, C).
        terms (Terms): The selection and the class factors.

    Returns:
        bool: Whether it is on a CUDA device, where its values can be worked on at once, and of a
        kind that the kernels take.
    """
    is_dense = label.shape == score.shape
    is_plain = terms.ratio is None or (not is_dense and terms.class_weight is None)
    return (
        score.device.type == _DEVICE
        and score.dtype in _DTYPES
        and score.numel() > 0
        and is_plain
        and is_eager(score)
        and _has_triton()
    )
