"""Files that are whole or not there: how checkpoints are written and which one is resumed."""

import logging
import os
import pickle
import re
import zipfile
import zlib
from pathlib import Path
from typing import Optional, Union

import torch
from mmengine.dist import get_rank
from mmengine.fileio import LocalBackend
from mmengine.logging import print_log

# What a checkpoint of this name is resumed from, besides those of CheckpointHook.
INTERRUPTED = 'interrupted.pth'
# Not best_*.pth nor published ones, which lack the optimizer.
_NAMES = re.compile(r'((epoch|iter)_\d+|interrupted)\.pth')


class AtomicLocalBackend(LocalBackend):
    """mmengine's local files, which others see whole or not at all.

    A file is written as ``<name>.tmp`` and renamed. What a killed process leaves under that name
    is overwritten by the next one; where writing fails, it is removed. Each rank has a name of its
    own, since mmengine dumps some files on all of them.
    """

    def put(self, obj: bytes, filepath: Union[str, Path]) -> None:
        """Write bytes to a file."""
        path = os.path.realpath(filepath)
        renamed = not os.path.exists(path) or os.path.isfile(path)  # else /dev/stdout, a pipe
        written = f'{path}.tmp{get_rank() or ""}' if renamed else path
        os.makedirs(os.path.dirname(path), exist_ok=True)
        try:
            with open(written, 'wb') as file:
                file.write(obj)
            if renamed:
                os.replace(written, path)
        except BaseException as error:
            if renamed:
                Path(written).unlink(missing_ok=True)
            if isinstance(error, OSError) and error.filename is None:
                raise OSError(error.errno, error.strerror, str(filepath)) from error
            raise

    def put_text(self, obj: str, filepath: Union[str, Path], encoding: str = 'utf-8') -> None:
        """Write text to a file."""
        self.put(obj.encode(encoding), filepath)


def find_damage(path: Union[str, Path]) -> Optional[str]:
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


def find_latest_whole_checkpoint(work_dir: str) -> Optional[str]:
    """Return the newest checkpoint of a training that is whole; warn of newer ones that are not.

    Looked for in ``work_dir`` and in the folder of the file that its ``last_checkpoint`` names.
    That file is the newest, unless one is both later by the clock and further in training: a clock
    may jump, an older run may have left its checkpoints, and a kill may come before the name is
    written.

    Args:
        work_dir (str): The folder of the training.

    Returns:
        str, optional: None where there is none.
    """
    folders = [Path(work_dir)]
    try:
        named = Path(Path(work_dir, 'last_checkpoint').read_text().strip())
    except (OSError, UnicodeDecodeError):
        named = None
    if named is not None and named.parent.is_dir() and not named.parent.samefile(work_dir):
        folders.append(named.parent)
    found = {
        path
        for folder in folders
        for path in folder.glob('*.pth')
        if path.is_file() and _NAMES.fullmatch(path.name)
    }
    if named is not None and named.is_file() and named.parent in folders[1:]:
        found.add(named)  # with a name of the user's own
    ordered = sorted(found, key=lambda p: (p.stat().st_mtime_ns, p.name), reverse=True)
    last = next((path for path in ordered if named and _is_same(path, named)), None)
    if last is not None and find_damage(last) is None:
        later = [path for path in ordered[: ordered.index(last)] if _is_further(path, last)]
        ordered = [*later, last]
    for path in ordered:
        damage = find_damage(path)
        if damage is None:
            return str(path)
        print_log(
            f'{path} is {damage}: it is not resumed from, an older one is',
            'current',
            level=logging.WARNING,
        )
    return None


def _is_same(path: Path, named: Path) -> bool:
    return named.is_file() and path.samefile(named)


def _is_further(path: Path, last: Path) -> bool:
    """Tell whether a checkpoint has more iterations, or is damaged, which is worth a warning."""
    return find_damage(path) is not None or _read_iteration(path) > _read_iteration(last)


def _read_iteration(path: Path) -> int:
    try:
        checkpoint = torch.load(path, 'cpu', mmap=True, weights_only=True)
    except pickle.UnpicklingError:
        return -1  # refused, with an explanation, if it is loaded
    return checkpoint.get('meta', {}).get('iter', -1)
