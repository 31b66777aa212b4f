"""A training run on one's own data with several labels per image, given as indices alone."""

import cv2
import mmengine
import numpy as np
import pytest
from mmengine.runner import Runner

import frlr_mm  # noqa: F401 (registers)

CLASSES = ('red', 'green', 'blue', 'dark')
PIPELINE = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]


@pytest.fixture
def dataset(tmp_path):
    """mmpretrain's MultiLabelDataset; one image has no label at all."""
    rng = np.random.default_rng(0)
    images = []
    for i in range(20):
        name = f'{i}.png'
        cv2.imwrite(str(tmp_path / name), rng.integers(256, size=(32, 32, 3), dtype=np.uint8))
        labels = [j for j in range(len(CLASSES)) if i and (i >> j) & 1]
        images.append(dict(img_path=name, gt_label=labels))
    mmengine.dump(
        dict(metainfo=dict(classes=CLASSES), data_list=images), str(tmp_path / 'labels.json')
    )
    return dict(
        type='MultiLabelDataset',
        data_root=str(tmp_path),
        ann_file='labels.json',
        pipeline=PIPELINE,
    )


@pytest.mark.parametrize('wrapper', [None, 'ClassBalancedDataset', 'KFoldDataset'])
@pytest.mark.parametrize(
    'loss', [dict(type='HSLRLoss', ratio=0.5), dict(type='SSLRLoss', gamma=0.25)]
)
def test_trains_validates_and_logs(tmp_path, dataset, loss, wrapper):
    train_set = dataset
    if wrapper == 'ClassBalancedDataset':
        train_set = dict(type=wrapper, dataset=dataset, oversample_thr=0.9)
    if wrapper == 'KFoldDataset':
        train_set = dict(type=wrapper, dataset=dataset, num_splits=2)
    loader = dict(batch_size=8, sampler=dict(type='DefaultSampler', shuffle=False))
    runner = Runner(
        dict(
            type='ImageClassifier',
            backbone=dict(type='ResNet', depth=18, base_channels=8, stem_channels=8),
            neck=dict(type='GlobalAveragePooling'),
            head=dict(type='MultiLabelLinearClsHead', num_classes=4, in_channels=64, loss=loss),
        ),
        str(tmp_path / 'run'),
        train_dataloader=dict(dataset=train_set, **loader),
        train_cfg=dict(by_epoch=True, max_epochs=1),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)),
        val_dataloader=dict(dataset=dataset, **loader),
        val_cfg=dict(),
        val_evaluator=dict(type='AttributeMetric', topk=2),
        default_hooks=dict(
            checkpoint=dict(type='CheckpointHook', save_best='auto'),
            logger=dict(type='LoggerHook', interval=1),
        ),
        custom_hooks=[
            dict(type='PriorBiasHook'),
            dict(type='NegativeClassDistractionHook', interval=1),
        ],
        data_preprocessor=dict(num_classes=4, mean=[127.0] * 3, std=[60.0] * 3),
        default_scope='mmpretrain',
        log_level='ERROR',
        experiment_name=f'{wrapper}-{loss["type"]}-{tmp_path.name}',
    )
    runner.train()
    values = {name: h.current() for name, h in runner.message_hub.log_scalars.items()}
    assert values['val/attribute/num_no_positive'] == 0
    assert 0 < values['val/attribute/mAP'] <= 100
    assert values['train/distraction/negative_term'] > 0
    assert [path.name for path in (tmp_path / 'run').glob('best_*')] == [
        'best_attribute_mAP_epoch_1.pth'
    ]
