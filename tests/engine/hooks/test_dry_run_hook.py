"""What does not fit together is refused before the first step, and what fits is left as it was."""

import contextlib
import logging
import random
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmengine.dataset import (
    BaseDataset,
    Compose,
    ConcatDataset,
    InfiniteSampler,
    RepeatDataset,
    default_collate,
)
from mmengine.evaluator import Evaluator
from mmengine.hooks import CheckpointHook, EarlyStoppingHook
from mmengine.registry import DefaultScope
from mmengine.runner import EpochBasedTrainLoop
from mmpretrain.registry import MODELS
from torch.utils.data import DataLoader

from frlr_mm.engine.hooks import DryRunHook

HSLR = dict(type='HSLRLoss')
LINEAR = dict(type='LinearClsHead', num_classes=4, in_channels=120, loss=HSLR)
SEVERAL = LINEAR | dict(type='MultiLabelLinearClsHead')
PERSONS = LINEAR | dict(type='BNNeckHead')
FUSED = LINEAR | dict(type='FusedLinearClsHead')
META = ('camera_id', 'is_query')
TOP1 = dict(type='Accuracy')
CLASSES = [dict(gt_label=i) for i in range(4)]
ATTRIBUTES = [dict(gt_score=np.array(row)) for row in ([1, 1, 0, -1], [0, 1, 0, 0])]
GALLERY = [dict(gt_label=i, camera_id=1, is_query=False) for i in range(3)]
QUERIES = [dict(gt_label=i, camera_id=0, is_query=True) for i in range(3)]


class Images(BaseDataset):
    """Black images with the labels given."""

    def __init__(self, labels, meta_keys=META, size=32):
        self.labels, self.size = labels, size
        classes = [str(i) for i in range(4)]
        pipeline = [dict(type='mmpretrain.PackInputs', meta_keys=meta_keys)]
        super().__init__(metainfo=dict(classes=classes), pipeline=pipeline)

    def load_data_list(self):
        image = np.zeros((self.size, self.size, 1), np.uint8)
        return [dict(img=image, **label) for label in self.labels]


@pytest.fixture(autouse=True)
def _scope():
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        yield


def make_loader(data, sampler=None):
    data = data if isinstance(data, Images) else Images(data)
    return DataLoader(data, batch_size=2, sampler=sampler, collate_fn=default_collate)


def make_runner(head, train, metrics=None, val=None, hooks=(), augments=None, **loaders):
    """Stand for what a runner has built before it trains."""
    torch.manual_seed(0)
    model = MODELS.build(
        dict(
            type='ImageClassifier',
            backbone=dict(type='LeNet5'),
            neck=dict(type='GlobalAveragePooling'),
            head=head,
            data_preprocessor=dict(mean=[0.0], std=[255.0], num_classes=4),
            train_cfg=augments and dict(augments=augments),
        )
    )
    loop = object.__new__(EpochBasedTrainLoop)
    loop.val_interval = loaders.get('val_interval', 1)
    evaluation = None
    if metrics is not None:
        loader = make_loader(train if val is None else val, loaders.get('val_sampler'))
        evaluation = SimpleNamespace(dataloader=loader, evaluator=Evaluator(metrics))
    return SimpleNamespace(
        model=model,
        train_dataloader=make_loader(train, loaders.get('sampler')),
        train_loop=loop,
        val_loop=evaluation,
        test_loop=evaluation,
        optim_wrapper=SimpleNamespace(optim_context=lambda model: contextlib.nullcontext()),
        hooks=hooks,
    )


