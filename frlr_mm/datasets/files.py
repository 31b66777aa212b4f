"""Annotation files and images are data: what is read of them, and where they may lead."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def decode_line(path: Path, number: int, line: bytes) -> str:
    """Return a line of a file as text.

    Raises:
        ValueError: If it is no UTF-8.
    """
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f'{path}:{number}: expected UTF-8, but got {line!r:.200}') from error


def read_lines(path: Path, keep_blank: bool = False) -> list[tuple[int, str]]:
    """Return the lines of a text file with their numbers, from 1.

    Args:
        path (Path): The file.
        keep_blank (bool): Whether blank lines are returned too. Defaults to False.

    Returns:
        list[tuple[int, str]]: Line number, and line without what is blank at its end.

    Raises:
        ValueError: If a line is no UTF-8.
    """
    with path.open('rb') as file:
        return [
            (number, decode_line(path, number, line).rstrip())
            for number, line in enumerate(file, 1)
            if keep_blank or line.strip()
        ]


def check_image_name(path: Path, number: int, name: str) -> str:
    """Return the name of an image if it stays inside of the folder of images.

    Args:
        path (Path): The file that names it, for the error.
        number (int): The line that names it, for the error.
        name (str): The name, relative to the folder of images.

    Returns:
        str: ``name``.

    Raises:
        ValueError: If it is absolute, goes up by '..', or is no path at all.
    """
    parts = name.replace('\\', '/').split('/')
    if not parts[0] or '..' in parts or '\0' in name:
        raise ValueError(
            f'{path}:{number}: expected the name of an image inside of the folder of '
            f'images, but got {name!r}'
        )
    return name


def refuse_links_out(root: str, paths: Iterable[Any]) -> None:
    """Raise if a path leaves ``root`` by a symbolic link; ``root`` itself may be one.

    A file of the image's name that is not there is no error here. Folders are listed once each,
    which tells links from files without a look at every file.

    Args:
        root (str): The folder of the data set.
        paths (Iterable[str | Path]): Images below ``root``.

    Raises:
        ValueError: If a path leads out of ``root``.
    """
    inside = os.path.realpath(root)
    links: dict[str, set[str]] = {}
    for path in paths:
        folder, name = os.path.split(path)
        if folder not in links:
            _check_target(inside, folder)
            links[folder] = _list_links(folder)
        if name in links[folder]:
            _check_target(inside, str(path))


def _list_links(folder: str) -> set[str]:
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if entry.is_symlink()}
    except (FileNotFoundError, NotADirectoryError):
        return set()


def _check_target(inside: str, path: str) -> None:
    target = os.path.realpath(path)
    if os.path.commonpath([inside, target]) != inside:
        raise ValueError(
            f'{path} leads to {target}, out of the data set: expected images inside of '
            f'{inside}; `allow_links_out=True` of the data set allows it'
        )
