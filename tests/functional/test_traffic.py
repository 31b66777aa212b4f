"""What the losses move and hold on a device, and the table of terms of half precision."""

import pytest
import torch
import torch.nn.functional as F

from frlr_mm.functional import _rows, hs_lr_loss, ss_lr_loss
from frlr_mm.functional._lookup import all_numbers, is_looked_up, places
from frlr_mm.reporting.traffic import count_traffic
from tests.support.cases import HALF_DTYPES, loss_and_grad, make_label, make_logits


def traffic(loss, dtype, kind='index', shape=(4096, 21841), **kwargs):
    """Return passes over the logits' matrix and the peak, in its units."""
    x = torch.empty(shape, dtype=dtype, device='meta', requires_grad=True)
    if kind == 'index':
        label = torch.empty(shape[0], dtype=torch.int64, device='meta')
    else:
        label = torch.empty(shape, device='meta')
    mode = count_traffic(lambda: loss(x, label, **kwargs).backward())
    unit = x.numel() * x.element_size()
    return (mode.read + mode.written) / unit, mode.peak / unit


@pytest.mark.parametrize(
    ('loss', 'most'), [(F.cross_entropy, 8.1), (ss_lr_loss, 14.2), (hs_lr_loss, 26.4)]
)
def test_passes_over_bfloat16(loss, most):
    passes, peak = traffic(loss, torch.bfloat16)
    assert passes <= most
    assert peak <= (3.01 if loss is F.cross_entropy else 2)


@pytest.mark.parametrize(('loss', 'most'), [(ss_lr_loss, 59.2), (hs_lr_loss, 107.8)])
def test_passes_over_bfloat16_with_dense_labels(loss, most):
    assert traffic(loss, torch.bfloat16, 'dense')[0] <= most


@pytest.mark.parametrize('loss', [ss_lr_loss, hs_lr_loss])
@pytest.mark.parametrize('kind', ['index', 'dense'])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_peak_stays_below_that_of_cross_entropy(loss, kind, dtype):
    assert traffic(loss, dtype, kind)[1] < traffic(F.cross_entropy, dtype, kind)[1]


@pytest.mark.parametrize('dtype', HALF_DTYPES)
def test_table_holds_each_number_at_its_place(dtype):
    bits = torch.arange(-(1 << 15), 1 << 15, dtype=torch.int32).to(torch.int16)
    x = bits.view(dtype)[torch.randperm(1 << 16, generator=torch.Generator().manual_seed(0))]
    found = all_numbers(x)[places(x.view(256, 256)).long()]
    torch.testing.assert_close(found, x.float(), rtol=0, atol=0, equal_nan=True)


def test_table_is_for_large_half_precision_on_a_device():
    def empty(*shape, dtype=torch.bfloat16, device='meta'):
        return torch.empty(shape, dtype=dtype, device=device)

    assert is_looked_up(empty(128, 1024)) and is_looked_up(empty(128, 1024, dtype=torch.half))
    assert not is_looked_up(empty(127, 1024))
    assert not is_looked_up(empty(256, 1024, dtype=torch.float32))
    assert not is_looked_up(empty(256, 1024, device='cpu'))


@pytest.mark.parametrize('dtype', HALF_DTYPES)
@pytest.mark.parametrize('shape', [(41, 401), (3, 1271), (1, 70001)])
@pytest.mark.parametrize(
    'kwargs', [{}, dict(gamma=0.7, alpha=3.0), dict(gamma=0), dict(class_weight=True)], ids=str
)
def test_table_gives_what_arithmetic_gives(dtype, shape, kwargs, monkeypatch):
    x, index = make_logits(*shape).to(dtype), make_label('index', *shape)
    x[0, :4] = torch.tensor([torch.inf, -torch.inf, 0.0, -0.0])
    if 'class_weight' in kwargs:
        kwargs = dict(class_weight=torch.linspace(0.5, 2, shape[1]))
    expected = loss_and_grad(ss_lr_loss, x, index, reduction='none', **kwargs)
    monkeypatch.setattr(_rows, 'is_looked_up', lambda score: True)
    actual = loss_and_grad(ss_lr_loss, x, index, reduction='none', **kwargs)
    torch.testing.assert_close(actual[0], expected[0], rtol=1e-6, atol=0, equal_nan=True)
    # (A product may be rounded once more, on its way to half precision.)
    rtol = 2 * torch.finfo(dtype).eps
    atol = torch.finfo(dtype).smallest_normal
    torch.testing.assert_close(actual[1], expected[1], rtol=rtol, atol=atol, equal_nan=True)


