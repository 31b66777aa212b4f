"""Trainings that are killed, stopped, or fed what no loss survives, and how they go on."""

import os
import random
import re
import resource
import signal
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch

from .conftest import ROOT, SMALL_GLYPHS, options

RECIPE = ROOT / 'configs/glyphs/resnet18_b128-hslr_glyphs.py'
# What goes wrong, as a hook: `fault` happens once `at` iterations are done, at a point of them.
FAULTS = """
import os, signal
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

@HOOKS.register_module(force=True)
class FaultHook(Hook):
    priority = 'LOW'

    def __init__(self, at, fault, once=True, point='before_train_iter'):
        self.at, self.fault, self.once = at, fault, once
        setattr(self, point, self.happen)

    def happen(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.at and not (self.once and os.path.exists('happened')):
            open('happened', 'w').close()
            if self.fault == 'nan':
                nan = float('nan')
                data_batch['inputs'] = [image * nan for image in data_batch['inputs']]
            else:
                os.kill(os.getpid(), getattr(signal, self.fault))
"""
CONFIG = """
_base_ = {recipe!r}
custom_imports = dict(imports=['frlr_mm', 'faults'])
custom_hooks = [
    dict(type='FocusAnnealingHook', param='ratio', start_value=1.0, end_value=0.1, end=3),
    dict(type='EMAHook', momentum=0.1),
    {fault}
]
train_cfg = dict(max_epochs=3)
randomness = dict(seed=0, deterministic=True)
default_hooks = dict(logger=dict(interval=1))
"""


@pytest.fixture
def make_config(tmp_path, monkeypatch):
    """Write a config of a small training with a fault; return its path."""
    (tmp_path / 'faults.py').write_text(FAULTS)
    monkeypatch.syspath_prepend(tmp_path)
    # An epoch has 5 iterations; the schedule of ten epochs is cut off after three.
    small = SMALL_GLYPHS

    def make(name, fault=''):
        path = tmp_path / name
        path.write_text(CONFIG.format(recipe=str(RECIPE), fault=fault))
        return path, '--work-dir', path.stem, *options(small)

    return make


def load(path):
    return torch.load(path, weights_only=True)


def assert_same_training(path, expected):
    """Weights, averaged weights and momentum are equal bit for bit."""
    mine, other = load(path), load(expected)
    for part in ('state_dict', 'ema_state_dict'):
        assert mine[part].keys() == other[part].keys()
        for name, value in mine[part].items():
            assert torch.equal(value, other[part][name]), (part, name)
    states = [part['optimizer']['state'] for part in (mine, other)]
    for key, state in states[0].items():
        assert torch.equal(state['momentum_buffer'], states[1][key]['momentum_buffer'])
    assert mine['meta']['iter'] == other['meta']['iter'] == 15


@pytest.fixture(scope='module')
def kept(tmp_path_factory):
    """A folder for what the tests of this module share."""
    return tmp_path_factory.mktemp('whole')


@pytest.fixture
def whole_run(run_tool, make_config, tmp_path, kept):
    """Return the last checkpoint of a training without a fault."""
    path = kept / 'epoch_3.pth'
    if not path.exists():
        status, output = run_tool('train.py', *make_config('whole.py'))
        assert status == 0, output[-3000:]
        (tmp_path / 'whole/epoch_3.pth').rename(path)
    return path


