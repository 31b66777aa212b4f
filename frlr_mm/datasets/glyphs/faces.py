"""The faces of the built-in glyphs, the characters they share, and how one is drawn."""

import hashlib
import math
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.ft2font import FT2Font, LoadFlags
from PIL import Image, ImageDraw, ImageFont

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
FONT_SIZE = 40
_BASELINE = 44
_MAX_SHIFT = 2.0  # pixels of the image
_MAX_ROTATION = 12.0  # degrees
_SCALES = (0.8, 1.1)


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
            'reinstall matplotlib'
        )
    found = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    if found != expected:
        raise ValueError(
            f'GlyphDataset expected {path} to have a SHA-256 that starts with '
            f'{expected}, but got {found}: other glyphs would be another data set; '
            'reinstall matplotlib'
        )
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


def render_glyph(
    character: str, font: ImageFont.FreeTypeFont, rng: np.random.Generator
) -> np.ndarray:
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
        (_CANVAS_SIZE / 2, _BASELINE), character, fill=255, font=font, anchor='ms'
    )

    shift_x, shift_y = rng.uniform(-_MAX_SHIFT, _MAX_SHIFT, 2)
    angle = math.radians(rng.uniform(-_MAX_ROTATION, _MAX_ROTATION))
    step = _CANVAS_SIZE / IMAGE_SIZE / rng.uniform(*_SCALES)
    cos, sin = step * math.cos(angle), step * math.sin(angle)
    # PIL wants the map from a pixel of the image to the canvas; both turn about their centre.
    u, v, centre = IMAGE_SIZE / 2 + shift_x, IMAGE_SIZE / 2 + shift_y, _CANVAS_SIZE / 2
    matrix = (cos, -sin, centre - cos * u + sin * v, sin, cos, centre - sin * u - cos * v)
    image = canvas.transform(
        (IMAGE_SIZE, IMAGE_SIZE), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR
    )
    return np.asarray(image)
