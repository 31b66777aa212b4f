"""Whatever the losses are called with: a documented error, or a finite loss and its gradient."""

import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from frlr_mm.functional import (
    fused_linear_hs_lr_loss,
    fused_linear_ss_lr_loss,
    hs_lr_loss,
    ss_lr_loss,
)
from tests.support.cases import DEVICES, HALF_DTYPES, LABEL_KINDS, loss_and_grad, make_label
from tests.support.references import hs_lr_loss_naive, ss_lr_loss_naive

FLOATS = (*HALF_DTYPES, torch.float32, torch.float64)
NO_FLOATS = (torch.int64, torch.bool, torch.complex64, torch.float8_e4m3fn)
OUT_OF_RANGE = (-1.0, -1e-300, math.nan, math.inf, -math.inf, 10**400)
NO_NUMBERS = (None, '1', True, [1.0], torch.tensor(1.0))
LOSSES = {
    'hs_lr': (hs_lr_loss, fused_linear_hs_lr_loss, hs_lr_loss_naive),
    'ss_lr': (ss_lr_loss, fused_linear_ss_lr_loss, ss_lr_loss_naive),
}


@st.composite
def arguments(draw):
    """Return arguments that are right."""
    num_images, num_classes = draw(st.integers(0, 4)), draw(st.integers(2, 9))
    seed = draw(st.integers(0, 2**16))
    generator = torch.Generator().manual_seed(seed)
    # Far apart, so that rounding never changes which classes are the hardest.
    order = torch.rand(num_images, num_classes, generator=generator).argsort(1)
    step = draw(st.sampled_from([0.0625, 1.0, 16.0, 4096.0]))
    cls_score = ((order - num_classes // 2) * step).to(draw(st.sampled_from(FLOATS)))
    if draw(st.booleans()):
        cls_score = cls_score.T.contiguous().T
    kind = draw(st.sampled_from(LABEL_KINDS))
    label = make_label(kind, num_images, num_classes, seed)
    if not kind.startswith('index'):
        # One image may be all unknown, all negative or all positive.
        label[: draw(st.integers(0, 1))] = draw(st.sampled_from([0, 1]))

    def factor(length):  # of values that make no two terms equal
        return st.none() | st.lists(
            st.sampled_from([0.0, 0.61, 1.0, 2.93]), min_size=length, max_size=length
        ).map(lambda values: torch.tensor(values, dtype=torch.float64))

    reduction = draw(st.sampled_from(['none', 'mean', 'sum']))
    avg_factors = [None, 1, 7.5, torch.tensor(3.0)] if reduction != 'sum' else [None]
    return dict(
        cls_score=cls_score,
        label=label,
        alpha=draw(st.just('sum') | st.integers(0, 5) | st.floats(0, 1000)),
        weight=draw(factor(num_images)),
        class_weight=draw(factor(num_classes)),
        pos_weight=draw(factor(num_classes)),
        reduction=reduction,
        avg_factor=draw(st.sampled_from(avg_factors)),
    )


FOCUS = {
    'hs_lr': ('ratio', st.integers(1, 100).map(lambda percent: percent / 100)),
    'ss_lr': ('gamma', st.integers(0, 4) | st.floats(0, 8)),
}


@st.composite
def faults(draw, right, focus):
    """Return an argument's name and a value of it that is wrong beside the others."""
    num_images, num_classes = right['cls_score'].shape
    longer = num_images + num_classes + 1
    wrong_shape = st.sampled_from(
        [(), (longer,), (num_images, num_classes + 1), (num_images, num_classes, 1)]
    ).map(torch.zeros)
    no_tensor = st.sampled_from([[0.0] * num_classes, 1.0, 'x', torch.zeros(2, 2).to_sparse()])
    no_number = st.sampled_from(OUT_OF_RANGE + NO_NUMBERS)
    factor = wrong_shape | no_tensor
    wrong = dict(
        cls_score=st.one_of(
            no_tensor,
            st.sampled_from([(), (3,), (2, 3, 4)]).map(torch.zeros),
            st.sampled_from(NO_FLOATS).map(lambda dtype: right['cls_score'].to(dtype)),
        ),
        label=st.one_of(
            no_tensor,
            wrong_shape,
            st.sampled_from([-1, num_classes, 2**40]).map(
                lambda index: torch.full((num_images,), index) if num_images else torch.zeros(1)
            ),
            st.sampled_from([1.5, math.nan, math.inf]).map(
                lambda value: torch.full((num_images or 1, num_classes), value)
            ),
            st.sampled_from([torch.float32, torch.bool, torch.complex64]).map(
                lambda dtype: torch.zeros(num_images, dtype=dtype)
            ),
        ),
        alpha=no_number.filter(lambda value: value is not None),
        weight=factor,
        class_weight=factor,
        pos_weight=factor,
        reduction=st.sampled_from(['avg', None, 3]),
        avg_factor=st.sampled_from(
            [-1, math.nan, math.inf, 10**400, '4', torch.ones(2), torch.tensor(1j)]
        ),
    )
    wrong[focus] = no_number if focus == 'gamma' else no_number | st.sampled_from([0, 1.5])
    name = draw(st.sampled_from(sorted(wrong)))
    return name, draw(wrong[name])


def with_identity(fused):
    """Return a loss of logits from one of features: a classifier that hands them through."""

    def loss(cls_score, label, weight=None, **kwargs):
        identity = torch.eye(cls_score.shape[1]).to(cls_score)
        return fused(cls_score, identity, None, label, sample_weight=weight, **kwargs)

    return loss


def check_right(name, right, device):
    loss, fused, oracle = LOSSES[name]
    dtype = right['cls_score'].dtype

    def has_graph(cls_score, label, **kwargs):  # even without images
        return oracle(cls_score, label, **kwargs) + 0 * cls_score.sum()

    expected = loss_and_grad(has_graph, **(right | dict(cls_score=right['cls_score'].double())))
    on_device = {
        key: value.to(device) if isinstance(value, torch.Tensor) else value
        for key, value in right.items()
    }
    functions = [loss]
    if right['label'].ndim == 1:
        functions.append(with_identity(fused))
    for function in functions:
        value, grad = loss_and_grad(function, **on_device)
        assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        assert grad.dtype == dtype
        assert value.isfinite().all() and grad.isfinite().all()
        rtol = 1e-9 if dtype == torch.float64 else 3e-5
        torch.testing.assert_close(value.double().cpu(), expected[0], rtol=rtol, atol=rtol)
        rtol = max(rtol, 2 * torch.finfo(dtype).eps)
        scale = max(1.0, expected[1].abs().max().item()) if expected[1].numel() else 1.0
        torch.testing.assert_close(grad.double().cpu(), expected[1], rtol=rtol, atol=1e-6 * scale)


def check_fault(name, right, fault):
    argument, value = fault
    with pytest.raises((TypeError, ValueError), match=f'`{argument}`'):
        LOSSES[name][0](**(right | {argument: value}))


QUIET = dict(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def check(data, device):
    name = data.draw(st.sampled_from(sorted(LOSSES)))
    focus, values = FOCUS[name]
    right = data.draw(arguments()) | {focus: data.draw(values)}
    check_right(name, right, device)
    check_fault(name, right, data.draw(faults(right, focus)))


@pytest.mark.parametrize('device', DEVICES)
@settings(max_examples=max(200, settings.default.max_examples), **QUIET)
@given(data=st.data())
def test_right_or_refused(data, device):
    check(data, device)


@pytest.mark.slow
@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.timeout(1200)
@settings(max_examples=5000, **QUIET)
@given(data=st.data())
def test_right_or_refused_of_many(data, device):
    check(data, device)
