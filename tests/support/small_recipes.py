"""Recipes made small: their own loaders, hooks and schedules on a few small images."""

from pathlib import Path

import numpy as np
import torch
from mmengine.hooks import Hook

from tests.support.category_layouts import write_listed, write_voc
from tests.support.deepfashion_layout import write_coarse, write_fine, write_images
from tests.support.fashion_layout import write_fashion
from tests.support.omniglot_layout import write_omniglot
from tests.support.reid_layouts import (
    write_cuhk03np,
    write_dukemtmc,
    write_market1501,
    write_msmt17,
)
from tests.support.tiny_imagenet_layout import write_tiny_imagenet

IMAGE_SIZE = 32


def _write_deepfashion(root: Path) -> None:
    rng = np.random.default_rng(0)
    coarse = rng.choice((1, -1, 0), (12, 1000), p=(0.01, 0.94, 0.05))
    # The fine annotation lists some of the same images; sizes alternate in each split.
    names = write_coarse(root, coarse)
    write_images(root, names[::2])
    write_images(root, names[1::2], size=(50, 36))
    write_fine(root, rng.choice((1, 0), (4, 26)))


def _write_folders(root: Path) -> None:
    write_listed(root)
    (root / 'meta/train.txt').unlink()  # so that the folders are read


WRITERS = {
    'ImageNet': write_listed,
    'ImageNet21k': _write_folders,
    'TinyImageNet': lambda root: write_tiny_imagenet(root, [f'n{i:08d}' for i in range(200)]),
    'VOC': write_voc,
    'DeepFashionAttribute': _write_deepfashion,
    'Market1501': write_market1501,
    'DukeMTMCreID': write_dukemtmc,
    'MSMT17': write_msmt17,
    'CUHK03NP': write_cuhk03np,
    'Omniglot': write_omniglot,
    'OmniglotReID': write_omniglot,
    'FashionProducts': write_fashion,
}
RENUMBERED = ('Market1501', 'DukeMTMCreID', 'MSMT17', 'CUHK03NP')
# The classes of other sets are those on disk, too.
FOUND = {'Market1501': 3, 'OmniglotReID': 3, 'Omniglot': 5, 'FashionProducts': 6}


def write_data(dataset_type: str, folder: Path) -> Path:
    """Write a set in its official layout, once in a folder, and return its root."""
    root = folder / dataset_type
    if dataset_type in WRITERS and not root.exists():
        root.mkdir()
        WRITERS[dataset_type](root)
    return root


def image_size(dataset_type: str) -> tuple[int, int]:
    """Return height and width of what a network gets."""
    if dataset_type in RENUMBERED:
        return 2 * IMAGE_SIZE, IMAGE_SIZE
    if dataset_type == 'FashionProducts':
        return 48, 36
    return (64, 64) if dataset_type == 'TinyImageNet' else (IMAGE_SIZE, IMAGE_SIZE)


def load_cifar(dataset) -> list:
    """Stand for ``load_data_list`` of CIFAR-10 and -100, whose archives are checked by a hash."""
    rng = np.random.default_rng(0)
    return [
        dict(img=rng.integers(0, 256, (32, 32, 3), dtype=np.uint8), gt_label=label)
        for label in (0, 1, 1, len(dataset.CLASSES) - 1)
    ]


def shrink(cfg, folder: Path):
    """Make an epoch of a recipe a few steps long; nothing is downloaded.

    Networks keep their depth or their kinds of layers, and have a part of the channels. The head
    gets the same part, so that one that does not fit its backbone fits no better here.
    """
    for split in ('train', 'val', 'test'):
        loader = cfg.get(f'{split}_dataloader')
        if loader:
            loader.update(batch_size=2, num_workers=0, persistent_workers=False)
            _shrink_dataset(loader, folder)
    _shrink_model(cfg.model)
    kind = cfg.train_dataloader.dataset.type
    if kind in FOUND or kind in RENUMBERED:
        cfg.model.head.num_classes = FOUND.get(kind, 2)
    elif kind == 'GlyphDataset' and cfg.train_dataloader.dataset.get('task') != 'attributes':
        cfg.model.head.num_classes = 10
    cfg.optim_wrapper.type = 'OptimWrapper'  # mixed precision needs a GPU
    cfg.train_cfg.val_interval = 1
    cfg.default_hooks.update(checkpoint=None)
    cfg.default_hooks.logger.interval = 1
    cfg.randomness = dict(seed=0)
    return cfg


