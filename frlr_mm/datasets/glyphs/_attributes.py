"""The attributes of glyphs: what Unicode says of a character, and what its face adds."""

import unicodedata
from collections import Counter
from collections.abc import Sequence

# An attribute of fewer characters would leave the test split next to none.
MIN_CHARACTERS = 20
SCRIPTS = ('Latin', 'Greek', 'Cyrillic', 'Armenian', 'Georgian')
# The categories of upper- and lower-case letters are left to the attributes of case.
_CASE_CATEGORIES = ('Lu', 'Ll')
_CHARACTER_TYPES = ('script', 'case', 'category', 'diacritic')
# What the name of a face says of all its characters.
_FACE_MARKS = {
    'bold': ('Bold',),
    'slanted': ('Oblique', 'Italic'),
    'serif': ('Serif',),
    'monospaced': ('Mono',),
}


def _character_attributes(character: str) -> set[tuple[str, str]]:
    """Return the type and name of each attribute that Unicode gives to a character."""
    # Characters for private use have no name.
    script = unicodedata.name(character, '?').split()[0].capitalize()
    found = {('script', script)} if script in SCRIPTS else set()
    if character.isupper():
        found.add(('case', 'uppercase'))
    if character.islower():
        found.add(('case', 'lowercase'))
    category = unicodedata.category(character)
    if category not in _CASE_CATEGORIES:
        found.add(('category', category))
    for mark in unicodedata.normalize('NFD', character)[1:]:
        found.add(('diacritic', unicodedata.name(mark).removeprefix('COMBINING ').lower()))
    return found


def attribute_types(characters: Sequence[str]) -> dict[str, str]:
    """Return the attributes that at least 20 characters have, and those of the faces.

    Args:
        characters (Sequence[str]): All characters, whatever their split.

    Returns:
        dict[str, str]: From name to type, in the order of the labels.
    """
    counts = Counter(
        found for character in characters for found in _character_attributes(character)
    )
    kept = sorted(
        (found for found, count in counts.items() if count >= MIN_CHARACTERS),
        key=lambda found: (_CHARACTER_TYPES.index(found[0]), found[1]),
    )
    return {name: kind for kind, name in kept} | dict.fromkeys(_FACE_MARKS, 'face')


def attribute_names(character: str, face: str) -> set[str]:
    """Return the names of all attributes of a character in a face.

    Args:
        character (str): The character.
        face (str): The name of the face, like 'DejaVuSans-BoldOblique'.

    Returns:
        set[str]: Names, rare ones that :func:`attribute_types` leaves out among them.
    """
    of_face = {name for name, marks in _FACE_MARKS.items() if any(mark in face for mark in marks)}
    return of_face | {name for _, name in _character_attributes(character)}
