"""The configs of the runs on pictures: no image to tune on is one to test on."""

import numpy as np
import pytest
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, MODELS
from PIL import Image

from frlr_mm.reporting import rivals  # noqa: F401 (registers)
from frlr_mm.reporting.study import Run, tuning_settings
from frlr_mm.reporting.study_configs import (
    KANJI_TEST,
    KANJI_TRAIN,
    kanji,
    make_config,
    record_correct,
)
from frlr_mm.reporting.study_jobs import JOBS, LOSSES, losses_of
from tests.support.fashion_layout import write_fashion
from tests.support.omniglot_layout import write_omniglot
from tests.support.recipes import CONFIG_ROOT
from tests.support.tiny_imagenet_layout import write_tiny_imagenet


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp('data')
    for name in ('omniglot', 'fashion_products', 'tiny-imagenet-200'):
        (root / name).mkdir()
    write_omniglot(root / 'omniglot')
    write_fashion(root / 'fashion_products', num=100)
    write_tiny_imagenet(root / 'tiny-imagenet-200')
    for split in ('train', 'test'):
        for name in ('apple', 'bear'):
            (root / 'cifar100' / split / name).mkdir(parents=True)
            for i in range(30):
                image = Image.fromarray(np.full((32, 32, 3), i, np.uint8))
                image.save(root / 'cifar100' / split / name / f'{name}_{split}_{i}.png')
    return root


def configure(data, job, loss, split='val', **changes):
    settings = tuning_settings(job, loss)[0] | changes
    return make_config(Run(job, loss, split, 3, settings), 'glyphs', CONFIG_ROOT, data)


def build(loader):
    return DATASETS.build(dict(loader.dataset, _scope_='mmpretrain'))


def paths(dataset):
    return {dataset.get_data_info(i)['img_path'] for i in range(len(dataset))}


@pytest.mark.parametrize('job', ['omniglot', 'omniglot-id', 'fashion', 'cifar100-short'])
def test_tunes_on_no_test_image(data, monkeypatch, job):
    loss = losses_of(job)[0]
    cfg = configure(data, job, loss)
    train, val = build(cfg.train_dataloader), build(cfg.val_dataloader)
    num_classes = len(train.metainfo['classes'])
    monkeypatch.setitem(
        JOBS, job, JOBS[job]._replace(num_classes=num_classes + (job[-2:] == 'id'))
    )
    cfg = configure(data, job, loss, 'test')
    all_train, test = build(cfg.train_dataloader), build(cfg.val_dataloader)
    held_out = paths(val)
    assert held_out and not held_out & (paths(train) | paths(test))
    if job != 'fashion':  # whose validation split is one of three
        assert held_out <= paths(all_train)
    assert paths(train) <= paths(all_train) and not paths(all_train) & paths(test)
    image = train[0]['inputs']
    assert image.shape == ((3, 48, 36) if job == 'fashion' else (3, 32, 32))
    assert cfg.model.head.num_classes == len(all_train.metainfo['classes'])


def test_every_loss_of_every_kind_is_built_with_its_settings(data):
    for job in ('omniglot', 'omniglot-id', 'fashion', 'omniglot-wide'):
        for loss in losses_of(job):
            cfg = configure(data, job, loss, lr=0.123)
            assert cfg.optim_wrapper.optimizer.lr == 0.123
            assert cfg.randomness.seed == 3 and cfg.train_cfg.max_epochs == JOBS[job].epochs
            hooks = {hook.type for hook in cfg.get('custom_hooks', ())}
            starts_from_prior = loss not in ('sr', 'sr-smooth', 'arcface')
            assert ('PriorBiasHook' in hooks) == starts_from_prior
            model = MODELS.build(dict(cfg.model, _scope_='mmpretrain'))
            own = tuning_settings(job, loss)[0].items() - dict(lr=0.1, weight_decay=5e-4).items()
            for name, value in own:
                place = model.head if name == 'margins' else model.head.loss_module
                if name == 'anneal':
                    hooks = {hook.type: hook for hook in cfg.custom_hooks}
                    assert hooks['FocusAnnealingHook'].schedule == value == 'cosine'
                elif name not in ('lr', 'margins'):
                    assert getattr(place, name) == value
            assert model.backbone.base_channels == JOBS[job].width
    assert losses_of('omniglot-wide') == LOSSES['categories']


