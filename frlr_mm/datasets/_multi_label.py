"""What the data sets of several labels per image share."""

import zlib

import numpy as np
from mmpretrain.datasets import MultiLabelDataset

SPLITS = ('train', 'val', 'test')


class SparseMultiLabelDataset(MultiLabelDataset):
    """Base class: ``gt_score`` from the indices of the positive and of the unknown labels.

    Items of the data list hold these as ``gt_label`` and, where there are any, ``gt_unknown``.
    """

    def get_data_info(self, idx: int) -> dict:
        """Return what the pipeline gets of an image; its labels are kept sparse until here."""
        info = super().get_data_info(idx)
        score = np.zeros(len(self.CLASSES), np.float32)
        score[info['gt_label']] = 1
        score[info.pop('gt_unknown', [])] = -1
        return info | dict(gt_score=score)


def checksum_split(name: str) -> str:
    """Return the split that a name belongs to, by its CRC-32.

    Args:
        name (str): What all images of one thing share: an id or a character.

    Returns:
        str: 'train' for about 70 % of the names, 'val' for 10 %, 'test' for 20 %.
    """
    place = zlib.crc32(name.encode()) % 10
    return 'train' if place < 7 else 'val' if place < 8 else 'test'
