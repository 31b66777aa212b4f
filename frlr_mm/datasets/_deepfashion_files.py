"""Readers of DeepFashion's annotation files; each error names the file and the line."""

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from ._files import decode_line, open_text, read_lines

# What is read at a time of the label matrix, which has 0.9 GB of text.
_CHUNK_BYTES = 16 << 20
# No image has more pixels, and Python refuses to read thousands of digits.
_NUMBER = re.compile('[0-9]{1,9}')
_SPACE, _TAB, _NEWLINE, _MINUS, _ZERO, _ONE = b' \t\n-01'

Row = tuple[int, str]


def read_rows(path: Path, has_header: bool) -> list[Row]:
    """Return the rows of a small file with their line numbers.

    Args:
        path (Path): The file.
        has_header (bool): Whether line 1 holds the number of rows and line 2 the column names. If
            it does, blank lines are left out; else they stay, as rows are known by their place.

    Returns:
        list[tuple[int, str]]: Line number, from 1, and line.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a line is not UTF-8, or the number of rows is not that of line 1.
    """
    _check_exists(path)
    lines = read_lines(path)
    if not has_header:
        return lines
    rows = [(number, line) for number, line in lines[2:] if line]
    _check_count(path, lines[0][1] if lines else '', len(rows))
    return rows


def read_attribute_names(path: Path, types: Sequence[str]) -> dict[str, str]:
    """Read list_attr_cloth.txt: the name of each attribute and its type.

    Names hold spaces, and one row of the official file has a single space before its type: the
    type is what follows the last space.

    Args:
        path (Path): The file.
        types (Sequence[str]): The names of the types 1, 2...

    Returns:
        dict[str, str]: From name to type, in the order of the file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a row or the number of rows does not fit.
    """
    names: dict[str, str] = {}
    for number, line in read_rows(path, has_header=True):
        name, _, kind = line.strip().rpartition(' ')
        name = name.strip()
        if not name or not _NUMBER.fullmatch(kind) or not 1 <= int(kind) <= len(types):
            raise ValueError(
                f'{path}:{number}: expected a name and a type in [1, {len(types)}], '
                f'but got {line.strip()!r}'
            )
        if name in names:
            raise ValueError(f'{path}:{number}: the attribute {name!r} is there twice')
        names[name] = types[int(kind) - 1]
    return names


def read_columns(
    path: Path, names: Sequence[str], has_header: bool
) -> list[tuple[int, list[str]]]:
    """Read a file of a fixed number of columns without spaces in them.

    Args:
        path (Path): The file.
        names (Sequence[str]): What the columns hold, for errors.
        has_header (bool): Whether line 1 holds the number of rows and line 2 the column names.

    Returns:
        list[tuple[int, list[str]]]: Line number and fields of each row.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a row or the number of rows does not fit.
    """
    rows = []
    for number, line in read_rows(path, has_header):
        fields = line.split()
        if len(fields) != len(names):
            raise ValueError(
                f'{path}:{number}: expected {len(names)} columns '
                f'({", ".join(names)}), but got {len(fields)}: {line.strip()!r}'
            )
        rows.append((number, fields))
    return rows


def parse_box(path: Path, number: int, fields: Sequence[str]) -> list[int]:
    """Return the corners x_1, y_1, x_2, y_2 of a bounding box, both inside it.

    Raises:
        ValueError: If they are not whole numbers, or out of order.
    """
    if not all(map(_NUMBER.fullmatch, fields)):
        raise ValueError(
            f'{path}:{number}: expected a bounding box of four whole numbers, '
            f'but got {" ".join(fields)}'
        )
    x_1, y_1, x_2, y_2 = map(int, fields)
    if x_1 > x_2 or y_1 > y_2:
        raise ValueError(
            f'{path}:{number}: expected x_1 <= x_2 and y_1 <= y_2, but got {" ".join(fields)}'
        )
    return [x_1, y_1, x_2, y_2]


