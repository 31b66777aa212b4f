"""Processes and machines of a training that die: what the others do, and how it goes on."""

import os
import re
import signal
import subprocess
import sys
import uuid

import pytest

from tests.support.processes import free_port, kill_marked, wait_for_port

from .conftest import ROOT, SMALL_GLYPHS, options

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

GLYPHS = ROOT / 'configs/glyphs/resnet18_b128-hslr_glyphs.py'
TIMEOUT = 240  # seconds
HOOK = '''
import os, pathlib, signal
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

@HOOKS.register_module()
class Fault(Hook):
    """In the second epoch, once: rank 1 dies, with its launcher or not, or is asked to stop."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.epoch != 1 or batch_idx != 1:
            return
        fault = os.environ.get('FRLR_TEST_FAULT')
        dies = fault in ('die', 'die with launcher') and not pathlib.Path('died').exists()
        if dies and os.environ['RANK'] == '1':
            pathlib.Path('died').touch()
            if fault == 'die with launcher':
                os.kill(os.getppid(), signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == 'stop' and os.environ['RANK'] == '1':
            os.kill(os.getpid(), signal.SIGTERM)
'''


@pytest.fixture
def start(tmp_path):
    """Start the launcher of two epochs in a folder; nothing that it starts outlives the test."""
    (tmp_path / 'fault.py').write_text(HOOK)
    (tmp_path / 'config.py').write_text(
        f'_base_ = {str(GLYPHS)!r}\n'
        "custom_imports = dict(imports=['frlr_mm', 'fault'])\n"
        "custom_hooks = [dict(type='Fault')]\n"
    )
    mark, port = uuid.uuid4().hex, free_port()
    path = os.pathsep.join([str(tmp_path), os.environ.get('PYTHONPATH', '')])
    bin_path = os.pathsep.join([os.path.dirname(sys.executable), os.environ['PATH']])

    def start(processes, log, more_options=(), **more):
        env = os.environ | dict(
            PORT=str(port),
            PATH=bin_path,
            PYTHONPATH=path,
            OMP_NUM_THREADS='1',
            FRLR_TEST_MARK=mark,
        )
        with open(tmp_path / log, 'ab') as file:
            return subprocess.Popen(
                [
                    *('bash', str(ROOT / 'tools/dist_train.sh'), 'config.py', str(processes)),
                    *('--work-dir', 'run', '--resume', *options(SMALL_GLYPHS)),
                    'train_cfg.max_epochs=2',
                    *more_options,
                ],
                cwd=tmp_path,
                env=env | more,
                stdout=file,
                stderr=subprocess.STDOUT,
            )

    start.port = port
    yield start
    kill_marked('FRLR_TEST_MARK', mark)


def test_the_others_end_and_the_message_names_the_rank(start, tmp_path):
    process = start(2, 'log', FRLR_TEST_FAULT='die')
    assert process.wait(TIMEOUT) == 1
    output = (tmp_path / 'log').read_text()
    assert re.search(r'rank +: 1 \(local_rank: 1\)\s+exitcode +: -9', output), output[-3000:]
    assert 'Signal 9 (SIGKILL) received' in output
    assert (tmp_path / 'run/epoch_1.pth').exists()


def test_restarts_and_resumes_by_itself(start, tmp_path):
    process = start(2, 'log', FRLR_TEST_FAULT='die', MAX_RESTARTS='1')
    assert process.wait(TIMEOUT) == 0, (tmp_path / 'log').read_text()[-3000:]
    output = (tmp_path / 'log').read_text()
    assert re.search(r'exitcode: -9\) local_rank: 1', output)
    assert 'resumed epoch: 1' in output
    assert (tmp_path / 'run/epoch_2.pth').exists()


def test_machine_that_dies_joins_again(start, tmp_path):
    """Two launchers stand for two machines; all of the second one is killed and started again."""
    machines = dict(NNODES='2', MAX_RESTARTS='2', FRLR_TEST_FAULT='die with launcher')
    first = start(1, 'first', **machines)
    # The store has to be the first machine's, as it is where they do not share an address.
    wait_for_port(start.port)
    assert start(1, 'second', **machines).wait(TIMEOUT) == 128 + signal.SIGKILL
    assert first.poll() is None
    again = start(1, 'again', **machines)
    assert first.wait(TIMEOUT) == 0, (tmp_path / 'first').read_text()[-3000:]
    assert again.wait(TIMEOUT) == 0
    assert 'resumed epoch: 1' in (tmp_path / 'first').read_text()
    assert (tmp_path / 'run/epoch_2.pth').exists()


def test_all_stop_at_the_same_iteration_and_go_on(start, tmp_path):
    """The signal reaches one rank alone; each looks for those of the others every iteration."""
    interval = ('default_hooks.preemption.interval=1',)
    assert start(2, 'log', more_options=interval, FRLR_TEST_FAULT='stop').wait(TIMEOUT) == 1
    output = (tmp_path / 'log').read_text()
    assert 'SIGTERM: training stops after 5 iterations' in output, output[-3000:]
    assert start(2, 'resumed', more_options=interval).wait(TIMEOUT) == 0
    assert 'resumed epoch: 1, iter: 5' in (tmp_path / 'resumed').read_text()
    assert (tmp_path / 'run/epoch_2.pth').exists()
