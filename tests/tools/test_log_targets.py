"""tools/train.py --log-to, with the packages themselves and no network."""

import importlib.util
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from .conftest import ROOT, SMALL_GLYPHS, options

SOFTMAX = ROOT / 'configs/glyphs/resnet18_b128-sr_glyphs.py'
ARGS = [*options(SMALL_GLYPHS), 'train_cfg.max_epochs=1', 'default_hooks.logger.interval=1']


def test_tensorboard(run_tool):
    run = [SOFTMAX, '--work-dir', 'run', '--log-to', 'tensorboard']
    status, output = run_tool('train.py', *run, *ARGS)
    assert status == 0, output[-3000:]
    (events,) = Path('run').glob('*/vis_data/events.out.tfevents.*')
    log = EventAccumulator(str(events)).Reload()
    assert [event.step for event in log.Scalars('loss')] == [1, 2, 3, 4, 5]
    assert 0 <= log.Scalars('accuracy/top1')[0].value <= 100
    assert list(Path('run').glob('*/vis_data/scalars.json'))  # as ever


@pytest.mark.slow
def test_wandb_offline(run_tool, monkeypatch):
    """Weights & Biases keeps what `wandb sync` sends, beside another target."""
    monkeypatch.setenv('WANDB_MODE', 'offline')
    run = [SOFTMAX, '--work-dir', 'run', '--log-to', 'wandb', 'tensorboard']
    status, output = run_tool('train.py', *run, *ARGS)
    assert status == 0, output[-3000:]
    (record,) = Path('run').glob('*/vis_data/wandb/offline-run-*/run-*.wandb')
    assert b'accuracy/top1' in record.read_bytes()
    assert list(Path('run').glob('*/vis_data/events.out.tfevents.*'))


def test_package_that_is_not_installed(run_tool, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        'find_spec',
        lambda name, *args: None if name == 'wandb' else find_spec(name, *args),
    )
    status, output = run_tool('train.py', SOFTMAX, '--log-to', 'wandb', *ARGS)
    assert status == 1
    line = "train.py: error: --log-to wandb: wandb is not installed: pip install 'frlr_mm[wandb]'"
    assert output.strip().splitlines()[-1].startswith(line)
