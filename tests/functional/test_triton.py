"""The Triton kernels against the arithmetic of a CPU in float64.

Where there is no GPU, Triton's interpreter runs them.
"""

import importlib.metadata

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from frlr_mm.functional import (
    _linear_once,
    _rows,
    fused_linear_hs_lr_loss,
    fused_linear_ss_lr_loss,
    hs_lr_loss,
    ss_lr_loss,
    triton,
)
from tests.support.cases import DENSE_KINDS, loss_and_grad, make_label, make_logits

DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'
SHAPES = [(5, 2), (41, 401), (3, 1271), (1, 5001)]
DTYPES = [torch.float32, torch.bfloat16, torch.float16]

# The device is part of the name of each test: `make bench-gpu` chooses by it.
pytestmark = [
    pytest.mark.parametrize('device', [DEVICE]),
    # Of NumPy, which interprets infinities.
    pytest.mark.filterwarnings('ignore:invalid value:RuntimeWarning:triton'),
]


@pytest.fixture(autouse=True)
def calls(monkeypatch):
    """Run the kernels where there is no GPU as well, and note who asks for them."""
    answers = []

    def has_kernel(*args):
        answers.append(triton.has_kernel(*args))
        return answers[-1]

    monkeypatch.setattr(triton, '_DEVICE', DEVICE)
    for module in (_rows, _linear_once):
        monkeypatch.setattr(module, 'has_kernel', has_kernel)
    return answers


def check(calls, loss, x, label, device, rtol=2e-6, **kwargs):
    """Compare the losses of images and their gradient with those of float64 on a CPU."""
    expected = loss_and_grad(loss, x.double(), label, reduction='none', **kwargs)
    on_device = {
        key: value.to(device) if isinstance(value, torch.Tensor) else value
        for key, value in kwargs.items()
    }
    calls.clear()
    actual = loss_and_grad(loss, x.to(device), label.to(device), reduction='none', **on_device)
    assert calls == [True]
    assert actual[0].dtype == torch.float32
    assert actual[1].dtype == x.dtype
    torch.testing.assert_close(actual[0].double().cpu(), expected[0], rtol=rtol, atol=1e-6)
    # (What is rounded to the dtype of the logits is rounded once; the interpreter cuts it off.)
    info = torch.finfo(x.dtype)
    eps, tiny = (0, 0) if x.dtype == torch.float32 else (info.eps, info.smallest_normal)
    eps /= 2 if device == 'cuda' else 1
    torch.testing.assert_close(
        actual[1].double().cpu(), expected[1], rtol=rtol + eps, atol=2e-7 + tiny
    )
    return actual


def factors(num_classes):
    generator = torch.Generator().manual_seed(3)
    return {
        name: torch.rand(num_classes, generator=generator) + 0.5
        for name in ('class_weight', 'pos_weight')
    }


@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('shape', SHAPES)
def test_soft_selection_of_indices(shape, dtype, device, calls):
    x, label = make_logits(*shape).to(dtype), make_label('index', *shape)
    for gamma in (0.0, 0.25, 0.7):
        check(calls, ss_lr_loss, x, label, device, gamma=gamma)
    check(calls, ss_lr_loss, x, label, device, alpha=2.0, **factors(shape[1]))


@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('ratio', [1e-9, 0.1, 0.6, 1.0])
def test_hard_selection_of_indices(shape, dtype, ratio, device, calls):
    x, label = make_logits(*shape).to(dtype), make_label('index', *shape)
    pos_weight = factors(shape[1])['pos_weight']
    check(calls, hs_lr_loss, x, label, device, ratio=ratio, pos_weight=pos_weight)
    check(calls, hs_lr_loss, x, label, device, ratio=ratio, alpha=2.0)


@pytest.mark.parametrize('dtype', DTYPES)
def test_more_classes_than_are_held(dtype, device, calls):
    x, label = make_logits(1, 70001).to(dtype), make_label('index', 1, 70001)
    for ratio in (0.01, 0.5):
        check(calls, hs_lr_loss, x, label, device, ratio=ratio)