@pytest.mark.parametrize(
    'arguments',
    [
        dict(head=LINEAR, train=CLASSES, metrics=TOP1),
        dict(head=LINEAR, train=CLASSES, metrics=None),
        dict(head=LINEAR, train=CLASSES, metrics=[dict(type='AttributeMetric'), TOP1]),
        dict(head=LINEAR, train=CLASSES, augments=dict(type='Mixup', alpha=1.0)),
        dict(head=FUSED, train=CLASSES, metrics=TOP1),
        dict(head=SEVERAL, train=ATTRIBUTES, metrics=dict(type='AttributeMetric')),
        dict(
            head=SEVERAL,
            train=ATTRIBUTES,
            metrics=[dict(type='MultiLabelMetric'), dict(type='AveragePrecision')],
        ),
        dict(head=LINEAR, train=CLASSES, metrics=dict(type='SingleLabelMetric')),
        dict(head=PERSONS, train=CLASSES, metrics=dict(type='ReIDMetric'), val=QUERIES + GALLERY),
        dict(
            head=LINEAR,
            train=CLASSES,
            metrics=TOP1,
            hooks=[CheckpointHook(save_best='accuracy/top1'), CheckpointHook(save_best='auto')],
        ),
        # What another metric calls its values is not known.
        dict(
            head=LINEAR,
            train=CLASSES,
            metrics=[TOP1, dict(type='ConfusionMatrix')],
            hooks=[CheckpointHook(save_best='else', rule='less')],
        ),
    ],
)
def test_what_fits_is_let_through_and_left_as_it_was(arguments):
    runner = make_runner(**arguments)
    runner.model.train()
    runner.model.backbone.eval()
    before = {name: value.clone() for name, value in runner.model.state_dict().items()}
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    DryRunHook().before_train(runner)
    if runner.test_loop is not None:
        DryRunHook().before_test(runner)
        assert not any(metric.results for metric in runner.test_loop.evaluator.metrics)
    for name, value in runner.model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert runner.model.training and not runner.model.backbone.training
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert (np.random.get_state()[1] == states[2]).all()


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        # the loss and its labels
        (dict(head=LINEAR | dict(in_channels=8), train=CLASSES), 'train_dataloader.*RuntimeError'),
        (dict(head=LINEAR | dict(num_classes=3), train=CLASSES), 'to be at least 4.*but got 3'),
        (dict(head=FUSED, train=ATTRIBUTES), 'class indices, but got `gt_score`'),
        (
            dict(head=FUSED, train=CLASSES, augments=dict(type='CutMix', alpha=1.0)),
            'augments` to be None',
        ),
        (
            dict(
                head=LINEAR | dict(loss=dict(type='CrossEntropyLoss', use_sigmoid=True)),
                train=CLASSES,
            ),
            'AssertionError: assert pred',
        ),
        (
            dict(head=SEVERAL | dict(loss=dict(type='CrossEntropyLoss')), train=ATTRIBUTES),
            'sigmoid for each class.*use_sigmoid=True',
        ),
        (
            dict(head=LINEAR | dict(loss=HSLR | dict(class_weight=(1, 2))), train=CLASSES),
            r'class_weight.*but got \(2,\)',
        ),
        (dict(head=LINEAR, train=[dict(other=0)]), "train_dataloader.*got.*'gt_label'"),
        # the metric, the head and the data
        (dict(head=PERSONS, train=CLASSES, metrics=TOP1), "Accuracy in `val_eval.*'pred_label'"),
        (dict(head=SEVERAL, train=ATTRIBUTES, metrics=TOP1), "Accuracy in `val_eval.*'gt_label'"),
        (
            dict(head=LINEAR, train=CLASSES, metrics=TOP1 | dict(topk=(1, 5))),
            'Accuracy in .* is unavailable since the number of categories is 4',
        ),
        (
            dict(head=PERSONS, train=CLASSES, metrics=dict(type='AttributeMetric')),
            'expected samples with `pred_score`',
        ),
        (
            dict(head=LINEAR, train=CLASSES, metrics=dict(type='ReIDMetric'), val=QUERIES),
            r"expected samples with .*\['feature'\] are missing",
        ),
        (
            dict(
                head=PERSONS,
                train=CLASSES,
                metrics=dict(type='ReIDMetric'),
                val=Images(QUERIES, meta_keys=('camera_id',)),
            ),
            r"\['is_query'\] are missing",
        ),
        # the whole of the persons
        *(
            (
                dict(head=PERSONS, train=CLASSES, metrics=dict(type='ReIDMetric'), val=val),
                message,
            )
            for val, message in (
                (QUERIES, 'but got no gallery'),
                (GALLERY, 'but got no queries'),
                (QUERIES + [query | dict(is_query=False) for query in QUERIES], 'none has one'),
                (QUERIES[:1] + GALLERY[1:], 'a match in the gallery'),
            )
        ),
        # names, samplers, intervals
        (
            dict(
                head=LINEAR,
                train=CLASSES,
                metrics=TOP1,
                hooks=[CheckpointHook(save_best='accuracy/top5')],
            ),
            r"`save_best` of CheckpointHook to be one of \['accuracy/top1'\], but got",
        ),
        (
            dict(
                head=LINEAR,
                train=CLASSES,
                metrics=TOP1,
                hooks=[EarlyStoppingHook(monitor='top1', strict=True)],
            ),
            '`monitor` of EarlyStoppingHook',
        ),
        (
            dict(head=LINEAR, train=CLASSES, sampler=InfiniteSampler(CLASSES)),
            '`train_dataloader` to end',
        ),
        (
            dict(head=LINEAR, train=CLASSES, metrics=TOP1, val_sampler=InfiniteSampler(CLASSES)),
            '`val_dataloader` to end',
        ),
        (
            dict(head=LINEAR, train=CLASSES, metrics=TOP1, val_interval=0),
            r'`train_cfg.val_interval` to be an int in \[1, inf\], but got 0',
        ),
    ],
)
def test_what_does_not_fit_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        DryRunHook().before_train(make_runner(**arguments))


