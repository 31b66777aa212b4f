"""The three tasks of the glyphs: categories, identification and attributes."""

from typing import Any

import numpy as np
from mmengine.registry import DATASETS

from ..._checks import check_choice, check_int
from .._multi_label import SPLITS, checksum_split
from ._attributes import attribute_names, attribute_types
from ._faces import TEST_FACES, TRAIN_FACES
from .base import BaseGlyphDataset

# The classes of the built-in characters that the published results are of.
_NUM_CLASSES = 1000


@DATASETS.register_module()
class GlyphCategories(BaseGlyphDataset):
    """Each character is a class; nine built-in faces are to train on, three others to test on.

    Args:
        split (str): 'train' or 'test'.
        num_classes (int, optional): The number of characters to take, the first ones, in
            [2, all]. None stands for 1000 of the built-in characters, and for all where ``fonts``
            or ``characters`` are given. Defaults to None.
        **kwargs: Other arguments of :class:`BaseGlyphDataset`.

    Each item that the pipeline gets holds ``img``, uint8 (32, 32, 3), ``face``, str, and
    ``gt_label``, int. The meta information holds ``classes``, the characters.

    Raises:
        As :class:`BaseGlyphDataset`.
    """

    splits = ('train', 'test')

    def __init__(self, split: str, num_classes: int | None = None, **kwargs: Any) -> None:
        self.num_classes = num_classes
        super().__init__(split, **kwargs)

    def choose_characters(self, characters: tuple[str, ...]) -> tuple[str, ...]:
        """Return the first characters."""
        return _first(characters, self.num_classes, self._is_builtin)


@DATASETS.register_module()
class GlyphReID(BaseGlyphDataset):
    """Person re-identification (re-ID) with a character for a person and a face for a camera.

    Every other character is one to train on, those between are the ones to test on, in built-in
    faces never trained on. Per test character and face, the first image is a query, and the others
    are in the gallery.

    Args:
        split (str): 'train', 'query' or 'gallery'; or 'test', the queries followed by the gallery.
        num_classes (int, optional): As for :class:`GlyphCategories`, but of the characters of the
            split. Defaults to None.
        **kwargs: Other arguments of :class:`BaseGlyphDataset`; ``samples_per_face`` is at least 2
            but for 'train'.

    Each item that the pipeline gets holds what one of :class:`GlyphCategories` does, and
    ``camera_id``, int, the index of the face, and ``is_query``, bool.

    Raises:
        As :class:`BaseGlyphDataset`.
    """

    splits = ('train', 'query', 'gallery', 'test')
    prefix = 'identification-'

    def __init__(self, split: str, num_classes: int | None = None, **kwargs: Any) -> None:
        self.num_classes = num_classes
        super().__init__(split, **kwargs)

    def min_samples_per_face(self) -> int:
        """Return 1 to train, and else 2: a query and an image to find."""
        return 1 if self.split == 'train' else 2

    def choose_characters(self, characters: tuple[str, ...]) -> tuple[str, ...]:
        """Return the first of every other character."""
        return _first(characters[self.split != 'train' :: 2], self.num_classes, self._is_builtin)

    def arrange(self, data_list: list[dict]) -> list[dict]:
        """Add cameras and queries, and keep the images of the split, queries first."""
        camera_ids = {face: i for i, face in enumerate(self.faces)}
        for i, info in enumerate(data_list):
            info.update(
                camera_id=camera_ids[info['face']], is_query=i % self.samples_per_face == 0
            )
        if self.split == 'train':
            return data_list
        parts = dict(query=(True,), gallery=(False,), test=(True, False))[self.split]
        return [info for part in parts for info in data_list if info['is_query'] == part]


@DATASETS.register_module()
class GlyphAttributes(BaseGlyphDataset):
    """Several labels per image: what Unicode says of a character, and what the face adds.

    Unicode gives script, case, general category and diacritics; the name of the face gives bold,
    slanted, serif and monospaced. All characters come in all faces; no character of one split is
    in another. ``split`` is 'train', 'val' or 'test'; other arguments as for
    :class:`BaseGlyphDataset`.

    Each item that the pipeline gets holds ``img``, uint8 (32, 32, 3), ``face``, str, and
    ``gt_score``, float32 (C,) of 0 and 1, where C is 35 for the built-in characters. The meta
    information holds ``classes`` and ``attribute_types``, the name and the type of each attribute.

    Raises:
        As :class:`BaseGlyphDataset`.
    """

    splits = SPLITS
    prefix = 'attributes-'

    @property
    def stream(self) -> int:
        """The number of the stream of random numbers; the splits share no character."""
        return 2

    def builtin_faces(self) -> tuple[str, ...]:
        """Return all twelve faces."""
        return (*TRAIN_FACES, *TEST_FACES)

    def choose_characters(self, characters: tuple[str, ...]) -> tuple[str, ...]:
        """Return the characters that belong to the split."""
        # Not by the order of the code points, in which capital and small letters alternate.
        chosen = tuple(c for c in characters if checksum_split(c) == self.split)
        if not chosen:
            raise ValueError(
                f'Expected characters of all splits, but none of the {len(characters)} belongs to '
                f'{self.split!r}: give more `characters`'
            )
        return chosen

    def describe_classes(self, characters: tuple[str, ...]) -> dict:
        """Return the attributes and their types."""
        types = attribute_types(characters)
        return dict(classes=tuple(types), attribute_types=tuple(types.values()))

    def get_cat_ids(self, idx: int) -> list[int]:
        """Return the indices of the attributes of an image, for ``ClassBalancedDataset``."""
        return np.flatnonzero(self.get_data_info(idx)['gt_score']).tolist()

    def target(self, label: int, face: str) -> dict:
        """Return the labels of an image, given the index of its character and its face."""
        found = attribute_names(self.characters[label], face)
        return dict(gt_score=np.array([name in found for name in self.CLASSES], np.float32))


TASKS: dict[str, type[BaseGlyphDataset]] = {
    'categories': GlyphCategories,
    'identification': GlyphReID,
    'attributes': GlyphAttributes,
}


@DATASETS.register_module()
def GlyphDataset(  # noqa: N802 (configs name the task's class by it)
    split: str,
    num_classes: int | None = None,
    samples_per_face: int = 3,
    seed: int = 0,
    task: str = 'categories',
    **kwargs: Any,
) -> BaseGlyphDataset:
    """Build the glyph data set of a task.

    Args:
        split (str): A split of the task's data set.
        num_classes (int, optional): The number of characters to take; 'attributes' takes all.
            Defaults to None.
        samples_per_face (int): The number of images per character and face. Defaults to 3.
        seed (int): The seed of shifts, rotations and scales. Defaults to 0.
        task (str): 'categories' for :class:`GlyphCategories`, 'identification' for
            :class:`GlyphReID`, or 'attributes' for :class:`GlyphAttributes`. Defaults to
            'categories'.
        **kwargs: Other arguments of :class:`BaseGlyphDataset`.

    Returns:
        BaseGlyphDataset: The data set.

    Raises:
        ValueError: If ``task`` is not one of the three; else as :class:`BaseGlyphDataset`.
    """
    check_choice('task', task, TASKS)
    if task != 'attributes':
        kwargs['num_classes'] = num_classes
    return TASKS[task](split, samples_per_face=samples_per_face, seed=seed, **kwargs)


def _first(
    characters: tuple[str, ...], num_classes: int | None, is_builtin: bool
) -> tuple[str, ...]:
    if num_classes is None:
        num_classes = _NUM_CLASSES if is_builtin else len(characters)
    check_int('num_classes', num_classes, 2, len(characters))
    return characters[:num_classes]
