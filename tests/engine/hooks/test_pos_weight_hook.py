"""PosWeightHook: its weights by hand, and trainings that compare with weights in the config."""

import re
import uuid
from typing import ClassVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.dataset import BaseDataset
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmpretrain.registry import MODELS

from frlr_mm.engine.hooks import PosWeightHook

SCORES = torch.tensor([[1, 0, -1], [1, -1, 0], [0, 0, 1], [1, 1, -1], [1, 0, 0]]).float()
MEAN = 6 / 12  # of twelve known labels, six are positive
PRIOR = np.array([(4 + MEAN) / 6, (1 + MEAN) / 5, (1 + MEAN) / 4])
POSITIVES = np.array([4, 1, 1])
HSLR = dict(type='HSLRLoss', ratio=0.7)
BCE = dict(type='CrossEntropyLoss', use_sigmoid=True)


class Attributes(BaseDataset):
    """Random features with the labels above."""

    def load_data_list(self):
        features = torch.randn(len(SCORES), 5, generator=torch.Generator().manual_seed(0))
        return [
            dict(inputs=x, gt_score=score.numpy())
            for x, score in zip(features, SCORES, strict=True)
        ]


class Model(BaseModel):
    """A stock head on features that are there already."""

    def __init__(self, loss, **head):
        super().__init__()
        head = dict(type='MultiLabelLinearClsHead', num_classes=3, in_channels=5) | head
        self.head = MODELS.build(dict(head, loss=loss))

    def forward(self, inputs, gt_score, mode='loss', **kwargs):
        return dict(loss=self.head.loss_module(self.head((inputs,)), gt_score.clamp(min=0)))


def make_runner(work_dir, model, hooks=(), max_epochs=2, dataset=Attributes, **kwargs):
    return Runner(
        model=model,
        work_dir=str(work_dir),
        train_dataloader=dict(
            batch_size=2,
            dataset=dataset(serialize_data=False),
            collate_fn=dict(type='default_collate'),
            sampler=dict(type='DefaultSampler', shuffle=True, seed=0),
        ),
        train_cfg=dict(by_epoch=True, max_epochs=max_epochs),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1)),
        custom_hooks=list(hooks),
        default_scope='mmpretrain',
        experiment_name=uuid.uuid4().hex,
        randomness=dict(seed=0),
        **kwargs,
    )


def train(work_dir, loss, hooks=(), seed=0, **kwargs):
    torch.manual_seed(seed)
    runner = make_runner(work_dir, Model(loss), hooks, **kwargs)
    runner.train()
    return runner.model


def weights_by_hand(mean, exponent=0.25):
    rarity = [((1 - p) / p) ** exponent for p in PRIOR]
    scale = mean * sum(POSITIVES) / sum(n * r for n, r in zip(POSITIVES, rarity, strict=True))
    return [scale * r for r in rarity]


@pytest.mark.parametrize(
    ('loss', 'mean'),
    [
        (HSLR, 1.0),
        (HSLR | dict(pos_weight=2.5), 2.5),
        (dict(type='SSLRLoss', pos_weight=2.5), 2.5),
        (BCE, 1.0),
        (BCE | dict(pos_weight=[2.0, 2.0, 2.0]), 2.0),
        (dict(type='LabelSmoothFRLRLoss', label_smooth_val=0.1, loss=HSLR), 1.0),
    ],
)
def test_training_is_that_with_these_weights_in_the_config(tmp_path, loss, mean):
    weight = weights_by_hand(mean)
    hook = dict(type='PosWeightHook')
    model = train(tmp_path / 'hook', loss, [hook])
    inner = loss.get('loss', loss) | dict(pos_weight=weight)
    expected = train(tmp_path / 'config', loss | dict(loss=inner) if 'loss' in loss else inner)
    torch.testing.assert_close(model.state_dict(), expected.state_dict())
    without = train(tmp_path / 'without', loss)
    assert not torch.allclose(model.head.fc.weight, without.head.fc.weight)
    log = next((tmp_path / 'hook').glob('*/*.log')).read_text()
    line = (
        f'PosWeightHook: weights of the positives between {min(weight):.3g} and '
        f'{max(weight):.3g} (mean over all positives {mean:.3g}), from 5 images, 3 classes'
    )
    assert re.search(re.escape(line), log)


def test_weights_of_the_config_stay_in_proportion(tmp_path):
    given = np.array([1.0, 2.0, 3.0])
    loss = HSLR | dict(pos_weight=given.tolist())
    model = train(tmp_path, loss, [dict(type='PosWeightHook', exponent=0.0)])
    np.testing.assert_allclose(model.head.loss_module.pos_weight, given)
    hook = PosWeightHook(exponent=0.5)
    torch.manual_seed(0)
    runner = make_runner(tmp_path, Model(loss))
    hook.before_train(runner)
    weight = np.array(runner.model.head.loss_module.pos_weight)
    rarity = np.sqrt((1 - PRIOR) / PRIOR)
    np.testing.assert_allclose(weight / weight[0], given * rarity / rarity[0])
    assert (POSITIVES * weight).sum() == pytest.approx((POSITIVES * given).sum())
    hook.before_train(runner)  # once more
    np.testing.assert_allclose(runner.model.head.loss_module.pos_weight, weight)


