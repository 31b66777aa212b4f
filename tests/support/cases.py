"""Inputs and comparisons that the tests of both losses share."""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from frlr_mm.functional import hs_lr_loss, ss_lr_loss
from tests.support.references import hs_lr_loss_naive, ss_lr_loss_naive

DEVICES = ['cpu'] + (['cuda'] if torch.cuda.is_available() else [])


def half_dtypes() -> list[torch.dtype]:
    """Return the half precisions that the CPU computes in, of which torch 2.1 has one."""
    try:
        torch.ones(1, 1, dtype=torch.float16).mm(torch.ones(1, 1, dtype=torch.float16))
    except RuntimeError:
        return [torch.bfloat16]
    return [torch.float16, torch.bfloat16]


HALF_DTYPES = half_dtypes()

# What the authors' own code computed in float64.
REFERENCE_CASES = json.loads(
    Path(__file__).parents[1].joinpath('data/reference_values.json').read_text()
)['cases']

# Each loss, its oracle and parameters that make both of its terms count.
LOSSES = {
    'hs_lr': (hs_lr_loss, hs_lr_loss_naive, dict(alpha=2.0, ratio=0.4)),
    'ss_lr': (ss_lr_loss, ss_lr_loss_naive, dict(alpha=2.0, gamma=0.7)),
}

INDEX_KINDS = ('index', 'index_column', 'index_int32', 'index_uint8')
DENSE_KINDS = (
    'one_hot_int',
    'one_hot_bool',
    'one_hot_float',
    'soft',
    'multi_label',
    'multi_label_int8',
    'unknown',
    'unknown_soft',
)
LABEL_KINDS = INDEX_KINDS + DENSE_KINDS


def name_case(case: dict) -> str:
    """Return what a test of a reference case is called."""
    return f'{case["label"]}-{case["loss"]}'


def make_logits(num_images: int, num_classes: int, seed: int = 0, scale: float = 3.0) -> Tensor:
    """Return float64 logits (N, C)."""
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(num_images, num_classes, generator=generator, dtype=torch.float64)


def make_label(kind: str, num_images: int, num_classes: int, seed: int = 0) -> Tensor:
    """Return labels of a kind in ``LABEL_KINDS``."""
    generator = torch.Generator().manual_seed(1000 + seed)
    index = torch.randint(num_classes, (num_images,), generator=generator)
    one_hot = torch.zeros(num_images, num_classes).scatter(1, index[:, None], 1)
    uniform = torch.rand(num_images, num_classes, generator=generator)
    multi_label = (uniform < 0.4).float()
    # A third of the entries, a whole row and a whole class.
    unknown = torch.rand(num_images, num_classes, generator=generator) < 0.33
    unknown[:1] = True
    unknown[:, -1] = True
    return {
        'index': index,
        'index_column': index[:, None],
        'index_int32': index.int(),
        'index_uint8': index.byte(),
        'one_hot_int': one_hot.long(),
        'one_hot_bool': one_hot.bool(),
        'one_hot_float': one_hot,
        'soft': 0.7 * one_hot + 0.3 * one_hot.roll(1, dims=0),
        'multi_label': multi_label,
        'multi_label_int8': multi_label.to(torch.int8),
        'unknown': multi_label.masked_fill(unknown, -1),
        'unknown_soft': uniform.masked_fill(unknown, -0.5),
    }[kind]


def loss_and_grad(
    function: Callable[..., Tensor], cls_score: Tensor, label: Tensor, **kwargs
) -> tuple[Tensor, Tensor]:
    """Return a loss and the gradient of its sum for the logits."""
    cls_score = cls_score.detach().clone().requires_grad_()
    loss = function(cls_score, label, **kwargs)
    loss.sum().backward()
    return loss.detach(), cls_score.grad


def assert_same(
    function: Callable[..., Tensor],
    oracle: Callable[..., Tensor],
    cls_score: Tensor,
    label: Tensor,
    device: str = 'cpu',
    **kwargs,
) -> None:
    """Compare the loss and the gradient with the oracle's, in float64 on both sides."""
    expected = loss_and_grad(oracle, cls_score, label, **kwargs)
    on_device = {
        key: value.to(device) if isinstance(value, Tensor) else value
        for key, value in kwargs.items()
    }
    actual = loss_and_grad(function, cls_score.to(device), label.to(device), **on_device)
    for a, e in zip(actual, expected):
        torch.testing.assert_close(a.cpu(), e, rtol=1e-9, atol=1e-12)
