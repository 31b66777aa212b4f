"""Recipes of attributes, Tiny ImageNet and ImageNet-21k: each trains a step and evaluates.

They run on small data in the official layouts. Images are 32 x 32 in place of 224 x 224 and
ViT-B/16 has 2 of its 12 layers; ResNets are whole. Stock weights are not downloaded.
"""

import copy
import functools
import logging
import math
import re
from pathlib import Path
from types import SimpleNamespace

import cv2
import mmpretrain
import numpy as np
import pytest
import torch
import yaml
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, HOOKS, MODELS, DefaultScope
from mmengine.runner import Runner

from frlr_mm.datasets.label_counts import count_labels
from frlr_mm.functional import num_selected
from tests.support.deepfashion_layout import write_coarse, write_fine, write_images
from tests.support.tiny_imagenet_layout import write_tiny_imagenet

CONFIG_ROOT = Path(__file__).parents[2] / 'configs'
PATTERNS = ('attributes/*.py', 'tiny_imagenet/*.py', 'imagenet21k/*.py', 'glyphs/*-attr.py')
RECIPES = {path.stem: path for pattern in PATTERNS for path in sorted(CONFIG_ROOT.glob(pattern))}
ATTRIBUTE_RECIPES = [
    name
    for name, path in RECIPES.items()
    if path.parent.name == 'attributes' or name.endswith('-attr')
]
LOSSES = {
    'lr': 'CrossEntropyLoss',
    'hslr': 'HSLRLoss',
    'sslr': 'SSLRLoss',
    'focal': 'FocalLoss',
    'asl': 'AsymmetricLoss',
}
DATA_SETS = {'coarse': 'DeepFashionAttribute', 'fine': 'DeepFashionAttribute', 'voc07': 'VOC'}
IMAGE_SIZE = 32


@functools.cache
def read_config(name):
    return Config.fromfile(RECIPES[name])


def load(name):
    return copy.deepcopy(read_config(name))


def loss_of(name):
    return re.search(r'-(sr|lr|hslr|sslr|focal|asl)_', name)[1]


def data_of(name):
    return next((key for key in DATA_SETS if name.endswith(key)), None)


def write_voc(root, num_images=4):
    rng = np.random.default_rng(0)
    for folder in ('JPEGImages', 'Annotations', 'ImageSets/Main'):
        (root / folder).mkdir(parents=True)
    for i in range(num_images):
        names = (('dog', 0), ('person', 0), ('cat', 1))[: 1 + i % 3]
        objects = ''.join(
            f'<object><name>{name}</name><difficult>{difficult}</difficult></object>'
            for name, difficult in names
        )
        (root / 'Annotations' / f'{i:06d}.xml').write_text(f'<annotation>{objects}</annotation>')
        cv2.imwrite(
            str(root / 'JPEGImages' / f'{i:06d}.jpg'),
            rng.integers(0, 256, (40, 50, 3), dtype=np.uint8),
        )
    for split in ('trainval', 'test'):
        (root / 'ImageSets' / 'Main' / f'{split}.txt').write_text(
            ''.join(f'{i:06d}\n' for i in range(num_images))
        )


@pytest.fixture
def mmpretrain_scope():
    torch.manual_seed(0)
    np.random.seed(0)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        yield


@pytest.fixture(scope='module')
def roots(tmp_path_factory):
    """One small data set of each kind."""
    root = tmp_path_factory.mktemp('data')
    rng = np.random.default_rng(0)
    coarse = rng.choice((1, -1, 0), (12, 1000), p=(0.01, 0.94, 0.05))
    write_images(root / 'deepfashion', write_coarse(root / 'deepfashion', coarse))
    write_fine(root / 'deepfashion', rng.choice((1, 0), (4, 26)))
    write_voc(root / 'voc')
    write_tiny_imagenet(_made(root / 'tiny'), [f'n{i:08d}' for i in range(200)])
    write_tiny_imagenet(_made(root / 'imagenet21k'), ['n00000001', 'n00000002'])
    return {
        'DeepFashionAttribute': root / 'deepfashion',
        'VOC': root / 'voc',
        'TinyImageNet': root / 'tiny',
        'ImageNet21k': root / 'imagenet21k',
        'GlyphDataset': root / 'glyphs',
    }


def _made(path):
    path.mkdir()
    return path


