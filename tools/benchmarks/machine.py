"""What a measured number is worth nothing without: where, with what and when."""

import datetime
import os
import platform
import subprocess
from pathlib import Path

import torch


def describe(device: str) -> dict[str, object]:
    """Return the machine, the versions, the commit and the date as columns of a row."""
    name, cores = _cpu_model(), os.cpu_count()
    if device == 'cuda':
        name = torch.cuda.get_device_name()
    return dict(
        date=datetime.datetime.now(datetime.timezone.utc).strftime('%Y-%m-%dT%H:%M'),
        commit=_commit(),
        machine=name,
        cores=cores,
        torch=torch.__version__,
        python=platform.python_version(),
        device=device,
        threads=torch.get_num_threads())


def _cpu_model() -> str:
    cpuinfo = Path('/proc/cpuinfo')
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith('model name'):
                return line.split(':', 1)[1].strip()
    return platform.processor() or platform.machine()


def _commit() -> str:
    def git(*args: str) -> str:
        return subprocess.run(
            ('git', *args), cwd=Path(__file__).parent, capture_output=True, text=True,
            check=True).stdout.strip()

    try:
        changed = git('status', '--porcelain', '--untracked-files=no', '--', '*.py')
        return git('rev-parse', '--short', 'HEAD') + ('+changes' if changed else '')
    except (OSError, subprocess.CalledProcessError):
        return 'unknown'
