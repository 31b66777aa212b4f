"""Built-in data: the characters of the DejaVu fonts that matplotlib carries."""

import hashlib
import logging
import math
import os
import time
import uuid
from functools import cache
from pathlib import Path
from typing import Any, Optional

import matplotlib
import numpy as np
from matplotlib.ft2font import FT2Font, LoadFlags
from mmengine.dist import is_main_process
from mmengine.logging import print_log
from mmengine.registry import DATASETS
from mmpretrain.datasets import BaseDataset
from PIL import Image, ImageDraw, ImageFont
from rich.progress import Progress

# Name of the face and start of its file's SHA-256: another file would be another data set.
TRAIN_FACES = {
    'DejaVuSans': '3fdf69cabf06049e',
    'DejaVuSans-Bold': 'b184b89e3c1075f2',
    'DejaVuSans-Oblique': 'ccdf74b350f11fd3',
    'DejaVuSansMono': '602ec86b8948cfcd',
    'DejaVuSansMono-Oblique': '28052813f7a709fc',
    'DejaVuSansMono-BoldOblique': 'a69081c15c76c827',
    'DejaVuSerif': '107244956e9962b9',
    'DejaVuSerif-Bold': 'c3753f2ed6bc673f',
    'DejaVuSerif-Italic': '3e7994fbc54fa10c',
}
TEST_FACES = {
    'DejaVuSans-BoldOblique': '6edf0283160186af',
    'DejaVuSansMono-Bold': 'baada9a5172fe208',
    'DejaVuSerif-BoldItalic': 'd93efec7a9d2e826',
}
FACES = {'train': TRAIN_FACES, 'test': TEST_FACES}

IMAGE_SIZE = 32
# Glyphs are drawn at twice the size of the image and then mapped to it: the map smooths them.
_CANVAS_SIZE = 2 * IMAGE_SIZE
_FONT_SIZE = 40
_BASELINE = 44
_MAX_SHIFT = 2.0  # pixels of the image
_MAX_ROTATION = 12.0  # degrees
_SCALES = (0.8, 1.1)
# Part of the cache's name: raise it with any change of what is drawn.
_VERSION = 1


def font_path(face: str) -> Path:
    """Return the font file of a face, once it is known to be the expected one.

    Args:
        face (str): A key of ``TRAIN_FACES`` or ``TEST_FACES``.

    Returns:
        Path: The file in matplotlib's folder of fonts.

    Raises:
        FileNotFoundError: If matplotlib does not carry the file.
        ValueError: If the file is another version.
    """
    path = Path(matplotlib.get_data_path(), 'fonts', 'ttf', f'{face}.ttf')
    expected = (TRAIN_FACES | TEST_FACES)[face]
    if not path.is_file():
        raise FileNotFoundError(
            f'GlyphDataset draws with the fonts that matplotlib installs, but {path} is missing; '
            'reinstall matplotlib')
    found = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    if found != expected:
        raise ValueError(f'GlyphDataset expected {path} to have a SHA-256 that starts with '
                         f'{expected}, but got {found}: other glyphs would be another data set; '
                         'reinstall matplotlib')
    return path


@cache
def glyph_characters() -> tuple[str, ...]:
    """Return the characters that every face has and that look different in every face.

    They are compared by outline, not by bitmap, so that the list depends on the font files alone.
    Of characters with one outline (Latin A, Greek Alpha) the first stays.

    Returns:
        tuple[str, ...]: 2,162 characters in the order of their code points.
    """
    fonts = [FT2Font(str(font_path(face))) for face in (*TRAIN_FACES, *TEST_FACES)]
    shared = set.intersection(*(set(font.get_charmap()) for font in fonts))
    seen: list[set] = [set() for _ in fonts]
    characters = []
    for code in sorted(shared):
        outlines = [_outline(font, code) for font in fonts]
        is_blank = any(not vertices for vertices, _ in outlines)
        pairs = list(zip(outlines, seen, strict=True))
        if is_blank or any(outline in known for outline, known in pairs):
            continue
        for outline, known in pairs:
            known.add(outline)
        characters.append(chr(code))
    return tuple(characters)


def _outline(font: FT2Font, code: int) -> tuple[bytes, bytes]:
    font.load_char(code, flags=LoadFlags.NO_SCALE | LoadFlags.NO_HINTING)
    vertices, codes = font.get_path()
    return vertices.tobytes(), codes.tobytes()


def render_glyph(character: str, font: ImageFont.FreeTypeFont,
                 rng: np.random.Generator) -> np.ndarray:
    """Draw a character, randomly shifted, rotated and scaled.

    Args:
        character (str): The character.
        font (ImageFont.FreeTypeFont): The face, at the size of the canvas.
        rng (np.random.Generator): Where the shift, angle and scale come from.

    Returns:
        np.ndarray: White on black, uint8 (32, 32).
    """
    canvas = Image.new('L', (_CANVAS_SIZE, _CANVAS_SIZE))
    ImageDraw.Draw(canvas).text(
        (_CANVAS_SIZE / 2, _BASELINE), character, fill=255, font=font, anchor='ms')

    shift_x, shift_y = rng.uniform(-_MAX_SHIFT, _MAX_SHIFT, 2)
    angle = math.radians(rng.uniform(-_MAX_ROTATION, _MAX_ROTATION))
    step = _CANVAS_SIZE / IMAGE_SIZE / rng.uniform(*_SCALES)
    cos, sin = step * math.cos(angle), step * math.sin(angle)
    # PIL wants the map from a pixel of the image to the canvas; both turn about their centre.
    u, v, centre = IMAGE_SIZE / 2 + shift_x, IMAGE_SIZE / 2 + shift_y, _CANVAS_SIZE / 2
    matrix = (cos, -sin, centre - cos * u + sin * v, sin, cos, centre - sin * u - cos * v)
    image = canvas.transform((IMAGE_SIZE, IMAGE_SIZE), Image.Transform.AFFINE, matrix,
                             Image.Resampling.BILINEAR)
    return np.asarray(image)


