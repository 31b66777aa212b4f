"""The analytic gradients and the work in blocks: shapes, dtypes, memory, repeatability."""

import pytest
import torch
import torch.nn.functional as F

from frlr_mm.functional import _rows, hs_lr_loss, ss_lr_loss
from tests.support.cases import HALF_DTYPES, LOSSES, loss_and_grad, make_label, make_logits
from tests.support.references import hs_lr_loss_as_published, ss_lr_loss_as_published

pytestmark = pytest.mark.parametrize('name', LOSSES)


def softplus(x):
    return torch.logaddexp(x, torch.zeros_like(x))


def by_autograd(name, x, index, alpha, ratio=0.4, gamma=0.7):
    """Return the images' losses, vectorised and differentiated by autograd."""
    num_classes = x.shape[1]
    positive = softplus(-x.gather(1, index[:, None])).squeeze(1)
    is_negative = torch.ones_like(x).scatter(1, index[:, None], 0)
    if name == 'hs_lr':
        k = max(1, int(num_classes * ratio + 1e-6))
        return positive + alpha * (is_negative * softplus(x)).topk(k).values.mean(1)
    terms = is_negative * torch.sigmoid(x) ** gamma * softplus(x)
    return positive + alpha * terms.sum(1) / (num_classes - 1)


@pytest.mark.parametrize('block_numel', [1, 1000, 1 << 17])
@pytest.mark.parametrize('shape', [(41, 401), (3, 1271), (1, 2), (7, 2), (2, 300)])
def test_odd_shapes_and_blocks(name, shape, block_numel, monkeypatch):
    monkeypatch.setattr(_rows, 'BLOCK_NUMEL', block_numel)
    loss, _, kwargs = LOSSES[name]
    index = make_label('index', *shape)
    for dtype, rtol in ((torch.float64, 1e-9), (torch.float32, 1e-5)):
        x = make_logits(*shape).to(dtype)
        actual = loss_and_grad(loss, x, index, reduction='none', **kwargs)
        expected = loss_and_grad(
            lambda score, label: by_autograd(name, score, label, kwargs['alpha']),
            x.double(),
            index,
        )
        for a, e in zip(actual, expected):
            torch.testing.assert_close(a.double(), e, rtol=rtol, atol=rtol / 10)


def test_gradient_of_an_image_follows_its_own_incoming_gradient(name):
    loss, _, kwargs = LOSSES[name]
    factor = torch.linspace(-1, 2, 5, dtype=torch.float64)
    for kind in ('index', 'soft'):
        label = make_label(kind, 5, 40)
        x = make_logits(5, 40).requires_grad_()
        loss(x, label, reduction='none', **kwargs).backward(factor)
        _, alone = loss_and_grad(loss, x, label, reduction='none', **kwargs)
        torch.testing.assert_close(x.grad, factor[:, None] * alone)


@pytest.mark.parametrize('layout', ['transposed', 'strided', 'expanded'])
def test_layouts(name, layout):
    loss, _, kwargs = LOSSES[name]
    x = make_logits(6, 50).float()
    x = {
        'transposed': x.t().contiguous().t(),
        'strided': x.repeat_interleave(2, 1)[:, ::2],
        'expanded': x[:1].expand(6, 50),
    }[layout]
    index = make_label('index', 6, 50)
    expected = loss_and_grad(loss, x.contiguous(), index, **kwargs)
    leaf = x.detach().requires_grad_()
    value = loss(leaf, index, **kwargs)
    (grad,) = torch.autograd.grad(value, leaf)
    torch.testing.assert_close(value.detach(), expected[0])
    torch.testing.assert_close(grad, expected[1])


@pytest.mark.parametrize('dtype', HALF_DTYPES)
@pytest.mark.parametrize('num_classes', [10, 1000, 5000])
def test_half_precision_is_no_worse_than_the_published_formula(name, dtype, num_classes):
    """Truth in float64 of the rounded logits; the published formula in the working dtype."""
    x = make_logits(8, num_classes).to(dtype)
    index = make_label('index', 8, num_classes)
    if name == 'ss_lr':
        ours = dict(alpha=float(num_classes - 1), gamma=0.5)
        naive, truth = ss_lr_loss_as_published, dict(ours)
    else:
        ours = dict(alpha=2.0, ratio=0.1)
        naive, truth = hs_lr_loss_as_published, dict(ours)
    expected = loss_and_grad(
        lambda score, label, **kwargs: by_autograd(name, score, label, **kwargs).mean(),
        x.double(),
        index,
        **truth,
    )
    actual = loss_and_grad(LOSSES[name][0], x, index, **ours)
    rounded = loss_and_grad(naive, x, index, eps=1e-7, **ours)
    for a, r, e in zip(actual, rounded, expected):
        error = (a.double() - e).abs().nan_to_num(torch.inf).max()
        naive_error = (r.double() - e).abs().nan_to_num(torch.inf).max()
        assert error <= naive_error + 1e-6 * e.abs().max()


