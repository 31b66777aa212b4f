"""Every recipe below configs/: what it changes, how its model starts, one step of training."""

import copy
import functools
import math
import re
from pathlib import Path

import mmpretrain
import numpy as np
import pytest
import torch
import yaml
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.model import initialize
from mmengine.optim import build_optim_wrapper
from mmengine.registry import HOOKS, MODELS, TRANSFORMS, DefaultScope
from torch import nn

from frlr_mm.functional import num_selected

CONFIG_ROOT = Path(__file__).parents[2] / 'configs'
STOCK_ROOT = Path(mmpretrain.__file__).parent / '.mim' / 'configs'

# Several labels an image: another kind of head, prior and baseline, and a test file of its own,
# test_attribute_recipes.py.
MULTI_LABEL = re.compile(r'_(glyphs-attr|deepfashion-\w+|voc07)$')

RECIPES = {
    path.stem: path
    for path in sorted(CONFIG_ROOT.rglob('*.py'))
    if '_base_' not in path.relative_to(CONFIG_ROOT).parts and not MULTI_LABEL.search(path.stem)
}
LOSS_FIELD = re.compile(r'-(hslr|sslr|lr|sr)(?=_|$)')
DERIVED = [name for name in RECIPES if '-sr_' not in name]

# The entry recipes, and the recipes in configs/imagenet/ that are the same.
ENTRY_RECIPES = {
    'resnet50_frlr': 'resnet50_8xb32-hslr_in1k',
    'vit-base-p16_frlr': 'vit-base-p16_32xb128-mae-sslr_in1k',
}

# A recipe may change these fields of the one that it was made from, and no other.
ALLOWED_CHANGES = (
    r'model\.head\.loss(\..+)?',
    r'model\.head\.init_cfg(\..+)?',
    r'optim_wrapper\.optimizer\.lr',
    r'custom_imports\..+',
    r'custom_hooks',
)
# ImageNet-21k has no validation split, and the stock recipe a val_cfg with which nothing starts.
FURTHER_CHANGES = {'in21k': r'(val|test)_cfg'}

# ViT-L/16 has 310 million parameters: 6 GB with gradients, the states of AdamW and a copy. It
# takes its step with 2 layers in place of 24, all of full width.
REDUCED_BACKBONES = {
    'vit-large-p16': dict(
        arch=dict(embed_dims=1024, num_layers=2, num_heads=16, feedforward_channels=4096)
    ),
}

# Height and width of the images that go into the training pipeline; the others are 32 x 32.
SOURCE_SIZES = {'ImageNet': (240, 320)}


@pytest.fixture(autouse=True)
def mmpretrain_scope():
    torch.manual_seed(0)
    np.random.seed(0)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        yield


@functools.cache
def read_config(path: Path) -> Config:
    return Config.fromfile(path)


def load(name: str) -> Config:
    return copy.deepcopy(read_config(RECIPES[name]))


def load_baseline(name: str) -> Config:
    return copy.deepcopy(read_config(find_baseline(name)))


def find_baseline(name: str) -> Path:
    """Find the softmax recipe that a recipe was made from: beside it, or mmpretrain's."""
    name = ENTRY_RECIPES.get(name, name)
    sibling = LOSS_FIELD.sub('-sr', name)
    if sibling in RECIPES:
        return RECIPES[sibling]
    stock_name = LOSS_FIELD.sub('', name)
    paths = list(STOCK_ROOT.glob(f'*/{stock_name}.py'))
    assert len(paths) == 1, f'{name}: no -sr recipe beside it and {len(paths)} stock ones'
    return paths[0]


def without_scope(value):
    """Drop the ``_scope_`` keys that mmengine adds to what it inherits from another package."""
    if isinstance(value, dict):
        return {k: without_scope(v) for k, v in value.items() if k != '_scope_'}
    if isinstance(value, (list, tuple)):
        return [without_scope(v) for v in value]
    return value


def flatten(value, prefix: str = '') -> dict:
    """Flatten nested dicts to dotted keys; lists stay whole."""
    if not isinstance(value, dict) or not value:
        return {prefix: value}
    flat = {}
    for key, item in value.items():
        flat.update(flatten(item, f'{prefix}.{key}' if prefix else key))
    return flat


def find_classifier(head: nn.Module, num_classes: int) -> nn.Linear:
    return [
        m for m in head.modules() if isinstance(m, nn.Linear) and m.out_features == num_classes
    ][-1]


def build_head(cfg: Config) -> nn.Module:
    """Build a head alone and initialise it as the whole model would."""
    head = MODELS.build(cfg.model.head)
    if cfg.model.get('init_cfg'):
        initialize(head, copy.deepcopy(cfg.model.init_cfg))
    head.init_weights()
    return head


def focus_hooks(cfg: Config) -> list[dict]:
    return [h for h in cfg.get('custom_hooks', []) if h['type'] == 'FocusAnnealingHook']


def test_every_recipe_has_both_losses():
    with_loss = {
        loss: {name.replace(f'-{loss}', '') for name in RECIPES if f'-{loss}' in name}
        for loss in ('hslr', 'sslr')
    }
    assert with_loss['hslr'] == with_loss['sslr'] != set()


@pytest.mark.parametrize('name', DERIVED)
def test_changes_only_loss_prior_and_learning_rate(name):
    cfg = load(name)
    baseline = load_baseline(name)
    ours, theirs = (flatten(without_scope(c.to_dict())) for c in (cfg, baseline))
    missing = object()
    changed = [
        key
        for key in ours.keys() | theirs.keys()
        if ours.get(key, missing) != theirs.get(key, missing)
    ]
    assert 'model.head.loss.type' in changed
    allowed = (*ALLOWED_CHANGES, *(v for k, v in FURTHER_CHANGES.items() if name.endswith(k)))
    assert [
        key for key in changed if not any(re.fullmatch(pattern, key) for pattern in allowed)
    ] == []

    our_hooks = ours.get('custom_hooks', [])
    their_hooks = theirs.get('custom_hooks', [])
    assert our_hooks[: len(their_hooks)] == their_hooks
    assert {h['type'] for h in our_hooks[len(their_hooks) :]} <= {'FocusAnnealingHook'}


