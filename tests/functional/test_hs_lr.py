"""HS-LR against its oracle, the authors' values and its identities."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from frlr_mm.functional import hs_lr_loss, num_selected, ss_lr_loss
from tests.support.cases import (
    DEVICES,
    LABEL_KINDS,
    assert_same,
    loss_and_grad,
    make_label,
    make_logits,
)
from tests.support.references import hs_lr_loss_naive

SIZES = st.tuples(st.integers(1, 4), st.integers(2, 9))
SEEDS = st.integers(0, 2**16)
RATIOS = st.integers(1, 100).map(lambda percent: percent / 100)


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize(
    ('ratio', 'alpha'), [(0.01, 'sum'), (0.29, 1.5), (0.5, 0.0), (1.0, 'sum')]
)
@pytest.mark.parametrize('kind', LABEL_KINDS)
def test_equals_oracle(kind, ratio, alpha, device):
    assert_same(
        hs_lr_loss,
        hs_lr_loss_naive,
        make_logits(5, 7),
        make_label(kind, 5, 7),
        device,
        alpha=alpha,
        ratio=ratio,
    )


@pytest.mark.parametrize('class_weight', [False, True])
@pytest.mark.parametrize('kind', ['index', 'soft', 'multi_label', 'unknown'])
def test_equals_oracle_with_weights(kind, class_weight):
    generator = torch.Generator().manual_seed(2)
    weights = dict(
        weight=torch.rand(5, generator=generator), pos_weight=torch.rand(7, generator=generator)
    )
    if class_weight:
        weights['class_weight'] = torch.rand(7, generator=generator)
    assert_same(
        hs_lr_loss,
        hs_lr_loss_naive,
        make_logits(5, 7),
        make_label(kind, 5, 7),
        ratio=0.4,
        **weights,
    )


@given(SIZES, SEEDS, RATIOS, st.sampled_from(LABEL_KINDS), st.sampled_from(['sum', 3]))
def test_equals_oracle_on_random_input(size, seed, ratio, kind, alpha):
    assert_same(
        hs_lr_loss,
        hs_lr_loss_naive,
        make_logits(*size, seed),
        make_label(kind, *size, seed),
        alpha=alpha,
        ratio=ratio,
    )


@pytest.mark.parametrize(
    ('num_classes', 'ratio', 'k'),
    [
        (1000, 0.29, 290),
        (1000, 0.2899, 289),
        (100, 0.29, 29),  # 100 * 0.29 = 28.999999999999996
        (100, 0.58, 58),  # 100 * 0.58 = 57.99999999999999
        (100, 0.07, 7),  # 100 * 0.07 = 7.000000000000001
        (10, 0.05, 1),
        (1, 0.5, 1),
        (1000, 1.0, 1000),
        (7, 1, 7),
    ],
)
def test_num_selected(num_classes, ratio, k):
    assert num_selected(num_classes, ratio) == k


@pytest.mark.parametrize(('num_classes', 'k'), [(1000, 290), (100, 29)])
def test_selected_share_reaches_the_loss(num_classes, k):
    # Equal logits make the sum over the selection count them: (1 + k) * log 2.
    cls_score = torch.zeros(2, num_classes, dtype=torch.float64)
    label = torch.tensor([3, 5])
    for any_label in (label, torch.eye(num_classes)[label]):
        loss = hs_lr_loss(cls_score, any_label, alpha='sum', ratio=0.29)
        assert loss.item() == pytest.approx((1 + k) * math.log(2))


def test_k_counts_the_known_classes_of_the_row():
    # Half of 4 known classes, whatever the 6 unknown ones have as logits.
    cls_score = torch.tensor([[1.0, 2, 3, 4, 9, 9, 9, 9, 9, 9]], dtype=torch.float64)
    label = torch.tensor([[0.0, 0, 0, 0, -1, -1, -1, -1, -1, -1]])
    loss, grad = loss_and_grad(hs_lr_loss, cls_score, label, alpha=1.0, ratio=0.5)
    known_loss, known_grad = loss_and_grad(
        hs_lr_loss, cls_score[:, :4], label[:, :4], alpha=1.0, ratio=0.5
    )
    torch.testing.assert_close(loss, known_loss)
    torch.testing.assert_close(grad[:, :4], known_grad)
    assert (grad[:, 4:] == 0).all()
    assert (grad != 0).sum() == 2


def test_class_weight_takes_part_in_the_selection():
    cls_score = torch.tensor([[0.0, 3.0, 2.0]], dtype=torch.float64)
    class_weight = torch.tensor([1.0, 0.1, 1.0])
    for label in (torch.tensor([0]), torch.tensor([[1, 0, 0]])):
        _, grad = loss_and_grad(
            hs_lr_loss, cls_score, label, ratio=0.34, class_weight=class_weight
        )
        assert grad[0, 1] == 0 and grad[0, 2] > 0


@given(SIZES, SEEDS)
def test_all_selected_is_a_share_of_soft_selection_without_focus(size, seed):
    """With ratio 1 the mean is over C entries, one of them the positive's 0."""
    cls_score, label = make_logits(*size, seed), make_label('index', *size, seed)
    num_classes = size[1]
    positive = hs_lr_loss(cls_score, label, alpha=0)
    hard = hs_lr_loss(cls_score, label, alpha=1, ratio=1) - positive
    soft = ss_lr_loss(cls_score, label, alpha=1, gamma=0) - positive
    torch.testing.assert_close(hard, soft * (num_classes - 1) / num_classes)


@given(SIZES, SEEDS, RATIOS, RATIOS, st.sampled_from(['index', 'soft', 'multi_label']))
def test_negative_term_does_not_rise_with_ratio(size, seed, ratio, other_ratio, kind):
    cls_score, label = make_logits(*size, seed), make_label(kind, *size, seed)
    low, high = sorted((ratio, other_ratio))
    narrow = hs_lr_loss(cls_score, label, alpha=1, ratio=low)
    wide = hs_lr_loss(cls_score, label, alpha=1, ratio=high)
    assert wide <= narrow + 1e-12
    # The sum of the selected terms does not fall.
    narrow = hs_lr_loss(cls_score, label, alpha='sum', ratio=low)
    wide = hs_lr_loss(cls_score, label, alpha='sum', ratio=high)
    assert wide >= narrow - 1e-12
