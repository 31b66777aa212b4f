"""HSLRLoss and SSLRLoss as stock mmpretrain heads build and call them."""

import copy
import inspect
import math
import pickle

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS as ROOT_MODELS
from mmpretrain.models import CutMix, Mixup
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from frlr_mm.models import HSLRLoss, SSLRLoss
from tests.support.references import hs_lr_loss_naive, ss_lr_loss_naive

NUM_CLASSES = 6
ORACLES = {'HSLRLoss': hs_lr_loss_naive, 'SSLRLoss': ss_lr_loss_naive}
CONFIGS = {
    'HSLRLoss': dict(type='HSLRLoss', alpha=2.0, ratio=0.4),
    'SSLRLoss': dict(type='SSLRLoss', alpha=2.0, gamma=0.7),
}
SINGLE_LABEL_HEADS = {
    'LinearClsHead': dict(in_channels=8),
    'VisionTransformerClsHead': dict(in_channels=8),
    'StackedLinearClsHead': dict(in_channels=8, mid_channels=[7]),
}
MULTI_LABEL_HEADS = {
    'MultiLabelLinearClsHead': dict(in_channels=8),
    'CSRAClsHead': dict(in_channels=8, num_heads=2, lam=0.1),
}

pytestmark = pytest.mark.parametrize('name', CONFIGS)


def build_head(head, loss, **kwargs):
    arguments = (SINGLE_LABEL_HEADS | MULTI_LABEL_HEADS)[head]
    torch.manual_seed(0)
    return MODELS.build(dict(type=head, num_classes=NUM_CLASSES, loss=loss, **arguments, **kwargs))


def make_feats(head, num_images=4):
    torch.manual_seed(1)
    if head == 'VisionTransformerClsHead':
        return ([None, torch.randn(num_images, 8)],)
    if head == 'CSRAClsHead':
        return (torch.randn(num_images, 8, 2, 2),)
    return (torch.randn(num_images, 8),)


def assert_head_gives_oracle(head, feats, data_samples, label, name):
    """Compare the loss and the gradient that a stock head gets with the oracle's."""
    loss = head.loss(feats, data_samples)['loss']
    loss.backward()
    cls_score = head(feats).detach().double().requires_grad_()
    kwargs = {key: value for key, value in CONFIGS[name].items() if key != 'type'}
    expected = ORACLES[name](cls_score, label, **kwargs)
    torch.testing.assert_close(loss.detach().double(), expected.detach(), rtol=1e-5, atol=1e-6)

    parameters = list(head.parameters())
    actual_grads = [parameter.grad for parameter in parameters]
    expected.backward()
    expected_grads = torch.autograd.grad(
        head(feats), parameters, grad_outputs=cls_score.grad.float()
    )
    torch.testing.assert_close(actual_grads, list(expected_grads), rtol=1e-4, atol=1e-6)
    assert any(grad.abs().max() > 1e-4 for grad in actual_grads)


def test_registered_at_the_root(name):
    assert ROOT_MODELS.get(name) is {'HSLRLoss': HSLRLoss, 'SSLRLoss': SSLRLoss}[name]
    assert MODELS.get(name) is ROOT_MODELS.get(name)


@pytest.mark.parametrize('head', SINGLE_LABEL_HEADS)
def test_single_label_head(name, head):
    index = torch.tensor([0, 5, 2, 2])
    data_samples = [DataSample().set_gt_label(i) for i in index]
    assert_head_gives_oracle(
        build_head(head, CONFIGS[name]), make_feats(head), data_samples, index, name
    )


@pytest.mark.parametrize('augment', [Mixup, CutMix])
@pytest.mark.parametrize('head', SINGLE_LABEL_HEADS)
def test_scores_of_batch_augments(name, head, augment):
    one_hot = torch.eye(NUM_CLASSES)[[0, 5, 2, 2]]
    torch.manual_seed(3)
    np.random.seed(3)
    _, scores = augment(alpha=0.8)(torch.zeros(4, 3, 8, 8), one_hot)
    assert 0 < scores.sub(one_hot).abs().max() < 1
    data_samples = [DataSample().set_gt_score(score) for score in scores]
    assert_head_gives_oracle(
        build_head(head, CONFIGS[name]), make_feats(head), data_samples, scores, name
    )


