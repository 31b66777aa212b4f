"""The classifier fused with its loss, against the two in a row."""

import pytest
import torch
import torch.nn.functional as F

from frlr_mm.functional import (
    fused_linear_hs_lr_loss,
    fused_linear_ss_lr_loss,
    hs_lr_loss,
    ss_lr_loss,
)
from frlr_mm.reporting.machine import peak_memory
from tests.support.cases import DEVICES, HALF_DTYPES

PAIRS = {
    'hs_lr': (fused_linear_hs_lr_loss, hs_lr_loss, dict(ratio=0.3)),
    'ss_lr': (fused_linear_ss_lr_loss, ss_lr_loss, dict(gamma=0.7)),
}
pytestmark = pytest.mark.parametrize('name', PAIRS)


def make_inputs(
    num_images=5, num_channels=4, num_classes=23, dtype=torch.float64, bias=True, device='cpu'
):
    generator = torch.Generator().manual_seed(0)
    shapes = [(num_images, num_channels), (num_classes, num_channels), (num_classes,)]
    tensors = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    label = torch.randint(num_classes, (num_images,), generator=generator).to(device)
    tensors = [t.to(device, dtype).requires_grad_() for t in tensors]
    return (*tensors, label) if bias else (*tensors[:2], None, label)


def results(function, features, weight, bias, label, **kwargs):
    inputs = [t for t in (features, weight, bias) if t is not None]
    loss = function(features, weight, bias, label, **kwargs)
    incoming = torch.linspace(0.5, 2, loss.numel(), dtype=loss.dtype, device=loss.device)
    return [loss.detach(), *torch.autograd.grad(loss, inputs, incoming.view(loss.shape))]


def in_a_row(plain):
    def function(features, weight, bias, label, sample_weight=None, **kwargs):
        return plain(F.linear(features, weight, bias), label, weight=sample_weight, **kwargs)

    return function


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('chunk_budget', [1, 3000, 2**28])
@pytest.mark.parametrize('bias', [True, False])
@pytest.mark.parametrize(
    'kwargs',
    [
        dict(),
        dict(alpha=2.5, reduction='none'),
        dict(reduction='sum', class_weight=torch.linspace(0.5, 2, 23)),
        dict(
            avg_factor=3,
            sample_weight=torch.linspace(0, 1, 5),
            class_weight=torch.linspace(2, 0.5, 23),
            pos_weight=torch.linspace(1, 3, 23),
        ),
    ],
)
def test_equals_linear_and_loss(name, kwargs, bias, chunk_budget, dtype, device):
    fused, plain, focus = PAIRS[name]
    inputs = make_inputs(bias=bias, dtype=dtype, device=device)
    kwargs = {k: v.to(device) if torch.is_tensor(v) else v for k, v in kwargs.items()} | focus
    expected = results(in_a_row(plain), *inputs, **kwargs)
    actual = results(fused, *inputs, chunk_budget=chunk_budget, **kwargs)
    for a, e in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, e)


@pytest.mark.parametrize('focus', [0.01, 1.0])
def test_ends_of_the_focus(name, focus):
    fused, plain, kwargs = PAIRS[name]
    kwargs = dict.fromkeys(kwargs, focus)
    inputs = make_inputs()
    for chunk_budget in (2000, 2**28):
        for a, e in zip(
            results(fused, *inputs, chunk_budget=chunk_budget, **kwargs),
            results(in_a_row(plain), *inputs, **kwargs),
            strict=True,
        ):
            torch.testing.assert_close(a, e)


def test_gradcheck(name):
    fused, _, focus = PAIRS[name]
    *tensors, label = make_inputs(3, 2, 7)
    assert torch.autograd.gradcheck(
        lambda *args: fused(*args, label, chunk_budget=500, **focus), tensors
    )


def test_frozen_classifier(name):
    """Only what takes a gradient gets one."""
    fused, plain, focus = PAIRS[name]
    features, weight, bias, label = make_inputs()
    weight, bias = weight.detach(), bias.detach()
    (grad,) = torch.autograd.grad(fused(features, weight, bias, label, **focus), features)
    (expected,) = torch.autograd.grad(
        plain(F.linear(features, weight, bias), label, **focus), features
    )
    torch.testing.assert_close(grad, expected)


