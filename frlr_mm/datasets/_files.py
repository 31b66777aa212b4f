"""What the readers of all data sets take for a text file, an image file and its name.

Text is UTF-8, with or without a byte order mark (BOM), with the line ends of Unix or Windows, and
with blank lines at its end. Folders may hold hidden files, among them the ``._name`` files of
macOS, and the case of a suffix does not matter.
"""

import codecs
import os
from collections.abc import Iterable
from io import BufferedReader
from pathlib import Path


def open_text(path: Path) -> BufferedReader:
    """Open a file to read the bytes of its text, the byte order mark left out."""
    file = path.open('rb')
    if file.read(len(codecs.BOM_UTF8)) != codecs.BOM_UTF8:
        file.seek(0)
    return file


def decode_line(path: Path, number: int, line: bytes) -> str:
    """Return a line of a file as text.

    Raises:
        ValueError: If it is not UTF-8.
    """
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f'{path}:{number}: expected UTF-8, but got {line!r:.200}') from error


def read_lines(path: Path) -> list[tuple[int, str]]:
    """Return the lines of a text file with their numbers, from 1, less blank ones at its end.

    Args:
        path (Path): The file.

    Returns:
        list[tuple[int, str]]: Line number, and line without what is blank at its end.

    Raises:
        ValueError: If a line is not UTF-8.
    """
    with open_text(path) as file:
        lines = [
            (number, decode_line(path, number, line).rstrip())
            for number, line in enumerate(file, 1)
        ]
    while lines and not lines[-1][1]:
        lines.pop()
    return lines


def list_images(folder: Path, suffixes: Iterable[str]) -> list[str]:
    """Return the sorted names of the images in a folder.

    Args:
        folder (Path): The folder.
        suffixes (Iterable[str]): Suffixes in lower case, such as '.jpg'; the case of those of the
            files does not matter.

    Returns:
        list[str]: Names, hidden files left out.
    """
    ends = tuple(suffixes)
    return sorted(
        name
        for name in os.listdir(folder)
        if name.lower().endswith(ends) and not name.startswith('.')
    )


def check_image_name(path: Path, number: int, name: str) -> str:
    """Return the name of an image if it stays inside the folder of images.

    Args:
        path (Path): The file that names it, for the error.
        number (int): The line that names it, for the error.
        name (str): The name, relative to the folder of images.

    Returns:
        str: ``name``.

    Raises:
        ValueError: If it is absolute, goes up by '..', or is not a path at all.
    """
    parts = name.replace('\\', '/').split('/')
    if not parts[0] or '..' in parts or '\0' in name:
        raise ValueError(
            f'{path}:{number}: expected the name of an image inside the folder of '
            f'images, but got {name!r}'
        )
    return name


def check_new_image(path: Path, number: int, name: str, seen: set[str]) -> None:
    """Add the name of an image to those that a list has named so far.

    Args:
        path (Path): The list, for the error.
        number (int): The line that names the image, for the error.
        name (str): The name.
        seen (set[str]): The names of the lines before.

    Raises:
        ValueError: If it is one of them.
    """
    if name in seen:
        raise ValueError(f'{path}:{number}: the image {name} is there twice')
    seen.add(name)
