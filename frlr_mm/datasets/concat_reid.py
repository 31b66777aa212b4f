"""Several person re-identification (re-ID) data sets as one."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from mmengine.dataset import BaseDataset, ConcatDataset, force_full_init
from mmengine.registry import DATASETS


@DATASETS.register_module()
class ConcatReID(ConcatDataset):
    """Several re-ID data sets as one, none of which shares a person with another.

    Each data set numbers its persons from 0, so that in mmengine's ``ConcatDataset`` two persons
    would have one label. Here the labels of a data set go on after those of the ones before it::

        dataset=dict(
            type='ConcatReID',
            datasets=[
                dict(type='Market1501', split='train', data_root=..., pipeline=...),
                dict(type='DukeMTMCreID', split='train', data_root=..., pipeline=...),
            ],
        )

    To train on these takes ``num_classes=751 + 702`` in the head. Of the split 'test', the queries
    of all data sets are searched for in the galleries of all.

    Args:
        datasets (Sequence[BaseDataset | dict]): The data sets, of one split each.
        lazy_init (bool): Whether to read the annotations later. Defaults to False.

    Each item that the pipeline gets is that of its data set; what the pipeline returns has another
    ``gt_label``. In training, the meta information holds ``classes``, such as 'Market1501/0002',
    one per label.
    """

    def __init__(self, datasets: Sequence[BaseDataset | dict], lazy_init: bool = False) -> None:
        super().__init__(datasets, lazy_init, ignore_keys=['classes', 'persons'])

    def full_init(self) -> None:
        """Read the annotations, and find the first label of each data set."""
        if self._fully_initialized:
            return
        super().full_init()
        metainfos = [dataset.metainfo for dataset in self.datasets]
        sizes = [
            len(metainfo['classes'])
            if 'classes' in metainfo
            else 1 + max(dataset.get_data_info(i)['gt_label'] for i in range(len(dataset)))
            for dataset, metainfo in zip(self.datasets, metainfos, strict=True)
        ]
        self._first_labels = [0, *accumulate(sizes[:-1])]
        self._metainfo = metainfos[0] | dict(
            persons=tuple(each for metainfo in metainfos for each in metainfo.get('persons', ()))
        )
        if all('classes' in metainfo for metainfo in metainfos):
            self._metainfo['classes'] = tuple(
                f'{type(dataset).__name__}/{name}'
                for dataset, metainfo in zip(self.datasets, metainfos, strict=True)
                for name in metainfo['classes']
            )
        else:
            self._metainfo.pop('classes', None)

    @force_full_init
    def get_data_info(self, idx: int) -> dict:
        """Return the annotation of an image."""
        return self._relabel(idx, super().get_data_info(idx))

    def get_cat_ids(self, idx: int) -> list[int]:
        """Return the label of an image in a list, for ``ClassBalancedDataset``."""
        return [self.get_data_info(idx)['gt_label']]

    def __getitem__(self, idx: int) -> Any:
        """Return what the pipeline makes of an image."""
        item = super().__getitem__(idx)
        if 'data_samples' not in item:
            return self._relabel(idx, item)
        sample = item['data_samples']
        sample.set_gt_label(sample.gt_label + self._first_label(idx))
        return item

    def _relabel(self, idx: int, info: dict) -> dict:
        return info | dict(gt_label=info['gt_label'] + self._first_label(idx))

    def _first_label(self, idx: int) -> int:
        return self._first_labels[self._get_ori_dataset_idx(idx)[0]]
