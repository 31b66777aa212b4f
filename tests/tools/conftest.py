import runpy
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.logging import MMLogger
from mmpretrain.visualization import UniversalVisualizer

from frlr_mm.engine import safe_load
from tests.support.processes import run_script

ROOT = Path(__file__).resolve().parents[2]
SMALL_GLYPHS = {
    f'{split}_dataloader.dataset.{name}': value
    for split in ('train', 'val', 'test')
    for name, value in (('num_classes', 20), ('data_root', 'glyphs'))
} | {
    # The recipe's hook that sets the prior wants one output per class.
    'model.head.num_classes': 20,
    # The network has a quarter of the channels of the recipe's.
    'model.backbone.stem_channels': 4,
    'model.backbone.base_channels': 4,
    'model.head.in_channels': 32,
    'train_dataloader.num_workers': 0,
    'train_dataloader.persistent_workers': False,
    'val_dataloader.num_workers': 0,
    'val_dataloader.persistent_workers': False,
    'test_dataloader.num_workers': 0,
}
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


def options(values):
    """Return ``--cfg-options`` and its pairs."""
    return ['--cfg-options', *(f'{key}={value}' for key, value in values.items())]


@pytest.fixture
def run_tool(monkeypatch, tmp_path, capfd):
    """Run a command line in this process, in a folder of its own; return its status and output."""
    monkeypatch.chdir(tmp_path)

    def run(name, *args):
        # A new process has no logger; an old one would write to a stream that is closed by now.
        # Nor has it a visualizer, which the next run of the same second would take for its own.
        MMLogger._instance_dict.clear()
        UniversalVisualizer._instance_dict.clear()
        monkeypatch.setattr(sys, 'argv', [str(ROOT / 'tools' / name), *map(str, args)])
        status = 0
        # A training that fails ends its process, and leaves its handlers to it.
        handlers = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
        num_threads = torch.get_num_threads()
        is_deterministic = torch.are_deterministic_algorithms_enabled()
        try:
            runpy.run_path(sys.argv[0], run_name='__main__')
        except SystemExit as error:
            status = error.code
            if isinstance(status, str):  # what sys.exit prints
                print(status, file=sys.stderr)
                status = 1
        finally:
            for each, handler in handlers.items():
                signal.signal(each, handler)
            torch.set_num_threads(num_threads)
            torch.use_deterministic_algorithms(is_deterministic)
        out, err = capfd.readouterr()
        return status, out + err

    return run


@pytest.fixture
def fork_commands(monkeypatch):
    """Fork the Python processes that a command line starts, which import for seconds otherwise."""
    start = subprocess.run

    def run(command, stdout=None, env=None, **more):
        if command[0] != sys.executable:
            return start(command, stdout=stdout, env=env, **more)
        status, output = run_script(command[1:], Path.cwd(), **(env or {}))
        print(output, end='', file=stdout)
        return subprocess.CompletedProcess(command, status)

    monkeypatch.setattr(subprocess, 'run', run)


@pytest.fixture
def make_config(tmp_path, monkeypatch):
    """Write a config of a small training with a fault; return its path."""
    (tmp_path / 'faults.py').write_text(FAULTS)
    monkeypatch.syspath_prepend(tmp_path)

    def make(name, fault=''):
        path = tmp_path / name
        # An epoch has 5 iterations; the schedule of ten epochs is cut off after three.
        path.write_text(CONFIG.format(recipe=str(RECIPE), fault=fault))
        return path, '--work-dir', path.stem, *options(SMALL_GLYPHS)

    return make


def load(path):
    return safe_load.load(path)


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


@pytest.fixture(scope='session')
def kept(tmp_path_factory):
    """A folder for what the tests share."""
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
