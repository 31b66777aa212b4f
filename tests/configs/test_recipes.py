"""One table of every recipe: what it is made from, and what it changes.

A recipe has to equal the one that it is made from but for what the table says, so that recipes of
several depths need no training run each: one network of a family is trained, in
``test_recipe_runs.py``.
"""

import functools
import re
from dataclasses import dataclass, field, replace

import pytest
import torch
import yaml
from mmengine.registry import DATASETS, MODELS, DefaultScope

from frlr_mm.functional import num_selected
from tests.support.recipes import CONFIG_ROOT, RECIPES, STOCK_ROOT, flatten, load

# The entry recipes, and the recipes in configs/imagenet/ that are the same.
ENTRY_RECIPES = {
    'resnet50_frlr': 'resnet50_8xb32-hslr_in1k',
    'vit-base-p16_frlr': 'vit-base-p16_32xb128-mae-sslr_in1k',
}
# On several processes, each with a share of the classes: which recipe it is in all else.
SHARDED_RECIPES = {'resnet18_2xb64-hslr-sharded_glyphs': 'resnet18_b128-hslr_glyphs'}
# Whose weights our recipes start from.
STOCK = {
    'resnet50': ('resnet', 'resnet50_8xb32_in1k'),
    'vit-base-p16': ('vision_transformer', 'vit-base-p16_32xb128-mae_in1k'),
}


@dataclass(frozen=True)
class Family:
    """Recipes that differ in the loss alone.

    Args:
        name: The name of a recipe, with {} in place of the loss.
        base: The recipe that they are made from, mmpretrain's or that of a loss.
        num_classes: The number of outputs of the classifier.
        ratio: Where HS-LR ends.
        losses: The losses in place of that of ``base``.
        train: Of which losses a training run is made here.
        pos_weight: That of HS-LR and SS-LR.
        changes: What else they change, by dotted keys, for a loss or for all.
        prior: The hook that sets the prior.
        gamma: That of SS-LR.
    """

    name: str
    base: str
    num_classes: int
    ratio: float
    losses: tuple = ('hslr', 'sslr')
    train: tuple = ('hslr', 'sslr')
    pos_weight: float | None = None
    changes: dict = field(default_factory=dict)
    prior: dict = field(default_factory=lambda: dict(type='PriorBiasHook'))
    gamma: float = 0.25


def imagenet(name, base, train=('hslr', 'sslr')):
    return Family(name, f'mmpretrain::{base}_in1k.py', 1000, 0.01, train=train)


def cifar(depth, num_classes, ratio, train=()):
    base = f'mmpretrain::resnet/resnet{depth}_8xb16_cifar{num_classes}.py'
    name = f'resnet{depth}_8xb16-{{}}_cifar{num_classes}'
    return Family(name, base, num_classes, ratio, train=train)


def single(name, num_classes, ratio, train=('sr', 'lr', 'hslr', 'sslr')):
    """Our own recipes of single labels, made from that with the softmax loss."""
    losses = ('lr', 'hslr', 'sslr')
    return Family(name, name.format('sr'), num_classes, ratio, losses, train)


ATTRIBUTE_LOSSES = ('hslr', 'sslr', 'focal', 'asl')


def attributes(name, num_classes, ratio, pos_weight, train=('lr', *ATTRIBUTE_LOSSES), **changes):
    """Our own recipes of several labels, made from that with binary cross-entropy."""
    return Family(
        name,
        name.format('lr'),
        num_classes,
        ratio,
        ATTRIBUTE_LOSSES,
        train,
        pos_weight=pos_weight,
        changes=changes,
    )


# The stock losses know no unknown labels.
KEEP_UNKNOWN = {key: {'train_dataloader.dataset.unknown': 'keep'} for key in ('hslr', 'sslr')}

