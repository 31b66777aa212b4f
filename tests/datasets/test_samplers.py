"""Batches that a batch normalisation of vectors can train on."""

from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.dataset import DefaultSampler
from mmengine.registry import DATASETS
from mmengine.runner import Runner

from frlr_mm.datasets import NoLoneImageBatchSampler
from tests.support import reid_layouts

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'


@pytest.mark.parametrize(
    ('num_images', 'batch_size', 'sizes'),
    [
        (9, 4, [4, 4]),
        (10, 4, [4, 4, 2]),
        (8, 4, [4, 4]),
        (3, 2, [2]),
        (3, 64, [3]),  # drop_last would leave nothing
        (2, 2, [2]),
    ],
)
def test_lone_image_alone_is_dropped(num_images, batch_size, sizes):
    sampler = DefaultSampler(range(num_images), seed=0)
    batches = NoLoneImageBatchSampler(sampler, batch_size)
    found = list(batches)
    assert [len(batch) for batch in found] == sizes
    assert len(batches) == len(sizes)
    order = list(sampler)
    assert [i for batch in found for i in batch] == order[: sum(sizes)]


@pytest.mark.parametrize(
    ('num_images', 'batch_size', 'name'), [(9, 1, 'batch_size'), (1, 4, r'len\(sampler\)')]
)
def test_nothing_left_is_refused(num_images, batch_size, name):
    with pytest.raises(ValueError, match=f'`{name}` to be at least 2, .* but got 1'):
        NoLoneImageBatchSampler(range(num_images), batch_size)


def shrink(cfg, tmp_path):
    """Train an epoch of a small network in batches of which one would be a single image."""
    cfg.work_dir = str(tmp_path / 'run')
    cfg.log_level = 'ERROR'
    cfg.train_cfg = dict(by_epoch=True, max_epochs=1)
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    cfg.test_cfg = cfg.test_dataloader = cfg.test_evaluator = None
    cfg.default_hooks.checkpoint = None
    cfg.randomness = dict(seed=0)
    cfg.model.backbone.init_cfg = None
    if cfg.model.backbone.type == 'ResNet':
        cfg.model.backbone.update(base_channels=8, stem_channels=8)
        cfg.model.head.in_channels = 8 * 32
    loader = cfg.train_dataloader
    loader.num_workers = 0
    loader.dataset.data_root = str(tmp_path / 'data')
    dataset = DATASETS.build(loader.dataset)
    loader.batch_size = len(dataset) - 1
    cfg.model.head.num_classes = len(dataset.CLASSES)
    return len(dataset)


@pytest.mark.parametrize('name', ['market1501', 'dukemtmc', 'msmt17', 'cuhk03np', 'glyphs'])
def test_recipes_train_on_all_but_a_lone_image(tmp_path, name):
    if name == 'glyphs':
        cfg = Config.fromfile(CONFIGS / 'glyphs/resnet18_b128-hslr_glyphs-id.py')
        cfg.train_dataloader.dataset.update(num_classes=2)
    else:
        reid_layouts.WRITERS[name](tmp_path / 'data')
        cfg = Config.fromfile(CONFIGS / f'reid/resnet50_b64-hslr_{name}.py')
    num_images = shrink(cfg, tmp_path)
    runner = Runner.from_cfg(cfg)
    runner.train()
    assert runner.iter == 1 and num_images > 2
    assert runner.model.head.bn.num_batches_tracked == 1


def test_without_it_the_error_says_what_to_set(tmp_path):
    reid_layouts.WRITERS['market1501'](tmp_path / 'data')
    cfg = Config.fromfile(CONFIGS / 'reid/resnet50_b64-hslr_market1501.py')
    shrink(cfg, tmp_path)
    cfg.train_dataloader.batch_sampler = None
    with pytest.raises(ValueError, match='BNNeckHead .* but got 1: set `batch_sampler='):
        Runner.from_cfg(cfg).train()
