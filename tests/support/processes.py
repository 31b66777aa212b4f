"""Processes that train together, for tests."""

import contextlib
import multiprocessing
import os
import runpy
import signal
import socket
import sys
import time
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

TIMEOUT = 120  # seconds for the processes to start and end

# They are forked from one fresh process, which imports what takes long once.
multiprocessing.set_forkserver_preload(['frlr_mm.engine.launch', 'mmengine.runner'])


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


def run_script(words, folder, world_size=None, **env):
    """Run a script, or -m and a module, with its arguments in a process that need not import much.

    Return its status, which is that of a signal below 0, and what it wrote to a terminal; of
    several processes, with the variables that torchrun sets, those of each.
    """
    words, logs, processes = list(map(str, words)), [], []
    common = dict(MASTER_ADDR='127.0.0.1', MASTER_PORT=free_port(), WORLD_SIZE=world_size)
    for rank in range(world_size or 1):
        if world_size:
            env |= common | dict(LOCAL_WORLD_SIZE=world_size, RANK=rank, LOCAL_RANK=rank)
        logs.append(Path(folder, f'output{rank}.txt'))
        processes.append(
            multiprocessing.get_context('forkserver').Process(
                target=_run_script,
                args=(words, folder, logs[-1], os.environ | env, torch.get_num_threads()),
            )
        )
    try:
        for process in processes:
            process.start()
        for process in processes:
            process.join(TIMEOUT)
            assert process.exitcode is not None, f'{words[0]} hangs'
    finally:
        for process in processes:
            process.kill()
            process.join()
    ended = [(process.exitcode, log.read_text()) for process, log in zip(processes, logs)]
    return ended if world_size else ended[0]


def _run_script(words, folder, log, env, num_threads):
    with open(log, 'w') as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    os.chdir(folder)
    os.environ.update({key: str(value) for key, value in env.items()})
    torch.set_num_threads(num_threads)
    sys.path[:0] = os.environ.get('PYTHONPATH', '').split(os.pathsep)
    if words[0] == '-m':
        sys.argv = words[1:]
        runpy.run_module(words[1], run_name='__main__', alter_sys=True)
    else:
        sys.argv = words
        runpy.run_path(words[0], run_name='__main__')


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
