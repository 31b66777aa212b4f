"""The rivals of the study against plain loops, and against mmpretrain's own."""

import math

import pytest
import torch
from mmpretrain.models.heads import ArcFaceClsHead
from mmpretrain.structures import DataSample

from frlr_mm.reporting.rivals import ArcFaceReIDHead, TwoWayLoss


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
