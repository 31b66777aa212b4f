"""FiniteLossHook in small trainings: what a loss that is not a number leaves as it was."""

import uuid
from types import SimpleNamespace

import pytest
import torch
from mmengine.dataset import BaseDataset
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmpretrain.structures import DataSample
from torch import nn

from frlr_mm.engine.hooks import FiniteLossHook
from frlr_mm.engine.hooks.finite_loss_hook import NonFiniteLossError
from tests.support.processes import run_ranks

BAD = 2  # the batch whose input is not a number


class Images(BaseDataset):
    """Batches of two; those of number BAD are NaN or infinite."""

    def load_data_list(self):
        generator = torch.Generator().manual_seed(0)
        inputs = torch.randn(8, 4, generator=generator)
        inputs[2 * BAD] = self.metainfo['bad']
        return [
            dict(inputs=x, data_samples=DataSample(metainfo=dict(img_path=f'{i}.jpg')))
            for i, x in enumerate(inputs)
        ]


class Model(BaseModel):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 3))

    def forward(self, inputs, data_samples=None, mode='loss', **kwargs):
        return dict(loss=self.layers(torch.stack(inputs)).square().mean())


class Record(Hook):
    """Keep weights, statistics and optimizer as they are before and after each iteration."""

    def __init__(self):
        self.before, self.after = [], []

    def snapshot(self, runner):
        tensors = {**runner.model.state_dict()}
        for i, state in runner.optim_wrapper.state_dict()['state'].items():
            tensors |= {f'{i}.{name}': torch.as_tensor(value) for name, value in state.items()}
        return {name: tensor.clone() for name, tensor in tensors.items()}

    def before_train_iter(self, runner, *args, **kwargs):
        self.before.append(self.snapshot(runner))

    def after_train_iter(self, runner, *args, **kwargs):
        self.after.append(self.snapshot(runner))


def make_runner(work_dir, record, optimizer, bad=float('nan')):
    return Runner(
        model=Model(),
        work_dir=str(work_dir),
        train_dataloader=dict(
            batch_size=2,
            dataset=Images(metainfo=dict(bad=bad), serialize_data=False),
            sampler=dict(type='DefaultSampler', shuffle=False),
            collate_fn=dict(type='pseudo_collate'),
        ),
        train_cfg=dict(by_epoch=True, max_epochs=1),
        optim_wrapper=dict(optimizer=optimizer, clip_grad=dict(max_norm=1.0)),
        default_hooks=dict(checkpoint=None),
        custom_hooks=[dict(type='FiniteLossHook'), record],
        randomness=dict(seed=0),
        default_scope='mmpretrain',
        experiment_name=uuid.uuid4().hex,
    )


OPTIMIZERS = [
    dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=0.01),
    dict(type='AdamW', lr=0.1),
]


@pytest.mark.parametrize('optimizer', OPTIMIZERS, ids=lambda each: each['type'])
@pytest.mark.parametrize('bad', [float('nan'), float('inf')])
def test_stops_before_the_parameters_change(tmp_path, optimizer, bad):
    record = Record()
    runner = make_runner(tmp_path, record, optimizer, bad)
    message = r'loss = nan at iteration 3, epoch 1, lr 0\.1; images: 4\.jpg, 5\.jpg'
    with pytest.raises(NonFiniteLossError, match=message):
        runner.train()
    for name, parameter in runner.model.named_parameters():
        assert torch.equal(parameter, record.before[BAD][name])
        assert parameter.isfinite().all()


class Losses(nn.Module):
    """Gives the losses that it is told."""

    def forward(self, loss, mode):
        return dict(loss=torch.tensor(loss), accuracy=torch.tensor(float('nan')))


def listen(model):
    hook = FiniteLossHook()
    wrapper = SimpleNamespace(get_lr=lambda: dict(lr=[0.1]))
    hook.before_train(SimpleNamespace(model=model, iter=0, epoch=0, optim_wrapper=wrapper))
    return hook


@pytest.mark.parametrize('loss', [float('inf'), -float('inf'), float('nan'), [1.0, float('inf')]])
def test_every_loss_that_is_not_finite(loss):
    model = Losses()
    hook = listen(model)
    model(1.0, mode='loss')  # and what is not a loss may be NaN
    with pytest.raises(NonFiniteLossError, match='at iteration 1'):
        model(loss, mode='loss')
    model.eval()
    model(loss, mode='loss')  # a validation goes on
    hook.after_train(None)
    model.train()(loss, mode='loss')


class ListedLosses(nn.Module):
    """Gives losses of unlike shapes, which mmengine adds up."""

    def forward(self, last, mode):
        return dict(loss=[torch.ones(()), torch.tensor([2.0, 4.0]), torch.tensor([last])])


def test_each_loss_of_a_list():
    model = ListedLosses()
    listen(model)
    model(1.0, mode='loss')
    with pytest.raises(NonFiniteLossError, match='^loss = inf at iteration 1'):
        model(float('inf'), mode='loss')


def loss_of_one_rank(rank, world_size):
    model = Losses()
    listen(model)
    model(1.0, mode='loss')
    try:
        model(float('nan') if rank == 1 else 1.0, mode='loss')
    except NonFiniteLossError as error:
        return str(error)
    return None


def test_all_ranks_stop_where_one_has_to(tmp_path):
    first, second = run_ranks(loss_of_one_rank, 2, tmp_path)
    assert first.startswith('The loss of another process is NaN or infinite')
    assert second.startswith('loss = nan')
