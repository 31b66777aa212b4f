"""Built-in data: the characters of the DejaVu fonts that matplotlib carries."""

import logging
import math
import os
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dist import is_main_process
from mmengine.logging import print_log
from mmengine.registry import DATASETS
from mmpretrain.datasets import BaseDataset
from PIL import ImageFont
from rich.progress import Progress

from .attributes import ATTRIBUTE_SPLITS, attribute_names, attribute_split, attribute_types
from .faces import (
    FACES,
    FONT_SIZE,
    IMAGE_SIZE,
    TEST_FACES,
    TRAIN_FACES,
    font_path,
    glyph_characters,
    render_glyph,
)

SPLITS = {
    'categories': ('train', 'test'),
    'identification': ('train', 'query', 'gallery', 'test'),
    'attributes': ATTRIBUTE_SPLITS,
}
# Part of the cache's name: raise it with any change of what is drawn.
_VERSION = 1


@DATASETS.register_module()
class GlyphDataset(BaseDataset):
    """Characters of twelve DejaVu faces: a data set with many classes that needs no download.

    Each image is a character in one face, 32 x 32 pixels, randomly shifted, rotated and scaled. It
    depends on the seed and the character alone, so the first classes are the same whatever
    ``num_classes``. Rendered once, the images are kept below ``data_root``.

    With ``task='categories'`` each character is a class; nine faces are to train on, three others
    to test on.

    With ``task='identification'`` a character is a person and a face is a camera. Every other
    character is one to train on, those between are the ones to test on, in faces never trained
    on. Of a test character in a face the first image is a query, the others are in the gallery.

    With ``task='attributes'`` each image has several labels: what Unicode says of the character
    (script, case, general category, diacritics) and what the face adds (bold, slanted, serif,
    monospaced). All characters come in all faces; no character of one split is in another.

    Args:
        split (str): 'train' or 'test'; for identification also 'query' or 'gallery', of which
            'test' is both; for attributes also 'val'.
        num_classes (int): The first characters by code point, in [2, 2162], or in [2, 1081] for
            identification; attributes take all. Defaults to 1000.
        samples_per_face (int): Images of each character in each face, >= 1. Defaults to 3.
        seed (int): The seed of shifts, rotations and scales, >= 0. Defaults to 0.
        task (str): 'categories', 'identification' or 'attributes'. Defaults to 'categories'.
        data_root (str): The folder of the rendered images, made where it is missing. Defaults to
            'data/glyphs'.
        faces (Sequence[str], optional): The faces to keep, of those of the split: to tune on faces
            that are held out of the training ones. Defaults to None.
        metainfo (dict, optional): Further meta information. Defaults to None.
        **kwargs: Other arguments of :class:`mmpretrain.datasets.BaseDataset`.

    Each item that the pipeline gets holds ``img``, uint8 (32, 32, 3), ``face``, str, and
    ``gt_label``, int; for identification also ``camera_id``, int, and ``is_query``, bool. For
    attributes it holds ``gt_score``, float32 (35,) of 0 and 1, in place of ``gt_label``, and the
    meta information also ``attribute_types``, the type of each.

    Raises:
        ValueError: If an argument is out of its range, or a font file is another version.
        FileNotFoundError: If a font file is missing.
        OSError: If ``data_root`` cannot be written.
    """

    def __init__(
        self,
        split: str,
        num_classes: int = 1000,
        samples_per_face: int = 3,
        seed: int = 0,
        task: str = 'categories',
        data_root: str = 'data/glyphs',
        faces: Sequence[str] | None = None,
        metainfo: dict | None = None,
        **kwargs: Any,
    ) -> None:
        if task not in SPLITS:
            raise ValueError(f'Expected `task` to be one of {tuple(SPLITS)}, but got {task!r}')
        if split not in SPLITS[task]:
            raise ValueError(f'Expected `split` to be one of {SPLITS[task]}, but got {split!r}')
        characters = glyph_characters()
        min_samples = 1
        if task == 'identification':
            characters = characters[split != 'train' :: 2]
            min_samples = 1 if split == 'train' else 2
        for name, value, low, high in (
            ('num_classes', num_classes, 2, len(characters)),
            ('samples_per_face', samples_per_face, min_samples, math.inf),
            ('seed', seed, 0, math.inf),
        ):
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise ValueError(
                    f'Expected `{name}` to be an int in [{low}, {high}], but got {value!r}'
                )
        self.split = split
        self.task = task
        # What is rendered: queries and gallery are parts of it.
        self.source = 'test' if split in ('query', 'gallery') else split
        self.samples_per_face = samples_per_face
        self.seed = seed
        if task == 'attributes':
            self.faces = tuple(TRAIN_FACES | TEST_FACES)
            self.characters = tuple(c for c in characters if attribute_split(c) == split)
            types = attribute_types(characters)
            task_metainfo = dict(classes=tuple(types), attribute_types=tuple(types.values()))
        else:
            self.faces = tuple(FACES[self.source])
            self.characters = characters[:num_classes]
            task_metainfo = dict(classes=self.characters)
        self.kept_faces = self.faces if faces is None else tuple(faces)
        if not self.kept_faces or not set(self.kept_faces) <= set(self.faces):
            raise ValueError(
                f'Expected `faces` to be some of {self.faces}, but got {self.kept_faces}'
            )
        super().__init__(
            ann_file='', metainfo=task_metainfo | (metainfo or {}), data_root=data_root, **kwargs
        )

    @property
    def cache_file(self) -> Path:
        """The file that the images are kept in."""
        task = '' if self.task == 'categories' else f'{self.task}-'
        name = (
            f'{task}{self.source}-{len(self.characters)}x{self.samples_per_face}'
            f'-seed{self.seed}-v{_VERSION}.npy'
        )
        return Path(self.data_root, name)

    def load_data_list(self) -> list[dict]:
        """Return what the pipeline gets of each image; render the images if they are not kept."""
        samples = [
            (label, face)
            for label in range(len(self.characters))
            for face in self.faces
            for _ in range(self.samples_per_face)
        ]
        images = self._load_images(len(samples))
        if images is None:
            images = self._render_images(len(samples))
            try:
                _save_atomically(self.cache_file, images)
            except OSError as error:
                raise OSError(
                    error.errno,
                    f'GlyphDataset cannot keep its images in {self.cache_file} '
                    f'({error.strerror}): set `data_root` to a folder that can be written',
                ) from error
        data_list = [
            dict(
                img=np.repeat(image[..., None], 3, axis=2), face=face, **self._target(label, face)
            )
            for image, (label, face) in zip(images, samples, strict=True)
        ]
        if self.task == 'identification':
            data_list = self._identify(data_list)
        return [info for info in data_list if info['face'] in self.kept_faces]

    def _identify(self, data_list: list[dict]) -> list[dict]:
        """Add cameras and queries, and keep the images of the split, queries first."""
        for i, info in enumerate(data_list):
            info.update(
                camera_id=self.faces.index(info['face']), is_query=i % self.samples_per_face == 0
            )
        if self.split == 'train':
            return data_list
        parts = dict(query=(True,), gallery=(False,), test=(True, False))[self.split]
        return [info for part in parts for info in data_list if info['is_query'] == part]

    def _target(self, label: int, face: str) -> dict:
        if self.task != 'attributes':
            return dict(gt_label=label)
        found = attribute_names(self.characters[label], face)
        return dict(gt_score=np.array([name in found for name in self.CLASSES], np.float32))

    def _load_images(self, num_images: int) -> np.ndarray | None:
        if not self.cache_file.is_file():
            return None
        try:
            with open(self.cache_file, 'rb') as file:
                images = np.lib.format.read_array(file)
        except Exception as error:  # NumPy's parser of headers has many ways to stumble
            print_log(
                f'{self.cache_file} cannot be read ({error}); it is rendered again',
                'current',
                level=logging.WARNING,
            )
            return None
        if images.shape != (num_images, IMAGE_SIZE, IMAGE_SIZE) or images.dtype != np.uint8:
            print_log(
                f'{self.cache_file} holds {images.dtype} {images.shape}, not what it should;'
                ' it is rendered again',
                'current',
                level=logging.WARNING,
            )
            return None
        return images

    def _render_images(self, num_images: int) -> np.ndarray:
        layout = ImageFont.Layout.BASIC
        fonts = {
            face: ImageFont.truetype(font_path(face), FONT_SIZE, layout_engine=layout)
            for face in self.faces
        }
        # Where faces are divided among splits, each split has its own stream of random numbers.
        stream = len(FACES) if self.task == 'attributes' else sorted(FACES).index(self.source)
        images = np.empty((num_images, IMAGE_SIZE, IMAGE_SIZE), np.uint8)
        done, start = 0, time.monotonic()
        with Progress(disable=not is_main_process()) as progress:
            # Shown only where it takes long enough to be missed.
            bar = progress.add_task(f'Rendering {num_images:,} glyphs', visible=False)
            for character in self.characters:
                for face_index, font in enumerate(fonts.values()):
                    rng = np.random.default_rng((self.seed, stream, face_index, ord(character)))
                    for _ in range(self.samples_per_face):
                        images[done] = render_glyph(character, font, rng)
                        done += 1
                progress.update(
                    bar, total=num_images, completed=done, visible=time.monotonic() - start > 1
                )
        return images

    def extra_repr(self) -> list[str]:
        """Return the lines that ``print(dataset)`` adds."""
        return [
            f'Task: \t{self.task}',
            f'Split: \t{self.split} ({len(self.kept_faces)} faces)',
            f'Images of a character in a face: \t{self.samples_per_face}',
            f'Kept in: \t{self.cache_file}',
        ]


def _save_atomically(path: Path, array: np.ndarray) -> None:
    """Write a file that other processes see whole or not at all.

    Several ranks may render at once; each writes the same file under a name of its own, and the
    last to rename wins.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not by tempfile, whose files nobody but their owner may read.
    temporary = path.with_name(f'{path.name}.{uuid.uuid4().hex}')
    try:
        with open(temporary, 'xb') as file:
            np.save(file, array)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
