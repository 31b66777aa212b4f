"""The faces of the built-in glyphs, and the characters that they share."""

import hashlib
from functools import cache
from pathlib import Path

import matplotlib

from ._fonts import Font, shared_characters

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


def builtin_font(face: str) -> Font:
    """Return the font of a face, once its file is known to be the expected one.

    Args:
        face (str): A key of ``TRAIN_FACES`` or ``TEST_FACES``.

    Returns:
        Font: A file in matplotlib's folder of fonts.

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
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if not found.startswith(expected):
        raise ValueError(
            f'Expected {path} to have a SHA-256 that starts with {expected}, but got '
            f'{found[:16]}: other glyphs would be another data set; reinstall matplotlib'
        )
    return Font(path, found)


@cache
def glyph_characters() -> tuple[str, ...]:
    """Return the characters that look different in each of the twelve faces.

    Returns:
        tuple[str, ...]: 2,162 characters in the order of their code points.
    """
    return shared_characters(tuple(map(builtin_font, (*TRAIN_FACES, *TEST_FACES))))
