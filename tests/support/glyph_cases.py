"""What the tests of GlyphDataset share."""

import numpy as np

from frlr_mm.datasets import GlyphDataset


def load(data_root, split='train', num_classes=4, samples_per_face=2, **kwargs):
    return GlyphDataset(split, num_classes, samples_per_face, data_root=str(data_root), **kwargs)


def images(dataset):
    return np.stack([item['img'] for item in dataset])
