"""A small run of ShardedRunner, on any number of processes."""

import logging
import time

import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, MODELS, RUNNERS
from mmpretrain.structures import DataSample
from torch import nn

NUM_IMAGES, NUM_CLASSES, CHANNELS, EPOCHS = 20, 11, 6, 3
WRAPPER = dict(type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False)


@DATASETS.register_module()
class ShardedRunnerImages(BaseDataset):
    def load_data_list(self):
        generator = torch.Generator().manual_seed(0)
        features = torch.randn(NUM_IMAGES, 5, generator=generator)
        # The last classes have no images.
        return [dict(inputs=x, gt_label=i * i % 9) for i, x in enumerate(features)]


@MODELS.register_module()
class ShardedRunnerModel(BaseModel):
    def __init__(self, head):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(5, CHANNELS), nn.Tanh(), nn.BatchNorm1d(CHANNELS))
        # So that it is the same for any number of processes.
        self.backbone[2].eval()
        self.head = MODELS.build(head)

    def train(self, mode=True):
        super().train(mode)
        self.backbone[2].eval()
        return self

    def forward(self, inputs, gt_label, mode='tensor', **kwargs):
        samples = [DataSample().set_gt_label(each) for each in gt_label]
        feats = (self.backbone(inputs),)
        return (
            self.head.loss(feats, samples) if mode == 'loss' else self.head.predict(feats, samples)
        )


def config(name, world_size, **changes):
    """Return the config of a run; the joined batches are the same for any number of processes."""
    loader = dict(
        batch_size=8 // world_size,
        dataset=dict(type='ShardedRunnerImages', serialize_data=False),
        collate_fn=dict(type='default_collate'),
        sampler=dict(type='DefaultSampler', shuffle=False),
    )
    head = dict(
        type='ShardedLinearClsHead',
        num_classes=NUM_CLASSES,
        in_channels=CHANNELS,
        topk=(1, 3),
        loss=dict(type='HSLRLoss', ratio=0.4, class_weight=[1 + i / 20 for i in range(11)]),
    )
    cfg = Config(
        dict(
            model=dict(type='ShardedRunnerModel', head=head),
            work_dir=name,
            train_dataloader=loader,
            val_dataloader=loader,
            val_evaluator=dict(type='TopKAccuracy', topk=(1, 3)),
            test_dataloader=loader,
            test_evaluator=dict(type='TopKAccuracy', topk=(1, 3)),
            train_cfg=dict(by_epoch=True, max_epochs=EPOCHS, val_interval=2),
            val_cfg=dict(),
            test_cfg=dict(),
            optim_wrapper=dict(
                optimizer=dict(type='AdamW', lr=0.02, weight_decay=0.1),
                clip_grad=dict(max_norm=0.5),
                paramwise_cfg=dict(bias_decay_mult=0.0),
            ),
            param_scheduler=dict(type='ExponentialLR', gamma=0.9),
            default_hooks=dict(
                checkpoint=dict(type='CheckpointHook', interval=1, save_best='accuracy/top1')
            ),
            custom_hooks=[
                dict(type='PriorBiasHook'),
                dict(type='FocusAnnealingHook', param='ratio', start_value=1.0, end_value=0.2),
                dict(type='FiniteLossHook'),
                dict(type='EMAHook', momentum=0.2),
            ],
            runner_type='ShardedRunner',
            launcher='none' if world_size == 1 else 'pytorch',
            env_cfg=dict(dist_cfg=dict(backend='gloo')),
            model_wrapper_cfg=dict(WRAPPER),
            randomness=dict(seed=0),
            default_scope='mmpretrain',
            experiment_name=f'{name}{time.time_ns()}',
            log_level='WARNING',
        )
    )
    cfg.merge_from_dict(changes)
    return cfg


def build(name, world_size, **changes):
    runner = RUNNERS.build(config(name, world_size, **changes))
    runner.logger.setLevel(logging.ERROR)
    return runner


def train(name, world_size, **changes):
    """Train; return what a run says of itself: norms of gradients, accuracies."""
    runner = build(name, world_size, **changes)
    runner.train()
    hub = runner.message_hub.log_scalars
    names = ('train/grad_norm', 'val/accuracy/top1', 'val/accuracy/top3')
    return {name: torch.tensor(hub[name].data[0]) for name in names if name in hub}
