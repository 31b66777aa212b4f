"""Every recipe of the installed mmpretrain: converted and its head stepped, or refused."""

import copy
import importlib.util
import uuid
from unittest import mock

import mmengine.config.utils
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from mmpretrain.datasets import CIFAR10
from mmpretrain.models import ClsHead, ConformerHead, DeiTClsHead, MultiLabelClsHead
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from torch import nn

from frlr_mm.engine.convert import convert
from frlr_mm.engine.hooks.prior_bias_hook import find_classifiers
from frlr_mm.models.losses import HSLRLoss
from tests.support.recipes import ROOT, _get_cfg_metainfo
from tests.support.small_recipes import load_cifar, write_data

PATH = ROOT / 'tools/analysis/stock_recipes.py'
spec = importlib.util.spec_from_file_location('stock_recipes', PATH)
stock = importlib.util.module_from_spec(spec)
spec.loader.exec_module(stock)

NAMES = stock.recipes()
PAGE = (ROOT / 'docs/stock_recipes.md').read_text()


@pytest.fixture(scope='module', autouse=True)
def _read_metafiles_once():
    with mock.patch.object(mmengine.config.utils, '_get_cfg_metainfo', _get_cfg_metainfo):
        yield


def features_for(head):
    """Return random features (N, ...) in the form that a head takes them in."""
    size = getattr(head, 'in_channels', None)
    if type(head).__name__ == 'VigClsHead':
        size = head.fc1.in_features
    if type(head).__name__ == 'CSRAClsHead':
        return (torch.randn(4, head.csra_heads[0].head.in_channels, 3, 3),)
    if isinstance(head, ConformerHead):
        return ([torch.randn(4, channels) for channels in size],)
    if isinstance(head, DeiTClsHead):
        return ([torch.randn(4, size), torch.randn(4, size)],)
    return (torch.randn(4, size),)


def samples_for(head, num_classes, soft):
    label = torch.randint(num_classes, (4,))
    samples = []
    for i in range(4):
        sample = DataSample()
        if soft:
            score = torch.zeros(num_classes)
            score[label[i]] += 0.75
            score[label[i - 1]] += 0.25
            sample.set_gt_score(score)
        else:
            sample.set_gt_label(label[i : i + 1])
            if isinstance(head, MultiLabelClsHead):
                sample.set_field(num_classes, 'num_classes', field_type='metainfo')
        samples.append(sample)
    return samples


def step_head(cfg):
    """Build the head of a converted recipe; step it with hard labels, and soft ones if mixed."""
    head_cfg = copy.deepcopy(cfg.model.head)
    head_cfg.pop('init_cfg', None)  # filling a million weights takes longer than all the rest
    with mock.patch.object(nn.Linear, 'reset_parameters'):
        head = MODELS.build(head_cfg).train()
    for parameter in head.parameters():
        parameter.data.normal_(std=0.01) if parameter.numel() < 1e5 else parameter.data.zero_()
    losses = [module for module in head.modules() if isinstance(module, HSLRLoss)]
    assert len(losses) == 1
    if type(head) in (ClsHead, MultiLabelClsHead):  # the backbone makes the logits
        num_classes = cfg.model.backbone.num_classes
        features = (torch.randn(4, num_classes, requires_grad=True),)
        parameters = [features[0]]
    else:
        features = features_for(head)
        parameters = list(head.parameters())
        (num_classes,) = {p.shape[0] for p in last_layers(head)}
    mixes = bool((cfg.model.get('train_cfg') or {}).get('augments'))
    for soft in (False, True) if mixes else (False,):
        loss = head.loss(features, samples_for(head, num_classes, soft))['loss']
        grads = torch.autograd.grad(loss, parameters, allow_unused=True)
        assert loss.isfinite() and loss > 0
        found = [grad for grad in grads if grad is not None]
        assert found and all(grad.isfinite().all() for grad in found)
        assert any(grad.any() for grad in found)
    return head


def last_layers(head):
    if type(head).__name__ == 'CSRAClsHead':
        return [head.csra_heads[0].head.weight]
    model = nn.Module()
    model.head = head
    return [layer.bias for _, layers in find_classifiers(model) for layer in layers.values()]


