"""Omniglot: handwritten characters of 50 alphabets, as categories and for re-identification."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.registry import DATASETS
from mmpretrain.datasets import BaseDataset

from .._checks import check_choice, check_int
from ._files import list_images
from .reid import ReIDDataset

FOLDERS = {'background': 'images_background', 'evaluation': 'images_evaluation'}
PARTS = (*FOLDERS, 'all')
NUM_DRAWERS = 20
# What torchvision makes around the two folders.
_ARCHIVE_FOLDER = 'omniglot-py'
# The ids of the character and of who drew it.
_NAME = re.compile(r'(\d{4})_(\d{2})(?i:\.png)', re.ASCII)
_QUERY_DRAWERS = (1, 2)


class _Image(NamedTuple):
    path: Path
    character: str  # such as 'Greek/character01'
    character_id: int
    drawer: int


@DATASETS.register_module()
class Omniglot(BaseDataset):
    """Omniglot's characters as categories: 1,623 classes of 20 images, each by another drawer.

    ::

        data_root
        ├── images_background
        │   └── Alphabet_of_the_Magi
        │       └── character01
        │           └── 0709_01.png (id of the character, drawer)
        └── images_evaluation
            └── Angelic
                └── character01/0965_01.png

    The official archives make the two folders, torchvision puts them into ``omniglot-py``. No
    split of the 1,623 characters is official; the recipes train on the drawers 1 to 14 and test
    on 15 to 20.

    Args:
        data_root (str): The folder that holds ``images_background`` and ``images_evaluation``, or
            ``omniglot-py`` with these.
        drawers (Sequence[int], optional): The drawers to keep, in [1, 20]; None keeps all.
            Defaults to None.
        part (str): The alphabets to keep: 'background', 30 alphabets of 964 characters,
            'evaluation', 20 of 659, or 'all'. Defaults to 'all'.
        alphabets (Sequence[str], optional): The names of the alphabets to keep, of those of
            ``part``; None keeps all. Defaults to None.
        **kwargs: Other arguments of :class:`mmpretrain.datasets.BaseDataset`.

    Each item that the pipeline gets holds ``img_path``, str, ``gt_label``, int, and ``drawer``,
    int. Labels follow the ids of all characters of ``part`` and ``alphabets``, whatever the
    drawers, and ``metainfo['classes']`` holds names such as 'Greek/character01'. The ids of the
    background come first: a classifier of these 964 classes knows the labels below 964 of part
    'all', and those from 964 on are of unknown classes.

    Raises:
        ValueError: If an argument is not one of its values, a file does not fit the layout, or a
            folder is empty.
        FileNotFoundError: If a folder is missing.

    Source: Lake, Salakhutdinov, Tenenbaum, "Human-level concept learning through probabilistic
    program induction", Science 2015.
    """

    def __init__(
        self,
        data_root: str,
        drawers: Sequence[int] | None = None,
        part: str = 'all',
        alphabets: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        self.drawers = _check_drawers(drawers)
        check_choice('part', part, PARTS)
        self.part = part
        self.alphabets = alphabets
        super().__init__(ann_file='', data_root=data_root, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Return path, class and drawer of each image."""
        root = Path(self.data_root)
        if (root / _ARCHIVE_FOLDER).is_dir():
            root = root / _ARCHIVE_FOLDER
        images = _read_images(root, self.part, self.alphabets)
        names = {image.character_id: image.character for image in images}
        labels = {character_id: label for label, character_id in enumerate(names)}
        self._metainfo.setdefault('classes', tuple(names.values()))
        return [
            dict(
                img_path=str(image.path),
                gt_label=labels[image.character_id],
                drawer=image.drawer,
            )
            for image in images
            if image.drawer in self.drawers
        ]

    def extra_repr(self) -> list[str]:
        """Return the lines that ``print(dataset)`` adds."""
        return [f'Part: \t{self.part}', f'Drawers: \t{", ".join(map(str, self.drawers))}']