def read_labels(
    path: Path, num_attributes: int, has_names: bool
) -> Iterator[tuple[int, str, np.ndarray, np.ndarray]]:
    """Read a matrix of attribute labels, a piece at a time and sparse.

    Args:
        path (Path): list_attr_img.txt, or a file of labels alone.
        num_attributes (int): The number of labels per row.
        has_names (bool): Whether the file has the two header lines and the name of an image before
            its labels; 1 is positive, -1 negative and 0 unknown then. Else 1 is positive and 0
            negative.

    Yields:
        tuple[int, str, np.ndarray, np.ndarray]: For each row its line number, the name of the
        image or '', and the indices of its positive and of its unknown attributes, both of the
        smallest type that holds them.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a row or the number of rows does not fit.
    """
    num_rows = 0
    blank = 0  # the first blank line so far
    _check_exists(path)
    with open_text(path) as file:
        header = [file.readline(), file.readline()] if has_names else []
        num_lines = len(header)
        while lines := file.readlines(_CHUNK_BYTES):
            numbers, names, bodies = [], [], []
            for number, line in enumerate(lines, num_lines + 1):
                fields = line.split(None, 1) if has_names else [b'', line.strip()]
                if not any(fields):
                    blank = blank or number
                elif blank and not has_names:
                    # Rows are known by their place.
                    raise ValueError(
                        f'{path}:{blank}: expected {num_attributes} labels, but got a blank line'
                    )
                else:
                    numbers.append(number)
                    names.append(decode_line(path, number, fields[0]))
                    bodies.append(fields[1].rstrip() if len(fields) > 1 else b'')
            num_lines += len(lines)
            if not numbers:
                continue
            num_rows += len(numbers)
            labels = _parse_labels(path, numbers, bodies, num_attributes)
            positive = _split_rows(labels == 1)
            if has_names:
                unknown = _split_rows(labels == 0)
            else:
                _refuse_negative(path, numbers, labels)
                unknown = [np.empty(0, np.int16)] * len(numbers)
            yield from zip(numbers, names, positive, unknown, strict=True)
    if has_names:
        _check_count(path, decode_line(path, 1, header[0]), num_rows)


def _parse_labels(
    path: Path, numbers: Sequence[int], bodies: Sequence[bytes], num_attributes: int
) -> np.ndarray:
    """Return the labels 1, -1 and 0 of some rows, int8 (rows, attributes)."""
    # Each digit ends one label, so the digits are the labels and the lines need no splitting.
    text = np.frombuffer(b'\n' + b'\n'.join(bodies) + b'\n', np.uint8)
    here, after = text[:-1], text[1:]
    is_digit = (here == _ZERO) | (here == _ONE)
    is_minus = here == _MINUS
    # What `bytes.split` splits at: the space, and the five from the tab on (uint8 wraps around).
    is_space = (text == _SPACE) | (text - _TAB < 5)
    is_space, ends_label = is_space[:-1], is_space[1:]
    starts_label = np.concatenate([[False], is_space[:-1]])
    is_right = is_space | (is_digit & ends_label) | (is_minus & starts_label & (after == _ONE))
    line_ends = np.flatnonzero(text == _NEWLINE)[1:]
    if not is_right.all():
        row = np.searchsorted(line_ends, is_right.argmin())
        raise ValueError(f'{path}:{numbers[row]}: expected labels of 1, -1 and 0')

    places = np.flatnonzero(is_digit)
    counts = np.diff(np.searchsorted(places, line_ends), prepend=0)
    if (counts != num_attributes).any():
        row = (counts != num_attributes).argmax()
        raise ValueError(
            f'{path}:{numbers[row]}: expected {num_attributes} labels, but got {counts[row]}'
        )
    labels = (text[places] == _ONE).astype(np.int8)
    labels[is_minus[places - 1]] = -1
    return labels.reshape(len(bodies), num_attributes)


def _split_rows(mask: np.ndarray) -> list[np.ndarray]:
    """Return the columns at which each row of a mask is set."""
    num_rows, num_columns = mask.shape
    # Of the flat mask: `nonzero` of a matrix takes several times as long.
    places = np.flatnonzero(mask)
    ends = np.searchsorted(places, np.arange(num_rows + 1) * num_columns).tolist()
    columns = (places % num_columns).astype(np.min_scalar_type(num_columns))
    return [columns[start:end] for start, end in pairwise(ends)]


def _refuse_negative(path: Path, numbers: Sequence[int], labels: np.ndarray) -> None:
    rows = (labels < 0).any(1)
    if rows.any():
        number = numbers[int(rows.argmax())]
        raise ValueError(f'{path}:{number}: expected labels of 1 and 0, but got -1')


def _check_count(path: Path, first_line: str, num_rows: int) -> None:
    if first_line.strip() != str(num_rows):
        raise ValueError(
            f'{path}:1: expected the number of rows that follow, {num_rows}, '
            f'but got {first_line.strip()!r}'
        )


def _check_exists(path: Path) -> None:
    if not path.is_file():
        raise FileNotFoundError(f'DeepFashionAttribute expected the annotation file {path}')
