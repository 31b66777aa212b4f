"""The hooks on two processes that train one model."""

import time

import pytest
import torch
from mmengine.dataset import BaseDataset
from mmengine.model import BaseModel, MMDistributedDataParallel
from mmengine.runner import Runner
from mmpretrain.registry import MODELS
from torch import nn

import frlr_mm  # noqa: F401 (registers the hooks, in a new process, too)
from frlr_mm.datasets.label_counts import count_labels
from frlr_mm.engine.hooks.negative_class_distraction_hook import split_loss
from tests.support.cases import make_label
from tests.support.processes import run_ranks

WORLD_SIZE = 2
NUM_IMAGES, NUM_CLASSES = 8, 6
PRIOR, MONITOR = (
    dict(type='PriorBiasHook'),
    dict(type='NegativeClassDistractionHook', interval=2),
)
LOSSES = dict(hs_lr=dict(type='HSLRLoss', ratio=0.4), ss_lr=dict(type='SSLRLoss'))


class Attributes(BaseDataset):
    """Some labels are unknown, and the positives lie unevenly on the ranks."""

    def load_data_list(self):
        labels = make_label('unknown', NUM_IMAGES, NUM_CLASSES).float()
        labels[::2, 1:] = labels[::2, 1:].clamp(max=0)
        features = torch.randn(NUM_IMAGES, 5, generator=torch.Generator().manual_seed(0))
        return [dict(inputs=x, label=t, gt_score=t) for x, t in zip(features, labels, strict=True)]


class Model(BaseModel):
    def __init__(self, loss):
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(5, NUM_CLASSES)
        self.loss = MODELS.build(loss)

    def forward(self, inputs, label, mode='loss', **kwargs):
        return dict(loss=self.loss(self.head(inputs), label, avg_factor=len(label)))


def train(folder, loss, hooks):
    """Return the bias before the first step, the weights at the end and what was logged."""
    runner = Runner(
        model=Model(loss),
        work_dir=folder,
        train_dataloader=dict(
            batch_size=2,
            dataset=Attributes(serialize_data=False),
            collate_fn=dict(type='default_collate'),
            sampler=dict(type='DefaultSampler', shuffle=False),
        ),
        train_cfg=dict(by_epoch=True, max_epochs=3),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        default_hooks=dict(checkpoint=None),
        custom_hooks=hooks,
        randomness=dict(seed=0),
        default_scope='mmpretrain',
        experiment_name=f'{time.time_ns()}',
    )
    model = runner.model
    runner.model = MMDistributedDataParallel(model)
    biases = []
    model.head.register_forward_pre_hook(lambda m, _: biases.append(m.bias.detach().clone()))
    runner.train()
    logged = {
        key.removeprefix('train/distraction/'): buffer.data[0].tolist()
        for key, buffer in runner.message_hub.log_scalars.items()
        if 'distraction' in key
    }
    return biases[0], [p.detach() for p in model.parameters()], logged


def run_rank(rank, world_size):
    return {
        (name, len(hooks)): train(str(rank), loss, hooks)
        for name, loss in LOSSES.items()
        for hooks in ([PRIOR], [PRIOR, MONITOR])
    }


@pytest.fixture(scope='module')
def results(tmp_path_factory):
    """Return the results of each rank; all trainings run in one pair of processes."""
    return run_ranks(run_rank, WORLD_SIZE, tmp_path_factory.mktemp('distributed'))


@pytest.mark.parametrize('name', LOSSES)
def test_each_rank_starts_from_the_prior_of_all_images(results, name):
    prior = torch.from_numpy(count_labels(Attributes(serialize_data=False), NUM_CLASSES).prior())
    for result in results:
        bias, _, _ = result[name, 1]
        torch.testing.assert_close(bias.double().sigmoid(), prior, rtol=1e-5, atol=0)


@pytest.mark.parametrize('name', LOSSES)
def test_training_is_the_same_with_and_without_the_monitor(results, name):
    expected = results[0][name, 1][1]
    for result in results:
        for hooks in (1, 2):
            weights = result[name, hooks][1]
            assert all(torch.equal(a, b) for a, b in zip(weights, expected, strict=True))


@pytest.mark.parametrize('name', LOSSES)
def test_each_rank_watches_its_part_of_the_joined_batch(results, name):
    """Positives weigh as they do in training: all ranks' together are the normaliser."""
    logged = [result[name, 2][2] for result in results]
    assert all(len(values) == 4 for values in logged[0].values())  # of six iterations
    assert set(logged[0]) == set(logged[1]) and len(logged[0]) == (5 if name == 'hs_lr' else 4)
    assert logged[0]['negative_share'] != logged[1]['negative_share']

    model = Model(LOSSES[name])
    model.head.bias.data = results[0][name, 2][0]
    infos = [
        Attributes(serialize_data=False).get_data_info(i) for i in range(4)
    ]  # the first two images of each rank
    inputs, labels = (torch.stack([info[key] for info in infos]) for key in ('inputs', 'label'))
    joined = split_loss(model.loss, model.head(inputs), labels)
    for key, terms in zip(('positive_term', 'negative_term'), joined, strict=True):
        mean = sum(values[key][0] for values in logged) / WORLD_SIZE
        assert mean == pytest.approx(terms.mean().item(), rel=1e-5)
