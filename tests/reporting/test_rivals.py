"""The rivals of the study against plain loops, and against mmpretrain's own."""

import math
import types

import pytest
import torch
from mmengine.runner import get_priority
from mmpretrain.models.heads import ArcFaceClsHead
from mmpretrain.structures import DataSample

from frlr_mm.engine.hooks import FocusAnnealingHook
from frlr_mm.models import HSLRLoss
from frlr_mm.reporting.rivals import (
    ArcFaceReIDHead,
    BatchHSLRLoss,
    LastPhaseHook,
    TwoWayLoss,
)


def two_way(score, label, temperature):
    """Return the loss by loops over rows and columns."""
    total = 0.0
    for rows, truth in ((score, label), (score.T, label.T)):
        terms = []
        for x, t in zip(rows.tolist(), truth.tolist(), strict=True):
            pairs = list(zip(x, t, strict=True))
            positive = [math.exp(-value / temperature) for value, mark in pairs if mark > 0]
            negative = [math.exp(value) for value, mark in pairs if mark == 0]
            if positive and negative:
                z = temperature * math.log(sum(positive)) + math.log(sum(negative))
                terms.append(math.log1p(math.exp(z)))
        total += sum(terms) / len(terms) if terms else 0.0
    return total


@pytest.mark.parametrize('temperature', [1.0, 4.0])
def test_two_way_loss(temperature):
    generator = torch.Generator().manual_seed(0)
    score = torch.randn(5, 7, generator=generator, dtype=torch.float64, requires_grad=True)
    label = (torch.rand(5, 7, generator=generator) < 0.3).double()
    label[1] = 0  # an image without positives
    label[:, 2] = 1  # a class without negatives
    label[3, 4:6] = -1
    loss = TwoWayLoss(temperature)(score, label, avg_factor=5)
    assert loss.item() == pytest.approx(two_way(score, label, temperature), rel=1e-12)
    assert torch.autograd.gradcheck(lambda x: TwoWayLoss(temperature)(x, label), score)
    (grad,) = torch.autograd.grad(loss, score)
    assert grad[3, 4:6].tolist() == [0, 0] and grad.isfinite().all()


def test_two_way_loss_without_any_positive_is_zero():
    score = torch.ones(2, 3, requires_grad=True)
    TwoWayLoss()(score, torch.zeros(2, 3)).backward()
    assert not score.grad.any()


def test_arcface_trains_on_normalised_features_and_returns_them():
    torch.manual_seed(0)
    head = ArcFaceReIDHead(num_classes=4, in_channels=6, margins=0.2)
    stock = ArcFaceClsHead(num_classes=4, in_channels=6, margins=0.2)
    stock.norm_product.load_state_dict(head.norm_product.state_dict())
    feats = (torch.randn(5, 6),)
    samples = [DataSample().set_gt_label(i % 4) for i in range(5)]
    normalised = (torch.nn.functional.batch_norm(feats[0], None, None, training=True),)
    loss, expected = head.loss(feats, samples)['loss'], stock.loss(normalised, samples)['loss']
    torch.testing.assert_close(loss, expected)
    assert not head.bn.bias.requires_grad
    head.eval()
    found = torch.stack([sample.feature for sample in head.predict(feats, samples)])
    torch.testing.assert_close(found, head.bn(feats[0]))
    head.train()
    with pytest.raises(ValueError, match='at least 2 images'):
        head.loss((feats[0][:1],), samples[:1])


@pytest.mark.parametrize('dense', [False, True])
def test_selection_per_batch(dense):
    generator = torch.Generator().manual_seed(0)
    score = torch.randn(4, 10, generator=generator, dtype=torch.float64, requires_grad=True)
    label = torch.tensor([1, 3, 0, 9])
    target = torch.nn.functional.one_hot(label, 10).double()
    if dense:
        target[0, 5], target[1, 2] = 1, -1
    loss = BatchHSLRLoss(ratio=0.2, pos_weight=2.0)(score, target if dense else label)
    pairs = list(zip(score.flatten().tolist(), target.flatten().tolist(), strict=True))
    positive = [math.log1p(math.exp(-x)) for x, t in pairs if t > 0]
    negative = sorted((math.log1p(math.exp(x)) for x, t in pairs if t == 0), reverse=True)
    expected = 2 * sum(positive) / len(positive) + sum(negative[: 4 * 2]) / 4
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    loss.backward()
    assert (score.grad > 0).sum() == 8
    # From all negatives on it is HS-LR.
    ours, theirs = (kind(ratio=1.0)(score, label) for kind in (BatchHSLRLoss, HSLRLoss))
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-9)


def test_last_phase_sets_the_value_when_its_time_has_come():
    loss = HSLRLoss(ratio=0.1)
    values = {}
    hub = types.SimpleNamespace(update_scalar=values.__setitem__)
    head = types.SimpleNamespace(loss_module=loss)
    runner = types.SimpleNamespace(
        max_iters=100, model=types.SimpleNamespace(head=head), message_hub=hub
    )
    hook = LastPhaseHook('ratio', 1.0, begin=0.8)
    for runner.iter in range(80):
        hook.before_train_iter(runner, 0)
    assert loss.ratio == 0.1 and not values
    runner.iter = 80
    hook.before_train_iter(runner, 0)
    assert loss.ratio == 1.0 and values == {'train/ratio': 1.0}
    assert get_priority(hook.priority) > get_priority(FocusAnnealingHook.priority)
