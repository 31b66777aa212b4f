"""Trainings that are killed or stopped, and how they go on."""

import os
import random
import signal
import subprocess
import sys

import pytest

from tests.support.processes import run_script

from .conftest import ROOT, assert_same_training, load


@pytest.fixture
def killed_run(make_config, tmp_path):
    """Return the arguments and the folder of a training that SIGKILL has ended."""

    def run(name, **fault):
        args = make_config(name, f"dict(type='FaultHook', fault='SIGKILL', **{fault}),")
        command = [ROOT / 'tools/train.py', *args]
        status, output = run_script(command, tmp_path, PYTHONPATH=tmp_path)
        assert status == -signal.SIGKILL, output[-3000:]
        return args, (tmp_path / name).with_suffix('')

    return run


def test_killed_in_validation_resumes_bit_for_bit(run_tool, killed_run, whole_run):
    # After the second epoch, whose checkpoint is written before.
    args, folder = killed_run('killed.py', at=10, point='before_val_iter')
    assert (folder / 'epoch_2.pth').is_file()
    status, output = run_tool('train.py', *args, '--resume')
    assert status == 0, output[-3000:]
    assert 'resumed epoch: 2' in output
    assert_same_training(folder / 'epoch_3.pth', whole_run)


def test_killed_training_resumes_bit_for_bit(run_tool, killed_run, whole_run):
    # In the second epoch: SIGKILL leaves no time for anything.
    args, folder = killed_run('killed.py', at=7)
    assert (folder / 'epoch_1.pth').is_file() and not (folder / 'epoch_2.pth').exists()
    # A checkpoint whose writing was cut off, newer than the whole one.
    data = (folder / 'epoch_1.pth').read_bytes()
    (folder / 'epoch_2.pth').write_bytes(data[: len(data) // 2])
    (folder / 'last_checkpoint').write_text(str(folder / 'epoch_2.pth'))

    status, output = run_tool('train.py', *args, '--resume')
    assert status == 0, output[-3000:]
    assert 'epoch_2.pth is truncated or not a checkpoint' in output
    assert 'resumed epoch: 1' in output
    assert_same_training(folder / 'epoch_3.pth', whole_run)

    status, output = run_tool('train.py', *args, '--resume', whole_run.with_name('none.pth'))
    assert status != 0 and 'none.pth' in output and 'Traceback' not in output
    (folder / 'half.pth').write_bytes(data[:1000])
    status, output = run_tool('train.py', *args, '--resume', folder / 'half.pth')
    assert status != 0 and 'half.pth is truncated' in output and 'Traceback' not in output


@pytest.mark.parametrize(('name', 'code'), [('SIGTERM', 143), ('SIGINT', 130)])
def test_stopped_training_goes_on_bit_for_bit(
    run_tool, make_config, whole_run, tmp_path, name, code
):
    args = make_config('stopped.py', f"dict(type='FaultHook', at=7, fault='{name}'),")
    before = signal.getsignal(getattr(signal, name))
    status, output = run_tool('train.py', *args)
    assert status == code, output[-3000:]
    assert f'{name}: training stops after 8 iterations' in output
    assert signal.getsignal(getattr(signal, name)) is before
    assert load(tmp_path / 'stopped/interrupted.pth')['meta']['iter'] == 8

    status, output = run_tool('train.py', *args, '--resume')
    assert status == 0, output[-3000:]
    assert 'interrupted.pth' in output and '[2][4/5]' in output and '[2][3/5]' not in output
    assert_same_training(tmp_path / 'stopped/epoch_3.pth', whole_run)


@pytest.mark.parametrize('before', ['', "dict(type='FaultHook', at=7, fault='SIGTERM'),"])
def test_second_interrupt_ends_at_once(run_tool, make_config, tmp_path, before):
    fault = "dict(type='FaultHook', at=7, fault='SIGINT', once=False),"
    with pytest.raises(KeyboardInterrupt):
        run_tool('train.py', *make_config('twice.py', before + fault * 2))
    assert not (tmp_path / 'twice/interrupted.pth').exists()


def test_training_by_iterations_resumes_bit_for_bit(run_tool, make_config, tmp_path):
    for name, fault in (
        ('straight.py', ''),
        ('cut.py', "dict(type='FaultHook', at=7, fault='SIGTERM'),"),
    ):
        args = make_config(name, fault)
        text = args[0].read_text().replace('end=3),', 'end=12, by_epoch=False),')
        text = text.replace(
            'train_cfg = dict(max_epochs=3)',
            (
                'train_cfg = dict(_delete_=True, by_epoch=False, max_iters=15, val_interval=5)\n'
                'param_scheduler = []\n'
                'log_processor = dict(by_epoch=False)'
            ),
        )
        args[0].write_text(
            text.replace(
                'logger=dict(interval=1)',
                'logger=dict(interval=1), checkpoint=dict(by_epoch=False, interval=5)',
            )
        )
        status, output = run_tool('train.py', *args)
        assert status == (143 if fault else 0), output[-3000:]
    status, output = run_tool('train.py', *args, '--resume')
    assert status == 0, output[-3000:]
    assert 'resumed epoch: 0, iter: 8' in output
    assert_same_training(tmp_path / 'cut/iter_15.pth', tmp_path / 'straight/iter_15.pth')


def test_ends_quietly_with_workers(make_config, tmp_path):
    """A process of its own, since it is about its exit."""
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    ended = subprocess.run(
        [
            *(sys.executable, '-m', 'frlr_mm', 'train'),
            *map(str, make_config('workers.py')),
            *('train_cfg.max_epochs=1', 'randomness.deterministic=False'),
            *('train_dataloader.num_workers=1', 'train_dataloader.persistent_workers=True'),
        ],
        cwd=tmp_path,
        env=os.environ | dict(PYTHONPATH=path),
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert 'Traceback' not in ended.stderr and 'killed by signal' not in ended.stderr


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_killed_at_random_moments(run_tool, make_config, whole_run, tmp_path):
    """Killed again and again, at any moment, a training ends as if nothing had been."""
    args = make_config('often.py')
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    command = [sys.executable, str(ROOT / 'tools/train.py'), *map(str, args), '--resume']
    rng = random.Random(0)
    kills = 0
    for _ in range(60):
        with (
            open(tmp_path / 'log', 'w') as log,
            subprocess.Popen(
                command,
                cwd=tmp_path,
                env=os.environ | dict(PYTHONPATH=path),
                stdout=log,
                stderr=subprocess.STDOUT,
            ) as process,
        ):
            try:
                status = process.wait(rng.uniform(4, 14))
            except subprocess.TimeoutExpired:
                process.kill()
                kills += 1
                continue
        assert status == 0, (tmp_path / 'log').read_text()[-3000:]
        break
    assert kills >= 5 and status == 0
    assert_same_training(tmp_path / 'often/epoch_3.pth', whole_run)
