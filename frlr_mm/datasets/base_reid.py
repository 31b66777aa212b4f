"""What the person identification (re-ID) data sets share."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from mmpretrain.datasets import BaseDataset
from torchvision.datasets.folder import IMG_EXTENSIONS

from .files import refuse_links_out

SPLITS = ('train', 'query', 'gallery', 'test')
# Images of no person at all, or of a badly cut one: neither right nor wrong as an answer.
JUNK_ID = -1


class ReIDDataset(BaseDataset):
    """Base class: images of persons, each with the id of the person and of the camera.

    Args:
        split (str): 'train'; 'query' or 'gallery'; or 'test', the queries followed by the
            gallery, which is what :class:`~frlr_mm.evaluation.ReIDMetric` takes.
        data_root (str): The folder that the archive was unpacked in, or the folder that it made.
        allow_links_out (bool): Whether images may be symbolic links, or below such, that lead out
            of ``data_root``. Defaults to False.
        **kwargs: Other arguments of :class:`mmpretrain.datasets.BaseDataset`.

    Each item that the pipeline gets holds ``img_path``, str, ``gt_label``, int, and
    ``camera_id``, int as in the file's name. Training ids are relabelled in sorted order to
    0..K-1, and ``metainfo['classes']`` holds what they were; others stay as they are. Items of
    the other splits hold ``is_query``, bool, too.

    Raises:
        ValueError: If an argument is none of its values, an image's name does not fit the data
            set or leads out of it, or a folder holds no image.
        FileNotFoundError: If a folder or a list is missing.
    """

    # The folder that the official archive makes.
    archive_folder: str

    def __init__(
        self, split: str, data_root: str, allow_links_out: bool = False, **kwargs: Any
    ) -> None:
        if split not in SPLITS:
            raise ValueError(f'Expected `split` to be one of {SPLITS}, but got {split!r}')
        self.split = split
        self.allow_links_out = allow_links_out
        super().__init__(ann_file='', data_root=os.path.expanduser(data_root), **kwargs)

    def read_split(self, root: Path, split: str) -> Iterator[tuple[Path, int, int]]:
        """Yield path, person id and camera id of each image of 'train', 'query' or 'gallery'."""
        raise NotImplementedError

    def load_data_list(self) -> list[dict]:
        """Return what the pipeline gets of each image."""
        root = Path(self.data_root)
        if (root / self.archive_folder).is_dir():
            root = root / self.archive_folder
        if self.split == 'train':
            images = self._read_inside(root, 'train')
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
            for path, person_id, camera_id in self._read_inside(root, split)
        ]

    def _read_inside(self, root: Path, split: str) -> list[tuple[Path, int, int]]:
        images = list(self.read_split(root, split))
        if not self.allow_links_out:
            refuse_links_out(self.data_root, (path for path, _, _ in images))
        return images

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
    """Base class: a folder for each split, ids in the names of the files.

    Files that are no images, such as the ``Thumbs.db`` of Market-1501's archive, are passed over.
    """

    # Groups 1 and 2 are the ids of the person and of the camera.
    name_pattern: ClassVar[re.Pattern]
    example: ClassVar[str]
    folders: ClassVar[dict[str, str]] = {
        'train': 'bounding_box_train',
        'query': 'query',
        'gallery': 'bounding_box_test',
    }

    def read_split(self, root: Path, split: str) -> Iterator[tuple[Path, int, int]]:
        """Yield path, person id and camera id of each image of 'train', 'query' or 'gallery'."""
        folder = root / self.folders[split]
        if not folder.is_dir():
            raise self.missing(folder)
        # `-1` sorts before the ids.
        names = sorted(
            name
            for name in os.listdir(folder)
            if name.lower().endswith(IMG_EXTENSIONS) and not name.startswith('.')
        )
        is_empty = True
        for name in names:
            match = self.name_pattern.fullmatch(name)
            if match is None:
                raise ValueError(
                    f'Expected {folder / name} to have a name of '
                    f'{type(self).__name__}, such as {self.example}'
                )
            person_id, camera_id = int(match[1]), int(match[2])
            if person_id != JUNK_ID:
                is_empty = False
                yield folder / name, person_id, camera_id
        if is_empty:
            raise ValueError(
                f'Expected {folder} to hold images of {type(self).__name__}, such as '
                f'{self.example}, but it holds none'
            )