def test_equal_logits_select_exactly_k(name):
    """The classes that tie at the edge are counted across chunks."""
    fused, plain, _ = PAIRS[name]
    label = torch.tensor([0, 5, 9])
    for chunk_budget in (500, 3000, 2**28):
        features, weight = torch.ones(3, 4), torch.zeros(23, 4)
        bias = torch.zeros(23, requires_grad=True)
        value = fused(features, weight, bias, label, reduction='sum', chunk_budget=chunk_budget)
        expected = plain(F.linear(features, weight, bias), label, reduction='sum')
        torch.testing.assert_close(value, expected)
        value.backward()
        (expected,) = torch.autograd.grad(expected, bias)
        torch.testing.assert_close(bias.grad.sum(), expected.sum())


@pytest.mark.parametrize('dtype', HALF_DTYPES)
def test_half_precision(name, dtype):
    fused, plain, focus = PAIRS[name]
    inputs = make_inputs(dtype=dtype)
    truth = [t.detach().double().requires_grad_() for t in inputs[:3]] + [inputs[3]]
    expected = results(in_a_row(plain), *truth, **focus)
    actual = results(fused, *inputs, **focus)
    assert actual[0].dtype == torch.float32
    for a, e in zip(actual[1:], expected[1:], strict=True):
        assert a.dtype == dtype
        torch.testing.assert_close(a.double(), e, rtol=0.05, atol=0.05)


def test_autocast(name):
    fused, plain, focus = PAIRS[name]
    inputs = make_inputs(dtype=torch.float32)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        actual = fused(*inputs, **focus)
        expected = plain(F.linear(*inputs[:3]), inputs[3], **focus)
    torch.testing.assert_close(actual, expected, rtol=1e-2, atol=1e-2)
    actual.backward()
    assert all(t.grad.dtype == torch.float32 for t in inputs[:3])


def test_no_images(name):
    fused, _, focus = PAIRS[name]
    features, weight, bias, label = make_inputs(num_images=0)
    value, *grads = results(fused, features, weight, bias, label, **focus)
    assert value == 0 and all((grad == 0).all() for grad in grads)


def test_repeats_to_the_bit(name):
    fused, _, focus = PAIRS[name]
    inputs = make_inputs(7, 16, 3000, torch.float32)
    first = results(fused, *inputs, chunk_budget=50_000, **focus)
    for a, b in zip(results(fused, *inputs, chunk_budget=50_000, **focus), first, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize('budget', [2**23, 2**24])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_memory_stays_within_the_budget(name, dtype, budget):
    fused, plain, _ = PAIRS[name]
    inputs = make_inputs(64, 8, 200_000, dtype)
    ours = dict(ratio=0.01) if name == 'hs_lr' else {}
    grads = sum(t.numel() * t.element_size() for t in inputs[:3])
    peaks = [
        peak_memory(lambda: results(fused, *inputs, chunk_budget=budget, **ours), 'cpu'),
        peak_memory(lambda: results(in_a_row(plain), *inputs, **ours), 'cpu'),
    ]
    logits = 64 * 200_000 * dtype.itemsize
    # In half precision the bias and the features add up in float32.
    assert peaks[0] <= grads + budget + 4 * (200_000 + 64 * 8)
    assert peaks[1] >= grads + logits


@pytest.mark.parametrize(
    ('change', 'error', 'message'),
    [
        (dict(features=torch.zeros(5, 3)), ValueError, 'Expected `features` and `weight`'),
        (dict(features=torch.zeros(5)), ValueError, 'Expected `features` and `weight`'),
        (dict(bias=torch.zeros(22)), ValueError, 'Expected `bias` to have shape'),
        (dict(features=torch.zeros(5, 4, dtype=torch.int64)), TypeError, 'Expected `features`'),
        (dict(label=torch.zeros(5, 23)), ValueError, 'do not take dense targets'),
        (dict(label=torch.zeros(4, dtype=torch.int64)), ValueError, 'Expected `label`'),
        (dict(label=torch.full((5,), 23)), ValueError, 'Expected `label`'),
        (dict(sample_weight=torch.ones(4)), ValueError, 'Expected `sample_weight`'),
        (dict(class_weight=torch.ones(4)), ValueError, 'Expected `class_weight`'),
        (dict(chunk_budget=0), ValueError, 'Expected `chunk_budget`'),
        (dict(alpha=-1), ValueError, 'Expected `alpha`'),
    ],
)
def test_misuse(name, change, error, message):
    features, weight, bias, label = make_inputs(dtype=torch.float32)
    arguments = dict(features=features, weight=weight, bias=bias, label=label) | change
    with pytest.raises(error, match=message):
        PAIRS[name][0](**arguments)