FAMILIES = [
    *(
        imagenet(
            f'resnet{depth}_8xb32-{{}}_in1k',
            f'resnet/resnet{depth}_8xb32',
            ('hslr', 'sslr') if depth == 50 else (),
        )
        for depth in (18, 34, 50, 101, 152)
    ),
    imagenet('vit-base-p16_32xb128-mae-{}_in1k', 'vision_transformer/vit-base-p16_32xb128-mae'),
    imagenet('vit-base-p16_64xb64-{}_in1k', 'vision_transformer/vit-base-p16_64xb64'),
    imagenet('vit-large-p16_64xb64-{}_in1k', 'vision_transformer/vit-large-p16_64xb64', ()),
    imagenet('swin-tiny_16xb64-{}_in1k', 'swin_transformer/swin-tiny_16xb64'),
    imagenet('convnext-tiny_32xb128-{}_in1k', 'convnext/convnext-tiny_32xb128'),
    Family(
        'resnet50_8xb128-{}_coslr-90e_in21k',
        'mmpretrain::resnet/resnet50_8xb128_coslr-90e_in21k.py',
        21843,
        0.01,
        # There is no validation split, and with the stock val_cfg nothing starts.
        changes=dict(all=dict(val_cfg=None, test_cfg=None)),
        prior=dict(type='PriorBiasHook', allow_unused=True),
    ),
    cifar(18, 10, 0.3, ('hslr', 'sslr')),
    cifar(34, 10, 0.3),
    cifar(50, 10, 0.3),
    cifar(50, 100, 0.1, ('hslr', 'sslr')),
    single('resnet18_8xb16-{}_tiny-imagenet', 200, 0.05),
    single('resnet18_b128-{}_glyphs', 1000, 0.01),
    single('resnet18_b128-{}_glyphs-id', 1000, 0.01, ('sr', 'hslr')),
    single('resnet18_b128-{}_omniglot', 1623, 0.01, ('sslr',)),
    single('resnet18_b128-{}_omniglot-id', 964, 0.01, ('lr', 'hslr')),
    # They have the same head and pipeline: each data set and each loss once.
    single('resnet50_b64-{}_market1501', 751, 0.01, ('sr',)),
    single('resnet50_b64-{}_dukemtmc', 702, 0.01, ('lr',)),
    single('resnet50_b64-{}_msmt17', 1041, 0.01, ('hslr',)),
    single('resnet50_b64-{}_cuhk03np', 767, 0.01, ('sslr',)),
    attributes('resnet18_b128-{}_glyphs-attr', 35, 0.3, 3.64),
    replace(
        attributes(
            'resnet18_b128-{}_fashion-products', 175, 0.6, 5.0, ('lr', 'sslr'), **KEEP_UNKNOWN
        ),
        gamma=0.1,
    ),
    attributes('resnet50_1xb16-{}_voc07', 20, 0.5, 1.5),
    attributes('resnet50_8xb32-{}_deepfashion-coarse', 1000, 0.1, 5.0, **KEEP_UNKNOWN),
    attributes('resnet50_8xb32-{}_deepfashion-fine', 26, 0.5, 6.0, ('hslr', 'sslr')),
    attributes(
        'vit-base-p16_8xb32-{}_deepfashion-coarse', 1000, 0.1, 5.0, ('hslr',), **KEEP_UNKNOWN
    ),
    attributes('vit-base-p16_8xb32-{}_deepfashion-fine', 26, 0.5, 6.0, ('lr',)),
]
REID = ('dukemtmc', 'msmt17', 'cuhk03np')
NETS = ('resnet50_8xb32', 'vit-base-p16_8xb32')
DERIVED = {f.name.format(loss): (f, loss) for f in FAMILIES for loss in f.losses}
BASELINES = {f.base: f for f in FAMILIES if not f.base.startswith('mmpretrain::')}
TRAINED = {f.name.format(loss): f for f in FAMILIES for loss in f.train}


def make_loss(family, loss):
    if loss in ('focal', 'asl'):
        return dict(type=dict(focal='FocalLoss', asl='AsymmetricLoss')[loss])
    cfg = dict(
        hslr=dict(type='HSLRLoss', alpha='sum', ratio=family.ratio),
        sslr=dict(type='SSLRLoss', alpha='sum', gamma=family.gamma),
        lr=dict(type='SSLRLoss', alpha='sum', gamma=0.0),
    )[loss]
    return cfg if family.pos_weight is None else dict(cfg, pos_weight=family.pos_weight)


def make_hooks(family, loss, stock_hooks):
    hooks = [hook for hook in flatten(stock_hooks)[''] if hook['type'] != 'PriorBiasHook']
    hooks.append(family.prior)
    if loss == 'hslr':
        focus = dict(type='FocusAnnealingHook', param='ratio', start_value=1.0)
        # Recipes with results keep what these were measured with.
        shape = dict(schedule='exponential') if 'glyphs' in family.name else {}
        hooks.append(dict(focus, end_value=family.ratio, end=0.8, **shape))
    return hooks


