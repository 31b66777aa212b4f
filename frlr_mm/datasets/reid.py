"""Person re-identification (re-ID) data sets in their official layouts."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from mmengine.registry import DATASETS
from mmpretrain.datasets import BaseDataset
from torchvision.datasets.folder import IMG_EXTENSIONS

from .._checks import check_choice
from ._files import check_new_image, list_images, read_lines

SPLITS = ('train', 'query', 'gallery', 'test')
# Images of no person at all, or of a badly cut one: neither right nor wrong as an answer.
JUNK_ID = -1
_NUMBER = re.compile('-?[0-9]+')
MSMT17_FOLDERS = {'V1': ('train', 'test'), 'V2': ('mask_train_v2', 'mask_test_v2')}
# Groups 1 to 3 are the path, the camera and the id. The whole path is spelt out: a list is
# data, and may lead nowhere else.
_MSMT17_LINE = re.compile(
    r'(\d{4}/\d{4}_\d{3}_(0[1-9]|1[0-5])_\d{4}(?:morning|noon|afternoon)_\d{4}_\d{1,9}(?:_ex)?(?i:\.jpg))'
    r' (\d{1,9})',
    re.ASCII,
)
_MSMT17_EXAMPLE = '0000/0000_045_12_0303morning_0006_2.jpg 0'


class ReIDDataset(BaseDataset):
    """Base class: images of persons, each with the id of the person and of the camera.

    Args:
        split (str): 'train'; 'query' or 'gallery'; or 'test', the queries followed by the
            gallery, which is what :class:`~frlr_mm.evaluation.ReIDMetric` takes.
        data_root (str): The folder that the archive was unpacked in, or the folder that it made.
        metainfo (dict, optional): Further meta information. Defaults to None.
        **kwargs: Other arguments of :class:`mmpretrain.datasets.BaseDataset`.

    Each item that the pipeline gets holds ``img_path``, str, ``gt_label``, int, and
    ``camera_id``, int as in the file's name. Training ids are relabelled in sorted order to
    0..K-1, and ``metainfo['classes']`` holds what they were; others stay as they are. Items of
    the other splits hold ``is_query``, bool, too. ``metainfo['persons']`` says whose ids they are,
    so that mmengine's ``ConcatDataset`` refuses those of several sets, which
    :class:`~frlr_mm.datasets.ConcatReID` keeps apart.

    Raises:
        ValueError: If an argument is not one of its values, the name of an image or a line of a
            list does not fit the data set, or a folder or a list is empty.
        FileNotFoundError: If a folder or a list is missing.
    """

    # The folder that the official archive makes.
    archive_folder: str

    def __init__(
        self, split: str, data_root: str, metainfo: dict | None = None, **kwargs: Any
    ) -> None:
        check_choice('split', split, SPLITS)
        self.split = split
        # (A string would be taken for the path of a file, which a warning misses.)
        persons = (f'{type(self).__name__} in {data_root}',)
        super().__init__(
            ann_file='',
            metainfo=dict(persons=persons) | (metainfo or {}),
            data_root=os.path.expanduser(data_root),
            **kwargs,
        )

    def read_split(self, root: Path, split: str) -> Iterator[tuple[Path, int, int]]:
        """Yield path, person id and camera id of each image of 'train', 'query' or 'gallery'."""
        raise NotImplementedError

    def load_data_list(self) -> list[dict]:
        """Return what the pipeline gets per image."""
        root = Path(self.data_root)
        if (root / self.archive_folder).is_dir():
            root = root / self.archive_folder
        if self.split == 'train':
            images = list(self.read_split(root, 'train'))
            ids = sorted({person_id for _, person_id, _ in images})
            label = {person_id: i for i, person_id in enumerate(ids)}
            self._metainfo['classes'] = tuple(f'{person_id:04d}' for person_id in ids)
            return [
                dict(img_path=str(path), gt_label=label[person_id], camera_id=camera_id)
                for path, person_id, camera_id in images
            ]
        return [
            dict(
                img_path=str(path),
                gt_label=person_id,
                camera_id=camera_id,
                is_query=split == 'query',
            )
            for split in (('query', 'gallery') if self.split == 'test' else (self.split,))
            for path, person_id, camera_id in self.read_split(root, split)
        ]

    def missing(self, path: Path) -> FileNotFoundError:
        """Return the error of a path that is not there."""
        return FileNotFoundError(
            f'{path} is missing: {type(self).__name__} expected `data_root` = '
            f'{self.data_root!r} to be laid out as in the official archive {self.archive_folder}'
        )

    def extra_repr(self) -> list[str]:
        """Return the lines that ``print(dataset)`` adds."""
        return [f'Split: \t{self.split}', f'Data root: \t{self.data_root}']


class FolderReIDDataset(ReIDDataset):
    r"""Base class: a folder for each split, ids in the names of the files.

    Files that are not images, such as the ``Thumbs.db`` of Market-1501's archive, are passed over.

    Args:
        split (str): As for :class:`ReIDDataset`.
        data_root (str): As for :class:`ReIDDataset`.
        pattern (str, optional): A regular expression for one's own file names: all of a name
            without its suffix, with the groups ``pid`` and ``camera``, both of digits, such as
            ``r'(?P<pid>\d+)_cam(?P<camera>\d+)_.*'``. None stands for the names of the official
            archive. Defaults to None.
        **kwargs: Other arguments of :class:`ReIDDataset`, whose errors this class raises.

    Raises:
        ValueError: If ``pattern`` is no regular expression or lacks a group, too.
    """

    # Groups 1 and 2 are the ids of the person and of the camera; the case of the suffix is free.
    name_pattern: ClassVar[re.Pattern]
    example: ClassVar[str]
    folders: ClassVar[dict[str, str]] = {
        'train': 'bounding_box_train',
        'query': 'query',
        'gallery': 'bounding_box_test',
    }

    def __init__(
        self, split: str, data_root: str, pattern: str | None = None, **kwargs: Any
    ) -> None:
        self.pattern = None if pattern is None else _compile(pattern)
        super().__init__(split, data_root, **kwargs)

    def read_split(self, root: Path, split: str) -> Iterator[tuple[Path, int, int]]:
        """Yield path, person id and camera id of each image of 'train', 'query' or 'gallery'."""
        folder = root / self.folders[split]
        if not folder.is_dir():
            raise self.missing(folder)
        is_empty = True
        # `-1` sorts before the ids.
        for name in list_images(folder, IMG_EXTENSIONS):
            person_id, camera_id = self._ids_of(folder / name)
            if person_id != JUNK_ID:
                is_empty = False
                yield folder / name, person_id, camera_id
        if is_empty:
            raise ValueError(
                f'Expected {folder} to hold images of {type(self).__name__}, such as '
                f'{"those of `pattern`" if self.pattern else self.example}, but it holds none'
            )

    def _ids_of(self, path: Path) -> tuple[int, int]:
        """Return the ids of the person and of the camera in a file's name."""
        if self.pattern is None:
            match = self.name_pattern.fullmatch(path.name)
            ids = match and match.group(1, 2)
            expected = f'have a name of {type(self).__name__}, such as {self.example}'
        else:
            match = self.pattern.fullmatch(path.stem)
            ids = match and match.group('pid', 'camera')
            expected = f'have a name that `pattern` = {self.pattern.pattern!r} fits'
        if not ids:
            raise ValueError(f'Expected {path} to {expected}')
        # A group that took no part is None. `int` alone would take 1_0 for 10, another person.
        if not all(group and _NUMBER.fullmatch(group) for group in ids):
            raise ValueError(
                f'Expected the groups `pid` and `camera` of `pattern` to be whole numbers in '
                f'{path}, but got {ids[0]!r} and {ids[1]!r}'
            )
        return int(ids[0]), int(ids[1])


