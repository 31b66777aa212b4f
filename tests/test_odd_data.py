"""Data and surroundings that are large or odd, in small trainings by mmengine's Runner."""

import errno
import os
import re
import time
import uuid

import numpy as np
import pytest
import torch
from mmengine.runner import Runner
from mmpretrain.registry import MODELS
from PIL import Image
from torch import nn

from frlr_mm.datasets.glyphs import base as glyphs
from tests.support.glyph_cases import images, load

LOSSES = (dict(type='HSLRLoss', ratio=0.5), dict(type='SSLRLoss'))


@MODELS.register_module()
class MeanColour(nn.Module):
    """A backbone of one layer, so that a training takes no time."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 4)

    def forward(self, image):
        return (self.layer(image.mean((2, 3))),)


def write_images(root, counts):
    """Write a folder for each class, some of them empty."""
    for label, count in enumerate(counts):
        folder = root / f'class {label} ü'
        folder.mkdir(parents=True)
        for i in range(count):
            Image.new('RGB', (4, 4), (40 * i, 80 * label, 9)).save(folder / f'{i} 图.png')


def make_runner(work_dir, root, num_classes, loss=LOSSES[0], max_epochs=1, resume=False):
    dataset = dict(
        type='CustomDataset',
        data_root=str(root),
        with_label=True,
        classes=[f'class {i} ü' for i in range(num_classes)],
        pipeline=[dict(type='LoadImageFromFile'), dict(type='PackInputs')],
    )
    loader = dict(
        batch_size=4,
        dataset=dataset,
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='default_collate'),
    )
    return Runner(
        model=dict(
            type='ImageClassifier',
            backbone=dict(type='MeanColour'),
            head=dict(type='LinearClsHead', num_classes=num_classes, in_channels=4, loss=loss),
        ),
        work_dir=str(work_dir),
        train_dataloader=loader,
        val_dataloader=loader,
        train_cfg=dict(by_epoch=True, max_epochs=max_epochs),
        val_cfg=dict(),
        val_evaluator=dict(type='Accuracy', topk=(1,)),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)),
        default_hooks=dict(
            checkpoint=dict(type='CheckpointHook', interval=1),
            logger=dict(type='LoggerHook', interval=1),
        ),
        randomness=dict(seed=0),
        default_scope='mmpretrain',
        resume=resume,
        experiment_name=uuid.uuid4().hex,
    )


def logged_losses(runner):
    return [float(x) for x in runner.message_hub.get_scalar('train/loss')._log_history]


def list_files(root):
    return {path: path.stat().st_mtime_ns for path in root.rglob('*')}


@pytest.mark.parametrize('loss', LOSSES, ids=lambda loss: loss['type'])
@pytest.mark.parametrize(
    'counts',
    [(1, 0), (3, 2), (5, 0), (2, 0, 3)],
    ids=['one image', 'two classes', 'all of one class', 'a class without images'],
)
def test_odd_counts(tmp_path, counts, loss):
    """Also: folders and files of other scripts, with spaces, and nothing written beside them."""
    root = tmp_path / 'dâta sét 数据'
    write_images(root, counts)
    before = list_files(root)
    runner = make_runner(tmp_path / 'wörk dir 目录', root, len(counts), loss)
    runner.train()
    assert len(logged_losses(runner)) == -(-sum(counts) // 4)
    assert np.isfinite(logged_losses(runner)).all()
    assert all(p.isfinite().all() for p in runner.model.parameters())
    assert list_files(root) == before


@pytest.mark.parametrize('loss', LOSSES, ids=lambda loss: loss['type'])
def test_one_class_is_an_error(tmp_path, loss):
    write_images(tmp_path / 'data', (3,))
    runner = make_runner(tmp_path / 'run', tmp_path / 'data', 1, loss)
    with pytest.raises(ValueError, match='`cls_score` to have at least 2 classes .* but got 1'):
        runner.train()


@pytest.mark.parametrize('head', ['LinearClsHead', 'FusedLinearClsHead'])
@pytest.mark.parametrize('loss', LOSSES, ids=lambda loss: loss['type'])
def test_hundred_thousand_classes(head, loss):
    num_classes = 100_000
    torch.manual_seed(0)
    model = MODELS.build(dict(type=head, num_classes=num_classes, in_channels=4, loss=loss))
    features, label = torch.randn(3, 4), torch.tensor([0, 1, num_classes - 1])
    score = nn.functional.linear(features, model.fc.weight, model.fc.bias)
    with torch.no_grad():  # the sums as they are read
        x = score.double()
        positive = nn.functional.softplus(-x.gather(1, label[:, None])).mean()
        negative = nn.functional.softplus(x)
        if loss['type'] == 'HSLRLoss':
            negative = negative.scatter(1, label[:, None], 0).topk(num_classes // 2, dim=1)[0]
        else:
            negative = (x.sigmoid().pow(0.25) * negative).scatter(1, label[:, None], 0)
        expected = positive + negative.sum(1).mean()
    if head == 'FusedLinearClsHead':
        actual = model.loss_module.forward_fused(features, model.fc.weight, model.fc.bias, label)
    else:
        actual = model.loss_module(score, label, avg_factor=3)
    actual.backward()
    torch.testing.assert_close(actual.double(), expected, rtol=1e-5, atol=0)
    assert model.fc.weight.grad.isfinite().all() and model.fc.weight.grad.abs().max() > 0


def test_clock_that_jumps(tmp_path, monkeypatch):
    """Neither the clock nor the times of files decide what training goes on from."""
    root, work_dir = tmp_path / 'data', tmp_path / 'run'
    write_images(root, (3, 2))
    clock = time.time

    def jumping():
        jumping.calls += 1
        return clock() + (-1) ** jumping.calls * 1e6

    jumping.calls = 0
    monkeypatch.setattr(time, 'time', jumping)
    first = make_runner(work_dir, root, 2, max_epochs=2)
    first.train()
    weights = {key: value.clone() for key, value in first.model.state_dict().items()}
    assert jumping.calls > 10

    os.utime(work_dir / 'epoch_1.pth', (2e9, 2e9))
    os.utime(work_dir / 'epoch_2.pth', (1, 1))
    resumed = make_runner(work_dir, root, 2, max_epochs=2, resume=True)
    resumed.load_or_resume()
    assert resumed.epoch == 2
    for key, value in resumed.model.state_dict().items():
        assert torch.equal(value, weights[key])


def test_cache_that_cannot_be_written(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(NotADirectoryError, match='GlyphDataset cannot keep .* `data_root`'):
        load(tmp_path / 'file' / 'glyphs')


def test_cache_in_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    """A cache that is there is read without a write."""
    first = load(tmp_path)

    def read_only(path):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(glyphs, 'replacing', read_only)
    assert np.array_equal(images(load(tmp_path)), images(first))
    with pytest.raises(OSError, match=re.escape(f'{first.cache_file}'.replace('seed0', 'seed1'))):
        load(tmp_path, seed=1)