@DATASETS.register_module()
class OmniglotReID(ReIDDataset):
    """Person re-identification (re-ID) with a character for a person and a drawer for a camera.

    964 characters of 30 alphabets to train on, 659 of 20 other alphabets to find: of each, the
    images of drawers 1 and 2 are queries and those of the other 18 the gallery. In all 19,280
    training images, 1,318 queries and 11,862 gallery images.

    Args:
        split (str): As for :class:`~frlr_mm.datasets.reid.ReIDDataset`.
        data_root (str): As for :class:`Omniglot`.
        part (str, optional): The alphabets, as for :class:`Omniglot`; None stands for 'background'
            to train and 'evaluation' else. Defaults to None.
        alphabets (Sequence[str], optional): As for :class:`Omniglot`, to hold some of the
            background out for tuning. Defaults to None.
        **kwargs: Other arguments of :class:`~frlr_mm.datasets.reid.ReIDDataset`.

    Items and meta information are those of :class:`~frlr_mm.datasets.reid.ReIDDataset`; an id is
    that of the character.

    Raises:
        ValueError: If an argument is not one of its values, a file does not fit the layout, or a
            folder is empty.
        FileNotFoundError: If a folder is missing.
    """

    archive_folder = _ARCHIVE_FOLDER

    def __init__(
        self,
        split: str,
        data_root: str,
        part: str | None = None,
        alphabets: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        if part is not None:
            check_choice('part', part, PARTS)
        self.part = part
        self.alphabets = alphabets
        super().__init__(split, data_root, **kwargs)

    def read_split(self, root: Path, split: str) -> Iterator[tuple[Path, int, int]]:
        """Yield path, character and drawer of each image of 'train', 'query' or 'gallery'."""
        part = self.part or ('background' if split == 'train' else 'evaluation')
        for image in _read_images(root, part, self.alphabets):
            is_query = image.drawer in _QUERY_DRAWERS
            if split == 'train' or is_query == (split == 'query'):
                yield image.path, image.character_id, image.drawer


def _check_drawers(drawers: Sequence[int] | None) -> tuple[int, ...]:
    if drawers is None:
        return tuple(range(1, NUM_DRAWERS + 1))
    if not len(drawers):
        raise ValueError('Expected `drawers` to name at least one drawer, but got none')
    for drawer in drawers:
        check_int('drawers', drawer, 1, NUM_DRAWERS)
    return tuple(sorted(set(drawers)))


def _read_images(root: Path, part: str, alphabets: Sequence[str] | None) -> list[_Image]:
    """Return the images of the chosen alphabets in the order of the characters' ids."""
    folders = [FOLDERS[part]] if part in FOLDERS else list(FOLDERS.values())
    paths: dict[str, Path] = {}
    for name in folders:
        for path in _list_folders(root / name, root):
            if paths.setdefault(path.name, path) != path:
                raise ValueError(
                    f'Expected each alphabet in one folder, but got {paths[path.name]} and {path}'
                )
    if alphabets is not None:
        if not alphabets or isinstance(alphabets, str) or not set(alphabets) <= set(paths):
            raise ValueError(
                f'Expected `alphabets` to be some of {tuple(sorted(paths))}, but got {alphabets!r}'
            )
        paths = {name: paths[name] for name in paths if name in set(alphabets)}
    images: list[_Image] = []
    owners: dict[int, Path] = {}
    for alphabet in paths.values():
        for folder in _list_folders(alphabet, root):
            images += _read_character(folder, owners)
    return sorted(images, key=lambda image: (image.character_id, image.drawer))


def _read_character(folder: Path, owners: dict[int, Path]) -> Iterator[_Image]:
    """Yield the images of a folder, all of which have one id that no other folder has."""
    names = list_images(folder, ('.png',))
    if not names:
        raise ValueError(
            f'Expected {folder} to hold images such as 0709_01.png, but it holds none'
        )
    for name in names:
        match = _NAME.fullmatch(name)
        if match is None or not 1 <= int(match[2]) <= NUM_DRAWERS:
            raise ValueError(
                f'Expected {folder / name} to have a name of Omniglot, such as 0709_01.png, with '
                f'a drawer in [1, {NUM_DRAWERS}]'
            )
        character_id = int(match[1])
        if owners.setdefault(character_id, folder) != folder:
            raise ValueError(
                f'Expected the character of {folder / name} to have an id of its own, but '
                f'{match[1]} is that of {owners[character_id]}, too'
            )
        character = f'{folder.parent.name}/{folder.name}'
        yield _Image(folder / name, character, character_id, int(match[2]))
    ids = {_NAME.fullmatch(name)[1] for name in names}  # type: ignore[index]
    if len(ids) > 1:
        raise ValueError(f'Expected {folder} to hold one character, but got the ids {sorted(ids)}')


def _list_folders(folder: Path, root: Path) -> list[Path]:
    if not folder.is_dir():
        raise FileNotFoundError(
            f'{folder} is missing: expected `data_root` = {str(root)!r} to hold '
            f'{" and ".join(FOLDERS.values())}'
        )
    found = sorted(
        path for path in folder.iterdir() if path.is_dir() and not path.name.startswith('.')
    )
    if not found:
        raise ValueError(f'Expected {folder} to hold folders of Omniglot, but it holds none')
    return found
