"""What is refused before a run on several processes starts, and what is left of one."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.runner.checkpoint import CheckpointLoader
from mmpretrain.registry import MODELS
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from frlr_mm.engine import launch, run_checks
from frlr_mm.engine.hooks.unreadable_images_hook import RECORD


def make_runner(world_size, head):
    task_heads = dict(
        tags=head | dict(num_classes=3), kind=dict(type='LinearClsHead', num_classes=4)
    )
    model = MODELS.build(dict(type='MultiTaskHead', task_heads=task_heads, in_channels=8))
    return SimpleNamespace(world_size=world_size, model=nn.ModuleList([model]))


DENSE = dict(type='MultiLabelLinearClsHead', loss=dict(type='HSLRLoss'))


def test_tasks_that_a_rank_may_lack():
    with pytest.raises(ValueError, match="multi-label task 'tags' with HSLRLoss.*but got 2"):
        run_checks.refuse_tasks_without_labels(make_runner(2, DENSE))


@pytest.mark.parametrize(
    ('world_size', 'head'),
    [
        (1, DENSE),
        (2, dict(type='LinearClsHead', loss=dict(type='HSLRLoss'))),
        (
            2,
            dict(
                type='MultiLabelLinearClsHead',
                loss=dict(type='CrossEntropyLoss', use_sigmoid=True),
            ),
        ),
    ],
    ids=['one process', 'class indices', 'stock loss'],
)
def test_what_trains_rightly_is_let_through(world_size, head):
    run_checks.refuse_tasks_without_labels(make_runner(world_size, head))


def test_download_that_fails_names_its_address():
    url = 'http://127.0.0.1:9/weights.pth'  # nothing listens on that port
    with (
        pytest.raises(SystemExit, match=f'error: cannot download {url}: .*refused'),
        launch.one_line_errors(),
    ):
        CheckpointLoader.load_checkpoint(url)


def test_threads_of_the_process_group_end(tmp_path):
    before = threads()
    dist.init_process_group('gloo', init_method=f'file://{tmp_path}/store', rank=0, world_size=1)
    started = threads() - before
    # As mmengine does: the runner holds loops and hooks that hold the runner.
    runner = SimpleNamespace(model=DistributedDataParallel(nn.Linear(2, 2)))
    runner.loop = SimpleNamespace(runner=runner)
    runner.model(torch.ones(1, 2)).sum().backward()
    assert started and started <= threads()
    del runner
    launch.leave_process_group()
    # One that releases a tensor while Python ends would abort the process.
    assert not started & threads()


def threads():
    return {path.name for path in Path('/proc/self/task').iterdir()}


@pytest.mark.parametrize(
    'message',
    [
        '[/gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:2345',
        '[/gloo/transport/tcp/unbound_buffer.cc:81] Timed out waiting 1000ms for recv operation',
    ],
)
def test_lost_process_is_one_line(message):
    with (
        pytest.raises(SystemExit, match='error: rank 0: another process has died or hangs') as end,
        launch.one_line_errors('work_dir'),
    ):
        raise RuntimeError(message)
    assert '\n' not in end.value.code


@pytest.mark.parametrize('resume', [False, True])
def test_what_an_older_run_skipped_is_forgotten_unless_it_goes_on(tmp_path, resume):
    record = tmp_path / RECORD
    record.write_text('a.jpg\tthe file is empty\n')
    for _ in range(2):  # the second time there is none
        launch._forget_unreadable_images(Config(dict(work_dir=str(tmp_path), resume=resume)))
        assert record.exists() == resume


def test_sharded_head_gets_its_runner():
    """By tools/train.py and tools/test.py, where the config names none."""
    head = dict(type='ShardedLinearClsHead', num_classes=4, in_channels=3)
    for kind, expected in (('ShardedLinearClsHead', 'ShardedRunner'), ('LinearClsHead', None)):
        cfg = Config(dict(model=dict(head=head | dict(type=kind))))
        launch._choose_runner(cfg)
        assert cfg.get('runner_type') == expected
    cfg = Config(dict(model=dict(head=head), runner_type='MyRunner'))
    launch._choose_runner(cfg)
    assert cfg.runner_type == 'MyRunner'
