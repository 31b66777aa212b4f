"""What PriorBiasHook refuses: other numbers of classes, heads and data without what it needs."""

import pytest
import torch
from mmengine.dataset import RepeatDataset
from mmpretrain.registry import MODELS
from torch import nn

from tests.engine.hooks.test_prior_bias_hook import (
    HEAD,
    PRIOR,
    SCORES,
    Labelled,
    Model,
    SplitHead,
    log_odds,
    make_runner,
    set_prior,
    train,
)


def test_unused_outputs_where_they_are_allowed():
    dataset = Labelled([0, 1, 0], classes=('a', 'b'))
    bias = set_prior(HEAD, dataset, allow_unused=True).fc.bias.detach()
    prior = torch.tensor([(2 + 1 / 3) / 4, (1 + 1 / 3) / 4, (1 / 3) / 4])
    torch.testing.assert_close(bias, log_odds(prior))


@pytest.mark.parametrize('allow_unused', [True, False])
@pytest.mark.parametrize(
    ('dataset', 'message'),
    [
        (
            Labelled([0, 1], classes=('a', 'b', 'c', 'd')),
            '`model.head.num_classes` to be 4, the number of classes of Labelled, but got 3$',
        ),
        (Labelled([0, 3]), r'`gt_label` of image 1 of Labelled .*\[0, 3\).*, but got 3$'),
        (
            RepeatDataset(Labelled([0, 1], classes=tuple('abcd')), 2),
            'to be 4, the number of classes of RepeatDataset, but got 3$',
        ),
    ],
)
def test_other_classes_than_those_of_the_data(dataset, message, allow_unused):
    with pytest.raises(ValueError, match=message):
        set_prior(HEAD, dataset, allow_unused=allow_unused)


def test_fewer_classes_than_outputs():
    message = r'to be 2, .* of Labelled, or PriorBiasHook\(allow_unused=True\), but got 3$'
    with pytest.raises(ValueError, match=message):
        set_prior(HEAD, Labelled([0, 1], classes=('a', 'b')))


@pytest.mark.parametrize('num_classes', [2, 3, None])
def test_dense_targets_of_the_preprocessor(num_classes):
    model = Model()
    model.data_preprocessor = MODELS.build(
        dict(
            type='ClsDataPreprocessor',
            num_classes=num_classes,
            batch_augments=dict(augments=dict(type='Mixup', alpha=0.2)),
        )
    )
    if num_classes == 2:
        with pytest.raises(ValueError, match='`data_preprocessor.num_classes` to be 3.*got 2$'):
            set_prior(model)
        # Without them it makes no use of the number.
        model.data_preprocessor = MODELS.build(dict(type='ClsDataPreprocessor', num_classes=2))
    torch.testing.assert_close(set_prior(model).fc.bias.detach(), log_odds(PRIOR))


@pytest.mark.parametrize(
    ('head', 'message'),
    [
        (
            dict(type='CSRAClsHead', num_classes=3, in_channels=5, num_heads=1, lam=0.1),
            r'no linear layer \(CSRAClsHead\)',
        ),
        (nn.Linear(5, 3, bias=False), r'its linear layer has no bias \(Linear\)'),
        (dict(HEAD, num_classes=4), r'`gt_score` of image 0 of Attributes.*\(4,\).*\(3,\)'),
        (dict(HEAD, init_cfg=dict(type='Pretrained', checkpoint='x')), '`model.head.init_cfg`'),
        (
            dict(
                type='MultiTaskHead',
                task_heads=dict(a=dict(HEAD, init_cfg=dict(type='Pretrained', checkpoint='x'))),
            ),
            '`model.head.task_heads.a.init_cfg`',
        ),
        (SplitHead(), r'and 6 outputs.*last linear layer has 3 \(SplitHead\)'),
    ],
)
def test_refused_heads(tmp_path, head, message):
    runner = make_runner(tmp_path, model=Model(head))
    runner._init_model_weights = lambda: None  # there is no such checkpoint
    with pytest.raises(ValueError, match=message):
        runner.train()


def test_model_without_a_head(tmp_path):
    model = Model()
    model.classifier = model.head
    del model.head
    with pytest.raises(ValueError, match=r'the model has no head \(Model\)'):
        train(tmp_path, model=model)


def test_data_without_annotations(tmp_path):
    with pytest.raises(TypeError, match='`dataset`.*get_data_info.*list'):
        train(tmp_path, dataset=[dict(inputs=torch.zeros(5), gt_score=SCORES[0])] * 4)