@pytest.mark.parametrize(
    'wrap',
    [lambda data: data, lambda data: RepeatDataset(data, 2), lambda data: ConcatDataset([data])],
)
def test_skipped_images_are_not_noted(tmp_path, wrap):
    """They are once training skips them."""
    (tmp_path / 'bad.jpg').touch()
    cv2.imwrite(str(tmp_path / 'good.png'), np.zeros((32, 32), np.uint8))
    record = tmp_path / 'record.txt'
    load = dict(
        type='LoadCheckedImage', on_error='skip', record=str(record), color_type='grayscale'
    )
    names = ['bad.jpg', *['good.png'] * 3]
    data = Images([dict(img_path=str(tmp_path / name), gt_label=0) for name in names])
    data.pipeline = Compose(
        [dict(type='RandomApply', transforms=[load], prob=1.0), dict(type='PackInputs')]
    )
    wrapped = wrap(data)
    runner = make_runner(LINEAR, data)
    runner.train_dataloader = DataLoader(wrapped, batch_size=2, collate_fn=default_collate)
    DryRunHook().before_train(runner)
    assert not record.exists()
    assert wrapped[0] is not None and record.read_text().startswith(str(tmp_path / 'bad.jpg'))


def test_early_stopping_that_never_stops_is_warned_of(caplog):
    hooks = [EarlyStoppingHook(monitor='top1')]
    runner = make_runner(head=LINEAR, train=CLASSES, metrics=TOP1, hooks=hooks)
    runner.logger = logging.getLogger('dry run')
    DryRunHook().before_train(runner)
    assert "'top1': it never stops this run" in caplog.text


def test_testing_is_tried_as_well():
    runner = make_runner(PERSONS, CLASSES, TOP1)
    with pytest.raises(ValueError, match='Accuracy in `test_evaluator`'):
        DryRunHook().before_test(runner)
    runner = make_runner(PERSONS, CLASSES, TOP1)
    runner.model = MODELS.build(dict(type='AverageClsScoreTTA', module=runner.model))
    with pytest.raises(ValueError, match='scores classes for AverageClsScoreTTA.*BNNeckHead'):
        DryRunHook().before_test(runner)


def test_other_models_are_let_through():
    """Of a model that is no classifier nothing is known, of its samplers all is."""
    runner = make_runner(LINEAR, CLASSES, dict(type='ReIDMetric'), val=QUERIES)
    runner.model = torch.nn.Linear(1, 1)
    DryRunHook().before_train(runner)
    runner.val_loop.dataloader = make_loader(QUERIES, InfiniteSampler(QUERIES))
    with pytest.raises(ValueError, match='`val_dataloader` to end'):
        DryRunHook().before_train(runner)
