"""Font files: which characters a font has, and which of them several fonts share."""

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from matplotlib.ft2font import FT2Font, LoadFlags
from PIL import ImageFont

# How many missing characters an error names.
_NUM_NAMED = 5


@dataclass(frozen=True)
class Font:
    """A font file and what is in it.

    Args:
        path (Path): The file; of a collection (.ttc) the first font counts.
        sha256 (str): The hexadecimal SHA-256 of the file's bytes.
    """

    path: Path
    sha256: str

    def open(self, size: int) -> ImageFont.FreeTypeFont:
        """Return the font at a size in pixels."""
        return ImageFont.truetype(str(self.path), size, layout_engine=ImageFont.Layout.BASIC)

    def characters(self) -> set[str]:
        """Return all characters that the font has a glyph for."""
        return set(map(chr, FT2Font(str(self.path)).get_charmap()))


def read_fonts(paths: Sequence[str | os.PathLike]) -> dict[str, Font]:
    """Read font files, each of which is a face named like its file.

    Args:
        paths (Sequence[str | os.PathLike]): TrueType or OpenType files, collections included.

    Returns:
        dict[str, Font]: From face, the file's name without its suffix, to font.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If there is not a single path, a file is not a font, or two are named alike.
    """
    if isinstance(paths, str | os.PathLike) or not paths:
        raise ValueError(f'Expected `fonts` to be a sequence of font files, but got {paths!r}')
    fonts: dict[str, Font] = {}
    for path in map(Path, paths):
        # Pillow would look for the name among the fonts of the system.
        if not path.is_file():
            raise FileNotFoundError(f'Expected `fonts` to be font files, but {path} is missing')
        if path.stem in fonts:
            raise ValueError(
                f'Expected `fonts` to have different names, but {fonts[path.stem].path} and '
                f'{path} are both named {path.stem}'
            )
        font = Font(path, hashlib.sha256(path.read_bytes()).hexdigest())
        try:
            font.open(size=32)
            FT2Font(str(path))
        except (OSError, RuntimeError) as error:
            raise ValueError(
                f'Expected {path} to be a TrueType or OpenType font, but it cannot be opened: '
                f'{error}'
            ) from error
        fonts[path.stem] = font
    return fonts


def check_characters(characters: Iterable[str], fonts: dict[str, Font]) -> tuple[str, ...]:
    """Return the characters if each occurs once and every font has them all.

    Args:
        characters (Iterable[str]): Strings of one character, or one string of them.
        fonts (dict[str, Font]): From face to font.

    Returns:
        tuple[str, ...]: The characters in the same order.

    Raises:
        ValueError: If an element is not one character, occurs twice, or is missing in a font.
    """
    seen: set[str] = set()
    for character in characters:
        if not isinstance(character, str) or len(character) != 1:
            raise ValueError(
                f'Expected `characters` to be single characters, but got {character!r}'
            )
        if character in seen:
            raise ValueError(
                f'Expected each of `characters` once, but {_describe(character)} is there twice'
            )
        seen.add(character)
    for face, font in fonts.items():
        missing = sorted(seen - font.characters())
        if missing:
            named = ', '.join(map(_describe, missing[:_NUM_NAMED]))
            raise ValueError(
                f'Expected {face} ({font.path}) to have all {len(seen):,} `characters`, but it '
                f'lacks {len(missing):,}: {named}{", ..." if len(missing) > _NUM_NAMED else ""}'
            )
    return tuple(characters)


@cache
def shared_characters(fonts: tuple[Font, ...]) -> tuple[str, ...]:
    """Return the characters that every font has and that look different in every font.

    They are compared by outline, not by bitmap, so that the list depends on the font files alone.
    Of characters with one outline (Latin A, Greek Alpha) the first stays.

    Args:
        fonts (tuple[Font, ...]): The fonts.

    Returns:
        tuple[str, ...]: Characters in the order of their code points.
    """
    shared = set.intersection(*(font.characters() for font in fonts))
    files = [FT2Font(str(font.path)) for font in fonts]
    seen: list[set] = [set() for _ in files]
    characters = []
    for character in sorted(shared):
        outlines = [_outline(file, ord(character)) for file in files]
        is_blank = any(not vertices for vertices, _ in outlines)
        pairs = list(zip(outlines, seen, strict=True))
        if is_blank or any(outline in known for outline, known in pairs):
            continue
        for outline, known in pairs:
            known.add(outline)
        characters.append(character)
    return tuple(characters)


def _outline(file: FT2Font, code: int) -> tuple[bytes, bytes]:
    file.load_char(code, flags=LoadFlags.NO_SCALE | LoadFlags.NO_HINTING)
    vertices, codes = file.get_path()
    return vertices.tobytes(), codes.tobytes()


def _describe(character: str) -> str:
    return f'{character!r} (U+{ord(character):04X})'