@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('kind', DENSE_KINDS)
def test_soft_selection_of_dense_labels(kind, dtype, device, calls):
    x, label = make_logits(5, 401).to(dtype), make_label(kind, 5, 401)
    for alpha in ('sum', 2.0):
        check(calls, ss_lr_loss, x, label, device, alpha=alpha, **factors(401))
        check(calls, ss_lr_loss, x, label, device, alpha=alpha, gamma=0)


@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('num_classes', [7, 401, 9001])
def test_first_classes_win_ties(num_classes, dtype, device, calls):
    x = make_logits(9, num_classes).round().to(dtype)
    x[0], x[1] = 0, -0.0
    x[2, ::2], x[2, 1::2] = 0, -0.0
    label = make_label('index', 9, num_classes)
    for ratio in (0.15, 0.5, 0.9):
        _, grad = check(calls, hs_lr_loss, x, label, device, ratio=ratio)
        k = max(1, int(num_classes * ratio + 1e-6))
        assert ((grad > 0).sum(1) == k).all()


@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('loss', [ss_lr_loss, hs_lr_loss])
def test_infinite_logits_and_nan(loss, dtype, device, calls):
    x = make_logits(6, 300).to(dtype)
    label = torch.arange(6)
    x[0, :100] = -torch.inf  # the target among them: it can't be learned
    x[1, 100:] = -torch.inf
    x[2, 2], x[3, 7] = torch.inf, torch.inf
    x[4, 9], x[5, 5] = torch.nan, -torch.nan
    value, grad = loss_and_grad(loss, x.to(device), label.to(device), reduction='none')
    assert calls == [True]
    expected = loss_and_grad(loss, x.double(), label, reduction='none')
    torch.testing.assert_close(
        value.double().cpu(), expected[0], rtol=2e-6, atol=1e-6, equal_nan=True
    )
    assert grad[:3].isfinite().all()
    assert grad[0, 0] == -1 and grad[2, 2] == 0
    torch.testing.assert_close(
        grad[:3].double().cpu(), expected[1][:3], rtol=torch.finfo(dtype).eps, atol=1e-6
    )
    assert grad[4, 9].isnan() and grad[5, 5].isnan()


def test_classes_that_are_masked_out(device, calls):
    x, label = make_logits(3, 300).float(), make_label('unknown', 3, 300)
    x[label <= 0] = -torch.inf
    check(calls, ss_lr_loss, x, label, device)


@pytest.mark.parametrize('loss', [ss_lr_loss, hs_lr_loss])
def test_logits_of_any_layout(loss, device, calls):
    label = make_label('index', 6, 50)
    wide = make_logits(6, 120).float()
    for x in (wide[:, :50], wide[:, 20:120:2], wide.view(120, 6)[:50].t(), wide[:1, :50]):
        check(calls, loss, x, label[: x.shape[0]], device)
    dense = make_label('soft', 1, 50).expand(6, 50)
    check(calls, ss_lr_loss, wide[:, :50], dense, device)
    check(calls, ss_lr_loss, wide[:, :50], make_label('soft', 50, 6).t(), device)


@pytest.mark.parametrize('loss', [ss_lr_loss, hs_lr_loss])
def test_the_same_bits_again_and_without_a_gradient(loss, device, calls):
    x, label = make_logits(9, 3001).bfloat16().to(device), make_label('index', 9, 3001).to(device)
    first = loss_and_grad(loss, x, label)
    for again in (loss_and_grad(loss, x, label), loss_and_grad(loss, x.clone(), label)):
        assert all(torch.equal(a, b) for a, b in zip(first, again))
    assert torch.equal(loss(x, label), first[0])
    assert calls == [True] * 4


def test_what_has_no_kernel(device, calls):
    x, label = make_logits(3, 20).to(device), make_label('index', 3, 20).to(device)
    ss_lr_loss(x, label)
    hs_lr_loss(x.float(), label, class_weight=torch.ones(20, device=device))
    hs_lr_loss(x.float(), F.one_hot(label, 20))
    ss_lr_loss(x[:0].float(), label[:0])
    assert calls == [False] * 4


@pytest.mark.parametrize('factor', [1.0, 3.0])
def test_backward_pass_that_is_watched_launches_nothing(factor, device, calls, monkeypatch):
    x, label = make_logits(5, 60).float().to(device), make_label('index', 5, 60).to(device)
    _, expected = loss_and_grad(lambda *inputs: factor * hs_lr_loss(*inputs), x, label)
    x.requires_grad_()
    loss = factor * hs_lr_loss(x, label)
    monkeypatch.setattr('frlr_mm.functional.triton.backward._kernel', None)
    with FlopCounterMode(display=False):
        loss.backward()
    assert calls == [True, True]
    torch.testing.assert_close(x.grad, expected)