def test_every_recipe_is_in_the_table():
    assert set(RECIPES) == {*DERIVED, *BASELINES, *ENTRY_RECIPES, *SHARDED_RECIPES}


@pytest.mark.parametrize('name', DERIVED)
def test_changes_what_the_table_says_and_nothing_else(name):
    family, loss = DERIVED[name]
    base, ours = load(family.base), flatten(load(name).to_dict())
    hooks = make_hooks(family, loss, base.get('custom_hooks', []))
    base.model.head.pop('loss')
    expected = flatten(base.to_dict()) | flatten(make_loss(family, loss), 'model.head.loss')
    if loss in ('lr', 'hslr', 'sslr'):
        expected['model.type'] = 'LogisticClassifier'
    expected |= family.changes.get(loss, family.changes.get('all', {}))
    expected |= {'custom_hooks': hooks, 'custom_imports.imports': ['frlr_mm']}
    assert ours == expected


@pytest.mark.parametrize(('entry', 'name'), ENTRY_RECIPES.items())
def test_entry_recipe_equals_that_of_imagenet(entry, name):
    assert load(entry).to_dict() == load(name).to_dict()


@pytest.mark.parametrize(('name', 'base'), SHARDED_RECIPES.items())
def test_sharded_recipe_differs_in_the_head_and_in_what_it_asks_for(name, base):
    """Its training run is in tests/engine/test_sharded_runner.py: it takes two processes."""
    expected = flatten(load(base).to_dict())
    size = expected['train_dataloader.batch_size']
    expected |= {
        'model.head.type': 'ShardedLinearClsHead',
        'runner_type': 'ShardedRunner',
        'train_dataloader.batch_size': size // 2,
        'val_evaluator.type': 'TopKAccuracy',
        'test_evaluator.type': 'TopKAccuracy',
    }
    assert flatten(load(name).to_dict()) == expected
    assert listed_parameters()[name] == listed_parameters()[base]


@pytest.mark.parametrize('name', BASELINES)
def test_baseline(name):
    """The loss, the weights' start and what belongs to it; the rest are the tests below."""
    cfg, family = load(name), BASELINES[name]
    assert cfg.custom_imports.imports == ['frlr_mm']
    assert cfg.model.type == 'ImageClassifier'  # which predicts softmax
    assert cfg.model.head.num_classes == cfg.data_preprocessor.get('num_classes', 20)
    if '-sr_' in name:
        assert cfg.model.head.loss == dict(type='CrossEntropyLoss', loss_weight=1.0)
        assert 'custom_hooks' not in cfg
        is_reid = 'b64' in name or name.endswith('-id')
        assert cfg.model.head.type == ('BNNeckHead' if is_reid else 'LinearClsHead')
        # Those of the logistic losses inherit it: their prior is not to decay.
        free = {'head.fc.bias': dict(decay_mult=0.0)} if is_reid else None
        assert cfg.optim_wrapper.get('paramwise_cfg', {}).get('custom_keys') == free
    else:
        assert cfg.model.head.type == 'MultiLabelLinearClsHead'
        loss = dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0)
        assert cfg.model.head.loss == loss
        assert cfg.custom_hooks == [dict(type='PriorBiasHook')]
        unknown = cfg.train_dataloader.dataset.get('unknown')
        keeps = name.endswith(('coarse', 'fashion-products'))
        assert unknown == ('negative' if keeps else None)
        for loader in (cfg.val_dataloader, cfg.test_dataloader):
            assert 'unknown' not in loader.dataset
    assert 'bias_prob' not in cfg.model.head.get('init_cfg', {})
    assert cfg.model.head.num_classes == family.num_classes


@pytest.mark.parametrize(
    ('name', 'other'),
    [
        *((f'resnet50_b64-sr_{data}', 'resnet50_b64-sr_market1501') for data in REID),
        *((f'{net}-lr_deepfashion-fine', f'{net}-lr_deepfashion-coarse') for net in NETS),
    ],
)
def test_data_sets_of_a_job_differ_in_the_data_alone(name, other):
    ours, theirs = (flatten(load(each).to_dict()) for each in (name, other))
    changed = {key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key)}
    keys = 'type|data_root|version|boxes|annotation|unknown'
    allowed = rf'(.+_dataloader\.)?dataset\.({keys})|(model\.head|data_preprocessor)\.num_classes'
    assert [key for key in changed if not re.fullmatch(allowed, key)] == []


