"""PriorBiasHook in small trainings by mmengine's Runner."""

import re
import uuid

import numpy as np
import pytest
import torch
import torch.distributed as dist
from mmengine.dataset import BaseDataset
from mmengine.hooks import Hook
from mmengine.model import BaseModel, MMDistributedDataParallel
from mmengine.runner import Runner
from mmpretrain.registry import MODELS
from torch import nn

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
        r'PriorBiasHook: bias from 4 images, 3 classes, prior between 0\.389 and 0\.711 '
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


def test_single_labels(tmp_path):
    class Categories(Attributes):
        def load_data_list(self):
            infos = super().load_data_list()
            return [
                dict(inputs=info['inputs'], gt_label=i % 2, gt_score=np.eye(3)[i % 2])
                for i, info in enumerate(infos)
            ]

    runner = train(tmp_path, dataset=Categories(serialize_data=False))
    prior = torch.tensor([(2 + 1 / 3) / 5, (2 + 1 / 3) / 5, (1 / 3) / 5])
    torch.testing.assert_close(runner.record.bias, log_odds(prior))


def test_last_of_several_layers(tmp_path):
    head = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))
    model = Model(head)
    model.forward = lambda inputs, **kwargs: dict(loss=head(inputs).mean())
    first = head[0].bias.detach().clone()
    runner = make_runner(tmp_path, model=model)
    runner.optim_wrapper['optimizer']['lr'] = 0.0
    runner.train()
    torch.testing.assert_close(runner.record.bias, log_odds(PRIOR))
    assert torch.equal(head[0].bias, first)


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
