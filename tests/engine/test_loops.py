"""Runs that are resumed under another set-up: batch size, processes, number of images."""

import contextlib
import shutil
import uuid

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn

from frlr_mm.engine.safe_load import load
from frlr_mm.models import HSLRLoss
from tests.support.processes import run_ranks

EPOCHS = 6


class Images(BaseDataset):
    """As many images as asked for, each a number."""

    def load_data_list(self):
        return [dict(inputs=torch.tensor([float(i)])) for i in range(self.metainfo['num'])]


class Model(BaseModel):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 3)
        self.loss_module = HSLRLoss()

    def forward(self, inputs, mode='loss', **kwargs):
        score = self.layer(torch.stack(inputs) / 100)
        return dict(loss=self.loss_module(score, torch.zeros(len(score), dtype=torch.long)))


class Record(Hook):
    """What each iteration trains on, and with which learning rate and ratio."""

    priority = 'LOWEST'

    def __init__(self, stop_at=None):
        self.stop_at, self.rows = stop_at, []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        model = getattr(runner.model, 'module', runner.model)
        self.rows.append(
            dict(
                epoch=runner.epoch,
                iter=runner.iter,
                images=[int(x) for x in data_batch['inputs']],
                lr=runner.optim_wrapper.get_lr()['lr'][0],
                ratio=model.loss_module.ratio,
                draw=torch.rand(()).item(),
            )
        )

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == self.stop_at:
            meta = dict(epoch=runner.epoch, iter=runner.iter + 1)
            runner.save_checkpoint(runner.work_dir, 'interrupted.pth', meta=meta, by_epoch=False)
            raise KeyboardInterrupt


def make_runner(work_dir, record, num=180, batch_size=5, by_epoch=True, **kwargs):
    schedule = [
        dict(type='LinearLR', start_factor=0.1, begin=0, end=1, convert_to_iter_based=True),
        dict(type='CosineAnnealingLR', T_max=5, begin=1, end=EPOCHS, convert_to_iter_based=True),
        dict(type='MultiStepLR', milestones=[2, 4], gamma=0.5, by_epoch=True),
    ]
    train_cfg = dict(type='SeededEpochTrainLoop', max_epochs=EPOCHS)
    annealing = dict(type='FocusAnnealingHook', param='ratio', start_value=1.0, end_value=0.1)
    checkpoint = dict(type='CheckpointHook', interval=1 if by_epoch else 60, by_epoch=by_epoch)
    if not by_epoch:
        train_cfg = dict(type='SeededIterTrainLoop', max_iters=60)
        schedule = [dict(type='CosineAnnealingLR', T_max=60, by_epoch=False)]
        annealing['by_epoch'] = False
    return Runner(
        model=Model(),
        work_dir=str(work_dir),
        train_dataloader=dict(
            batch_size=batch_size,
            dataset=Images(metainfo=dict(num=num), serialize_data=False),
            sampler=dict(type='DefaultSampler', shuffle=True)
            if by_epoch
            else dict(type='InfiniteSampler', shuffle=True),
            collate_fn=dict(type='pseudo_collate'),
        ),
        train_cfg=train_cfg,
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.4, momentum=0.9)),
        param_scheduler=schedule,
        default_hooks=dict(checkpoint=checkpoint),
        custom_hooks=[annealing, record],
        randomness=dict(seed=0),
        default_scope='mmpretrain',
        experiment_name=uuid.uuid4().hex,
        **kwargs,
    )


def train(work_dir, stop_at=None, **kwargs):
    record = Record(stop_at)
    runner = make_runner(work_dir, record, **kwargs)
    with contextlib.suppress(KeyboardInterrupt):
        runner.train()
    return record.rows


CHANGES = [
    dict(),
    dict(batch_size=10),
    dict(batch_size=60),
    dict(batch_size=2),
    dict(num=120),
    dict(num=273, batch_size=7),
]


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """Return the rows and the folder of a run that nothing ended, which is made once."""
    runs = {}

    def run(**change):
        if str(change) not in runs:
            folder = tmp_path_factory.mktemp('whole')
            runs[str(change)] = train(folder, **change), folder
        return runs[str(change)]

    return run


@pytest.fixture(scope='module')
def interrupted(tmp_path_factory):
    """Return the checkpoint of a run that ended after a quarter of its third epoch."""
    folder = tmp_path_factory.mktemp('interrupted')
    train(folder, stop_at=2 * 36 + 9)
    return folder / 'interrupted.pth'


def resume(work_dir, checkpoint, **kwargs):
    return train(work_dir, resume=True, load_from=str(checkpoint), **kwargs)


@pytest.mark.parametrize('change', CHANGES, ids=str)
def test_end_of_an_epoch_goes_on_with_a_whole_one(whole, tmp_path, change):
    """Data, schedules and ratios are those of a run that had the new set-up all along."""
    resumed = resume(tmp_path, whole()[1] / 'epoch_3.pth', **change)
    expected = [row for row in whole(**change)[0] if row['epoch'] >= 3]
    assert [row['epoch'] for row in expected] == [row['epoch'] for row in resumed]
    for mine, other in zip(resumed, expected, strict=True):
        assert mine['images'] == other['images'] and mine['iter'] == other['iter']
        assert mine['lr'] == pytest.approx(other['lr'], rel=1e-9)
        assert mine['ratio'] == pytest.approx(other['ratio'], rel=1e-9)