def check(name):
    """Convert, parse what was written, build and step the head; or find the reason on the page."""
    reason = stock.why_not(name)
    row = next((row for row in PAGE.splitlines() if lists(row, name, reason)), None)
    assert row, f'{name} ({reason}) is not on the page: run tools/analysis/stock_recipes.py'
    if reason is None:
        converted, lines = convert(stock.read(name), 'hslr')
        text = repr(converted.to_dict())  # what is written is Python
        assert eval(text, {'inf': float('inf')}) == converted.to_dict()
        assert any('PriorBiasHook' in line for line in lines) or 'csra' in name
        for hook in converted.custom_hooks[-2:]:
            HOOKS.build(hook)
        step_head(converted)


def lists(row, name, reason):
    folder, _, stem = name.removesuffix('.py').rpartition('/')
    first, stems = row.split(' | ') if row.count(' | ') == 1 else ('', '')
    names = stems.removesuffix(' |').split(', ')
    if reason is None:
        return first == f'| {folder}' and stem in names
    return first == f'| {reason}' and f'{folder}/{stem}'.removeprefix('/') in names


@pytest.mark.parametrize('name', NAMES[::9])
def test_sample_of_the_recipes(name):
    check(name)


@pytest.mark.slow
def test_every_recipe():
    for name in NAMES:
        check(name)
    assert stock.fill_page({name: stock.why_not(name) for name in NAMES}) == PAGE


# Of small networks: kinds of heads, of smoothing and mixing, a classifier in the backbone.
STEPPED = (
    'resnet/resnet18_8xb32_in1k.py',
    'resnet/resnet18_8xb16_cifar10.py',
    'resnet/resnet50_8xb16-mixup_cifar10.py',
    'mobilenet_v3/mobilenet-v3-small_8xb128_in1k.py',
    'deit/deit-tiny_4xb256_in1k.py',
    'conformer/conformer-tiny-p16_8xb128_in1k.py',
    'swin_transformer/swin-tiny_16xb64_in1k.py',
    'regnet/regnetx-400mf_8xb128_in1k.py',
    'inception_v3/inception-v3_8xb32_in1k.py',
    'edgenext/edgenext-xxsmall_8xb256_in1k.py',
)


@pytest.mark.slow
@pytest.mark.parametrize('name', STEPPED)
def test_whole_training_step(name, tmp_path, monkeypatch):
    monkeypatch.setattr(CIFAR10, 'load_data_list', load_cifar)
    cfg, _ = convert(stock.read(name), 'hslr')
    loader = cfg.train_dataloader
    loader.update(batch_size=2, num_workers=0, persistent_workers=False)
    loader.dataset.update(data_root=str(write_data(loader.dataset.type, tmp_path)), indices=4)
    cfg.update(
        {f'{split}_{part}': None for split in ('val', 'test') for part in ('dataloader', 'cfg')}
        | dict(val_evaluator=None, test_evaluator=None, work_dir=str(tmp_path))
        | dict(experiment_name=uuid.uuid4().hex, randomness=dict(seed=0))
    )
    cfg.optim_wrapper.type = 'OptimWrapper'  # mixed precision needs a GPU
    cfg.train_cfg = dict(by_epoch=True, max_epochs=1)
    cfg.param_scheduler = None
    cfg.default_hooks.update(checkpoint=None)
    cfg.default_hooks.logger.interval = 1
    runner = Runner.from_cfg(cfg)
    before = {}

    class Keep(Hook):
        priority = 'LOWEST'

        def before_train(self, runner):
            before.update({key: v.clone() for key, v in runner.model.state_dict().items()})

    runner.register_hook(Keep())
    runner.train()
    biases = [name for _, found in find_classifiers(runner.model) for name in found]
    for bias in biases:
        values = before[bias]  # 4 images: the rest of the classes have never been seen
        assert values.sigmoid().mean() == pytest.approx(1 / len(values), rel=0.05)
        assert not torch.equal(values, runner.model.state_dict()[bias])
    assert any(isinstance(m, HSLRLoss) and m.ratio < 1 for m in runner.model.modules())
    assert all(v.isfinite().all() for v in runner.model.state_dict().values())
