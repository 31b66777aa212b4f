"""Where the fused losses compute the logits once, and that nothing else changes by it."""

import pytest
import torch
import torch.nn.functional as F

from frlr_mm.functional import (
    _linear,
    _linear_once,
    fused_linear_hs_lr_loss,
    fused_linear_ss_lr_loss,
    hs_lr_loss,
    ss_lr_loss,
)
from frlr_mm.functional._select import class_keys, classes_of, values_of
from frlr_mm.reporting.machine import peak_memory
from tests.functional.test_fused_linear import in_a_row, make_inputs, results
from tests.support.cases import HALF_DTYPES

PAIRS = {
    'hs_lr': (fused_linear_hs_lr_loss, hs_lr_loss, dict(ratio=0.3)),
    'ss_lr': (fused_linear_ss_lr_loss, ss_lr_loss, dict(gamma=0.7)),
}
CAN_TELL = hasattr(torch._C._autograd, '_get_current_graph_task_keep_graph')
both = pytest.mark.parametrize('name', PAIRS)


@pytest.fixture
def products(monkeypatch):
    """Count how often chunks of logits are computed."""
    calls = []
    for module in (_linear, _linear_once):
        original = module.logits

        def counted(*args, original=original):
            calls.append(args[3])
            return original(*args)

        monkeypatch.setattr(module, 'logits', counted)
    return calls


@both
@pytest.mark.parametrize(
    ('kwargs', 'times'),
    [
        ({}, dict(ss_lr=1, hs_lr=1)),
        (dict(reduction='sum', sample_weight=torch.rand(5)), dict(ss_lr=1, hs_lr=1)),
        (dict(reduction='none'), dict(ss_lr=2, hs_lr=1)),
        (dict(class_weight=torch.rand(23)), dict(ss_lr=1, hs_lr=2)),
        (dict(sample_weight=torch.rand(5, requires_grad=True)), dict(ss_lr=2, hs_lr=1)),
        (dict(avg_factor=torch.tensor(3.0, requires_grad=True)), dict(ss_lr=2, hs_lr=1)),
    ],
)
def test_logits_are_computed_once(name, kwargs, times, products):
    fused, _, focus = PAIRS[name]
    results(fused, *make_inputs(dtype=torch.float32), **kwargs, **focus)
    assert products == [slice(0, 23)] * times[name]


@both
def test_without_gradient_nothing_is_kept(name, products):
    fused, plain, focus = PAIRS[name]
    *tensors, label = make_inputs(dtype=torch.float32)
    with torch.no_grad():
        value = fused(*tensors, label, **focus)
    detached = fused(*(tensor.detach() for tensor in tensors), label, **focus)
    assert not value.requires_grad and not detached.requires_grad
    torch.testing.assert_close(value, plain(F.linear(*tensors).detach(), label, **focus))
    torch.testing.assert_close(detached, value)
    assert len(products) == 2


@both
@pytest.mark.parametrize(
    'wanted', [(True, False, False), (False, True, False), (False, False, True)]
)
def test_only_what_is_wanted_gets_a_gradient(name, wanted):
    fused, plain, focus = PAIRS[name]
    *tensors, label = make_inputs(dtype=torch.float32)
    tensors = [tensor.detach().requires_grad_(want) for tensor, want in zip(tensors, wanted)]
    fused(*tensors, label, **focus).backward()
    grads = [tensor.grad for tensor in tensors]
    assert [grad is not None for grad in grads] == list(wanted)
    mine = wanted.index(True)
    (expected,) = torch.autograd.grad(plain(F.linear(*tensors), label, **focus), tensors[mine])
    torch.testing.assert_close(grads[mine], expected)


@both
def test_graph_can_be_kept_and_is_gone_else(name):
    fused, plain, focus = PAIRS[name]
    *tensors, label = make_inputs(dtype=torch.float32)
    expected = torch.autograd.grad(3 * plain(F.linear(*tensors), label, **focus), tensors)
    loss = fused(*tensors, label, **focus)
    for keep in (True, True, False):
        grads = torch.autograd.grad(loss, tensors, torch.tensor(3.0), retain_graph=keep)
        for grad, e in zip(grads, expected):
            torch.testing.assert_close(grad, e)
    with pytest.raises(RuntimeError, match='second time'):
        loss.backward()


@both
def test_gradients_of_steps_add_up(name):
    fused, plain, focus = PAIRS[name]
    *tensors, label = make_inputs(dtype=torch.float32)
    for factor in (1, 0.5):
        (factor * fused(*tensors, label, **focus)).backward()
    expected = torch.autograd.grad(1.5 * plain(F.linear(*tensors), label, **focus), tensors)
    for tensor, e in zip(tensors, expected):
        torch.testing.assert_close(tensor.grad, e)


@both
def test_second_derivative_is_refused(name):
    fused, _, focus = PAIRS[name]
    *tensors, label = make_inputs(dtype=torch.float32)
    with pytest.raises(RuntimeError, match='Expected `create_graph` to be False'):
        torch.autograd.grad(fused(*tensors, label, **focus), tensors, create_graph=True)


