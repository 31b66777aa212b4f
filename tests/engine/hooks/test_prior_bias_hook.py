"""PriorBiasHook in small trainings by mmengine's Runner."""

import logging
import math
import re
import uuid
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from mmengine.dataset import BaseDataset
from mmengine.hooks import Hook
from mmengine.model import BaseModel, MMDistributedDataParallel, bias_init_with_prob
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from mmpretrain.registry import MODELS
from torch import nn

import frlr_mm  # noqa: F401 (registers the hook)

SCORES = torch.tensor([[1, 0, -1], [1, -1, 0], [0, 0, 1], [1, 1, -1]]).float()
MEAN = 5 / 9
PRIOR = torch.tensor([(3 + MEAN) / 5, (1 + MEAN) / 4, (1 + MEAN) / 3])
HEAD = dict(type='MultiLabelLinearClsHead', num_classes=3, in_channels=5)


class Attributes(BaseDataset):
    """Random features with the labels above."""

    def load_data_list(self):
        features = torch.randn(len(SCORES), 5, generator=torch.Generator().manual_seed(0))
        return [
            dict(inputs=x, gt_score=score.numpy())
            for x, score in zip(features, SCORES, strict=True)
        ]


class Model(BaseModel):
    """A head on features that are there already."""

    def __init__(self, head=HEAD, init_cfg=None):
        super().__init__(init_cfg=init_cfg)
        self.head = head if isinstance(head, nn.Module) else MODELS.build(head)

    def forward(self, inputs, mode='loss', **labels):
        return dict(loss=self.head((inputs,)).square().mean())


class SplitHead(nn.Module):
    """Its classes are split among two layers, which the hook cannot know."""

    def __init__(self):
        super().__init__()
        self.num_classes = 6
        self.parts = nn.ModuleList([nn.Linear(5, 3), nn.Linear(5, 3)])


