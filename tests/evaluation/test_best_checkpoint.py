"""mmengine's hooks that compare what our metrics report: the best checkpoint, early stopping."""

import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.hooks import CheckpointHook, EarlyStoppingHook
from mmengine.model import BaseModel
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmpretrain.structures import DataSample
from torch import nn

from frlr_mm.evaluation import AttributeMetric, ReIDMetric

TYPES = ('gloss', 'shape', 'gloss')
SIZE = 24


def make_samples(kind, quality):
    """What a model returns; the better, the closer to the truth."""
    rng = torch.Generator().manual_seed(0)
    samples = []
    for i in range(SIZE):
        sample = DataSample()
        if kind == 'reid':
            sample.set_gt_label(i % 4)
            sample.set_metainfo(dict(camera_id=i % 3, is_query=i < 8))
            noise = torch.randn(4, generator=rng)
            sample.set_field(quality * torch.eye(4)[i % 4] + noise, 'feature')
        else:
            truth = torch.tensor([i % 2, i % 3 == 0, i % 4 == 0]).float()
            noise = torch.rand(3, generator=rng)
            sample.set_gt_score(truth).set_pred_score((quality * truth + noise) / (quality + 1))
        samples.append(sample)
    return samples


METRICS = dict(
    reid=dict(type=ReIDMetric, topk=(1, 3)), attribute=dict(type=AttributeMetric, topk=(1, 3))
)


def evaluate(kind, quality=1.0):
    evaluator = Evaluator([METRICS[kind]])
    evaluator.dataset_meta = dict(attribute_types=TYPES)
    evaluator.process(make_samples(kind, quality))
    return evaluator.evaluate(SIZE)


class Model(BaseModel):
    """A model whose predictions are as good as they are to be after each epoch."""

    def __init__(self, kind, qualities):
        super().__init__()
        self.kind = kind
        self.qualities = qualities
        self.weight = nn.Parameter(torch.zeros(1))
        self.validations = 0

    def forward(self, inputs, mode='tensor'):
        if mode == 'loss':
            return dict(loss=self.weight.sum())
        if inputs[0] == 0:
            self.samples = make_samples(self.kind, self.qualities[self.validations])
            self.validations += 1
        return [self.samples[i] for i in inputs]


def train(work_dir, kind, qualities=(0.3, 9.0, 0.1), **hooks):
    """Train for three epochs, unless it stops early; by default the second one is the best."""
    init_default_scope('mmpretrain')
    loader = dict(
        dataset=[dict(inputs=i) for i in range(SIZE)],
        batch_size=8,
        sampler=dict(type='DefaultSampler', shuffle=False),
    )
    runner = Runner(
        Model(kind, qualities),
        str(work_dir),
        train_dataloader=loader,
        train_cfg=dict(by_epoch=True, max_epochs=3),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        val_dataloader=loader,
        val_cfg=dict(),
        val_evaluator=METRICS[kind],
        log_level='ERROR',
        default_scope='mmpretrain',
        experiment_name=f'{work_dir.parent.name}-{work_dir.name}',
        **hooks,
    )
    runner.train()
    return runner


def find_best(work_dir):
    return sorted(path.name for path in work_dir.glob('best_*'))


@pytest.mark.parametrize('kind', METRICS)
def test_auto_is_the_main_metric(tmp_path, kind):
    assert next(iter(evaluate(kind))) == f'{kind}/mAP'
    checkpoint = dict(type='CheckpointHook', save_best='auto')
    train(tmp_path, kind, default_hooks=dict(checkpoint=checkpoint))
    assert find_best(tmp_path) == [f'best_{kind}_mAP_epoch_2.pth']


@pytest.mark.parametrize(
    ('kind', 'save_best', 'names'),
    [
        ('reid', 'reid/rank-1', ['reid_rank-1_epoch_2']),
        ('reid', ['reid/rank-3', 'reid/mINP'], ['reid_mINP_epoch_2', 'reid_rank-3_epoch_2']),
        ('attribute', 'attribute/CF1', ['attribute_CF1_epoch_2']),
        (
            'attribute',
            ['attribute/recall@1', 'attribute/OF1'],
            ['attribute_OF1_epoch_2', 'attribute_recall@1_epoch_2'],
        ),
    ],
)
def test_any_value_may_decide(tmp_path, kind, save_best, names):
    checkpoint = dict(type='CheckpointHook', save_best=save_best)
    train(tmp_path, kind, default_hooks=dict(checkpoint=checkpoint))
    assert find_best(tmp_path) == [f'best_{name}.pth' for name in names]


@pytest.mark.parametrize('kind', METRICS)
def test_training_stops_early(tmp_path, kind):
    name = dict(reid='reid/rank-1', attribute='attribute/recall@1')[kind]
    hook = dict(type='EarlyStoppingHook', monitor=name, patience=1)
    assert train(tmp_path, kind, (9.0, 0.1, 0.3), custom_hooks=[hook]).epoch == 2
    assert train(tmp_path, kind, (0.1, 3.0, 9.0), custom_hooks=[hook]).epoch == 3


@pytest.mark.parametrize('kind', METRICS)
def test_every_name_has_a_rule(kind):
    names = list(evaluate(kind))
    hook = CheckpointHook(save_best=names)
    for name, rule in zip(names, hook.rules, strict=True):
        value = name.split('/')[1]
        assert rule == ('less' if value in ('queries_left_out', 'num_no_positive') else 'greater')
        assert EarlyStoppingHook(monitor=name).rule == rule
        assert CheckpointHook(save_best=value).rules == [rule]


def test_rules_that_are_given_are_kept():
    assert CheckpointHook(save_best='reid/rank-1', rule='less').rules == ['less']
    names = ['reid/rank-1', 'reid/mAP']
    assert CheckpointHook(save_best=names, rule=['less', 'greater']).rules == ['less', 'greater']
    assert CheckpointHook(save_best='reid/rank-1', less_keys=['rank']).rules == ['less']
    assert EarlyStoppingHook(monitor='reid/rank-1', rule='less').rule == 'less'


def test_other_names_are_left_to_mmengine():
    assert CheckpointHook(save_best=['val/loss', 'accuracy/top1']).rules == ['less', 'greater']
    for name in ('val/CPU', 'rank', 'x/OR_gate', 'val/error'):
        with pytest.raises(ValueError, match='Cannot infer the rule'):
            CheckpointHook(save_best=name)
        with pytest.raises(ValueError, match='Cannot infer the rule'):
            EarlyStoppingHook(monitor=name)
