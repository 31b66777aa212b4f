"""Sharded checkpoints that a kill or a full disk cuts off, and a process that dies."""

import contextlib
import multiprocessing
import os
import re
import resource
import signal
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from frlr_mm.engine.launch import leave_process_group, one_line_errors
from frlr_mm.engine.safe_load import load
from frlr_mm.engine.sharded_checkpoints import _tensor_on_disk, mapped, write_checkpoint
from frlr_mm.functional import ClassShard, sharded_linear_hs_lr_loss
from tests.support.processes import TIMEOUT


class KillsItsProcess:
    def __reduce__(self):
        os.kill(os.getpid(), signal.SIGKILL)


def test_kill_while_writing_keeps_the_old_checkpoint(tmp_path):
    path = tmp_path / 'epoch_1.pth'
    write_checkpoint(dict(state_dict=torch.ones(1000)), path)
    old = path.read_bytes()
    child = os.fork()
    if child == 0:
        # What was pickled before is in the file already.
        write_checkpoint([torch.zeros(1000), KillsItsProcess()], path)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert path.read_bytes() == old
    write_checkpoint(dict(state_dict=torch.zeros(1000)), path)
    assert not load(path)['state_dict'].any()
    assert list(tmp_path.iterdir()) == [path]


def test_full_disk_is_an_error_that_keeps_the_old_checkpoint(tmp_path):
    path = tmp_path / 'epoch_1.pth'
    write_checkpoint(dict(state_dict=torch.ones(10)), path)
    old = path.read_bytes()
    child = os.fork()
    if child == 0:
        status = 0
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        with contextlib.suppress(AssertionError):
            with pytest.raises(OSError, match='File too large.*epoch_1.pth'):
                write_checkpoint(dict(state_dict=torch.ones(100_000)), path)
            status += 1
            with pytest.raises(OSError, match='File too large'):
                _tensor_on_disk((100_000,), torch.float32, tmp_path)
            status += 1
        os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


def test_what_can_be_mapped(tmp_path):
    path = tmp_path / 'checkpoint.pth'
    torch.save(dict(x=torch.ones(3)), path)
    assert mapped(str(path)) == f'mapped:{path}'
    torch.save(dict(x=torch.ones(3)), path, _use_new_zipfile_serialization=False)
    assert mapped(str(path)) == str(path)
    assert mapped('https://host/x.pth') == 'https://host/x.pth'


def lose_a_process(rank, folder):
    """Train until the other process is killed; note how this one ends."""
    torch.set_num_threads(1)
    dist.init_process_group(
        'gloo', init_method=f'file://{folder}/rendezvous', rank=rank, world_size=2
    )
    shard = ClassShard.of_this_process(5)
    x, w = torch.ones(2, 3, requires_grad=True), torch.zeros(shard.size, 3, requires_grad=True)
    try:
        with one_line_errors('work_dir'):
            while True:
                label = torch.zeros(2, dtype=torch.long)
                sharded_linear_hs_lr_loss(x, w, None, label, shard).backward()
                if rank == 1:
                    os.kill(os.getpid(), signal.SIGKILL)
    except SystemExit as error:
        Path(folder, 'line').write_text(error.code)
    leave_process_group()


def test_process_that_dies_in_a_collective_ends_the_others_with_a_line(tmp_path):
    context = multiprocessing.get_context('forkserver')
    processes = [context.Process(target=lose_a_process, args=(i, str(tmp_path))) for i in (0, 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(TIMEOUT)
        process.kill()
    assert [process.exitcode for process in processes] == [0, -signal.SIGKILL]
    line = (tmp_path / 'line').read_text()
    assert re.search(r'error: rank 0: another process has died or hangs \(\w+ .+\)', line)
    assert '\n' not in line