@pytest.mark.parametrize('loss', [dict(type='SSLRLoss', gamma=0.0), HSLR | dict(ratio=1.0)])
def test_per_image_is_the_binary_cross_entropy(tmp_path, loss):
    """Summed over the known labels of an image, as far as all of them are selected."""
    hook = dict(type='PosWeightHook', exponent=0.0, per_image=True)
    loss = train(tmp_path, loss | dict(alpha='sum'), [hook]).head.loss_module
    assert loss.pos_weight == (6 / 5,) * 3
    score = torch.randn(5, 3, generator=torch.Generator().manual_seed(1))
    each = F.binary_cross_entropy_with_logits(score, SCORES.clamp(min=0), reduction='none')
    torch.testing.assert_close(loss(score, SCORES), (each * (SCORES >= 0)).sum() / 5)


def test_a_loss_that_was_used_before(tmp_path):
    """Its tensors of the old weights must not stay."""
    torch.manual_seed(0)
    model = Model(HSLR | dict(pos_weight=2.5))
    score, label = torch.randn(4, 3), torch.ones(4, 3)
    before = model.head.loss_module(score, label)
    make_runner(tmp_path, model, [dict(type='PosWeightHook', exponent=1.0)]).train()
    loss = MODELS.build(HSLR | dict(pos_weight=weights_by_hand(2.5, 1.0)))
    assert model.head.loss_module(score, label) == loss(score, label) != before


def test_resumes(tmp_path):
    hook = dict(type='PosWeightHook')
    expected = train(tmp_path / 'whole', HSLR, [hook], max_epochs=2)
    train(tmp_path / 'parts', HSLR, [hook], max_epochs=1)
    model = train(tmp_path / 'parts', HSLR, [hook], seed=1, max_epochs=2, resume=True)
    torch.testing.assert_close(model.state_dict(), expected.state_dict())


@pytest.mark.parametrize('order', [1, -1])
def test_a_loss_that_another_hook_puts_in(tmp_path, order):
    """As SwitchRecipeHook does; in a training run that is resumed after it as well."""

    class Switch(Hook):
        def before_train_epoch(self, runner):
            if runner.epoch == 1:
                runner.model.head.loss_module = MODELS.build(HSLR | dict(ratio=0.4))

    hooks = [Switch(), dict(type='PosWeightHook')][::order]
    expected = train(tmp_path / 'whole', HSLR, hooks)
    np.testing.assert_allclose(expected.head.loss_module.pos_weight, weights_by_hand(1.0))
    train(tmp_path / 'parts', HSLR, hooks, max_epochs=1)
    model = train(tmp_path / 'parts', HSLR, hooks, seed=1, resume=True)
    torch.testing.assert_close(model.state_dict(), expected.state_dict())


def test_tasks_have_weights_of_their_own(tmp_path):
    class Tasks(Attributes):
        def load_data_list(self):
            rows = super().load_data_list()
            return [
                dict(row, gt_score={'a': row['gt_score'], 'b': row['gt_score'][:2]})
                for row in rows
            ]

    head = dict(type='MultiLabelLinearClsHead', loss=HSLR)
    softmax = dict(type='LinearClsHead', num_classes=2, loss=dict(type='CrossEntropyLoss'))
    tasks = dict(a=dict(head, num_classes=3), b=dict(head, num_classes=2), c=softmax)
    model = Model(HSLR)
    model.head = MODELS.build(dict(type='MultiTaskHead', task_heads=tasks, in_channels=5))
    runner = make_runner(tmp_path, model, dataset=Tasks)
    PosWeightHook().before_train(runner)
    heads = model.head.task_heads
    np.testing.assert_allclose(heads['a'].loss_module.pos_weight, weights_by_hand(1.0))
    # The prior of the second task is smoothed by the mean share of its own labels, 5 of 9.
    prior = np.array([(4 + 5 / 9) / 6, (1 + 5 / 9) / 5])
    weight = np.array(heads['b'].loss_module.pos_weight)
    assert weight @ [4, 1] / 5 == pytest.approx(1.0)
    ratio = ((1 - prior) / prior) ** 0.25
    assert weight[1] / weight[0] == pytest.approx(ratio[1] / ratio[0])


def refused(tmp_path, model, message):
    runner = make_runner(tmp_path, model, [dict(type='PosWeightHook')])
    with pytest.raises(ValueError, match=message):
        runner.train()


@pytest.mark.parametrize('loss', ['AsymmetricLoss', 'CrossEntropyLoss'])
def test_other_losses(tmp_path, loss):
    message = (
        'the loss of `model.head` to be HSLRLoss, SSLRLoss or CrossEntropyLoss with '
        f'use_sigmoid=True for PosWeightHook, but got {loss}'
    )
    refused(tmp_path, Model(dict(type=loss)), message)


def test_other_numbers_of_classes(tmp_path):
    refused(tmp_path, Model(HSLR, num_classes=4), r'shape \(4,\), but got \(3,\)')
    message = r'`pos_weight` of HSLRLoss to be a number or 3 numbers, .*, but got 2'
    refused(tmp_path, Model(HSLR | dict(pos_weight=[1.0, 2.0])), message)
    model = Model(HSLR)
    del model.head.num_classes  # as CSRAClsHead
    message = 'for PosWeightHook, but MultiLabelLinearClsHead and Attributes have neither'
    refused(tmp_path / 'neither', model, message)

    class Named(Attributes):
        METAINFO: ClassVar = dict(classes=('a', 'b', 'c'))

    make_runner(tmp_path / 'named', model, [dict(type='PosWeightHook')], dataset=Named).train()
    np.testing.assert_allclose(model.head.loss_module.pos_weight, weights_by_hand(1.0))


@pytest.mark.parametrize(
    ('exponent', 'error', 'message'),
    [(1.5, ValueError, r'`exponent` to be in \[0'), ('x', TypeError, '`exponent`')],
)
def test_exponent(exponent, error, message):
    with pytest.raises(error, match=message):
        PosWeightHook(exponent)