class Record(Hook):
    """Keep the bias that the first step of training starts from."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if batch_idx == 0:
            model = getattr(runner.model, 'module', runner.model)
            self.bias = list(model.head.modules())[-1].bias.detach().clone()


def make_runner(work_dir, model=None, hooks=(), dataset=None, max_epochs=1, **kwargs):
    torch.manual_seed(0)
    record = Record()
    runner = Runner(
        model=Model() if model is None else model,
        work_dir=str(work_dir),
        train_dataloader=dict(
            batch_size=2,
            dataset=Attributes(serialize_data=False) if dataset is None else dataset,
            collate_fn=dict(type='default_collate'),
            sampler=dict(type='DefaultSampler', shuffle=True, seed=0),
        ),
        train_cfg=dict(by_epoch=True, max_epochs=max_epochs),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1)),
        custom_hooks=[dict(type='PriorBiasHook'), record, *hooks],
        default_scope='mmpretrain',
        experiment_name=uuid.uuid4().hex,
        **kwargs,
    )
    runner.record = record
    return runner


def train(*args, **kwargs):
    runner = make_runner(*args, **kwargs)
    runner.train()
    return runner


def read_log(work_dir):
    return ''.join(path.read_text() for path in work_dir.glob('*/*.log'))


def log_odds(prior):
    return torch.log(prior / (1 - prior))


def test_starts_from_the_prior(tmp_path):
    runner = train(tmp_path)
    torch.testing.assert_close(runner.record.bias, log_odds(PRIOR))
    expected = (
        r'PriorBiasHook: head\.fc\.bias from 4 images, 3 classes, prior between 0\.389 and 0\.711 '
        r'\(mean 0\.54\)'
    )
    assert re.search(expected, read_log(tmp_path))


def test_weights_and_random_numbers_are_those_without_it(tmp_path):
    with_hook = make_runner(tmp_path / 'with')
    without = make_runner(tmp_path / 'without')
    without._hooks = [h for h in without.hooks if type(h).__name__ != 'PriorBiasHook']
    states = []
    for runner in (with_hook, without):
        torch.manual_seed(0)
        runner._init_model_weights()
        runner.load_or_resume()
        runner.call_hook('before_train')
        states.append((runner.model.head.fc.weight, torch.get_rng_state()))
    assert torch.equal(states[0][0], states[1][0])
    assert torch.equal(states[0][1], states[1][1])
    assert without.model.head.fc.bias.count_nonzero() == 0


def test_average_starts_from_the_prior(tmp_path):
    """With a learning rate of 0 the average has to stay where it started."""
    runner = make_runner(tmp_path, hooks=[dict(type='EMAHook')])
    runner.optim_wrapper['optimizer']['lr'] = 0.0
    runner.train()
    ema = next(h for h in runner.hooks if type(h).__name__ == 'EMAHook').ema_model
    torch.testing.assert_close(ema.module.head.fc.bias, log_odds(PRIOR))


def test_resumed_classifier_stays(tmp_path):
    first = train(tmp_path)
    resumed = train(tmp_path, max_epochs=2, resume=True)
    assert torch.equal(resumed.record.bias, first.model.head.fc.bias)
    assert 'head.fc.bias is from a checkpoint and stays' in read_log(tmp_path)


def test_resume_without_a_checkpoint_starts_from_the_prior(tmp_path):
    runner = train(tmp_path, resume=True)
    torch.testing.assert_close(runner.record.bias, log_odds(PRIOR))


@pytest.mark.parametrize('prefix', ['', 'module.'])
def test_loaded_classifier_stays(tmp_path, prefix):
    state = {f'{prefix}{k}': v + 7 for k, v in Model().state_dict().items()}
    torch.save(dict(state_dict=state), tmp_path / 'whole.pth')
    runner = train(tmp_path, load_from=str(tmp_path / 'whole.pth'))
    assert torch.equal(runner.record.bias, state[f'{prefix}head.fc.bias'])


@pytest.mark.parametrize(
    'state',
    [
        {'backbone.conv.weight': torch.ones(1)},
        # of other classes, not loaded
        {'head.fc.weight': torch.ones(7, 5), 'head.fc.bias': torch.ones(7)},
    ],
)
@pytest.mark.parametrize('key', ['state_dict', None])
def test_weights_without_the_classifier(tmp_path, state, key):
    torch.save({key: state} if key else state, tmp_path / 'part.pth')
    runner = train(tmp_path, load_from=str(tmp_path / 'part.pth'))
    torch.testing.assert_close(runner.record.bias, log_odds(PRIOR))


def test_wrapped_model(tmp_path):
    dist.init_process_group('gloo', init_method=f'file://{tmp_path}/store', rank=0, world_size=1)
    try:
        runner = make_runner(tmp_path)
        runner.model = MMDistributedDataParallel(runner.model)
        runner.train()
    finally:
        dist.destroy_process_group()
    torch.testing.assert_close(runner.record.bias, log_odds(PRIOR))


def test_wrapped_data_set(tmp_path):
    runner = train(
        tmp_path,
        dataset=dict(type='RepeatDataset', dataset=Attributes(serialize_data=False), times=2),
    )
    prior = torch.tensor([(6 + MEAN) / 9, (2 + MEAN) / 7, (2 + MEAN) / 5])
    torch.testing.assert_close(runner.record.bias, log_odds(prior))


class Labelled(BaseDataset):
    """Single labels."""

    def __init__(self, labels, classes=None):
        self.labels = labels
        super().__init__(metainfo=dict(classes=classes) if classes else None, serialize_data=False)

    def load_data_list(self):
        return [dict(inputs=torch.ones(5), gt_label=label) for label in self.labels]


def test_single_labels(tmp_path):
    runner = train(tmp_path, dataset=Labelled([0, 1, 0, 1]))
    prior = torch.tensor([(2 + 1 / 3) / 5, (2 + 1 / 3) / 5, (1 / 3) / 5])
    torch.testing.assert_close(runner.record.bias, log_odds(prior))


def set_prior(head, dataset=None, **hook):
    """Let the hook do its work on a model that does not train."""
    runner = SimpleNamespace(
        model=head if isinstance(head, Model) else Model(head),
        train_dataloader=SimpleNamespace(
            dataset=Attributes(serialize_data=False) if dataset is None else dataset
        ),
        logger=logging.getLogger(),
    )
    HOOKS.build(dict(type='PriorBiasHook', **hook)).before_train(runner)
    return runner.model.head


@pytest.mark.parametrize(('num_classes', 'num_images'), [(10, 27), (1000, 27)])
def test_equals_bias_prob_for_balanced_single_labels(num_classes, num_images):
    """To the last bit, so that a training run stays what it was with ``bias_prob=1 / C``."""
    labels = [i % num_classes for i in range(num_classes * num_images)]
    head = dict(type='LinearClsHead', num_classes=num_classes, in_channels=5)
    bias = set_prior(head, Labelled(labels)).fc.bias.detach()
    expected = torch.full((num_classes,), -math.log(num_classes - 1))
    torch.testing.assert_close(bias, expected, rtol=0, atol=1e-6)
    assert torch.equal(bias, torch.full_like(bias, bias_init_with_prob(1 / num_classes)))


def test_bias_prob_works_without_the_hook():
    init_cfg = dict(type='Normal', layer='Linear', std=0.01, bias_prob=1 / 3)
    head = MODELS.build(dict(HEAD, init_cfg=init_cfg))
    head.init_weights()
    torch.testing.assert_close(head.fc.bias.detach(), torch.full((3,), -math.log(2)))


def make_deployed_levit():
    head = MODELS.build(dict(type='LeViTClsHead', num_classes=3, in_channels=3))
    head.switch_to_deploy()
    return head


# Hidden layers and features have as many channels as there are classes where that is possible.
@pytest.mark.parametrize(
    ('head', 'names'),
    [
        (dict(type='LinearClsHead', in_channels=3), ['fc']),
        (dict(type='BNNeckHead', in_channels=3), ['fc']),
        (dict(type='FusedLinearClsHead', in_channels=3, loss=dict(type='HSLRLoss')), ['fc']),
        (dict(type='MultiLabelLinearClsHead', in_channels=3), ['fc']),
        (dict(type='VisionTransformerClsHead', in_channels=3), ['layers.head']),
        (dict(type='VisionTransformerClsHead', in_channels=3, hidden_dim=3), ['layers.head']),
        (dict(type='DeiTClsHead', in_channels=3), ['layers.head', 'layers.head_dist']),
        (
            dict(type='DeiTClsHead', in_channels=5, hidden_dim=3),
            ['layers.head', 'layers.head_dist'],
        ),
        (dict(type='ConformerHead', in_channels=[5, 3]), ['conv_cls_head', 'trans_cls_head']),
        (dict(type='LeViTClsHead', in_channels=3), ['head.linear', 'head_dist.linear']),
        (dict(type='LeViTClsHead', in_channels=3, distillation=False), ['head.linear']),
        (make_deployed_levit, ['head', 'head_dist']),
        (dict(type='EfficientFormerClsHead', in_channels=3), ['head', 'dist_head']),
        (dict(type='EfficientFormerClsHead', in_channels=3, distillation=False), ['head']),
        (dict(type='VigClsHead', in_channels=3, hidden_dim=3), ['fc2']),
        (dict(type='StackedLinearClsHead', in_channels=3, mid_channels=[3, 4]), ['layers.2.fc']),
        (dict(type='StackedLinearClsHead', in_channels=3, mid_channels=[4, 3]), ['layers.2.fc']),
        (lambda: nn.Sequential(nn.Linear(5, 3), nn.Tanh(), nn.Linear(3, 3)), ['2']),
        (lambda: nn.ModuleList([nn.Linear(5, 3), nn.Linear(4, 3)]), ['0', '1']),
    ],
)
def test_classifiers_of_a_head(head, names):
    torch.manual_seed(0)
    head = head() if callable(head) else MODELS.build(dict(head, num_classes=3))
    before = {name: value.clone() for name, value in head.state_dict().items()}
    after = set_prior(head).state_dict()
    biases = {f'{name}.bias' for name in names}
    assert biases <= set(after)
    for name, value in after.items():
        expected = log_odds(PRIOR) if name in biases else before[name]
        torch.testing.assert_close(value, expected)


def test_one_of_two_classifiers_from_a_checkpoint(tmp_path):
    head = dict(type='EfficientFormerClsHead', num_classes=3, in_channels=5)
    model = Model(head)
    model.forward = lambda inputs, **kwargs: dict(loss=model.head((inputs,)).mean())
    torch.save(dict(state_dict={'head.head.bias': torch.full((3,), 7.0)}), tmp_path / 'part.pth')
    runner = make_runner(tmp_path, model=model, load_from=str(tmp_path / 'part.pth'))
    runner.optim_wrapper['optimizer']['lr'] = 0.0
    runner.train()
    assert model.head.head.bias.tolist() == [7.0] * 3
    torch.testing.assert_close(model.head.dist_head.bias.detach(), log_odds(PRIOR))


def test_each_task_has_its_prior():
    labels = [dict(colour=0, shape=2), dict(colour=1), dict(colour=1, shape=[0, 2])]
    head = dict(
        type='MultiTaskHead',
        task_heads=dict(
            colour=dict(type='LinearClsHead', num_classes=2),
            shape=dict(type='MultiLabelLinearClsHead', num_classes=3),
        ),
        in_channels=5,
    )
    heads = set_prior(head, Labelled(labels)).task_heads
    colour = torch.tensor([(1 + 1 / 2) / 4, (2 + 1 / 2) / 4])
    shape = torch.tensor([(1 + 1 / 2) / 3, (1 / 2) / 3, (2 + 1 / 2) / 3])
    torch.testing.assert_close(heads['colour'].fc.bias.detach(), log_odds(colour))
    torch.testing.assert_close(heads['shape'].fc.bias.detach(), log_odds(shape))


def test_nested_tasks():
    inner = dict(type='MultiTaskHead', task_heads=dict(b=dict(HEAD)))
    head = dict(type='MultiTaskHead', task_heads=dict(a=inner))
    with pytest.raises(ValueError, match=r'`model.head.task_heads.a`.*one task.*MultiTaskHead'):
        set_prior(head)
