"""Checkpoints that are whole or not there: how they are written and which one is resumed."""

import logging
import math
import os
import pickle
import re
import zipfile
import zlib
from pathlib import Path

from mmengine.dist import get_rank
from mmengine.fileio import LocalBackend
from mmengine.logging import print_log

from .files import replacing
from .safe_load import load

# What a checkpoint of this name is resumed from, besides those of CheckpointHook.
INTERRUPTED = 'interrupted.pth'
# Not best_*.pth nor published ones, which lack the optimizer.
_NAMES = re.compile(r'((epoch|iter)_\d+|interrupted)\.pth')


class AtomicLocalBackend(LocalBackend):
    """mmengine's local files, which others see whole or not at all.

    Each rank writes under a name of its own, since mmengine dumps some files on all of them.
    """

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes to a file."""
        path = os.path.realpath(filepath)
        try:
            if os.path.exists(path) and not os.path.isfile(path):  # /dev/stdout, a pipe
                Path(path).write_bytes(obj)
                return
            with replacing(path, writer=str(get_rank())) as partial:
                partial.write_bytes(obj)
        except OSError as error:
            if error.filename is None:
                raise OSError(error.errno, error.strerror, str(filepath)) from error
            raise

    def put_text(self, obj: str, filepath: str | Path, encoding: str = 'utf-8') -> None:
        """Write text to a file."""
        self.put(obj.encode(encoding), filepath)


def find_damage(path: str | Path) -> str | None:
    """Return what is wrong with a file of ``torch.save``, or None where it is whole.

    A checkpoint is a zip archive: its directory comes last and holds a checksum of each entry, so
    truncated and overwritten files are told apart from whole ones without unpickling anything.
    """
    if not os.path.getsize(path):
        return 'empty'
    if not zipfile.is_zipfile(path):
        return 'truncated or not a checkpoint'
    try:
        with zipfile.ZipFile(path) as archive:
            entry = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError) as error:
        return f'damaged ({error})'
    return None if entry is None else f'damaged at {entry}'


def find_latest_whole_checkpoint(work_dir: str) -> str | None:
    """Return the whole checkpoint of a run that is furthest in training; warn of damaged ones.

    Looked for in ``work_dir`` and in the folder of the file that its ``last_checkpoint`` names. A
    warning names that file where it is whole and behind the one returned, which may be of an older
    run in the same folder.

    Args:
        work_dir (str): The folder of the run.

    Returns:
        str, optional: None where there is none.
    """
    named = _read_last_checkpoint(Path(work_dir))
    progress = {
        path: _progress(path)
        for path in _list_checkpoints(Path(work_dir), named)
        if path.is_file()
    }
    for path in sorted(progress, key=progress.__getitem__, reverse=True):
        damage = find_damage(path)
        if damage is None:
            if named and _progress(named) < progress[path] and find_damage(named) is None:
                print_log(
                    f'{path} is resumed from, but last_checkpoint names {named}, which is behind '
                    'it: if an older run wrote the former, name the latter by --resume',
                    'current',
                    level=logging.WARNING,
                )
            return str(path)
        print_log(
            f'{path} is {damage}: it is not resumed from, an older one is',
            'current',
            level=logging.WARNING,
        )
    return None


def _progress(path: Path) -> tuple:
    """Return what orders checkpoints by how far they are in training."""
    meta = read_meta(path)
    return (
        meta.get('iter', math.inf),  # a cut-off file does not say; look at it first
        meta.get('epoch', 0),  # differs between the last iteration and the end of an epoch
        path.name == INTERRUPTED,  # holds what the validation after epoch_N.pth changed
        int(re.sub(r'\D', '', path.stem) or 0),
    )


def _read_last_checkpoint(work_dir: Path) -> Path | None:
    """Return the file that ``last_checkpoint`` names, where it is there."""
    try:
        named = (work_dir / 'last_checkpoint').read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None
    # Of a text that was cut off, only the name of a folder may be left.
    return Path(named) if named.endswith('.pth') and os.path.isfile(named) else None


def _list_checkpoints(work_dir: Path, named: Path | None) -> set[Path]:
    folders = [work_dir]
    found = set()
    if named is not None and not named.parent.samefile(work_dir):
        folders.append(named.parent)
        found.add(named)  # with a name of the user's own, perhaps
    for folder in folders:
        found |= {path for path in folder.glob('*.pth') if _NAMES.fullmatch(path.name)}
    return found


def read_meta(path: str | Path) -> dict:
    """Return what mmengine notes in a checkpoint: 'iter', 'epoch', 'seed' and more.

    Args:
        path (str | Path): The checkpoint.

    Returns:
        dict: Empty where the file is damaged, or refused because it can run code: both are said
        where it is loaded.
    """
    try:
        checkpoint = load(str(path), 'cpu', mmap=True)
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError, ValueError, KeyError):
        return {}
    meta = checkpoint.get('meta') if isinstance(checkpoint, dict) else None
    return meta if isinstance(meta, dict) else {}