def _compile(pattern: str) -> re.Pattern:
    try:
        compiled = re.compile(pattern)
    except (re.error, TypeError) as error:
        raise ValueError(
            f'Expected `pattern` to be a regular expression, but got {pattern!r}: {error}'
        ) from error
    if not {'pid', 'camera'} <= compiled.groupindex.keys():
        raise ValueError(
            f'Expected `pattern` to have the groups (?P<pid>...) and (?P<camera>...), but got '
            f'{pattern!r}'
        )
    return compiled


@DATASETS.register_module()
class Market1501(FolderReIDDataset):
    """Market-1501: six cameras, 751 persons to train on, 750 to test on.

    12,936 training images, 3,368 queries and 15,913 gallery images. These are the official
    gallery less its junk, the 3,819 images of id -1; the 2,798 distractors of id 0 stay, and match
    no query.

    ``data_root`` is the folder that holds ``bounding_box_train``, ``bounding_box_test`` and
    ``query``, or ``Market-1501-v15.09.15`` with these. Other arguments and errors as for
    :class:`FolderReIDDataset`.

    Source: Zheng et al., "Scalable Person Re-identification: A Benchmark", ICCV 2015.
    """

    archive_folder = 'Market-1501-v15.09.15'
    name_pattern = re.compile(r'(-1|\d{4})_c([1-6])s\d_\d{6}_\d{2}(?i:\.jpg)', re.ASCII)
    example = '0002_c1s1_000451_03.jpg'


