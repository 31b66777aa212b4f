"""The logs of the study's runs, packed into one archive."""

import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path

from frlr_mm.engine.files import replacing

from .study import Results, Run
from .study_jobs import JOBS


def pack_logs(results: Results, work_dirs: Sequence[Path], archive: Path) -> int:
    """Pack what the runs with a row have logged, a file for each run.

    What the archive holds already stays where the working directory of its run is gone. The
    bytes depend on the logs alone, not on the time or the user.

    Args:
        results (Results): The rows.
        work_dirs (Sequence[Path]): Folders that hold the working directories of runs.
        archive (Path): The archive, ``.tar.xz``; it is replaced as a whole.

    Returns:
        int: The number of runs in the archive.

    Raises:
        FileNotFoundError: If a folder is missing.
    """
    for folder in work_dirs:
        if not folder.is_dir():
            raise FileNotFoundError(
                f'Expected a folder of the runs of the study, but got {folder}'
            )
    packed = _read(archive)
    logs = {}
    for name in _names(results):
        found = _find(work_dirs, name) or packed.get(f'{name}.json')
        if found:
            logs[f'{name}.json'] = found
    with replacing(archive) as aside, tarfile.open(aside, 'w:xz', preset=9) as tar:
        for name in sorted(logs):
            info = tarfile.TarInfo(name)
            info.size = len(logs[name])
            tar.addfile(info, io.BytesIO(logs[name]))
    return len(logs)


def _names(results: Results) -> list[str]:
    rows = [row for rows in results.rows.values() for row in rows if row['job'] in JOBS]
    return [
        Run(
            row['job'], row['loss'], row['split'], int(row['seed']), json.loads(row['settings'])
        ).name
        for row in rows
    ]


def _find(work_dirs: Sequence[Path], name: str) -> bytes:
    """Return the logs of all starts of a run, one after the other; nothing where there is none."""
    for folder in work_dirs:
        logs = sorted((folder / name).glob('*/vis_data/scalars.json'))
        if logs:
            return b''.join(log.read_bytes() for log in logs)
    return b''


def _read(archive: Path) -> dict[str, bytes]:
    if not archive.is_file():
        return {}
    with tarfile.open(archive) as tar:
        members = [(member.name, tar.extractfile(member)) for member in tar]
        return {name: file.read() for name, file in members if file}