@pytest.mark.parametrize('version', [None, '2.1.0', '3.0.0'])
def test_without_triton_3_there_is_no_kernel(version, device, calls, monkeypatch):
    def installed(name):
        if version is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(importlib.metadata, 'version', installed)
    triton._has_triton.cache_clear()
    try:
        hs_lr_loss(make_logits(3, 20).float().to(device), torch.arange(3, device=device))
    finally:
        triton._has_triton.cache_clear()
    assert calls == [version == '3.0.0']


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize('bias', [True, False])
@pytest.mark.parametrize('name', ['ss_lr', 'ss_lr, gamma 0', 'hs_lr'])
def test_linear_classifier(name, bias, dtype, device, calls):
    if dtype == torch.bfloat16 and device == 'cpu':
        dtype = torch.float32  # a CPU keeps gradients in float32, which no product takes
    loss = fused_linear_hs_lr_loss if name == 'hs_lr' else fused_linear_ss_lr_loss
    options = dict(gamma=0) if name.endswith('0') else {}
    if name != 'hs_lr':
        options['class_weight'] = factors(600)['class_weight']
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(n, 16, generator=generator).to(dtype) for n in (9, 600)]
    tensors.append(torch.randn(600, generator=generator).to(dtype))
    label, weight = make_label('index', 9, 600), torch.linspace(0.5, 2, 9)

    def run(function, device, dtype, **more):
        leaves = [each.to(device, dtype).requires_grad_() for each in tensors[: 2 + bias]]
        moved = {
            key: value.to(device) if isinstance(value, torch.Tensor) else value
            for key, value in options.items()
        }
        classifier = [*leaves, None][:3]
        value = function(
            *classifier, label.to(device), sample_weight=weight.to(device), **moved, **more
        )
        value.backward()
        return [value.detach()] + [each.grad for each in leaves]

    def pair(features, weight, bias, label, sample_weight, **options):
        # (Rounded logits may select others.)
        x = F.linear(features, weight, bias)
        x = x + (x.to(dtype).to(x.dtype) - x).detach()
        plain = hs_lr_loss if name == 'hs_lr' else ss_lr_loss
        return plain(x, label, weight=sample_weight, **options)

    expected = run(pair, 'cpu', torch.float64)
    calls.clear()
    # (A few classes, or a few images, at a time.)
    actual = run(loss, device, dtype, chunk_budget=20000)
    assert calls and all(calls)
    eps = torch.finfo(dtype).eps
    for a, e in zip(actual, expected):
        error = (a.double().cpu() - e).norm() / e.norm()
        assert error < (1e-5 if dtype == torch.float32 else 4 * eps), error


@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('loss', [ss_lr_loss, hs_lr_loss])
@pytest.mark.parametrize(
    'options',
    [{}, dict(reduction='sum'), dict(avg_factor=3), dict(avg_factor=torch.tensor(3.0))],
    ids=['mean', 'sum', 'avg_factor', 'avg_factor_tensor'],
)
def test_incoming_gradient_that_was_and_was_not_expected(options, loss, dtype, device, calls):
    x, label = make_logits(7, 300).to(dtype), make_label('index', 7, 300)
    weight = torch.linspace(0.5, 2, 7)
    eps = 2e-6 if dtype == torch.float32 else 2 * torch.finfo(dtype).eps

    def run(x, label, factor, weight):
        x = x.detach().clone().requires_grad_()
        value = factor * loss(x, label, weight=weight, **options)
        value.backward(retain_graph=True)
        first = x.grad.clone()
        value.backward()
        return first, x.grad - first

    for factor, each in ((1, None), (-3.0, None), (1, weight)):
        expected = run(x.double(), label, factor, each)
        actual = run(
            x.to(device), label.to(device), factor, None if each is None else each.to(device)
        )
        for a, e in zip(actual, expected):
            error = (a.double().cpu() - e).norm() / e.norm()
            assert error < 2 * eps, error
    assert any(calls)
