"""Both losses under torch.compile: what it captures, and the code that it generates."""

import pytest
import torch

from frlr_mm.functional import _count, _rows, _select, hs_lr_loss
from tests.support.cases import HALF_DTYPES, LOSSES, loss_and_grad, make_label, make_logits


def all_losses(index_score, index, dense_score, dense):
    """Return four losses in one graph: compiling one takes as long as compiling four of them."""
    return torch.stack(
        [
            loss(score, label, **kwargs)
            for loss, _, kwargs in LOSSES.values()
            for score, label in ((index_score, index), (dense_score, dense))
        ]
    )


def test_generated_code_equals_eager():
    scores = [make_logits(4, 6, seed).float().requires_grad_() for seed in (0, 1)]
    labels = [make_label(kind, 4, 6) for kind in ('index', 'unknown_soft')]
    arguments = (scores[0], labels[0], scores[1], labels[1])
    results = []
    for function in (all_losses, torch.compile(all_losses, fullgraph=True)):
        values = function(*arguments)
        factors = torch.tensor([1.0, 2.0, 3.0, 4.0])
        results.append([values, *torch.autograd.grad((factors * values).sum(), scores)])
    for eager, compiled in zip(*results):
        torch.testing.assert_close(compiled, eager)


@pytest.mark.parametrize(('kind', 'dynamic'), [('index', None), ('soft', True)])
@pytest.mark.parametrize(
    ('name', 'param', 'values'),
    [('hs_lr', 'ratio', (1.0, 0.9, 0.2)), ('ss_lr', 'gamma', (0.5, 0.25, 0))],
)
def test_annealed_parameters_stay_in_one_graph(name, param, values, kind, dynamic):
    """From its second value on torch.compile makes a number a symbol; with a gradient, too."""
    torch.compiler.reset()
    loss, _, kwargs = LOSSES[name]
    compiled = torch.compile(loss, fullgraph=True, dynamic=dynamic, backend='aot_eager')
    cls_score, label = make_logits(4, 30).float(), make_label(kind, 4, 30)
    for value, alpha in zip(values, (1.0, 2.5, 'sum')):
        changed = kwargs | {param: value, 'alpha': alpha}
        actual = loss_and_grad(compiled, cls_score, label, **changed)
        for a, e in zip(actual, loss_and_grad(loss, cls_score, label, **changed)):
            torch.testing.assert_close(a, e)


@pytest.mark.parametrize('name', LOSSES)
@pytest.mark.parametrize('kind', ['index', 'unknown'])
def test_compiles_into_one_graph(name, kind):
    torch.compiler.reset()
    loss, _, kwargs = LOSSES[name]
    compiled = torch.compile(loss, fullgraph=True, backend='aot_eager')
    weights = dict(weight=torch.rand(4), class_weight=torch.rand(6), avg_factor=4)
    for num_images in (4, 3, 2):  # from the second on with a dynamic shape
        weights |= dict(weight=torch.rand(num_images), avg_factor=num_images)
        cls_score = make_logits(num_images, 6).float()
        label = make_label(kind, num_images, 6)
        expected = loss_and_grad(loss, cls_score, label, **weights, **kwargs)
        actual = loss_and_grad(compiled, cls_score, label, **weights, **kwargs)
        for a, e in zip(actual, expected):
            torch.testing.assert_close(a, e)


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """Compile what is compiled for a GPU."""
    for module in (_count, _rows, _select):
        monkeypatch.setattr(module, 'counts_ties', lambda value: True)


@pytest.mark.parametrize(
    ('kind', 'dtype', 'kwargs'),
    [
        ('index', torch.bfloat16, dict(alpha=3.0)),
        ('index', torch.bfloat16, dict(class_weight=True)),
        ('unknown_soft', torch.float32, {}),
    ],
    ids=str,
)
def test_compiled_as_for_a_gpu_equals_eager(kind, dtype, kwargs, as_on_a_gpu):
    torch.compiler.reset()
    compiled = torch.compile(hs_lr_loss, fullgraph=True, backend='aot_eager')
    score, label = make_logits(4, 300).round().to(dtype), make_label(kind, 4, 300)
    if 'class_weight' in kwargs:
        kwargs = dict(class_weight=torch.linspace(0.5, 2, 300))
    for ratio in (0.1, 0.25):  # the second time k is a symbol
        expected = loss_and_grad(hs_lr_loss, score, label, ratio=ratio, **kwargs)
        actual = loss_and_grad(compiled, score, label, ratio=ratio, **kwargs)
        for a, e in zip(actual, expected):
            torch.testing.assert_close(a, e)


@pytest.mark.slow
@pytest.mark.parametrize('dtype', HALF_DTYPES)
def test_generated_code_for_a_gpu_equals_eager(dtype, as_on_a_gpu):
    torch.compiler.reset()
    score, label = make_logits(8, 3000).to(dtype), make_label('index', 8, 3000)
    compiled = torch.compile(hs_lr_loss, fullgraph=True)
    for a, e in zip(
        loss_and_grad(compiled, score, label), loss_and_grad(hs_lr_loss, score, label)
    ):
        torch.testing.assert_close(a, e)