@pytest.mark.parametrize('loss', [ss_lr_loss, hs_lr_loss])
@pytest.mark.parametrize('kind', ['soft', 'unknown_soft', 'multi_label_int8', 'one_hot_bool'])
@pytest.mark.parametrize('shape', [(41, 401), (3, 1271)])
@pytest.mark.parametrize(
    'kwargs', [{}, dict(alpha=3.0), dict(class_weight=True, pos_weight=True)], ids=str
)
def test_table_gives_what_arithmetic_gives_for_dense_labels(
    loss, kind, shape, kwargs, monkeypatch
):
    dtype = torch.bfloat16
    x, label = make_logits(*shape).to(dtype), make_label(kind, *shape)
    x[0, :2] = torch.tensor([0.0, -0.0])
    kwargs = {
        key: torch.linspace(0.5, 2, shape[1]) if value is True else value
        for key, value in kwargs.items()
    }
    expected = loss_and_grad(loss, x, label, reduction='none', **kwargs)
    monkeypatch.setattr(_rows, 'is_looked_up', lambda score: True)
    actual = loss_and_grad(loss, x, label, reduction='none', **kwargs)
    torch.testing.assert_close(actual[0], expected[0])
    rtol = 2 * torch.finfo(dtype).eps
    torch.testing.assert_close(actual[1], expected[1], rtol=rtol, atol=1e-9)


def test_unknown_labels_of_any_size_are_looked_up_as_nothing(monkeypatch):
    x, label = make_logits(3, 50).bfloat16(), make_label('unknown', 3, 50)
    label[2] = -torch.inf
    monkeypatch.setattr(_rows, 'is_looked_up', lambda score: True)
    for loss in (ss_lr_loss, hs_lr_loss):
        value, grad = loss_and_grad(loss, x, label, reduction='none')
        assert value[0] == 0 and value[2] == 0 and value[1] > 0
        assert (grad[label < 0] == 0).all() and (grad[1] != 0).any()


@pytest.mark.parametrize('loss', [ss_lr_loss, hs_lr_loss])
@pytest.mark.parametrize('kind', ['index', 'unknown_soft'])
@pytest.mark.parametrize('looked_up', [False, True])
def test_gradient_kept_in_bfloat16_is_rounded_once_more(loss, kind, looked_up, monkeypatch):
    x, label = make_logits(6, 3000).bfloat16(), make_label(kind, 6, 3000)
    expected = loss_and_grad(loss, x.double(), label)
    monkeypatch.setattr(_rows, 'gradient_dtype', lambda score: torch.bfloat16)
    monkeypatch.setattr(_rows, 'is_looked_up', lambda score: looked_up)
    actual = loss_and_grad(loss, x, label)
    torch.testing.assert_close(actual[0].double(), expected[0], rtol=1e-6, atol=0)
    # Two roundings of half a unit in the last place, of eight bits.
    torch.testing.assert_close(actual[1].double(), expected[1], rtol=2**-7, atol=1e-9)


def test_backward_reuses_the_matrix_that_it_kept():
    x = make_logits(5, 2000).float().requires_grad_()
    mode = count_traffic(lambda: ss_lr_loss(x, make_label('index', 5, 2000)).backward())
    name, _, written = next(op for op in mode.operations[::-1] if op[0].startswith('mul'))
    assert name == 'mul_' and written == 4 * x.numel()