def shrink(cfg, roots):
    """Make a recipe run in a second, on the data of the tests and without a download."""
    for name in ('train', 'val', 'test'):
        loader = cfg.get(f'{name}_dataloader')
        if not loader:
            continue
        loader.update(batch_size=2, num_workers=0, persistent_workers=False)
        # Serialising collects garbage, which takes longer than the rest of so small a data set.
        loader.dataset.update(
            data_root=str(roots[loader.dataset.type]), indices=4, serialize_data=False
        )
        if loader.dataset.type == 'GlyphDataset':
            loader.dataset.split = 'val'  # the smallest
        for transform in loader.dataset.pipeline:
            for key, value in transform.items():
                if value in (224, 256):
                    transform[key] = IMAGE_SIZE
                elif value == (224, 224):
                    transform[key] = (IMAGE_SIZE, IMAGE_SIZE)
    backbone = cfg.model.backbone
    backbone.init_cfg = None
    if backbone.type == 'VisionTransformer':
        assert backbone.arch == 'b'
        backbone.update(
            img_size=IMAGE_SIZE,
            arch=dict(embed_dims=768, num_layers=2, num_heads=12, feedforward_channels=3072),
        )
    return cfg


def evaluate(model, loader_cfg, evaluator_cfg):
    loader = Runner.build_dataloader(loader_cfg, seed=0)
    evaluator = Evaluator(evaluator_cfg)
    evaluator.dataset_meta = loader.dataset.metainfo
    model.eval()
    for batch in loader:
        with torch.no_grad():
            evaluator.process(data_samples=model.val_step(batch), data_batch=batch)
    return evaluator.evaluate(len(loader.dataset))


@pytest.mark.parametrize('name', RECIPES)
def test_trains_and_evaluates(name, roots, mmpretrain_scope):
    cfg = shrink(load(name), roots)
    model = MODELS.build(dict(cfg.model, data_preprocessor=cfg.data_preprocessor))
    model.init_weights()
    optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    before = {key: value.detach().clone() for key, value in model.named_parameters()}
    for batch in Runner.build_dataloader(cfg.train_dataloader, seed=0):
        log_vars = model.train_step(batch, optim_wrapper)
        assert log_vars['loss'].isfinite()

    assert all(value.isfinite().all() for value in model.parameters())
    first = next(key for key in before if key.startswith('backbone.') and 'weight' in key)
    for key in ('head.fc.weight', 'head.fc.bias', first):
        assert not torch.equal(model.get_parameter(key), before[key]), key

    if not cfg.get('val_dataloader'):
        assert name.endswith('in21k')
        assert cfg.val_cfg is cfg.test_cfg is None  # which the runner wants then
        return
    expected = {'VOC': 'multi-label/mAP', 'TinyImageNet': 'accuracy/top5'}
    for split in ('val', 'test'):
        metrics = evaluate(model, cfg[f'{split}_dataloader'], cfg[f'{split}_evaluator'])
        assert all(math.isfinite(value) for value in metrics.values())
        assert expected.get(cfg.val_dataloader.dataset.type, 'attribute/mAP') in metrics


def test_trains_by_the_runner_with_hooks_and_schedule(roots, tmp_path):
    cfg = shrink(load('resnet18_b128-hslr_glyphs-attr'), roots)
    cfg.work_dir = str(tmp_path)
    runner = Runner.from_cfg(cfg)
    runner.train()
    assert runner.model.head.loss_module.ratio == cfg.model.head.loss.ratio
    assert math.isfinite(runner.message_hub.get_scalar('val/attribute/mAP').current())


def test_every_data_set_has_every_loss():
    stems = {}
    for name in ATTRIBUTE_RECIPES:
        stems.setdefault(name.replace(f'-{loss_of(name)}_', '_'), set()).add(loss_of(name))
    assert set(stems) == {
        'resnet18_b128_glyphs-attr',
        'resnet50_1xb16_voc07',
        'resnet50_8xb32_deepfashion-coarse',
        'resnet50_8xb32_deepfashion-fine',
        'vit-base-p16_8xb32_deepfashion-coarse',
        'vit-base-p16_8xb32_deepfashion-fine',
    }
    assert all(losses == set(LOSSES) for losses in stems.values())


@pytest.mark.parametrize('name', ATTRIBUTE_RECIPES)
def test_differs_from_plain_logistic_regression_in_the_loss_alone(name):
    loss = loss_of(name)
    ours, plain = load(name), load(name.replace(f'-{loss}_', '-lr_'))
    assert ours.model.head.loss.type == LOSSES[loss]
    for cfg in (ours, plain):
        cfg.model.head.pop('loss')
        cfg.pop('custom_hooks', None)
        # For losses that know no unknown labels these are negatives.
        cfg.train_dataloader.dataset.pop('unknown', None)
    assert ours.to_dict() == plain.to_dict()