@DATASETS.register_module()
class DukeMTMCreID(FolderReIDDataset):
    """DukeMTMC-reID: eight cameras, 702 persons to train on, 702 to test on.

    16,522 training images, 2,228 queries and 17,661 gallery images; 408 further persons of the
    gallery are distractors, which match no query.

    ``data_root`` is the folder that holds ``bounding_box_train``, ``bounding_box_test`` and
    ``query``, or ``DukeMTMC-reID`` with these. Other arguments and errors as for
    :class:`FolderReIDDataset`.

    Source: Zheng, Zheng, Yang, "Unlabeled Samples Generated by GAN Improve the Person
    Re-identification Baseline in vitro", ICCV 2017.
    """

    archive_folder = 'DukeMTMC-reID'
    name_pattern = re.compile(r'(\d{4})_c([1-8])_f\d{7}(?i:\.jpg)', re.ASCII)
    example = '0001_c2_f0046182.jpg'


@DATASETS.register_module()
class CUHK03NP(FolderReIDDataset):
    """CUHK03 in its new protocol: two cameras, 767 persons to train on, 700 to test on.

    7,365 training images, 1,400 queries and 5,332 gallery images in boxes of a detector; 7,368,
    1,400 and 5,328 in boxes drawn by hand.

    Args:
        split (str): As for :class:`ReIDDataset`.
        data_root (str): The folder that holds ``detected`` and ``labeled``, or ``cuhk03-np`` with
            these.
        boxes (str): 'detected' or 'labeled'. Defaults to 'detected'.
        **kwargs: Other arguments of :class:`FolderReIDDataset`, whose errors this class raises.

    Source: Zhong et al., "Re-ranking Person Re-identification with k-reciprocal Encoding",
    CVPR 2017.
    """

    archive_folder = 'cuhk03-np'
    name_pattern = re.compile(r'(\d{4})_c([12])_\d+(?i:\.png)', re.ASCII)
    example = '0003_c1_21.png'

    def __init__(self, split: str, data_root: str, boxes: str = 'detected', **kwargs: Any) -> None:
        check_choice('boxes', boxes, ('detected', 'labeled'))
        self.boxes = boxes
        super().__init__(split, data_root, **kwargs)

    def read_split(self, root: Path, split: str) -> Iterator[tuple[Path, int, int]]:
        """Yield path, person id and camera id of each image of 'train', 'query' or 'gallery'."""
        return super().read_split(root / self.boxes, split)


@DATASETS.register_module()
class MSMT17(ReIDDataset):
    """MSMT17: fifteen cameras, 1,041 persons to train on, 3,060 to test on.

    30,248 training images, 11,659 queries and 82,161 gallery images. The 2,373 images of
    ``list_val.txt``, of the training persons, are left out: published results are of both kinds,
    and the public loaders leave them out. Version 2 is version 1 with masked faces, in folders of
    other names.

    Args:
        split (str): As for :class:`ReIDDataset`.
        data_root (str): The folder that holds ``list_train.txt``, ``list_query.txt``,
            ``list_gallery.txt`` and the two folders of images, or ``MSMT17_V1`` or ``MSMT17_V2``
            with these.
        version (str): 'V1' or 'V2', the one that is handed out. Defaults to 'V2'.
        **kwargs: Other arguments of :class:`ReIDDataset`, whose errors this class raises. A list
            may name nothing but images of the data set.

    Source: Wei et al., "Person Transfer GAN to Bridge Domain Gap for Person Re-identification",
    CVPR 2018.
    """

    def __init__(self, split: str, data_root: str, version: str = 'V2', **kwargs: Any) -> None:
        check_choice('version', version, MSMT17_FOLDERS)
        self.version = version
        self.archive_folder = f'MSMT17_{version}'
        super().__init__(split, data_root, **kwargs)

    def read_split(self, root: Path, split: str) -> Iterator[tuple[Path, int, int]]:
        """Yield path, person id and camera id of each image of 'train', 'query' or 'gallery'."""
        folder = root / MSMT17_FOLDERS[self.version][split != 'train']
        list_file = root / f'list_{split}.txt'
        if not folder.is_dir():
            raise self.missing(folder)
        if not list_file.is_file():
            raise self.missing(list_file)
        lines = read_lines(list_file)
        if not lines:
            raise ValueError(
                f'Expected {list_file} to hold lines such as {_MSMT17_EXAMPLE!r}, but it is empty'
            )
        seen: set[str] = set()
        for number, line in lines:
            match = _MSMT17_LINE.fullmatch(line)
            if match is None:
                raise ValueError(
                    f'Expected line {number} of {list_file} to be like '
                    f'{_MSMT17_EXAMPLE!r}, but got {line!r}'
                )
            check_new_image(list_file, number, match[1], seen)
            yield folder / match[1], int(match[3]), int(match[2])
