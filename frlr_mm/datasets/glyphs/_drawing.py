"""How the image of a glyph is drawn."""

import math

import numpy as np
from PIL import Image, ImageDraw, ImageFont

IMAGE_SIZE = 32
# Glyphs are drawn at twice the size of the image and then mapped to it: the map smooths them.
_CANVAS_SIZE = 2 * IMAGE_SIZE
FONT_SIZE = 40
_BASELINE = 44
_MAX_SHIFT = 2.0  # pixels of the image
_MAX_ROTATION = 12.0  # degrees
_SCALES = (0.8, 1.1)


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

    Raises:
        ValueError: If there is nothing to see of the character.
    """
    canvas = Image.new('L', (_CANVAS_SIZE, _CANVAS_SIZE))
    ImageDraw.Draw(canvas).text(
        (_CANVAS_SIZE / 2, _BASELINE), character, fill=255, font=font, anchor='ms'
    )
    if canvas.getbbox() is None:
        raise ValueError(
            f'Expected a character that leaves ink, but {character!r} (U+{ord(character):04X}) '
            f'in {font.path!r} is blank'
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