@both
def test_factors_that_are_learned_get_their_gradient(name):
    fused, plain, focus = PAIRS[name]
    *tensors, label = make_inputs(dtype=torch.float32)
    found = []
    for function in (fused, in_a_row(plain)):
        learned = [torch.rand(5), torch.tensor(3.0)]
        learned = [torch.full_like(each, 0.5).requires_grad_() for each in learned]
        loss = function(*tensors, label, sample_weight=learned[0], avg_factor=learned[1], **focus)
        found.append(torch.autograd.grad(loss, [*learned, *tensors]))
    for a, e in zip(*found):
        torch.testing.assert_close(a, e)


@pytest.mark.parametrize('dtype', HALF_DTYPES)
def test_half_precision_waits_for_the_factor_of_grad_scaler(dtype):
    """Made in advance, these gradients would be 0 in float16."""
    *tensors, label = make_inputs(dtype=dtype)
    tensors = [tensor.detach().requires_grad_() for tensor in tensors]
    loss = fused_linear_ss_lr_loss(*tensors, label, avg_factor=2**22)
    grads = torch.autograd.grad(loss, tensors, torch.tensor(2.0**20))
    truth = [tensor.detach().double().requires_grad_() for tensor in tensors]
    expected = torch.autograd.grad(ss_lr_loss(F.linear(*truth), label, avg_factor=4), truth)
    rounding = torch.finfo(dtype).eps
    for a, e in zip(grads, expected):
        torch.testing.assert_close(a.double(), e, rtol=20 * rounding, atol=5 * rounding)


@both
def test_gradient_is_handed_over_not_copied(name):
    fused, _, _ = PAIRS[name]
    *tensors, label = make_inputs(16, 64, 20_000, torch.float32)
    grads = sum(4 * tensor.numel() for tensor in tensors)
    kwargs = dict(ratio=0.01) if name == 'hs_lr' else {}
    budget = 2**23
    peak = peak_memory(
        lambda: fused(*tensors, label, chunk_budget=budget, **kwargs).backward(), 'cpu'
    )
    # (torch 2.1 does not tell whether the graph is kept, and SS-LR has to scale a copy.)
    copies = 2 if name == 'ss_lr' and not CAN_TELL else 1
    assert grads <= peak <= copies * grads + 2**22 < (copies + 0.9) * grads


@pytest.mark.parametrize(
    ('chunk_budget', 'num_chunks', 'times'),
    [(2**28, 1, 1), (48 * 2 * 3 * 6, 6, 1), (1000, 6, 4)],
    ids=['one chunk', 'chunks', 'not kept'],
)
def test_first_classes_win_ties_across_chunks(chunk_budget, num_chunks, times, products):
    features, weight, bias = torch.ones(3, 4), torch.zeros(200, 4), torch.zeros(200)
    bias[[4, 150]] = 1
    bias.requires_grad_()
    label = torch.tensor([0, 5, 199])
    value = fused_linear_hs_lr_loss(
        features, weight, bias, label, ratio=0.03, reduction='none', chunk_budget=chunk_budget
    )
    for i, first in enumerate(([1, 2, 3, 5], [0, 1, 2, 3], [0, 1, 2, 3])):
        (grad,) = torch.autograd.grad(value[i], bias, retain_graph=True)
        expected = torch.zeros(200)
        expected[[4, 150]] = torch.tensor(1.0).sigmoid()
        expected[first] = 0.5
        expected[label[i]] = -0.5
        torch.testing.assert_close(grad, expected)
    assert len(products) == num_chunks * times


@both
@pytest.mark.parametrize('value', [torch.inf, -torch.inf, torch.nan])
def test_logits_that_are_not_finite(name, value):
    fused, plain, focus = PAIRS[name]
    features, weight, bias, label = make_inputs(dtype=torch.float32)
    bias = bias.detach().clone()
    bias[(label[0] + 1) % 23] = value
    bias.requires_grad_()
    found = []
    for function in (fused, in_a_row(plain)):
        loss = function(features, weight, bias, label, reduction='none', **focus)
        finite = loss.isfinite()
        found.append([loss.detach(), torch.autograd.grad(loss.sum(), bias)[0], finite])
    for a, e in zip(*found):
        torch.testing.assert_close(a, e, equal_nan=True)


@both
def test_transposed_weights(name):
    fused, plain, focus = PAIRS[name]
    features, weight, bias, label = make_inputs(dtype=torch.float32)
    weight = weight.detach().t().contiguous().t().requires_grad_()
    found = [
        results(function, features, weight, bias, label, **focus)
        for function in (fused, in_a_row(plain))
    ]
    for a, e in zip(*found):
        torch.testing.assert_close(a, e)


def test_keys_hold_values_and_classes():
    value = torch.tensor([[0.0, -0.0, 1.5, -torch.inf, torch.inf, torch.nan, -3e-40, -torch.nan]])
    keys = class_keys(value, 5, 40)
    torch.testing.assert_close(values_of(keys), value + 0.0, rtol=0, atol=0, equal_nan=True)
    order = keys.squeeze().argsort(descending=True)
    # NaN first, then the numbers; of equal ones the first class.
    assert sorted(order[:2].tolist()) == [5, 7] and order[2:].tolist() == [4, 2, 0, 1, 6, 3]
    assert torch.equal(classes_of(keys, 40), torch.arange(5, 13)[None])
