"""A training run of each kind of recipe.

The runs are the recipe's own, with its hooks, schedule, loaders and evaluators, for an epoch of
small data in the official layouts; networks are small, too, and the stock weights are not
downloaded.
"""

import math
import uuid

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS
from mmengine.runner import Runner
from mmpretrain.datasets import CIFAR10
from mmpretrain.models import MultiLabelLinearClsHead

from tests.configs.test_recipes import TRAINED
from tests.support.recipes import load
from tests.support.small_recipes import Watch, image_size, load_cifar, prior_of, shrink

METRICS = {
    'VOC': {'multi-label/mAP'},
    'DeepFashionAttribute': {'attribute/mAP', 'multi-label/f1-score'},
    'GlyphDataset attributes': {'attribute/mAP'},
    'FashionProducts': {'attribute/mAP'},
    'OmniglotReID': {'reid/rank-1', 'reid/mAP', 'reid/mINP'},
    'GlyphDataset identification': {'reid/rank-1', 'reid/mAP', 'reid/mINP'},
    **dict.fromkeys(
        ('Market1501', 'DukeMTMCreID', 'MSMT17', 'CUHK03NP'),
        {f'reid/rank-{k}' for k in (1, 5, 10, 20)} | {'reid/mAP', 'reid/mINP'},
    ),
}


@pytest.fixture(scope='module')
def data_folder(tmp_path_factory):
    return tmp_path_factory.mktemp('data')


@pytest.mark.parametrize('name', TRAINED)
def test_trains_and_evaluates(name, data_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(CIFAR10, 'load_data_list', load_cifar)
    # Formatting a config four times takes longer than the run.
    monkeypatch.setattr(Config, 'pretty_text', '')
    cfg = shrink(load(name), data_folder)
    cfg.update(work_dir=str(tmp_path), experiment_name=uuid.uuid4().hex)
    runner = Runner.from_cfg(cfg)
    watch = Watch()
    runner.register_hook(watch)
    runner.train()
    model, num_classes = runner.model, cfg.model.head.num_classes
    before, after = watch.state, model.state_dict()

    classifier = 'head.fc' if 'head.fc.bias' in after else 'head.layers.head'
    backbone = next(k for k in after if k.startswith('backbone.') and after[k].ndim > 1)
    for key in (f'{classifier}.weight', f'{classifier}.bias', backbone):
        assert not torch.equal(before[key], after[key]), key
    assert all(value.isfinite().all() for value in after.values())
    bias = before[f'{classifier}.bias']
    if '-sr_' in name:
        assert not bias.any()
    else:
        prior = prior_of(runner.train_dataloader.dataset, num_classes)
        torch.testing.assert_close(bias.double(), torch.logit(prior), rtol=1e-5, atol=0)
        if 'glyphs' in name and not isinstance(model.head, MultiLabelLinearClsHead):
            # as many of each, which is what the results were measured with: 1 / C
            torch.testing.assert_close(bias, torch.full_like(bias, -math.log(num_classes - 1)))
    if cfg.model.head.type == 'BNNeckHead':
        assert not after['head.bn.bias'].any()

    # An image that a pipeline leaves as it is would be padded, not refused.
    assert watch.sizes == {image_size(cfg.train_dataloader.dataset.type)}
    is_dense = 'gt_score' in runner.train_dataloader.dataset[0]['data_samples']
    is_dense |= isinstance(model.head, MultiLabelLinearClsHead)
    is_dense |= bool(model.data_preprocessor.batch_augments)
    images = cfg.train_dataloader.batch_size
    assert watch.shapes[0] == ((images, num_classes) if is_dense else (images,))

    values = {key: h.current() for key, h in runner.message_hub.log_scalars.items()}
    assert math.isfinite(values['train/loss']) and values['train/loss'] > 0
    if '-hslr_' in name:
        assert cfg.model.head.loss.ratio < values['train/ratio'] < 1
        assert model.head.loss_module.ratio == values['train/ratio']
    if not cfg.get('val_dataloader'):
        assert name.endswith('in21k')
        return
    dataset = cfg.train_dataloader.dataset
    kind = f'{dataset.type} {dataset.task}' if 'task' in dataset else dataset.type
    metrics = METRICS.get(kind, {'accuracy/top1'})
    assert all(math.isfinite(values[f'val/{metric}']) for metric in metrics)
    if cfg.test_dataloader != cfg.val_dataloader:
        assert metrics <= set(runner.test())


def test_weight_of_the_positives_of_the_glyphs(data_folder):
    """The one data set whose annotations are at hand; every split has about the same."""
    cfg = shrink(load('resnet18_b128-hslr_glyphs-attr'), data_folder)
    cfg.train_dataloader.dataset.pop('indices')
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    positives = sum(
        int((info['gt_score'] == 1).sum())
        for info in map(dataset.get_data_info, range(len(dataset)))
    )
    assert cfg.model.head.loss.pos_weight == pytest.approx(positives / len(dataset), rel=0.05)
