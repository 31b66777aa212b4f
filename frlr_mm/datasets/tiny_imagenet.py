"""Tiny ImageNet: 200 classes of 64 x 64 images."""

import re
from pathlib import Path
from typing import Any

from mmengine.registry import DATASETS
from mmpretrain.datasets import BaseDataset

from .._checks import check_choice
from ._files import check_new_image, list_images, read_lines

SPLITS = ('train', 'val')
_SUFFIX = '.jpeg'
# File name, class and bounding box.
_VAL_COLUMNS = 6


@DATASETS.register_module()
class TinyImageNet(BaseDataset):
    """Tiny ImageNet in its official layout; the official test split has no labels.

    ::

        data_root
        ├── wnids.txt
        ├── train
        │   └── n01443537
        │       └── images/n01443537_0.JPEG
        └── val
            ├── images/val_0.JPEG
            └── val_annotations.txt

    The classes are numbered in the sorted order of their WordNet ids, as
    :class:`mmpretrain.datasets.CustomDataset` does it for the tree of ``train``; ``wnids.txt`` has
    another order.

    Args:
        data_root (str): The folder of the data set.
        split (str): 'train', 100,000 images, or 'val', 10,000.
        **kwargs: Other arguments of :class:`mmpretrain.datasets.BaseDataset`.

    Each item that the pipeline gets holds ``img_path``, str, and ``gt_label``, int.

    Raises:
        ValueError: If ``split`` is neither, a line of a file is wrong, or a class has no images.
        FileNotFoundError: If a file or a folder is missing.
    """

    def __init__(self, data_root: str, split: str, **kwargs: Any) -> None:
        check_choice('split', split, SPLITS)
        self.split = split
        super().__init__(ann_file='', data_root=data_root, data_prefix=split, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Return the path and the class of each image."""
        wnids = self._read_wnids()
        self._metainfo.setdefault('classes', wnids)
        labels = {wnid: label for label, wnid in enumerate(wnids)}
        load = self._load_train if self.split == 'train' else self._load_val
        return load(labels)

    def _read_wnids(self) -> tuple[str, ...]:
        path = Path(self.data_root, 'wnids.txt')
        wnids: set[str] = set()
        for number, line in _read_lines(path):
            if not re.fullmatch('n[0-9]{8}', line) or line in wnids:
                raise ValueError(
                    f'{path}:{number}: expected a WordNet id that is not there yet, '
                    f'but got {line!r}'
                )
            wnids.add(line)
        return tuple(sorted(wnids))

    def _load_train(self, labels: dict[str, int]) -> list[dict]:
        data_list = []
        for wnid, label in labels.items():
            folder = Path(self.img_prefix, wnid, 'images')
            names = _list_images(folder)
            if not names:
                raise ValueError(f'TinyImageNet expected {_SUFFIX.upper()} files in {folder}')
            data_list += [dict(img_path=str(folder / name), gt_label=label) for name in names]
        return data_list

    def _load_val(self, labels: dict[str, int]) -> list[dict]:
        path = Path(self.img_prefix, 'val_annotations.txt')
        folder = Path(self.img_prefix, 'images')
        names = set(_list_images(folder))
        data_list = []
        seen: set[str] = set()
        for number, line in _read_lines(path):
            columns = line.split('\t')
            if len(columns) != _VAL_COLUMNS:
                raise ValueError(
                    f'{path}:{number}: expected {_VAL_COLUMNS} columns with tabs '
                    f'between them, but got {len(columns)}: {line!r}'
                )
            name, wnid = columns[:2]
            if wnid not in labels:
                raise ValueError(f'{path}:{number}: expected a class of wnids.txt, but got {wnid}')
            if name not in names:
                raise ValueError(f'{path}:{number}: expected an image in {folder}, but got {name}')
            check_new_image(path, number, name, seen)
            data_list.append(dict(img_path=str(folder / name), gt_label=labels[wnid]))
        return data_list

    def extra_repr(self) -> list[str]:
        """Return the lines that ``print(dataset)`` adds."""
        return [f'Split: \t{self.split}', f'Prefix of images: \t{self.img_prefix}']


def _read_lines(path: Path) -> list[tuple[int, str]]:
    if not path.is_file():
        raise FileNotFoundError(f'TinyImageNet expected the file {path}')
    return read_lines(path)


def _list_images(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise FileNotFoundError(f'TinyImageNet expected the folder {folder}')
    return list_images(folder, [_SUFFIX])