def test_tiny_imagenet_is_read_in_its_own_layout(data, monkeypatch):
    monkeypatch.setitem(JOBS, 'tiny-imagenet', JOBS['tiny-imagenet']._replace(num_classes=3))
    cfg = configure(data, 'tiny-imagenet', 'lr', 'test')
    train, val = build(cfg.train_dataloader), build(cfg.val_dataloader)
    assert (train.split, val.split) == ('train', 'val')
    assert train[0]['inputs'].shape == (3, 32, 32)


def test_data_that_is_missing_or_incomplete_is_named(data, tmp_path):
    with pytest.raises(ValueError, match='Expected --data, the folder of the pictures'):
        configure(None, 'omniglot', 'sr')
    with pytest.raises(
        ValueError, match=r'Expected \S+ to hold the folder omniglot, but it is missing'
    ):
        configure(tmp_path, 'omniglot', 'sr')
    with pytest.raises(ValueError, match='Expected 1623 classes for the job omniglot, but got 5'):
        configure(data, 'omniglot', 'sr', 'test')


def test_kanji():
    characters = kanji()
    assert len(characters) == len(set(characters)) == 6355
    assert (characters[0], characters[-1]) == ('亜', '熙')
    assert len(set(KANJI_TRAIN + KANJI_TEST)) == 16 and len(KANJI_TEST) == 4


def test_records_what_is_right_beside_the_metric(data, tmp_path):
    cfg = configure(data, 'omniglot', 'sr')
    record_correct(cfg, tmp_path / 'correct.txt')
    assert [each.type for each in cfg.val_evaluator] == ['Accuracy', 'CorrectImages']
    assert cfg.test_evaluator == cfg.val_evaluator
    assert 'frlr_mm.reporting.correct' in cfg.custom_imports.imports


def test_options(data):
    cfg = configure(data, 'omniglot', 'hslr', ratio=0.01, per_batch=True, last_phase=0.2)
    loss = dict(type='BatchHSLRLoss', alpha='sum', ratio=0.01)
    assert cfg.model.head.loss == loss
    *_, annealing, last = cfg.custom_hooks
    assert (annealing.end_value, annealing.begin, annealing.end) == (0.01, 0.0, 19)
    cfg = configure(data, 'omniglot', 'hslr', ratio=0.01, anneal_begin=0.2)
    assert cfg.custom_hooks[-1].begin == 0.2
    assert last == dict(type='LastPhaseHook', param='ratio', value=1.0, begin=0.8)
    cfg = configure(data, 'fashion', 'sslr', last_phase=0.5)
    assert cfg.custom_hooks[-1] == dict(type='LastPhaseHook', param='gamma', value=0.0, begin=0.5)
    assert cfg.default_hooks.distraction.type == 'NegativeClassDistractionHook'
    assert 'paramwise_cfg' not in configure(data, 'omniglot-id', 'lr').optim_wrapper
    cfg = configure(data, 'omniglot-id', 'lr', bias_decay=0.0)
    model = MODELS.build(dict(cfg.model, _scope_='mmpretrain'))
    groups = build_optim_wrapper(model, cfg.optim_wrapper).optimizer.param_groups
    decays = {id(group['params'][0]): group['weight_decay'] for group in groups}
    free = [name for name, each in model.named_parameters() if decays.get(id(each)) == 0]
    assert free == ['head.fc.bias'] and set(decays.values()) == {0.0, 0.0005}


def test_balance(data):
    hooks = configure(data, 'fashion', 'hslr', balance=0.5).custom_hooks
    assert hooks[-1] == dict(type='PosWeightHook', exponent=0.5)
    assert all(
        each.type != 'PosWeightHook' for each in configure(data, 'fashion', 'lr').custom_hooks
    )