@pytest.mark.parametrize('head', MULTI_LABEL_HEADS)
def test_multi_label_head(name, head):
    labels = [[0, 3], [], [5], [1, 2, 4]]
    data_samples = [
        DataSample().set_gt_label(torch.tensor(label, dtype=torch.int64)) for label in labels
    ]
    target = torch.zeros(4, NUM_CLASSES)
    for row, label in zip(target, labels):
        row[label] = 1
    assert_head_gives_oracle(
        build_head(head, CONFIGS[name]), make_feats(head), data_samples, target, name
    )


@pytest.mark.parametrize('head', MULTI_LABEL_HEADS)
def test_multi_label_head_with_unknown_entries(name, head):
    target = torch.tensor([[1.0, 0, -1, -1, 0, 1], [-1] * 6, [0] * 6, [0, 1, 0, 1, -1, 0]])
    data_samples = [DataSample().set_gt_score(score) for score in target]
    assert_head_gives_oracle(
        build_head(head, CONFIGS[name]), make_feats(head), data_samples, target, name
    )


def test_prior_bias_gives_the_prior_loss(name):
    """The stock way to start at p = 1 / C: the loss is that of the constant prediction."""
    init_cfg = dict(type='Normal', layer='Linear', std=0.0, bias_prob=1 / NUM_CLASSES)
    head = build_head('LinearClsHead', CONFIGS[name] | dict(alpha='sum'), init_cfg=init_cfg)
    head.init_weights()
    data_samples = [DataSample().set_gt_label(1)]
    loss = head.loss((torch.randn(1, 8),), data_samples)['loss'].item()
    p = 1 / NUM_CLASSES
    # floor(6 * 0.4) = 2 are selected; all 5 negatives count p to the power of gamma.
    count = 2 if name == 'HSLRLoss' else (NUM_CLASSES - 1) * p**0.7
    assert loss == pytest.approx(-math.log(p) - count * math.log(1 - p))


def make_inputs():
    torch.manual_seed(2)
    return torch.randn(4, NUM_CLASSES), torch.tensor([0, 5, 2, 2])


