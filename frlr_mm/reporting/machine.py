"""Where, when and with what something was measured, and how much memory it took."""

import datetime
import json
import os
import platform
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile


def describe(device: str) -> dict[str, str | int]:
    """Return the columns of a row that say where, when and with what it was measured.

    Args:
        device (str): 'cpu' or 'cuda'.

    Returns:
        dict[str, str | int]: ``date`` (UTC), ``commit``, ``machine``, ``cores``, ``torch``,
        ``python``, ``device`` and ``threads``, those of torch. The commit is that of the
        package's own checkout: with '+changes' where a Python file differs from it, 'unknown'
        where the package is installed without one.
    """
    return dict(
        date=datetime.datetime.now(datetime.timezone.utc).strftime('%Y-%m-%dT%H:%M:%S'),
        commit=_commit(Path(__file__)),
        machine=torch.cuda.get_device_name() if device == 'cuda' else _cpu_model(),
        cores=os.cpu_count() or 1,
        torch=torch.__version__,
        python=platform.python_version(),
        device=device,
        threads=torch.get_num_threads(),
    )


def _cpu_model() -> str:
    cpuinfo = Path('/proc/cpuinfo')
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith('model name'):
                return line.split(':', 1)[1].strip()
    return platform.processor() or platform.machine()


def _commit(file: Path) -> str:
    """Return the commit that a tracked file is from."""

    def git(*args: str) -> str:
        return subprocess.run(
            ('git', *args), cwd=file.parent, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        # An environment that lies in another project's checkout is not of that project's commit.
        git('ls-files', '--error-unmatch', '--', file.name)
        changed = git('status', '--porcelain', '--untracked-files=no', '--', ':(top)*.py')
        return git('rev-parse', '--short', 'HEAD') + ('+changes' if changed else '')
    except (OSError, subprocess.CalledProcessError):
        return 'unknown'


def peak_memory(function: Callable[[], object], device: str) -> int:
    """Return how many bytes torch holds at most, beyond those it held before, during a call.

    On a CPU the profiler's record of each allocation is summed up: it does not hold what an
    operation takes from elsewhere while it runs.

    Args:
        function (Callable[[], object]): What to call, once.
        device (str): 'cpu' or 'cuda', where ``function`` allocates.

    Returns:
        int: Bytes.
    """
    if device == 'cuda':
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        function()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        function()
    with tempfile.NamedTemporaryFile(suffix='.json') as trace:
        recorded.export_chrome_trace(trace.name)
        events = json.loads(Path(trace.name).read_text())['traceEvents']
    changes = [event for event in events if event['name'] == '[memory]']
    held = peak = 0
    for event in sorted(changes, key=lambda event: event['ts']):
        held += event['args']['Bytes']
        peak = max(peak, held)
    return peak