@pytest.mark.parametrize('family', FAMILIES, ids=lambda family: family.name)
def test_number_of_classes(family):
    """Of the head, the data and the stock list of classes; HS-LR selects some of them."""
    cfg = load(family.name.format('hslr'))
    assert cfg.model.head.num_classes == family.num_classes
    dataset = DATASETS.get(f'mmpretrain.{cfg.train_dataloader.dataset.type}')
    classes = getattr(dataset, 'METAINFO', {}).get('classes')
    assert classes is None or len(classes) == family.num_classes
    if cfg.model.get('train_cfg'):  # mixup and cutmix
        assert cfg.data_preprocessor.num_classes == family.num_classes
    assert 1 < num_selected(family.num_classes, family.ratio) < family.num_classes


@functools.cache
def listed_parameters():
    """Return the numbers of parameters that the metafiles give, by recipe."""
    paths = CONFIG_ROOT.glob('*/metafile.yml')
    models = [model for path in paths for model in yaml.safe_load(path.read_text())['Models']]
    return {model['Name']: model['Metadata']['Parameters'] for model in models}


def build_without_memory(model, monkeypatch):
    model.backbone.init_cfg = None
    linspace = torch.linspace  # which backbones read drop rates from
    monkeypatch.setattr(torch, 'linspace', lambda *args, **kw: linspace(*args, device='cpu'))
    with DefaultScope.overwrite_default_scope('mmpretrain'), torch.device('meta'):
        return MODELS.build(model)


@pytest.mark.parametrize('family', FAMILIES, ids=lambda family: family.name)
def test_number_of_parameters(family, monkeypatch):
    model = build_without_memory(load(family.name.format('hslr')).model, monkeypatch)
    number = sum(p.numel() for p in model.parameters())
    names = [family.name.format(loss) for loss in family.losses]
    names += [family.base] if family.base in RECIPES else []
    assert {listed_parameters()[name] for name in names} == {number}


@pytest.mark.parametrize('name', [name for name in BASELINES if '_b64-' in name])
def test_network_and_pipeline_of_reid(name):
    cfg = load(name)
    cfg.model.backbone.update(init_cfg=None, base_channels=8, stem_channels=8)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        backbone = MODELS.build(cfg.model.backbone)
    backbone.eval()
    # A sixteenth of 256 x 128: the last stage does not halve it again.
    assert backbone(torch.zeros(1, 3, 256, 128))[-1].shape == (1, 256, 16, 8)
    transforms = {transform.type: transform for transform in cfg.train_pipeline}
    assert transforms['Resize'].scale == transforms['RandomCrop'].crop_size[::-1] == (128, 256)
    # The pipeline is BGR, the preprocessor's mean RGB.
    assert transforms['RandomErasing'].fill_color == cfg.data_preprocessor.mean[::-1]


@functools.cache
def stock_weights():
    """Return the checkpoints of mmpretrain by their names."""
    paths = [STOCK_ROOT / folder / 'metafile.yml' for folder, _ in STOCK.values()]
    models = [model for path in paths for model in yaml.safe_load(path.read_text())['Models']]
    return {model['Name']: model.get('Weights') for model in models}


@pytest.mark.parametrize('name', BASELINES)
def test_stock_weights_are_those_of_mmpretrain_and_fit(name, monkeypatch):
    model = load(name).model
    init_cfg = model.backbone.get('init_cfg')
    if RECIPES[name].parent.name not in ('attributes', 'reid'):
        assert init_cfg is None
        return
    folder, stock = STOCK['resnet50' if 'resnet50' in name else 'vit-base-p16']
    assert init_cfg.checkpoint == stock_weights()[stock]
    assert (init_cfg.type, init_cfg.prefix) == ('Pretrained', 'backbone')
    ours, theirs = (
        {
            key: value.shape
            for key, value in build_without_memory(cfg, monkeypatch).backbone.state_dict().items()
        }
        for cfg in (model, load(f'mmpretrain::{folder}/{stock}.py').model)
    )
    assert ours == theirs