@pytest.mark.parametrize('name', ATTRIBUTE_RECIPES)
def test_only_our_losses_get_unknown_labels(name):
    cfg = load(name)
    if data_of(name) == 'coarse':
        ours = loss_of(name) in ('hslr', 'sslr')
        assert cfg.train_dataloader.dataset.unknown == ('keep' if ours else 'negative')
    for loader in (cfg.val_dataloader, cfg.test_dataloader):
        assert loader.dataset.get('unknown', 'keep') == 'keep'


@pytest.mark.parametrize('name', ATTRIBUTE_RECIPES)
def test_weight_of_the_positives_is_the_same_for_a_data_set(name):
    cfg = load(name)
    loss = cfg.model.head.loss
    if loss_of(name) in ('hslr', 'sslr'):
        # With the number of positives of an image each of them counts as much as a negative.
        other = load(name.replace(f'-{loss_of(name)}_', '-hslr_')).model.head.loss
        assert loss.pos_weight == other.pos_weight
        assert loss.pos_weight == [loss.pos_weight[0]] * cfg.model.head.num_classes
    else:
        assert 'pos_weight' not in loss


def test_weight_of_the_positives_of_the_glyphs(roots):
    """The one data set whose annotations are at hand; every split has about the same."""
    cfg = shrink(load('resnet18_b128-hslr_glyphs-attr'), roots)
    cfg.train_dataloader.dataset.pop('indices')
    counts = count_labels(DATASETS.build(cfg.train_dataloader.dataset), 35)
    mean = counts.positive.sum() / counts.num_images
    assert cfg.model.head.loss.pos_weight == pytest.approx([mean] * 35, rel=0.05)


@pytest.mark.parametrize('name', [name for name in RECIPES if '-sr_' not in name])
def test_starts_from_the_prior(name):
    """Several labels: from the annotations; one label: 1 / C, with no hook."""
    cfg = load(name)
    hooks = [h for h in cfg.get('custom_hooks', []) if h['type'] == 'PriorBiasHook']
    if name in ATTRIBUTE_RECIPES:
        assert hooks == [dict(type='PriorBiasHook')]
        assert 'bias_prob' not in cfg.model.head.init_cfg
    else:
        assert not hooks
        assert cfg.model.head.init_cfg.bias_prob == 1 / cfg.model.head.num_classes


@pytest.mark.parametrize('name', [name for name in ATTRIBUTE_RECIPES if loss_of(name) == 'lr'])
def test_bias_is_the_prior_of_the_annotations(name, roots, mmpretrain_scope):
    cfg = shrink(load(name), roots)
    model = MODELS.build(dict(cfg.model, data_preprocessor=cfg.data_preprocessor))
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    runner = SimpleNamespace(
        model=model, train_dataloader=SimpleNamespace(dataset=dataset), logger=logging.getLogger()
    )
    HOOKS.build(cfg.custom_hooks[0]).before_train(runner)
    positive = np.zeros(model.head.num_classes)
    for i in range(len(dataset)):
        info = dataset.get_data_info(i)
        positive += (
            info['gt_score'] if 'gt_score' in info else np.isin(range(20), info['gt_label'])
        )
    prior = (positive + positive.mean() / len(dataset)) / (len(dataset) + 1)
    torch.testing.assert_close(
        model.head.fc.bias.sigmoid().detach(), torch.tensor(prior, dtype=torch.float32)
    )


@pytest.mark.parametrize('name', RECIPES)
def test_anneals_the_ratio_within_training(name):
    cfg = load(name)
    hooks = [h for h in cfg.get('custom_hooks', []) if h['type'] == 'FocusAnnealingHook']
    assert len(hooks) == (cfg.model.head.loss.type == 'HSLRLoss')
    for hook in map(HOOKS.build, hooks):
        assert hook.start_value == 1
        assert hook.end_value == cfg.model.head.loss.ratio
        assert hook.end == 0.8 * cfg.train_cfg.max_epochs
        assert num_selected(cfg.model.head.num_classes, hook.end_value) > 1


@pytest.mark.parametrize('name', RECIPES)
def test_stock_weights_are_those_of_mmpretrain(name):
    init_cfg = load(name).model.backbone.get('init_cfg')
    if RECIPES[name].parent.name != 'attributes':
        assert init_cfg is None
        return
    metafiles = Path(mmpretrain.__file__).parent.glob('.mim/configs/*/metafile.yml')
    known = {
        model.get('Weights')
        for path in metafiles
        for model in yaml.safe_load(path.read_text())['Models']
    }
    assert init_cfg.checkpoint in known
    assert init_cfg.prefix == 'backbone'
