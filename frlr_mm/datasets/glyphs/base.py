"""What the glyph data sets share: their characters and faces, rendered once and kept."""

import hashlib
import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from mmengine.dist import is_main_process
from mmengine.logging import print_log
from mmpretrain.datasets import BaseDataset
from rich.progress import Progress

from ..._checks import check_choice, check_int
from ...engine.files import replacing
from ._drawing import FONT_SIZE, IMAGE_SIZE, render_glyph
from ._faces import FACES, builtin_font, glyph_characters
from ._fonts import Font, check_characters, read_fonts, shared_characters

# Part of the cache's name: raise it with any change of what is drawn.
_VERSION = 1
# Own fonts draw other random numbers than the built-in ones, whose streams are 0 to 2.
_OWN_FONTS_STREAM = 3


class BaseGlyphDataset(BaseDataset):
    """Base class: characters in several faces, a data set that needs no download.

    Each image is a character in one face, 32 x 32 pixels, randomly shifted, rotated and scaled.
    Rendered once, the images are kept below ``data_root``.

    By default the fonts are the twelve faces of the DejaVu family that matplotlib carries, with
    the 2,162 characters that look different in each of them. An image depends on the seed, the
    split, the face and the character alone, so the first classes are the same whatever the number
    of classes. With ``fonts``, the random numbers of a character in a face are those of
    ``numpy.random.default_rng((seed, stream, file, code_point))``: the stream is 3 for the test,
    4 to train, and 5 for attributes, and ``file`` is the first 64 bits of the SHA-256 of the font
    file. So the other fonts, their order and their names change nothing.

    Args:
        split (str): One of ``splits``.
        samples_per_face (int): The number of images per character and face, >= 1. Defaults to 3.
        seed (int): The seed of shifts, rotations and scales, >= 0. Defaults to 0.
        data_root (str): The folder of the rendered images, made where it is missing. Defaults to
            'data/glyphs'.
        fonts (Sequence[str | os.PathLike], optional): TrueType or OpenType files, in place of the
            built-in faces; of a collection (.ttc) the first font counts. A face has the name of
            its file without the suffix. To hold faces out for the test, give the splits other
            ``fonts``, or the same ones with other ``faces``. Defaults to None.
        characters (Sequence[str], optional): The characters, as one string or as strings of one
            character each; every font has to have them. None stands for all that the fonts share:
            name them where the splits have different ``fonts``, so that the classes are the same.
            Defaults to None.
        faces (Sequence[str], optional): The faces to keep, of those of the split or of ``fonts``;
            None keeps all. Defaults to None.
        metainfo (dict, optional): Further meta information. Defaults to None.
        **kwargs: Other arguments of :class:`mmpretrain.datasets.BaseDataset`.

    Each item that the pipeline gets holds ``img``, uint8 (32, 32, 3), ``face``, str, and the
    labels of the task.

    Raises:
        ValueError: If an argument is out of its range, a built-in font file is another version, a
            file of ``fonts`` is not a font or named like another, or a font lacks a character.
        FileNotFoundError: If a font file is missing.
        OSError: If ``data_root`` cannot be written.
    """

    # 'query' and 'gallery' are parts of 'test'.
    splits: ClassVar[tuple[str, ...]]
    # How the name of the cache starts.
    prefix: ClassVar[str] = ''

    def __init__(
        self,
        split: str,
        samples_per_face: int = 3,
        seed: int = 0,
        data_root: str = 'data/glyphs',
        fonts: Sequence[str | os.PathLike] | None = None,
        characters: Sequence[str] | None = None,
        faces: Sequence[str] | None = None,
        metainfo: dict | None = None,
        **kwargs: Any,
    ) -> None:
        check_choice('split', split, self.splits)
        self.split = split
        # What is rendered: queries and gallery are parts of it.
        self.source = 'test' if split in ('query', 'gallery') else split
        check_int('samples_per_face', samples_per_face, self.min_samples_per_face())
        check_int('seed', seed, 0)
        self.samples_per_face = samples_per_face
        self.seed = seed

        self._own_fonts = None if fonts is None else read_fonts(fonts)
        self.faces = self.builtin_faces() if self._own_fonts is None else tuple(self._own_fonts)
        self.kept_faces = self.faces if faces is None else tuple(faces)
        if not self.kept_faces or not set(self.kept_faces) <= set(self.faces):
            raise ValueError(
                f'Expected `faces` to be some of {self.faces}, but got {self.kept_faces}'
            )
        if characters is not None:
            candidates = check_characters(characters, self._fonts(self.faces))
        elif self._own_fonts is not None:
            candidates = shared_characters(tuple(self._own_fonts.values()))
        else:
            candidates = glyph_characters()
        self._is_builtin = fonts is None and characters is None
        self.characters = self.choose_characters(candidates)
        super().__init__(
            ann_file='',
            metainfo=self.describe_classes(candidates) | (metainfo or {}),
            data_root=data_root,
            **kwargs,
        )

    def min_samples_per_face(self) -> int:
        """Return the least ``samples_per_face`` that the split can do with."""
        return 1

    def builtin_faces(self) -> tuple[str, ...]:
        """Return the built-in faces of the split."""
        return tuple(FACES[self.source])

    def choose_characters(self, characters: tuple[str, ...]) -> tuple[str, ...]:
        """Return those of all characters that the split shows."""
        raise NotImplementedError

    def describe_classes(self, characters: tuple[str, ...]) -> dict:
        """Return the meta information, given all characters."""
        return dict(classes=self.characters)

    def target(self, label: int, face: str) -> dict:
        """Return the labels of an image, given the index of its character and its face."""
        return dict(gt_label=label)

    def arrange(self, data_list: list[dict]) -> list[dict]:
        """Return the images of the split in its order."""
        return data_list

    @property
    def stream(self) -> int:
        """The number of the stream of random numbers, one for each split."""
        return ('test', 'train').index(self.source)

    @property
    def cache_file(self) -> Path:
        """The file that the images are kept in."""
        digest = ''
        if not self._is_builtin:
            fonts = self._own_fonts or {}
            parts = [fonts[face].sha256 for face in self._rendered_faces() if fonts]
            content = ' '.join([*parts, ''.join(self.characters)])
            digest = f'-{hashlib.sha256(content.encode()).hexdigest()[:16]}'
        name = (
            f'{self.prefix}{self.source}-{len(self.characters)}x{self.samples_per_face}{digest}'
            f'-seed{self.seed}-v{_VERSION}.npy'
        )
        return Path(self.data_root, name)

    def load_data_list(self) -> list[dict]:
        """Return what the pipeline gets per image; render the images if they are not kept."""
        samples = [
            (label, face)
            for label in range(len(self.characters))
            for face in self._rendered_faces()
            for _ in range(self.samples_per_face)
        ]
        images = self._load_images(len(samples))
        if images is None:
            images = self._render_images(len(samples))
            try:
                with replacing(self.cache_file) as file:
                    np.save(file, images)
            except OSError as error:
                raise OSError(
                    error.errno,
                    f'GlyphDataset cannot keep its images in {self.cache_file} '
                    f'({error.strerror}): set `data_root` to a folder that can be written',
                ) from error
        data_list = [
            dict(img=image, face=face, **self.target(label, face))
            for image, (label, face) in zip(images, samples, strict=True)
        ]
        kept = set(self.kept_faces)
        return [info for info in self.arrange(data_list) if info['face'] in kept]

    def get_data_info(self, idx: int) -> dict:
        """Return what the pipeline gets of an image; its one channel is repeated only here."""
        info = super().get_data_info(idx)
        return info | dict(img=np.repeat(info['img'][..., None], 3, axis=2))

    def extra_repr(self) -> list[str]:
        """Return the lines that ``print(dataset)`` adds."""
        return [
            f'Split: \t{self.split} ({len(self.kept_faces)} faces)',
            f'Images per character and face: \t{self.samples_per_face}',
            f'Kept in: \t{self.cache_file}',
        ]

    def _fonts(self, faces: Sequence[str]) -> dict[str, Font]:
        if self._own_fonts is None:
            return {face: builtin_font(face) for face in faces}
        return {face: self._own_fonts[face] for face in faces}

    def _rendered_faces(self) -> tuple[str, ...]:
        """Return the faces in the cache: of the built-in ones all, so that the file is shared."""
        if self._own_fonts is None:
            return self.faces
        return tuple(face for face in self.faces if face in self.kept_faces)

    def _load_images(self, num_images: int) -> np.ndarray | None:
        if not self.cache_file.is_file():
            return None
        try:
            with open(self.cache_file, 'rb') as file:
                images = np.lib.format.read_array(file)
        except Exception as error:  # NumPy's parser of headers has many ways to stumble
            self._warn(f'cannot be read ({error})')
            return None
        if images.shape != (num_images, IMAGE_SIZE, IMAGE_SIZE) or images.dtype != np.uint8:
            self._warn(f'holds {images.dtype} {images.shape}, not what it should')
            return None
        return images

    def _warn(self, fault: str) -> None:
        message = f'{self.cache_file} {fault}; it is rendered again'
        print_log(message, 'current', level=logging.WARNING)

    def _render_images(self, num_images: int) -> np.ndarray:
        fonts = self._fonts(self._rendered_faces())
        faces = [
            (font.open(FONT_SIZE), self._random_key(index, font))
            for index, font in enumerate(fonts.values())
        ]
        images = np.empty((num_images, IMAGE_SIZE, IMAGE_SIZE), np.uint8)
        done, start = 0, time.monotonic()
        with Progress(disable=not is_main_process()) as progress:
            # Shown only where it takes long enough to be missed.
            bar = progress.add_task(f'Rendering {num_images:,} glyphs', visible=False)
            for character in self.characters:
                for font, key in faces:
                    rng = np.random.default_rng((*key, ord(character)))
                    for _ in range(self.samples_per_face):
                        images[done] = render_glyph(character, font, rng)
                        done += 1
                progress.update(
                    bar, total=num_images, completed=done, visible=time.monotonic() - start > 1
                )
        return images

    def _random_key(self, index: int, font: Font) -> tuple[int, int, int]:
        """Return what the random numbers of a face follow from, beside the character."""
        if self._own_fonts is None:
            return self.seed, self.stream, index
        return self.seed, _OWN_FONTS_STREAM + self.stream, int(font.sha256[:16], 16)
