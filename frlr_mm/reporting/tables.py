"""Rows in CSV files, tables in Markdown, and named blocks that are replaced in a text."""

import csv
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

from frlr_mm.engine.files import replacing

Row = dict[str, str]


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a CSV file, none where there is no file."""
    if not path.is_file():
        return []
    with path.open(newline='', encoding='utf-8') as file:
        return list(csv.DictReader(file))


def append_rows(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    r"""Append rows to a CSV file, which is replaced as a whole.

    Args:
        path (Path): The file; without one, the columns are those of the first row. What it holds
            stays as it is, byte for byte. Its lines end in '\n', or as they do already.
        rows (Sequence[Mapping[str, object]]): Rows, each with the columns of the file.

    Raises:
        ValueError: If a row has other columns than the file.
    """
    if not rows:
        return
    old = path.read_bytes().decode() if path.is_file() else ''
    names = next(csv.reader(old.splitlines())) if old else list(rows[0])
    for row in rows:
        if row.keys() != set(names):
            differing = ', '.join(sorted(row.keys() ^ set(names)))
            raise ValueError(f'Expected the columns of {path}, but these differ: {differing}')
    with replacing(path) as aside, aside.open('w', newline='', encoding='utf-8') as file:
        file.write(old)
        end = '\r\n' if '\r\n' in old else '\n'
        writer = csv.DictWriter(file, names, lineterminator=end)
        if not old:
            writer.writeheader()
        elif not old.endswith('\n'):
            file.write(end)
        writer.writerows(rows)


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table, a line for each row; a `|` in a cell is escaped."""
    lines = [header, ['---'] * len(header), *rows]
    escaped = ([str(cell).replace('|', r'\|') for cell in cells] for cells in lines)
    return ''.join(f'| {" | ".join(cells)} |\n' for cells in escaped)


def fill_blocks(text: str, kind: str, content: Callable[[str], str]) -> str:
    """Replace the named blocks of a Markdown text.

    A block stands between ``<!-- KIND: NAME -->`` and ``<!-- end of KIND -->``, each a line.

    Args:
        text (str): The text.
        kind (str): Which blocks to replace, such as 'results'.
        content (Callable[[str], str]): Returns the lines of the block of a name.

    Returns:
        str: The text with its blocks made anew.

    Raises:
        ValueError: If a block has no end.
    """
    begin, end = rf'<!-- {kind}: (\S+) -->\n', f'<!-- end of {kind} -->'
    block = re.compile(rf'({begin})((?:(?!<!-- {kind}: ).)*?)({end})', re.DOTALL)
    complete = [match[2] for match in block.finditer(text)]
    begun = re.findall(begin, text)
    if complete != begun:
        open_ones = [name for name in begun if begun.count(name) > complete.count(name)]
        raise ValueError(f'Expected {end!r} after each block, but {open_ones} lack it')
    return block.sub(lambda match: match[1] + content(match[2]) + match[4], text)


def fill_files(
    files: Sequence[Path], kind: str, content: Callable[[Path, str], str], check: bool = False
) -> list[Path]:
    """Replace the named blocks of Markdown files.

    Args:
        files (Sequence[Path]): The files.
        kind (str): Which blocks to replace.
        content (Callable[[Path, str], str]): Returns the lines of the block of a name in a file.
        check (bool): Write nothing. Defaults to False.

    Returns:
        list[Path]: The files that changed, or that would change.

    Raises:
        FileNotFoundError: If there is no such file. Nothing is written then.
        ValueError: If a block has no end. Nothing is written then.
    """
    changed = {}
    for path in files:
        old = path.read_text(encoding='utf-8')
        try:
            new = fill_blocks(old, kind, partial(content, path))
        except ValueError as error:
            raise ValueError(f'{path}: {error}') from None
        if new != old:
            changed[path] = new
    for path, text in changed.items():
        if not check:
            with replacing(path) as aside:
                aside.write_text(text, encoding='utf-8')
    return list(changed)
