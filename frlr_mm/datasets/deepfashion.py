"""DeepFashion, Category and Attribute Prediction: clothing attributes."""

from pathlib import Path
from typing import Any

import numpy as np
from mmengine.registry import DATASETS

from .._checks import check_choice
from ._deepfashion_files import (
    parse_box,
    read_attribute_names,
    read_columns,
    read_labels,
)
from ._files import check_image_name, check_new_image
from ._multi_label import SPLITS, SparseMultiLabelDataset

# The types in list_attr_cloth.txt count from 1.
ATTRIBUTE_TYPES = {
    'coarse': ('texture', 'fabric', 'shape', 'part', 'style'),
    'fine': ('texture', 'sleeve', 'length', 'neckline', 'fabric', 'fit'),
}
# Older releases have the coarse annotation in Anno, newer ones in Anno_coarse.
ANNOTATION_FOLDERS = {'coarse': ('Anno_coarse', 'Anno'), 'fine': ('Anno_fine',)}
_BOX_COLUMNS = ('x_1', 'y_1', 'x_2', 'y_2')


@DATASETS.register_module()
class DeepFashionAttribute(SparseMultiLabelDataset):
    """Clothing attributes of DeepFashion, in the official layout and partition.

    ::

        data_root
        ├── Anno_coarse (or Anno)
        │   ├── list_attr_cloth.txt
        │   ├── list_attr_img.txt
        │   └── list_bbox.txt
        ├── Anno_fine
        │   ├── list_attr_cloth.txt
        │   └── {train,val,test}{,_attr,_bbox}.txt
        ├── Eval
        │   └── list_eval_partition.txt
        └── Img
            └── img/<item>/img_00000001.jpg

    Args:
        data_root (str): The folder of the data set.
        split (str): 'train', 'val' or 'test'.
        annotation (str): 'coarse', 1,000 attributes of five types for 289,222 images, or 'fine',
            26 attributes of six types for 20,000 of them. Defaults to 'coarse'.
        unknown (str): What becomes of the labels that the coarse annotation leaves open: 'keep',
            or 'negative' for losses that know no unknown labels. Defaults to 'keep'.
        with_bbox (bool): Whether to read the bounding boxes, for
            :class:`~frlr_mm.datasets.CropBBox`. Defaults to False.
        data_prefix (str): The folder of the images below ``data_root``. Defaults to 'Img'.
        **kwargs: Other arguments of :class:`mmpretrain.datasets.BaseDataset`.

    Each item that the pipeline gets holds ``img_path``, str, ``gt_label``, the indices of the
    positive attributes, ``gt_score``, float32 (C,): 1, 0, and -1 where unknown, and, if asked for,
    ``bbox``, four ints. The meta information holds ``classes`` and ``attribute_types``, the name
    and the type of each attribute.

    Raises:
        ValueError: If an argument is out of its range, or a row of an annotation file is wrong.
        FileNotFoundError: If an annotation file is missing.
    """

    def __init__(
        self,
        data_root: str,
        split: str,
        annotation: str = 'coarse',
        unknown: str = 'keep',
        with_bbox: bool = False,
        data_prefix: str = 'Img',
        **kwargs: Any,
    ) -> None:
        check_choice('split', split, SPLITS)
        check_choice('annotation', annotation, tuple(ATTRIBUTE_TYPES))
        check_choice('unknown', unknown, ('keep', 'negative'))
        self.split = split
        self.annotation = annotation
        self.unknown = unknown
        self.with_bbox = with_bbox
        super().__init__(ann_file='', data_root=data_root, data_prefix=data_prefix, **kwargs)

    @property
    def annotation_folder(self) -> Path:
        """The folder of the annotation files."""
        folders = [Path(self.data_root, name) for name in ANNOTATION_FOLDERS[self.annotation]]
        for folder in folders:
            if folder.is_dir():
                return folder
        expected = ' or '.join(map(str, folders))
        raise FileNotFoundError(f'DeepFashionAttribute expected the folder {expected}')

    def load_data_list(self) -> list[dict]:
        """Return what the pipeline gets per image, ``gt_score`` left out."""
        types = read_attribute_names(
            self.annotation_folder / 'list_attr_cloth.txt', ATTRIBUTE_TYPES[self.annotation]
        )
        self._metainfo.setdefault('classes', tuple(types))
        self._metainfo.setdefault('attribute_types', tuple(types.values()))
        load = self._load_coarse if self.annotation == 'coarse' else self._load_fine
        return load(len(types))

    def _load_coarse(self, num_attributes: int) -> list[dict]:
        partition = Path(self.data_root, 'Eval', 'list_eval_partition.txt')
        infos: dict[str, dict] = {}
        seen: set[str] = set()  # in whatever split
        for number, (name, split) in read_columns(partition, ('image', 'split'), has_header=True):
            if split not in SPLITS:
                raise ValueError(
                    f'{partition}:{number}: expected one of {SPLITS}, but got {split!r}'
                )
            check_new_image(partition, number, name, seen)
            if split == self.split:
                infos[check_image_name(partition, number, name)] = {}

        labels = self.annotation_folder / 'list_attr_img.txt'
        seen = set()
        for number, name, positive, unknown in read_labels(labels, num_attributes, has_names=True):
            check_new_image(labels, number, name, seen)
            if name in infos:
                infos[name].update(self._info(name, positive, unknown))
        _check_complete(labels, infos, 'gt_label')
        if self.with_bbox:
            boxes = self.annotation_folder / 'list_bbox.txt'
            seen = set()
            for number, (name, *box) in read_columns(boxes, ('image', *_BOX_COLUMNS), True):
                check_new_image(boxes, number, name, seen)
                if name in infos:
                    infos[name]['bbox'] = parse_box(boxes, number, box)
            _check_complete(boxes, infos, 'bbox')
        return list(infos.values())

    def _load_fine(self, num_attributes: int) -> list[dict]:
        images = self.annotation_folder / f'{self.split}.txt'
        names = [
            check_image_name(images, number, name)
            for number, (name,) in read_columns(images, ('image',), has_header=False)
        ]
        labels = self.annotation_folder / f'{self.split}_attr.txt'
        infos = [
            (positive, unknown)
            for _, _, positive, unknown in read_labels(labels, num_attributes, has_names=False)
        ]
        _check_aligned(images, names, labels, infos)
        data_list = [self._info(name, *info) for name, info in zip(names, infos, strict=True)]
        if self.with_bbox:
            boxes = self.annotation_folder / f'{self.split}_bbox.txt'
            rows = read_columns(boxes, _BOX_COLUMNS, has_header=False)
            _check_aligned(images, names, boxes, rows)
            for info, (number, box) in zip(data_list, rows, strict=True):
                info['bbox'] = parse_box(boxes, number, box)
        return data_list

    def _info(self, name: str, positive: np.ndarray, unknown: np.ndarray) -> dict:
        info = dict(img_path=f'{self.img_prefix}/{name}', gt_label=positive.tolist())
        if self.unknown == 'keep' and unknown.size:
            info['gt_unknown'] = unknown
        return info

    def extra_repr(self) -> list[str]:
        """Return the lines that ``print(dataset)`` adds."""
        return [
            f'Annotation: \t{self.annotation}, {self.split}',
            f'Unknown labels: \t{self.unknown}',
            f'Prefix of images: \t{self.img_prefix}',
        ]


def _check_complete(path: Path, infos: dict[str, dict], key: str) -> None:
    missing = next((name for name, info in infos.items() if key not in info), None)
    if missing is not None:
        raise ValueError(f'{path}: expected a row for {missing}, which is in the partition')


def _check_aligned(images: Path, names: list, path: Path, rows: list) -> None:
    if len(names) != len(rows):
        raise ValueError(
            f'{path}: expected a row for each of the {len(names)} rows of {images}, '
            f'but got {len(rows)}'
        )
