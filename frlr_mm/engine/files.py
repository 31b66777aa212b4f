"""Files that are replaced as a whole: readers see the old text or the new one, never a part."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | os.PathLike, writer: str | None = None) -> Iterator[Path]:
    """Give the name of a file to write, which then replaces ``path``; make its folder.

    Args:
        path (str | os.PathLike): The file to replace.
        writer (str, optional): Part of the name to write, so that what a killed process leaves is
            overwritten by the next writer of this name. None stands for a name that nobody else
            is given. Defaults to None.

    Yields:
        Path: A name beside it with the same suffix. If writing fails, the file of this name is
        removed and ``path`` stays as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = f'{os.getpid()}-{uuid.uuid4().hex}' if writer is None else writer
    partial = path.with_name(f'{path.stem}.tmp{writer}{path.suffix}')
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def shipped_folder() -> Path:
    """Return the folder of ``configs`` and ``tools``: ``.mim`` of a wheel, else the clone."""
    package = Path(__file__).resolve().parents[1]
    mim = package / '.mim'
    return mim if mim.is_dir() else package.parent
