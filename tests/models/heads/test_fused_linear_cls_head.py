"""FusedLinearClsHead beside the stock head."""

import pytest
import torch
from mmengine.registry import MODELS
from mmpretrain.models import LinearClsHead
from mmpretrain.structures import DataSample

import frlr_mm  # noqa: F401 (registers the head)

LOSSES = [
    dict(type='SSLRLoss', gamma=0.7, loss_weight=0.5),
    dict(type='HSLRLoss', ratio=0.3, class_weight=[float(i + 1) for i in range(20)]),
]


def build(kind, loss):
    return MODELS.build(dict(type=kind, num_classes=20, in_channels=6, loss=loss))


@pytest.fixture(params=LOSSES, ids=lambda loss: loss['type'])
def heads(request):
    torch.manual_seed(0)
    stock, fused = (
        build('mmpretrain.LinearClsHead', request.param),
        build('FusedLinearClsHead', request.param),
    )
    fused.load_state_dict(stock.state_dict())
    return stock, fused


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    feats = (torch.randn(3, 5, generator=generator), torch.randn(4, 6, generator=generator))
    return feats, [DataSample().set_gt_label(i) for i in (3, 0, 19, 3)]


def test_loss_and_gradients_are_those_of_the_stock_head(heads, batch):
    feats, samples = batch
    results = []
    for head in heads:
        leaf = feats[-1].clone().requires_grad_()
        losses = head.loss((feats[0], leaf), samples)
        assert list(losses) == ['loss']
        losses['loss'].backward()
        results.append([losses['loss'].detach(), leaf.grad, *(p.grad for p in head.parameters())])
    for stock, fused in zip(*results, strict=True):
        torch.testing.assert_close(fused, stock)


def test_annealed_parameter_reaches_the_loss(heads, batch):
    for head in heads:
        head.loss_module.alpha = 3.0
    stock, fused = (head.loss(*batch)['loss'] for head in heads)
    torch.testing.assert_close(fused, stock)


def test_parameters_and_predictions_are_those_of_the_stock_head(heads, batch):
    stock, fused = heads
    assert isinstance(fused, LinearClsHead)
    assert fused.state_dict().keys() == stock.state_dict().keys() == {'fc.weight', 'fc.bias'}
    for a, b in zip(fused.predict(batch[0]), stock.predict(batch[0]), strict=True):
        assert torch.equal(a.pred_score, b.pred_score)
        assert torch.equal(a.pred_label, b.pred_label)


def test_dense_target_is_refused(heads, batch):
    feats, samples = batch
    for sample in samples:
        sample.set_gt_score(torch.full((20,), 0.05))
    with pytest.raises(ValueError, match='got `gt_score`'):
        heads[1].loss(feats, samples)


def test_other_losses_are_refused():
    with pytest.raises(TypeError, match='Expected `loss` to be an HSLRLoss or an SSLRLoss'):
        build('FusedLinearClsHead', dict(type='mmpretrain.CrossEntropyLoss'))


def test_accuracy_in_training_is_refused():
    with pytest.raises(ValueError, match='Expected `cal_acc` to be False'):
        MODELS.build(
            dict(
                type='FusedLinearClsHead',
                num_classes=20,
                in_channels=6,
                cal_acc=True,
                loss=dict(type='SSLRLoss'),
            )
        )