def _shrink_dataset(loader, folder: Path) -> None:
    dataset = loader.dataset
    # Serialising collects garbage, which takes longer than the rest of so small a data set.
    dataset.update(data_root=str(write_data(dataset.type, folder)), serialize_data=False)
    if dataset.type == 'GlyphDataset' and dataset.get('task') == 'attributes':
        dataset.split = 'val'  # the smallest
        dataset.indices = 4
    elif dataset.type == 'GlyphDataset':
        dataset.num_classes = 10
        loader.batch_size = 64
    elif dataset.type not in (*RENUMBERED, 'OmniglotReID'):
        dataset.indices = 4
    for transform in dataset.pipeline:
        for key, value in transform.items():
            if value in (224, 256):
                transform[key] = IMAGE_SIZE
            elif value == (224, 224):
                transform[key] = (IMAGE_SIZE, IMAGE_SIZE)
            elif value in ((128, 256), (256, 128)):  # width and height, or height and width
                transform[key] = (value[0] // 4, value[1] // 4)


def _shrink_model(model) -> None:
    backbone, part = model.backbone, 1
    backbone.init_cfg = None
    if backbone.type == 'VisionTransformer':
        assert backbone.arch in ('b', 'base')
        arch = dict(embed_dims=192, num_layers=2, num_heads=3, feedforward_channels=768)
        backbone.update(img_size=IMAGE_SIZE, arch=arch)
        part = 4
    elif backbone.type == 'SwinTransformer':
        assert backbone.arch == 'tiny'
        arch = dict(embed_dims=24, depths=[1, 1, 2, 1], num_heads=[1, 2, 4, 8])
        backbone.update(img_size=IMAGE_SIZE, arch=arch, pad_small_map=True)
        part = 4
    elif backbone.type == 'ConvNeXt':
        assert backbone.arch == 'tiny'
        backbone.arch = dict(depths=[1, 1, 2, 1], channels=[24, 48, 96, 192])
        part = 4
    elif (channels := backbone.get('base_channels', 64)) > 8:
        backbone.update(base_channels=8, stem_channels=8)
        part = channels // 8
    model.head.in_channels //= part


class Watch(Hook):
    """Keep what the first step finds, labels' shapes and images' sizes; stop after an epoch."""

    def before_train(self, runner):
        self.shapes, self.sizes = [], set()
        runner.model.backbone.register_forward_pre_hook(
            lambda _, args: self.sizes.add(tuple(args[0].shape[-2:]))
        )
        runner.model.head.loss_module.register_forward_pre_hook(
            lambda _, args: self.shapes.append(tuple(args[1].shape))
        )

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if batch_idx == 0:
            self.state = {key: v.clone() for key, v in runner.model.state_dict().items()}

    def after_train_epoch(self, runner):
        runner.train_loop.stop_training = True


def prior_of(dataset, num_classes):
    """Count in plain loops; mean share m: (positives + m) / (known + 1)."""
    labels = np.zeros((len(dataset), num_classes))
    for i in range(len(dataset)):
        info = dataset.get_data_info(i)
        if 'gt_score' in info:
            labels[i] = info['gt_score']
        else:
            labels[i, info['gt_label']] = 1
    known = labels >= 0
    mean = (labels == 1).sum() / known.sum()
    return torch.tensor(((labels == 1).sum(0) + mean) / (known.sum(0) + 1))