@pytest.mark.parametrize('change', CHANGES, ids=str)
def test_middle_of_an_epoch_goes_on_by_the_share_of_images(
    whole, interrupted, tmp_path, change, capfd
):
    capfd.readouterr()
    resumed = resume(tmp_path, interrupted, **change)
    output = ''.join(capfd.readouterr())
    assert ('goes on in epoch 3, after 25% of its images' in output) == bool(change)
    expected = [row for row in whole(**change)[0] if row['epoch'] >= 2]
    num_batches = sum(row['epoch'] == 2 for row in expected)
    expected = expected[round(num_batches / 4) :]
    for mine, other in zip(resumed, expected, strict=True):
        assert mine['images'] == other['images'] and mine['iter'] == other['iter']
        assert mine['lr'] == pytest.approx(other['lr'], rel=1e-9)
        assert mine['draw'] == other['draw']  # each iteration draws random numbers of its own


def test_checkpoint_of_stock_mmengine(whole, tmp_path):
    """It does not say how long its epochs were; where one ends, it can be told."""
    checkpoint = load(whole()[1] / 'epoch_3.pth')
    for name in ('batches_per_epoch', 'images_per_batch'):
        del checkpoint['message_hub']['runtime_info'][name]
    path = tmp_path / 'epoch_3.pth'
    torch.save(checkpoint, path)
    resumed = resume(tmp_path, path, batch_size=10)
    assert len(resumed) == 3 * 18 and resumed[0]['iter'] == 3 * 18


def test_auto_scale_lr(whole, tmp_path):
    """The learning rate follows the new batch size, as if the run had had it all along."""
    scale = dict(auto_scale_lr=dict(base_batch_size=5, enable=True))
    checkpoint = whole(**scale)[1] / 'epoch_3.pth'
    resumed = resume(tmp_path, checkpoint, batch_size=10, **scale)
    expected = whole(batch_size=10, **scale)[0][3 * 18 :]
    assert resumed[0]['lr'] == pytest.approx(expected[0]['lr'], rel=1e-9)
    assert expected[0]['lr'] > 0.1


@pytest.mark.parametrize('batch_size', [2, 5, 10])
def test_iterations_go_on_after_as_many_images(whole, tmp_path, batch_size):
    train(tmp_path, stop_at=20, by_epoch=False)
    size = dict(batch_size=batch_size, by_epoch=False)
    resumed = resume(tmp_path, tmp_path / 'interrupted.pth', **size)
    expected, _ = whole(**size)
    assert [row['iter'] for row in resumed] == list(range(20, 60))
    # The sampler's order does not depend on the batch size.
    assert resumed[0]['images'] == expected[round(20 * 5 / batch_size)]['images']
    for mine, other in zip(resumed, expected[20:], strict=True):
        assert mine['lr'] == pytest.approx(other['lr']) and mine['ratio'] == other['ratio']


@pytest.mark.parametrize('batch_size', [2, 10])
def test_iterations_resumed_again_go_on_after_as_many_images(tmp_path, batch_size):
    size = dict(batch_size=batch_size, by_epoch=False)
    train(tmp_path / 'a', stop_at=20, by_epoch=False)
    straight = resume(tmp_path / 'b', tmp_path / 'a/interrupted.pth', **size)
    resume(tmp_path / 'c', tmp_path / 'a/interrupted.pth', stop_at=30, **size)
    checkpoint = tmp_path / 'c/interrupted.pth'
    assert resume(tmp_path / 'd', checkpoint, **size) == straight[10:]
    # And back to the first size: 20 batches of 5 images and 10 of the other are gone.
    back = resume(tmp_path / 'e', checkpoint, by_epoch=False)
    whole = train(tmp_path / 'f', by_epoch=False)
    assert back[0]['images'] == whole[20 + 10 * batch_size // 5]['images']


def test_iterations_of_a_checkpoint_that_does_not_say_how_far_the_data_are(tmp_path):
    train(tmp_path / 'a', stop_at=20, by_epoch=False)
    checkpoint = load(tmp_path / 'a/interrupted.pth')
    checkpoint['message_hub']['runtime_info'].pop('batches_ahead', None)
    torch.save(checkpoint, tmp_path / 'old.pth')
    for size in (5, 10):
        kwargs = dict(by_epoch=False, batch_size=size)
        rows = [
            resume(tmp_path / f'{path.stem}{size}', path, **kwargs)
            for path in (tmp_path / 'a/interrupted.pth', tmp_path / 'old.pth')
        ]
        assert rows[0] == rows[1]


def resume_on_a_rank(rank, world_size):
    wrapper = dict(type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False)
    rows = resume('.', 'epoch_3.pth', cfg=Config(dict(model_wrapper_cfg=wrapper)))
    return [(row['epoch'], row['images']) for row in rows]


def test_more_processes(whole, tmp_path):
    shutil.copy(whole()[1] / 'epoch_3.pth', tmp_path)
    ranks = run_ranks(resume_on_a_rank, 2, tmp_path)
    for rows in ranks:
        assert [epoch for epoch, _ in rows] == [3] * 18 + [4] * 18 + [5] * 18
    for epoch in (3, 4, 5):
        seen = [i for rows in ranks for e, images in rows if e == epoch for i in images]
        assert sorted(seen) == list(range(180))
