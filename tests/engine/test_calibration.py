import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import minimize

from frlr_mm.engine.calibration import fit, fold, likelihood_loss
from tests.models.classifiers.test_logistic_classifier import HEADS, D, build


def make_logits(num=400, num_classes=5, logistic=False, seed=0):
    """Logits that are to be halved and, of sigmoids, to be raised by 1."""
    torch.manual_seed(seed)
    true = torch.randn(num, num_classes) * 2 - int(logistic)
    if not logistic:
        return true / 0.5, torch.multinomial(true.softmax(1), 1)[:, 0]
    return (true - 1) / 0.5, torch.bernoulli(true.sigmoid())


@pytest.mark.parametrize('logistic', [True, False])
def test_finds_what_was_done_to_the_logits(logistic):
    logits, label = make_logits(20000, logistic=logistic)
    scale, shift = fit(logits, label, logistic)
    assert scale == pytest.approx(0.5, abs=0.02)
    assert shift == pytest.approx(1.0 if logistic else 0.0, abs=0.05)
    assert fit(logits * scale + shift, label, logistic) == pytest.approx((1.0, 0.0), abs=1e-4)


def naive_loss(logits, label, logistic):
    if not logistic:
        return F.cross_entropy(logits, label)
    dense = F.one_hot(label, logits.shape[1]).double() if label.ndim == 1 else label.double()
    each = F.binary_cross_entropy_with_logits(logits, dense.clamp(min=0), reduction='none')
    return (each * (dense >= 0)).sum() / len(logits)


def cases():
    logits, label = make_logits()
    yield 'softmax', logits, label, False
    yield 'single', logits, label, True
    logits, dense = make_logits(logistic=True)
    yield 'several', logits, dense, True
    dense = dense.clone()
    dense[::3, 1] = -1
    yield 'unknown', logits, dense, True


CASES = {name: case for name, *case in cases()}


@pytest.mark.parametrize('name', CASES)
def test_no_other_numbers_are_more_likely(name):
    """Against an optimizer that needs no gradient, over chunks of images as well as at once."""
    logits, label, logistic = CASES[name]
    scale, shift = fit(logits, label, logistic)
    x = logits.double()
    found = naive_loss(x * scale + shift, label, logistic).item()
    assert likelihood_loss(logits, label, logistic) == pytest.approx(
        naive_loss(x, label, logistic).item()
    )
    best = minimize(
        lambda p: naive_loss(x * p[0] + p[1], label, logistic).item(),
        (1.0, 0.0),
        method='Nelder-Mead',
        options=dict(xatol=1e-10, fatol=1e-14, maxiter=2000),
    )
    assert found <= best.fun + 1e-9
    assert scale == pytest.approx(best.x[0], abs=1e-4)


def test_chunks_make_no_difference(monkeypatch):
    logits, label, logistic = CASES['single']
    expected = fit(logits, label, logistic)
    monkeypatch.setattr('frlr_mm.engine.calibration._ROWS', 7)
    assert fit(logits, label, logistic) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize('name', HEADS)
def test_folded_weights_give_the_calibrated_logits(name):
    model = build(*HEADS[name])
    x = torch.randn(6, D)
    before, state = model(x, mode='tensor'), {k: v.clone() for k, v in model.state_dict().items()}
    changed = fold(model, 0.4, -1.5)
    after = model(x, mode='tensor')
    if isinstance(before, tuple):
        before, after = sum(before), sum(after)
    torch.testing.assert_close(after, 0.4 * before - 1.5, rtol=1e-5, atol=1e-5)
    new = model.state_dict()
    assert {key for key in state if not torch.equal(state[key], new[key])} == set(changed)
    assert all(torch.equal(new[key], value) for key, value in changed.items())


def test_nothing_to_fit():
    logits = torch.eye(3) * 4
    with pytest.raises(ValueError, match='but got none'):
        fit(logits[:0], torch.arange(0), True)
    with pytest.raises(ValueError, match='say nothing of the labels, or they separate'):
        fit(logits, torch.arange(3), False)
    with pytest.raises(ValueError, match='say nothing of the labels, or they separate'):
        fit(-logits, torch.arange(3), True)
