"""What both benchmarks need: where, with what and when it was measured, and peak memory."""

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


def describe(device: str) -> dict[str, object]:
    """Return the machine, the versions, the commit and the date as columns of a row."""
    name, cores = _cpu_model(), os.cpu_count()
    if device == 'cuda':
        name = torch.cuda.get_device_name()
    return dict(
        date=datetime.datetime.now(datetime.timezone.utc).strftime('%Y-%m-%dT%H:%M:%S'),
        commit=_commit(),
        machine=name,
        cores=cores,
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


def _commit() -> str:
    def git(*args: str) -> str:
        return subprocess.run(
            ('git', *args), cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        changed = git('status', '--porcelain', '--untracked-files=no', '--', '*.py')
        return git('rev-parse', '--short', 'HEAD') + ('+changes' if changed else '')
    except (OSError, subprocess.CalledProcessError):
        return 'unknown'


def peak_memory(function: Callable[[], object], device: str) -> int:
    """Return how many bytes more than before torch holds at most while ``function`` runs.

    On a CPU the profiler's record of each allocation is summed up: what an operation takes from
    elsewhere for the time of its run is not in it.
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
