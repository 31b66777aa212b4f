"""PriorBiasHook where the head holds no layer and the backbone ends with the classifier."""

import pytest
import torch
from mmpretrain.registry import MODELS
from torch import nn

from frlr_mm.engine.hooks.prior_bias_hook import find_classifiers


def build(backbone, head='ClsHead'):
    return MODELS.build(dict(type='ImageClassifier', backbone=backbone, head=dict(type=head)))


@pytest.mark.parametrize(
    ('backbone', 'name'),
    [
        (dict(type='LeNet5', num_classes=10), 'backbone.classifier.2.bias'),
        (dict(type='AlexNet', num_classes=7), 'backbone.classifier.6.bias'),
        (dict(type='InceptionV3', num_classes=9), 'backbone.fc.bias'),
        (dict(type='VGG', depth=11, num_classes=5), 'backbone.classifier.6.bias'),
    ],
    ids=lambda value: value['type'] if isinstance(value, dict) else '',
)
def test_last_layer_of_the_backbone(backbone, name):
    with torch.device('meta'):
        model = build(backbone)
    ((task, layers),) = find_classifiers(model)
    assert task is None and list(layers) == [name]
    assert layers[name].bias is model.get_parameter(name)
    assert layers[name].out_features == backbone['num_classes']


def test_head_for_several_labels():
    model = build(dict(type='LeNet5', num_classes=4), 'MultiLabelClsHead')
    ((_, biases),) = find_classifiers(model)
    assert list(biases) == ['backbone.classifier.2.bias']


@pytest.mark.parametrize(
    'change',
    [
        lambda backbone: setattr(backbone, 'num_classes', 8),
        lambda backbone: setattr(backbone, 'classifier', nn.Identity()),
        lambda backbone: backbone.classifier[2].register_parameter('bias', None),
    ],
    ids=['another number', 'no layer', 'no bias'],
)
def test_backbone_without_a_classifier(change):
    model = build(dict(type='LeNet5', num_classes=10))
    change(model.backbone)
    with pytest.raises(ValueError, match=r'no linear layer \(ClsHead\), nor is there .* LeNet5$'):
        list(find_classifiers(model))