@DATASETS.register_module()
class GlyphDataset(BaseDataset):
    """Characters of twelve DejaVu faces: a data set with many classes that needs no download.

    One class for each character; nine faces to train on, three others to test on. Each image is a
    character in one face, 32 x 32 pixels, randomly shifted, rotated and scaled. It depends on the
    seed and the character alone, so the first classes are the same whatever ``num_classes``.
    Rendered once, the images are kept below ``data_root``.

    Args:
        split (str): 'train' or 'test'.
        num_classes (int): The first characters by code point, in [2, 2162]. Defaults to 1000.
        samples_per_face (int): Images of each character in each face, >= 1. Defaults to 3.
        seed (int): The seed of shifts, rotations and scales, >= 0. Defaults to 0.
        data_root (str): The folder of the rendered images, made where it is missing. Defaults to
            'data/glyphs'.
        metainfo (dict, optional): Further meta information. Defaults to None.
        **kwargs: Other arguments of :class:`mmpretrain.datasets.BaseDataset`.

    Each item that the pipeline gets holds ``img``, uint8 (32, 32, 3), ``gt_label``, int, and
    ``face``, str.

    Raises:
        ValueError: If an argument is out of its range, or a font file is another version.
        FileNotFoundError: If a font file is missing.
        OSError: If ``data_root`` cannot be written.
    """

    def __init__(self,
                 split: str,
                 num_classes: int = 1000,
                 samples_per_face: int = 3,
                 seed: int = 0,
                 data_root: str = 'data/glyphs',
                 metainfo: Optional[dict] = None,
                 **kwargs: Any) -> None:
        if split not in FACES:
            raise ValueError(f'Expected `split` to be one of {tuple(FACES)}, but got {split!r}')
        characters = glyph_characters()
        for name, value, low, high in (('num_classes', num_classes, 2, len(characters)),
                                       ('samples_per_face', samples_per_face, 1, math.inf),
                                       ('seed', seed, 0, math.inf)):
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise ValueError(f'Expected `{name}` to be an int in [{low}, {high}], '
                                 f'but got {value!r}')
        self.split = split
        self.samples_per_face = samples_per_face
        self.seed = seed
        self.characters = characters[:num_classes]
        super().__init__(
            ann_file='',
            metainfo=dict(classes=self.characters) | (metainfo or {}),
            data_root=data_root,
            **kwargs)

    @property
    def cache_file(self) -> Path:
        """The file that the images are kept in."""
        name = (f'{self.split}-{len(self.characters)}x{self.samples_per_face}'
                f'-seed{self.seed}-v{_VERSION}.npy')
        return Path(self.data_root, name)

    def load_data_list(self) -> list[dict]:
        """Return what the pipeline gets of each image; render the images if they are not kept."""
        samples = [(label, face) for label in range(len(self.characters))
                   for face in FACES[self.split] for _ in range(self.samples_per_face)]
        images = self._load_images(len(samples))
        if images is None:
            images = self._render_images(len(samples))
            _save_atomically(self.cache_file, images)
        return [
            dict(img=np.repeat(image[..., None], 3, axis=2), gt_label=label, face=face)
            for image, (label, face) in zip(images, samples, strict=True)
        ]

    def _load_images(self, num_images: int) -> Optional[np.ndarray]:
        if not self.cache_file.is_file():
            return None
        try:
            with open(self.cache_file, 'rb') as file:
                images = np.lib.format.read_array(file)
        except (ValueError, EOFError) as error:
            print_log(f'{self.cache_file} cannot be read ({error}); it is rendered again',
                      'current', level=logging.WARNING)
            return None
        if images.shape != (num_images, IMAGE_SIZE, IMAGE_SIZE) or images.dtype != np.uint8:
            print_log(f'{self.cache_file} holds {images.dtype} {images.shape}, not what it should;'
                      ' it is rendered again', 'current', level=logging.WARNING)
            return None
        return images

    def _render_images(self, num_images: int) -> np.ndarray:
        layout = ImageFont.Layout.BASIC
        fonts = {
            face: ImageFont.truetype(font_path(face), _FONT_SIZE, layout_engine=layout)
            for face in FACES[self.split]
        }
        images = np.empty((num_images, IMAGE_SIZE, IMAGE_SIZE), np.uint8)
        done, start = 0, time.monotonic()
        with Progress(disable=not is_main_process()) as progress:
            # Shown only where it takes long enough to be missed.
            bar = progress.add_task(f'Rendering {num_images:,} glyphs', visible=False)
            for character in self.characters:
                for face_index, font in enumerate(fonts.values()):
                    rng = np.random.default_rng(
                        (self.seed, sorted(FACES).index(self.split), face_index, ord(character)))
                    for _ in range(self.samples_per_face):
                        images[done] = render_glyph(character, font, rng)
                        done += 1
                progress.update(bar, total=num_images, completed=done,
                                visible=time.monotonic() - start > 1)
        return images

    def extra_repr(self) -> list[str]:
        """Return the lines that ``print(dataset)`` adds."""
        return [
            f'Split: \t{self.split} ({len(FACES[self.split])} faces)',
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