@pytest.fixture(params=[1, 2])
def threads(request):
    """The number of threads decides nothing."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures('threads')
def test_ties_select_exactly_k(name):
    """Equal logits, as of a classifier at zero, and bfloat16, whose numbers are few."""
    if name == 'ss_lr':
        _, grad = loss_and_grad(ss_lr_loss, torch.zeros(3, 50), torch.tensor([0, 1, 2]))
        assert ((grad > 0).sum(1) == 49).all()
        return
    for x in (
        torch.zeros(3, 50),
        torch.zeros(3, 500),
        make_logits(3, 2000).bfloat16(),
        make_logits(3, 2000),
    ):
        k = x.shape[1] // 10
        value, grad = loss_and_grad(
            hs_lr_loss, x, torch.tensor([0, 1, 2]), ratio=0.1, reduction='sum'
        )
        assert ((grad > 0).sum(1) == k).all()
        best = x.double().scatter(1, torch.tensor([[0], [1], [2]]), -torch.inf).topk(k).values
        positive = softplus(-x.double()[range(3), range(3)])
        expected = (positive + softplus(best).sum(1)).sum()
        torch.testing.assert_close(value.double(), expected, rtol=1e-6, atol=0)


@pytest.mark.usefixtures('threads')
def test_signed_order_of_the_selection(name):
    """Integers stand in for the floats: zeros, infinities, denormals and negatives keep order."""
    row = torch.tensor([[-torch.inf, -1e30, -1.0, -1e-40, -0.0, 1e-40, 0.5, 1e30, 3.0, -2.0]])
    row = torch.cat([row, row.new_full((1, 90), -torch.inf)], 1)
    index = torch.tensor([8])
    for k in range(1, 9):
        value, grad = loss_and_grad(
            LOSSES[name][0], row, index, **(dict(ratio=k / 100) if name == 'hs_lr' else {})
        )
        if name == 'hs_lr':
            expected = (
                softplus(torch.tensor([-3.0]))
                + softplus(torch.cat([row[:, :8], row[:, 9:]], 1)).topk(k).values.sum()
            )
            torch.testing.assert_close(value, expected.squeeze())
        assert value.isfinite() and grad.isfinite().all()


@pytest.mark.usefixtures('threads')
@pytest.mark.parametrize('sign', [1.0, -1.0])
def test_nan_logit_poisons_the_loss(name, sign):
    x = make_logits(2, 300).float()
    x[0, 7] = torch.copysign(torch.tensor(torch.nan), torch.tensor(sign))
    value = LOSSES[name][0](x, torch.tensor([1, 2]), reduction='none')
    assert value[0].isnan() and value[1].isfinite()


def test_repeats_to_the_bit(name):
    loss, _, kwargs = LOSSES[name]
    x, index = make_logits(9, 3000).float(), make_label('index', 9, 3000)
    first = loss_and_grad(loss, x, index, **kwargs)
    for _ in range(3):
        for a, b in zip(loss_and_grad(loss, x, index, **kwargs), first):
            assert torch.equal(a, b)


def test_backward_twice_over_a_kept_graph(name):
    loss, _, kwargs = LOSSES[name]
    x = make_logits(4, 20).requires_grad_()
    value = loss(x, make_label('index', 4, 20), **kwargs)
    (first,) = torch.autograd.grad(value, x, retain_graph=True)
    first = first.clone()
    (second,) = torch.autograd.grad(2 * value, x)
    torch.testing.assert_close(second, 2 * first)


@pytest.mark.parametrize('kind', ['index', 'soft'])
def test_second_derivative_is_refused(name, kind):
    loss, _, kwargs = LOSSES[name]
    x = make_logits(4, 20).requires_grad_()
    value = loss(x, make_label(kind, 4, 20), **kwargs)
    with pytest.raises(RuntimeError, match='Expected `create_graph` to be False'):
        torch.autograd.grad(value, x, create_graph=True)


def test_same_value_without_a_gradient(name):
    loss, _, kwargs = LOSSES[name]
    for kind in ('index', 'unknown'):
        x, label = make_logits(4, 20), make_label(kind, 4, 20)
        with_graph = loss(x.clone().requires_grad_(), label, **kwargs)
        without = loss(x, label, **kwargs)
        with torch.no_grad():
            under_no_grad = loss(x.clone().requires_grad_(), label, **kwargs)
        assert with_graph.requires_grad
        assert not without.requires_grad and not under_no_grad.requires_grad
        torch.testing.assert_close(without, with_graph.detach(), rtol=0, atol=0)
        torch.testing.assert_close(under_no_grad, without, rtol=0, atol=0)


def kept_tensors(loss, x, index, **kwargs):
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        loss(x, index, **kwargs)
    return kept


def test_what_the_graph_keeps(name):
    """SS-LR keeps one gradient; HS-LR k values and k indices a row; no gradient, nothing."""
    num_images, num_classes = 8, 1000
    x, index = make_logits(num_images, num_classes).float(), make_label('index', 8, num_classes)
    kept = sum(t.numel() for t in kept_tensors(LOSSES[name][0], x.requires_grad_(), index))
    entries = num_classes if name == 'ss_lr' else 2 * (num_classes // 10)
    assert num_images * entries <= kept <= num_images * (entries + 2) + 2
    assert not kept_tensors(LOSSES[name][0], x.detach(), index)


def test_a_million_classes(name):
    x = make_logits(2, 1_000_000).float()
    index = torch.tensor([0, 999_999])
    loss = LOSSES[name][0]
    actual = loss_and_grad(loss, x, index, alpha=2.0)
    focus = dict(ratio=0.1) if name == 'hs_lr' else dict(gamma=0.25)
    expected = loss_and_grad(
        lambda score, label: by_autograd(name, score, label, 2.0, **focus).mean(),
        x.double(),
        index,
    )
    for a, e in zip(actual, expected):
        torch.testing.assert_close(a.double(), e, rtol=1e-5, atol=1e-10)


def test_whole_model_compiles(name):
    loss, _, kwargs = LOSSES[name]
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 30))
    images, index = torch.randn(5, 6), make_label('index', 5, 30)

    def step(images, index):
        return loss(F.normalize(model(images)), index, **kwargs)

    def gradients(function):
        model.zero_grad()
        value = function(images, index)
        value.backward()
        return [value.detach(), *(p.grad.clone() for p in model.parameters())]

    for a, e in zip(
        gradients(torch.compile(step, backend='aot_eager', fullgraph=True)), gradients(step)
    ):
        torch.testing.assert_close(a, e)
