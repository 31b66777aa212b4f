"""Processes that train together, for tests."""

import contextlib
import multiprocessing
import os
import signal
import socket
import time
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

TIMEOUT = 120  # seconds for the processes to start and end

# They are forked from one fresh process, which imports what takes long once.
multiprocessing.set_forkserver_preload(['frlr_mm', 'mmengine.runner'])


def run_ranks(target, world_size, folder):
    """Call ``target(rank, world_size)`` in processes of one group; return what they gave.

    ``target`` has to be a function of a module. None of the processes is left when this returns.
    """
    processes = mp.start_processes(
        _run_rank,
        (target, world_size, str(folder)),
        nprocs=world_size,
        join=False,
        start_method='forkserver',
    )
    deadline = time.monotonic() + TIMEOUT
    try:
        while not processes.join(timeout=1):  # raises what a rank raised
            assert time.monotonic() < deadline, 'the processes hang'
    finally:
        for process in processes.processes:
            process.kill()
            process.join()
    return [torch.load(folder / f'rank{rank}.pt') for rank in range(world_size)]


def _run_rank(rank, target, world_size, folder):
    torch.set_num_threads(1)
    os.chdir(folder)  # mmengine writes what ranks exchange below the working directory
    dist.init_process_group(
        'gloo',
        init_method=f'file://{folder}/rendezvous',
        rank=rank,
        world_size=world_size,
        timeout=timedelta(seconds=TIMEOUT),
    )
    torch.save(target(rank, world_size), f'{folder}/rank{rank}.pt')
    dist.barrier()
    time.sleep(0.1)  # as `leave_process_group` does
    dist.destroy_process_group()


def free_port():
    """Return a port of this machine that nothing listens to."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def wait_for_port(port):
    """Return once something listens to a port of this machine."""
    deadline = time.monotonic() + TIMEOUT
    with socket.socket() as probe:
        while probe.connect_ex(('127.0.0.1', port)):
            assert time.monotonic() < deadline, f'nothing listens to port {port}'
            time.sleep(0.1)


def kill_marked(name, value):
    """Kill each process that was started with an environment variable of this value.

    Launchers start their workers in sessions of their own, which outlive a launcher that dies.
    """
    mark = f'{name}={value}'.encode()
    for process in Path('/proc').iterdir():
        if not process.name.isdecimal() or int(process.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):  # it may have ended
            if mark in (process / 'environ').read_bytes().split(b'\0'):
                os.kill(int(process.name), signal.SIGKILL)
