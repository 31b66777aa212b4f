"""SS-LR against its oracle and its identities."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from frlr_mm.functional import ss_lr_loss
from tests.support.cases import (
    DEVICES,
    LABEL_KINDS,
    assert_same,
    loss_and_grad,
    make_label,
    make_logits,
)
from tests.support.references import ss_lr_loss_naive

SIZES = st.tuples(st.integers(1, 4), st.integers(2, 9))
SEEDS = st.integers(0, 2**16)
GAMMAS = st.floats(0, 8)


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize(('gamma', 'alpha'), [(0, 'sum'), (0.5, 1.5), (1.0, 0.0), (3.0, 'sum')])
@pytest.mark.parametrize('kind', LABEL_KINDS)
def test_equals_oracle(kind, gamma, alpha, device):
    assert_same(
        ss_lr_loss,
        ss_lr_loss_naive,
        make_logits(5, 7),
        make_label(kind, 5, 7),
        device,
        alpha=alpha,
        gamma=gamma,
    )


@pytest.mark.parametrize('kind', ['index', 'soft', 'multi_label', 'unknown'])
def test_equals_oracle_with_weights(kind):
    generator = torch.Generator().manual_seed(2)
    assert_same(
        ss_lr_loss,
        ss_lr_loss_naive,
        make_logits(5, 7),
        make_label(kind, 5, 7),
        weight=torch.rand(5, generator=generator),
        class_weight=torch.rand(7, generator=generator),
        pos_weight=torch.rand(7, generator=generator),
    )


@given(SIZES, SEEDS, GAMMAS, st.sampled_from(LABEL_KINDS), st.sampled_from(['sum', 3]))
def test_equals_oracle_on_random_input(size, seed, gamma, kind, alpha):
    assert_same(
        ss_lr_loss,
        ss_lr_loss_naive,
        make_logits(*size, seed),
        make_label(kind, *size, seed),
        alpha=alpha,
        gamma=gamma,
    )


@given(SIZES, SEEDS)
def test_without_focus_is_logistic_regression(size, seed):
    """gamma = 0, alpha = C - 1: C times the mean binary cross-entropy."""
    cls_score, label = make_logits(*size, seed), make_label('index', *size, seed)
    num_classes = size[1]
    target = F.one_hot(label, num_classes).double()
    expected = num_classes * F.binary_cross_entropy_with_logits(cls_score, target)
    for alpha in (num_classes - 1, 'sum'):
        for any_label in (label, target):
            actual = ss_lr_loss(cls_score, any_label, alpha=alpha, gamma=0)
            torch.testing.assert_close(actual, expected)


@given(SIZES, SEEDS)
def test_sum_for_multi_label_is_binary_cross_entropy_of_the_negatives(size, seed):
    cls_score, target = make_logits(*size, seed), make_label('multi_label', *size, seed).double()
    positive = ss_lr_loss(cls_score, target, alpha=0)
    terms = F.binary_cross_entropy_with_logits(
        cls_score, torch.zeros_like(target), reduction='none'
    )
    expected = ((1 - target) * terms).sum() / size[0]
    actual = ss_lr_loss(cls_score, target, alpha='sum', gamma=0) - positive
    torch.testing.assert_close(actual, expected)


@given(SIZES, SEEDS)
def test_tends_to_no_focus(size, seed):
    cls_score, label = make_logits(*size, seed), make_label('index', *size, seed)
    limit = loss_and_grad(ss_lr_loss, cls_score, label, gamma=0)
    for gamma in (1e-3, 1e-6, 1e-9):
        near = loss_and_grad(ss_lr_loss, cls_score, label, gamma=gamma)
        for a, b in zip(near, limit):
            # The loss moves by at most gamma * sum_j -log(p) * -log(1 - p).
            torch.testing.assert_close(a, b, rtol=0, atol=100 * gamma)


@given(SIZES, SEEDS, GAMMAS)
def test_gradient_flows_through_the_focus(size, seed, gamma):
    """d/dx p^gamma * s(x) = p^gamma * (gamma * (1 - p) * s(x) + p), for the negatives."""
    cls_score = make_logits(*size, seed)
    label = torch.zeros(size)
    _, grad = loss_and_grad(ss_lr_loss, cls_score, label, alpha='sum', gamma=gamma)
    p = cls_score.sigmoid()
    expected = p**gamma * (gamma * (1 - p) * F.softplus(cls_score) + p) / size[0]
    torch.testing.assert_close(grad, expected)


@given(SIZES, SEEDS, GAMMAS)
def test_class_far_below_changes_the_count_alone(size, seed, gamma):
    cls_score, label = make_logits(*size, seed), make_label('index', *size, seed)
    num_images, num_classes = size
    wider = torch.cat([cls_score, cls_score.new_full((num_images, 1), -1e3)], dim=1)
    positive = ss_lr_loss(cls_score, label, alpha=0)
    before = ss_lr_loss(cls_score, label, alpha=1, gamma=gamma) - positive
    after = ss_lr_loss(wider, label, alpha=1, gamma=gamma) - positive
    torch.testing.assert_close(after * num_classes, before * (num_classes - 1))