@pytest.fixture
def killed_run(make_config, tmp_path):
    """Return the arguments and the folder of a training that SIGKILL has ended."""

    def run(name, **fault):
        args = make_config(name, f"dict(type='FaultHook', fault='SIGKILL', **{fault}),")
        path = os.pathsep.join([str(tmp_path), str(ROOT)])
        killed = subprocess.run(
            [sys.executable, str(ROOT / 'tools/train.py'), *map(str, args)],
            cwd=tmp_path,
            env=os.environ | dict(PYTHONPATH=path),
            capture_output=True,
            text=True,
            timeout=200,
        )
        assert killed.returncode == -signal.SIGKILL, killed.stderr[-3000:]
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
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    ended = subprocess.run(
        [
            *(sys.executable, str(ROOT / 'tools/train.py')),
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


def test_nan_is_one_line(run_tool, make_config, tmp_path):
    status, output = run_tool(
        'train.py', *make_config('nan.py', "dict(type='FaultHook', at=7, fault='nan'),")
    )
    assert status == 1 and 'Traceback' not in output
    line = next(line for line in output.splitlines() if line.startswith('train.py: error: '))
    assert 'loss = nan at iteration 8, epoch 2, lr 0.' in line and 'images: ' in line


def test_nan_is_skipped_on_purpose(run_tool, make_config, whole_run, tmp_path):
    args = make_config('skip.py', "dict(type='FaultHook', at=7, fault='nan'),")
    status, output = run_tool(
        'train.py', *args, 'default_hooks.finite_loss.max_skips=1', 'train_cfg.max_epochs=2'
    )
    assert status == 0, output[-3000:]
    assert 'skipped, 1 of at most 1' in output
    weights = load(tmp_path / 'skip/epoch_2.pth')['state_dict']
    assert all(torch.isfinite(value.float()).all() for value in weights.values())


def test_full_disk_keeps_the_last_checkpoint(run_tool, make_config, whole_run, tmp_path):
    args = make_config('full.py')
    status, output = run_tool('train.py', *args, 'train_cfg.max_epochs=1')
    assert status == 0, output[-3000:]
    checkpoint = tmp_path / 'full/epoch_1.pth'
    before = checkpoint.read_bytes()
    # No file may get as large as a checkpoint, which fails as a full disk does.
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, hard))
    try:
        status, output = run_tool('train.py', *args, '--resume')
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert status == 1 and 'Traceback' not in output
    assert 'train.py: error: [Errno 27] File too large' in output and 'epoch_2.pth' in output
    assert checkpoint.read_bytes() == before
    assert sorted(path.name for path in checkpoint.parent.glob('*.pth*')) == ['epoch_1.pth']

    status, output = run_tool('train.py', *args, '--resume')
    assert status == 0, output[-3000:]
    assert_same_training(tmp_path / 'full/epoch_3.pth', whole_run)


def test_full_disk_for_logs_and_results(run_tool, make_config, whole_run, tmp_path):
    full = tmp_path / 'full.json'
    full.symlink_to('/dev/full')
    args = make_config('logs.py')
    backend = f"dict(type='LocalVisBackend', scalar_save_file='{full}')"
    with open(args[0], 'a') as file:
        file.write(f'visualizer = dict(vis_backends=[{backend}])')
    status, output = run_tool('train.py', *args)
    assert status == 1 and 'Traceback' not in output, output[-3000:]
    (line,) = re.findall('train.py: error: .*', output)
    assert 'No space left on device' in line and str(tmp_path / 'logs') in line

    args = make_config('results.py')
    out = '--out', full, '--out-item', 'metrics'
    status, output = run_tool('test.py', args[0], whole_run, *out, *args[1:])
    assert status == 1 and 'Traceback' not in output, output[-3000:]
    (line,) = re.findall('test.py: error: .*', output)
    assert 'No space left on device' in line and str(full) in line


@pytest.fixture
def image_run(make_config, tmp_path):
    """A training on JPEG files, one of them cut off."""
    rng = np.random.default_rng(0)
    for name in 'ab':
        folder = tmp_path / 'images' / name
        folder.mkdir(parents=True)
        for i in range(8):
            cv2.imwrite(str(folder / f'{i}.jpg'), rng.integers(256, size=(32, 32, 3)))
    broken = tmp_path / 'images/a/3.jpg'
    broken.write_bytes(broken.read_bytes()[:300])
    config = make_config('images.py')[0]
    config.write_text(
        config.read_text()
        + "dataset = dict(_delete_=True, type='CustomDataset', data_root='images', pipeline=[\n"
        "    dict(type='LoadCheckedImage'), dict(type='PackInputs')])\n"
        'train_dataloader = dict(dataset=dataset, batch_size=4)\n'
        'val_cfg = val_dataloader = val_evaluator = None\n'
    )
    return (
        config,
        '--work-dir',
        'images_run',
        '--cfg-options',
        'train_cfg.max_epochs=1',
        ('train_dataloader.num_workers=1'),
        'train_dataloader.persistent_workers=False',
    )


def test_unreadable_image_stops_or_is_skipped(run_tool, image_run):
    status, output = run_tool('train.py', *image_run)
    lines = [line for line in output.splitlines() if line.startswith('train.py: error: ')]
    assert status == 1 and len(lines) == 1, output[-3000:]
    assert 'images/a/3.jpg is no readable image: ' in lines[0]
    status, output = run_tool(
        'train.py', *image_run, 'train_dataloader.dataset.pipeline.0.on_error=skip'
    )
    assert status == 0, output[-3000:]
    assert '1 unreadable images were skipped, 1 times in all' in output
    assert 'images/a/3.jpg: ' in output


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
