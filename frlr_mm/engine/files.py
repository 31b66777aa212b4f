"""Files that are replaced as a whole: readers see the old text or the new one, never a part."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Give the name of a file to write, which then replaces ``path``; make its folder.

    Args:
        path (str | os.PathLike): The file to replace.

    Yields:
        Path: A name beside it with the same suffix, which no other process is given. If writing
        fails, the file of this name is removed and ``path`` stays as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f'{path.stem}.{os.getpid()}-{uuid.uuid4().hex}{path.suffix}')
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
