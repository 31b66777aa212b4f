from importlib.resources import files
from pathlib import Path

import pytest
import torch
import yaml
from mmengine.config import Config
from mmengine.runner import Runner
from mmpretrain import get_model
from torch.testing import assert_close

from frlr_mm.models import BNNeckHead
from tests.support import reid_layouts

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
NUM_IDS = {'market1501': 751, 'dukemtmc': 702, 'msmt17': 1041, 'cuhk03np': 767, 'glyphs': 1000}
LOSSES = {
    'sr': dict(type='CrossEntropyLoss', loss_weight=1.0),
    'lr': dict(type='SSLRLoss', alpha='sum', gamma=0.0),
    'hslr': dict(type='HSLRLoss', alpha='sum', ratio=0.01),
    'sslr': dict(type='SSLRLoss', alpha='sum', gamma=0.25),
}
METRICS = {
    'reid/rank-1',
    'reid/rank-5',
    'reid/rank-10',
    'reid/rank-20',
    'reid/mAP',
    'reid/mAP_trapezoid',
    'reid/mINP',
    'reid/queries_left_out',
}

of_each_recipe = pytest.mark.parametrize(
    ('name', 'loss'), [(name, loss) for name in NUM_IDS for loss in LOSSES]
)


def load_recipe(name, loss):
    if name == 'glyphs':
        return Config.fromfile(CONFIGS / 'glyphs' / f'resnet18_b128-{loss}_glyphs-id.py')
    return Config.fromfile(CONFIGS / 'reid' / f'resnet50_b64-{loss}_{name}.py')


def write_data(name, root):
    """Write the fixtures of a set; glyphs render themselves."""
    if name != 'glyphs':
        reid_layouts.WRITERS[name](root)


def shrink(cfg, data_root, work_dir):
    """Train an epoch of one step or a few: small images, few channels, no pretrained weights."""
    cfg.work_dir = str(work_dir)
    cfg.train_cfg = dict(by_epoch=True, max_epochs=1, val_interval=1)
    cfg.default_hooks.checkpoint = None
    cfg.randomness = dict(seed=0)
    cfg.model.backbone.init_cfg = None
    if cfg.model.backbone.type == 'ResNet':
        cfg.model.backbone.update(base_channels=8, stem_channels=8)
        cfg.model.head.in_channels = 8 * 32
    for split in ('train', 'val', 'test'):
        loader = cfg[f'{split}_dataloader']
        loader.num_workers = 0
        loader.dataset.data_root = str(data_root)
        if loader.dataset.type == 'GlyphDataset':
            loader.dataset.num_classes = 10
        for transform in loader.dataset.pipeline:
            if transform.type == 'Resize':
                transform.scale = (32, 64)
            if transform.type == 'RandomCrop' and transform.crop_size == (256, 128):
                transform.crop_size = (64, 32)


@of_each_recipe
def test_trains_a_step_and_evaluates(tmp_path, name, loss):
    write_data(name, tmp_path / 'data')
    cfg = load_recipe(name, loss)
    shrink(cfg, tmp_path / 'data', tmp_path / 'run')
    runner = Runner.from_cfg(cfg)
    before = {key: value.clone() for key, value in runner.model.state_dict().items()}
    runner.train()

    values = {key: history.current() for key, history in runner.message_hub.log_scalars.items()}
    assert values['train/loss'] > 0
    assert set(METRICS) <= {key.removeprefix('val/') for key in values}
    assert 0 <= values['val/reid/mAP'] <= 100
    after = runner.model.state_dict()
    for key in (
        'backbone.layer4.0.conv1.weight',
        'head.fc.weight',
        'head.fc.bias',
        'head.bn.weight',
    ):
        assert not torch.equal(before[key], after[key]), key
    assert not after['head.bn.bias'].any()
    assert set(runner.test()) == METRICS


@of_each_recipe
def test_loss_and_prior(name, loss):
    cfg = load_recipe(name, loss)
    head = cfg.model.head
    assert head.loss == LOSSES[loss]
    assert head.num_classes == cfg.data_preprocessor.num_classes == NUM_IDS[name]
    if loss != 'sr':
        assert head.init_cfg.bias_prob == 1 / NUM_IDS[name]
    if loss == 'hslr':
        (hook,) = cfg.custom_hooks
        assert hook == dict(
            type='FocusAnnealingHook',
            param='ratio',
            start_value=1.0,
            end_value=0.01,
            end=0.8 * cfg.train_cfg.max_epochs,
        )


@pytest.mark.parametrize('name', sorted(NUM_IDS.keys() - {'glyphs'}))
def test_network_and_pipeline_are_those_of_the_baseline(name):
    cfg = load_recipe(name, 'sr')
    cfg.model.backbone.init_cfg = None
    model = get_model(cfg)
    assert isinstance(model.head, BNNeckHead)
    # A sixteenth of 256 x 128: the last stage does not halve it again.
    assert model.eval().backbone(torch.zeros(1, 3, 256, 128))[-1].shape == (1, 2048, 16, 8)

    transforms = {transform.type: transform for transform in cfg.train_pipeline}
    assert transforms['Resize'].scale == transforms['RandomCrop'].crop_size[::-1] == (128, 256)
    # The pipeline is BGR, the preprocessor's mean RGB.
    assert transforms['RandomErasing'].fill_color == cfg.data_preprocessor.mean[::-1]


def test_backbone_starts_from_the_stock_checkpoint(tmp_path):
    cfg = load_recipe('market1501', 'hslr')
    metafile = files('mmpretrain') / '.mim' / 'configs' / 'resnet' / 'metafile.yml'
    models = yaml.safe_load(metafile.read_text())['Models']
    weights = {model['Name']: model.get('Weights') for model in models}
    assert cfg.model.backbone.init_cfg.checkpoint == weights['resnet50_8xb32_in1k']

    stock = get_model('resnet50_8xb32_in1k')
    torch.save(dict(state_dict=stock.state_dict()), tmp_path / 'stock.pth')
    cfg.model.backbone.init_cfg.checkpoint = str(tmp_path / 'stock.pth')
    model = get_model(cfg)
    model.init_weights()
    assert_close(model.backbone.state_dict(), stock.backbone.state_dict(), rtol=0, atol=0)
    assert_close(model.head.fc.bias.sigmoid(), torch.full((751,), 1 / 751))