@pytest.mark.parametrize(('entry', 'name'), ENTRY_RECIPES.items())
def test_entry_recipe_equals_that_of_imagenet(entry, name):
    assert load(entry).to_dict() == load(name).to_dict()


@pytest.mark.parametrize('name', RECIPES)
def test_imports_the_plugin(name):
    assert 'frlr_mm' in load(name).custom_imports['imports']


@pytest.mark.parametrize('name', DERIVED)
def test_head_starts_as_the_baseline_but_for_the_prior(name):
    cfg = load(name)
    num_classes = cfg.model.head.num_classes
    head = build_head(cfg)
    baseline = build_head(load_baseline(name))
    bias = find_classifier(head, num_classes).bias

    torch.testing.assert_close(bias, torch.full_like(bias, -math.log(num_classes - 1)))
    for key, theirs in baseline.named_parameters():
        ours = head.get_parameter(key)
        if ours is not bias:
            # Drawn anew: what agrees is the distribution. The smallest classifier has 5,120
            # weights, whose standard deviation is known to 1 % and their mean to 1.4 %.
            assert ours.std().item() == pytest.approx(theirs.std().item(), rel=0.05), key
            tolerance = 0.1 * theirs.std().item()
            assert ours.mean().item() == pytest.approx(theirs.mean().item(), abs=tolerance), key


@pytest.mark.parametrize('name', RECIPES)
def test_anneals_the_focus_within_training(name):
    cfg = load(name)
    loss, num_classes = cfg.model.head.loss, cfg.model.head.num_classes
    hooks = focus_hooks(cfg)
    # With a small ratio from the start HS-LR does not learn.
    assert len(hooks) == (loss.type == 'HSLRLoss')
    for hook_cfg in hooks:
        hook = HOOKS.build(hook_cfg)
        assert 0 <= hook.begin < hook.end <= cfg.train_cfg.max_epochs
        assert hook.end_value == loss[hook.param]
        assert num_selected(num_classes, hook.start_value) == num_classes
        assert 1 < num_selected(num_classes, hook.end_value) < num_classes


def make_batch(cfg: Config) -> dict:
    """Send two random images through the recipe's own training pipeline."""
    pipeline = Compose(
        [
            TRANSFORMS.build(transform)
            for transform in cfg.train_pipeline
            if transform['type'] != 'LoadImageFromFile'
        ]
    )
    size = SOURCE_SIZES.get(cfg.train_dataloader.dataset.type, (32, 32))
    rng = np.random.default_rng(0)
    samples = [
        pipeline(
            dict(
                img=rng.integers(0, 256, (*size, 3), dtype=np.uint8),
                img_shape=size,
                ori_shape=size,
                gt_label=label,
            )
        )
        for label in (1, cfg.model.head.num_classes - 1)
    ]
    return pseudo_collate(samples)


def listed_parameters(name: str) -> list[int]:
    """Return the numbers of parameters that the metafiles give for a recipe."""
    models = [
        model
        for path in CONFIG_ROOT.glob('*/metafile.yml')
        for model in yaml.safe_load(path.read_text())['Models']
    ]
    return [model['Metadata']['Parameters'] for model in models if model['Name'] == name]


@pytest.mark.parametrize('name', [n for n in RECIPES if n not in ENTRY_RECIPES.values()])
def test_takes_a_training_step(name):
    cfg = load(name)
    reduced = [v for prefix, v in REDUCED_BACKBONES.items() if name.startswith(prefix)]
    for backbone in reduced:
        cfg.model.backbone.update(backbone)
    init_cfg = cfg.model.backbone.get('init_cfg')
    if isinstance(init_cfg, dict) and init_cfg['type'] == 'Pretrained':
        cfg.model.backbone.init_cfg = None  # weights that would be downloaded
    model = MODELS.build(dict(cfg.model, data_preprocessor=cfg.data_preprocessor))
    model.init_weights()
    if not reduced:
        assert listed_parameters(name) == [sum(p.numel() for p in model.parameters())]
    num_classes = cfg.model.head.num_classes
    classifier = find_classifier(model.head, num_classes)
    if name in DERIVED:
        prior = torch.full((num_classes,), -math.log(num_classes - 1))
        torch.testing.assert_close(classifier.bias.detach(), prior)

    labels = []
    model.head.loss_module.register_forward_pre_hook(lambda _, args: labels.append(args[1]))
    before = {key: value.detach().clone() for key, value in model.named_parameters()}
    # Mixed precision needs a GPU.
    optim_wrapper = build_optim_wrapper(model, dict(cfg.optim_wrapper, type='OptimWrapper'))
    log_vars = model.train_step(make_batch(cfg), optim_wrapper)

    assert log_vars['loss'].isfinite()
    changed = {
        key for key, value in model.named_parameters() if not torch.equal(value, before[key])
    }
    assert all(value.isfinite().all() for value in model.parameters())
    classifier_keys = {
        key
        for key, value in model.named_parameters()
        if value is classifier.weight or value is classifier.bias
    }
    assert len(classifier_keys) == 2
    assert classifier_keys <= changed
    assert any(key.startswith('backbone.') for key in changed)

    has_batch_augments = bool(cfg.model.get('train_cfg', {}).get('augments'))
    assert len(labels) == 1
    assert labels[0].shape == ((2, num_classes) if has_batch_augments else (2,))