def test_arguments_reach_the_function(name):
    """With numbers of their own for all arguments the module equals the oracle."""
    class_weight, pos_weight = [0.5, 1, 1.5, 2, 2.5, 3], [3, 2.5, 2, 1.5, 1, 0.5]
    loss = MODELS.build(
        dict(**CONFIGS[name], loss_weight=0.25, class_weight=class_weight, pos_weight=pos_weight)
    )
    cls_score, label = make_inputs()
    weight = torch.tensor([0.0, 1.0, 2.0, 3.0])
    kwargs = {key: value for key, value in CONFIGS[name].items() if key != 'type'}
    for call in (dict(), dict(avg_factor=7), dict(reduction='none'), dict(reduction='sum')):
        expected = ORACLES[name](
            cls_score.double(),
            label,
            weight=weight,
            class_weight=torch.tensor(class_weight),
            pos_weight=torch.tensor(pos_weight),
            **call,
            **kwargs,
        )
        override = dict(
            avg_factor=call.get('avg_factor'), reduction_override=call.get('reduction')
        )
        actual = loss(cls_score, label, weight, **override)
        torch.testing.assert_close(actual.double(), 0.25 * expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('reduction', ['none', 'mean', 'sum'])
def test_reduction_override(name, reduction):
    cls_score, label = make_inputs()
    own = MODELS.build(dict(**CONFIGS[name], reduction=reduction))(cls_score, label)
    for other in ('none', 'mean', 'sum'):
        loss = MODELS.build(dict(**CONFIGS[name], reduction=other))
        torch.testing.assert_close(loss(cls_score, label, reduction_override=reduction), own)
        torch.testing.assert_close(
            loss(cls_score, label), loss(cls_score, label, reduction_override=other)
        )


def test_signature_is_that_of_stock_losses(name):
    stock = inspect.signature(MODELS.get('CrossEntropyLoss').forward).parameters
    own = inspect.signature(MODELS.get(name).forward).parameters
    assert list(own) == list(stock)
    assert [p.default for p in own.values()] == [p.default for p in stock.values()]
    cls_score, label = make_inputs()
    loss = MODELS.build(CONFIGS[name])
    torch.testing.assert_close(loss(cls_score, label, ignore_index=-100), loss(cls_score, label))


def test_class_factors_survive_meta_initialisation(name):
    """They are neither parameters nor buffers, whose values `to_empty` would lose."""
    factors = [0.5 + i for i in range(NUM_CLASSES)]
    config = dict(**CONFIGS[name], class_weight=factors, pos_weight=2.0)
    with torch.device('meta'):
        model = nn.ModuleDict(dict(loss=MODELS.build(config)))
    loss = model.to_empty(device='cpu')['loss']
    assert not loss.state_dict() and not list(loss.parameters()) and not list(loss.buffers())
    cls_score, label = make_inputs()
    expected = MODELS.build(config)(cls_score, label)
    torch.testing.assert_close(loss(cls_score, label), expected)
    assert loss(cls_score.to('meta'), label.to('meta')).device.type == 'meta'


def test_a_number_stands_for_every_class(name):
    cls_score, label = make_inputs()
    for factor in ('class_weight', 'pos_weight'):
        one, many = (
            MODELS.build(dict(**CONFIGS[name], **{factor: value}))(cls_score, label)
            for value in (3.0, [3.0] * NUM_CLASSES)
        )
        torch.testing.assert_close(one, many)


def test_class_factors_of_double_precision(name):
    cls_score, label = make_inputs()
    loss = MODELS.build(dict(**CONFIGS[name], class_weight=0.1, reduction='none'))
    loss(cls_score.float(), label)
    one = MODELS.build(dict(**CONFIGS[name], reduction='none'))(cls_score.double(), label)
    torch.testing.assert_close(loss(cls_score.double(), label), 0.1 * one, rtol=1e-14, atol=0)


def test_class_factors_outlive_a_trace(name):
    cls_score, label = make_inputs()
    loss = MODELS.build(dict(**CONFIGS[name], class_weight=2.0))
    with FakeTensorMode() as mode:
        traced = loss(mode.from_tensor(cls_score), mode.from_tensor(label))
    assert traced.shape == ()
    expected = MODELS.build(dict(**CONFIGS[name], class_weight=2.0))(cls_score, label)
    torch.testing.assert_close(loss(cls_score, label), expected)


@pytest.mark.parametrize('copied', [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies(name, copied):
    loss = MODELS.build(
        dict(**CONFIGS[name], reduction='sum', loss_weight=0.5, class_weight=[2.0] * NUM_CLASSES)
    )
    cls_score, label = make_inputs()
    twin = copied(loss)
    torch.testing.assert_close(twin(cls_score, label), loss(cls_score, label))
    setattr(twin, loss.focus_params[1], 1.0)
    assert getattr(loss, loss.focus_params[1]) != 1.0


def test_repr(name):
    focus = 'ratio=0.4' if name == 'HSLRLoss' else 'gamma=0.7'
    assert repr(MODELS.build(dict(**CONFIGS[name], loss_weight=0.5))) == (
        f"{name}(alpha=2.0, {focus}, reduction='mean', loss_weight=0.5)"
    )
    assert "alpha='sum'" in repr(MODELS.build(dict(type=name)))


@pytest.mark.parametrize(
    ('error', 'argument', 'value', 'shown'),
    [
        (ValueError, 'alpha', -1, '`alpha`.*-1'),
        (TypeError, 'alpha', 'mean', "`alpha`.*'mean'"),
        (ValueError, 'reduction', 'avg', "`reduction`.*'avg'"),
        (ValueError, 'loss_weight', -1.0, '`loss_weight`.*-1.0'),
        (ValueError, 'loss_weight', math.nan, '`loss_weight`.*nan'),
        (TypeError, 'loss_weight', '1', "`loss_weight`.*'1'"),
        (ValueError, 'class_weight', [1, -2.0], r'`class_weight\[1\]`.*-2.0'),
        (TypeError, 'pos_weight', [None], r'`pos_weight\[0\]`.*None'),
    ],
)
def test_bad_argument(name, error, argument, value, shown):
    with pytest.raises(error, match=shown):
        MODELS.build(CONFIGS[name] | {argument: value})


def test_bad_focus(name):
    param = 'ratio' if name == 'HSLRLoss' else 'gamma'
    for error, value in ((ValueError, math.nan), (ValueError, -1), (TypeError, '1')):
        with pytest.raises(error, match=f'`{param}`.*{value}'):
            MODELS.build(CONFIGS[name] | {param: value})


def test_bad_call(name):
    cls_score, label = make_inputs()
    with pytest.raises(TypeError, match='`cls_score` to be a Tensor'):
        MODELS.build(CONFIGS[name])([1, 2], label)
    loss = MODELS.build(dict(**CONFIGS[name], class_weight=[1.0] * 5))
    with pytest.raises(ValueError, match=r'`class_weight`.*\(6,\).*\(5,\)'):
        loss(cls_score, label)
    for value in ('avg', ''):
        with pytest.raises(ValueError, match=f"`reduction_override`.*'{value}'"):
            MODELS.build(CONFIGS[name])(cls_score, label, reduction_override=value)
