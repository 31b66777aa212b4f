import json
import os
import re
import subprocess
import sys
import uuid

import pytest
import torch
from mmengine.config import Config
from mmpretrain import get_model

from tests.support.processes import free_port, kill_marked, run_script

from .conftest import ROOT, SMALL_GLYPHS, options

GLYPHS = ROOT / 'configs/glyphs/resnet18_b128-hslr_glyphs.py'


@pytest.fixture
def launch(tmp_path):
    """Run a shell script in a folder of its own; return the process."""
    path = os.pathsep.join(
        [str(tmp_path / 'bin'), os.path.dirname(sys.executable), os.environ['PATH']]
    )
    mark = uuid.uuid4().hex
    env = os.environ | dict(
        PORT=str(free_port()), PATH=path, OMP_NUM_THREADS='1', FRLR_TEST_MARK=mark
    )

    def run(name, *args, **more):
        return subprocess.run(
            ['bash', str(ROOT / 'tools' / name), *map(str, args)],
            cwd=tmp_path,
            env=env | more,
            capture_output=True,
            text=True,
            timeout=280,
        )

    yield run
    kill_marked('FRLR_TEST_MARK', mark)  # where the time was not enough


def print_words_of(program, tmp_path):
    """Let a program print a word of its command line per line."""
    path = tmp_path / 'bin' / program
    path.parent.mkdir()
    path.write_text('#!/usr/bin/env bash\nprintf "%s\\n" "$@"\n')
    path.chmod(0o755)


def test_two_cpu_processes_resume_and_test(launch, run_tool, tmp_path):
    small = options(SMALL_GLYPHS)
    status, output = run_tool(
        'train.py', GLYPHS, '--work-dir', 'run', *small, 'train_cfg.max_epochs=1'
    )
    assert status == 0, output[-3000:]
    train = ('--work-dir', 'run', '--resume', *small, 'train_cfg.max_epochs=2')
    result = launch('dist_train.sh', GLYPHS, 2, *train)
    assert result.returncode == 0, result.stderr[-3000:]
    output = result.stdout + result.stderr
    assert 'resumed epoch: 1' in output
    # 540 images on 2 processes with 128 each
    assert '[2][3/3]' in output and 'Distributed launcher: pytorch' in output

    # Not compared with the validation of the training: there, as ever with mmengine, each process
    # evaluates with its own running statistics.
    out = ('--out', 'metrics.json', '--out-item', 'metrics')
    args = (GLYPHS, 'run/epoch_2.pth', '--work-dir', 'run', *out, *small)
    # torchrun has started processes above: here they are those of its command.
    print_words_of('python', tmp_path)
    result = launch('dist_test.sh', *args[:2], 2, *args[2:])
    words = result.stdout.splitlines()
    start = words.index(str(ROOT / 'tools/test.py'))
    assert '--nproc_per_node=2' in words[:start] and '--launcher' in words[start:]
    results = run_script(words[start:], tmp_path, 2, PYTHONPATH=ROOT)
    assert [status for status, _ in results] == [0, 0], results[0][1][-3000:]
    status, one_process = run_tool('test.py', *args[:4], *small)
    assert status == 0, one_process[-3000:]
    top1 = [
        re.findall(r'Epoch\(test\).*accuracy/top1: ([\d.]+)', output)
        for output in (results[0][1], one_process)
    ]
    assert len(top1[0]) == 1 and top1[0] == top1[1]
    metrics = json.loads((tmp_path / 'metrics.json').read_text())
    assert f'{metrics["accuracy/top1"]:.4f}' == top1[0][0]


def test_two_processes_test_a_sharded_checkpoint(tmp_path):
    config = GLYPHS.with_name('resnet18_2xb64-hslr-sharded_glyphs.py')
    cfg = Config.fromfile(config)
    cfg.merge_from_dict(dict(SMALL_GLYPHS))
    torch.save(dict(state_dict=get_model(cfg).state_dict()), tmp_path / 'model.pth')
    test = (ROOT / 'tools/test.py', config, 'model.pth', '--launcher', 'pytorch')
    results = run_script((*test, *options(SMALL_GLYPHS)), tmp_path, 2, PYTHONPATH=ROOT)
    assert [status for status, _ in results] == [0, 0], results[0][1][-3000:]
    assert re.search(r'Epoch\(test\).*accuracy/top1: ', results[0][1])


@pytest.mark.parametrize(
    'name', ['dist_train.sh', 'dist_test.sh', 'slurm_train.sh', 'slurm_test.sh']
)
def test_missing_arguments(launch, name):
    result = launch(name, 'config.py')
    assert result.returncode == 2
    assert f'{name} ' in result.stderr and result.stderr.startswith('usage: ')


@pytest.mark.parametrize(
    ('name', 'args', 'command'),
    [
        (
            'slurm_train.sh',
            ['my config.py', 'my dir'],
            ['train.py', 'my config.py', '--work-dir=my dir', '--launcher=slurm', '--amp'],
        ),
        (
            'slurm_test.sh',
            ['my config.py', 'my model.pth'],
            ['test.py', 'my config.py', 'my model.pth', '--launcher=slurm', '--amp'],
        ),
    ],
)
def test_slurm_command(launch, tmp_path, name, args, command):
    print_words_of('srun', tmp_path)
    result = launch(
        name,
        'gpu',
        'job',
        *args,
        '--amp',
        GPUS='4',
        GPUS_PER_NODE='2',
        SRUN_ARGS='--time=1 --qos=low',
    )
    assert result.returncode == 0
    words = result.stdout.splitlines()
    assert words[:2] == ['-p', 'gpu']
    for word in (
        '--job-name=job',
        '--gres=gpu:2',
        '--ntasks=4',
        '--ntasks-per-node=2',
        '--cpus-per-task=5',
        '--kill-on-bad-exit=1',
        '--time=1',
        '--qos=low',
    ):
        assert word in words
    start = words.index('python')
    assert words[start + 1] == '-u'
    assert words[start + 2].endswith(command[0]) and words[start + 3 :] == command[1:]


@pytest.mark.parametrize(
    ('more', 'words'),
    [
        (dict(), ['--nnodes=1', '--node_rank=0', '--master_addr=127.0.0.1']),
        (
            dict(NNODES='2', NODE_RANK='1', MASTER_ADDR='10.0.0.1', PORT='7'),
            ['--nnodes=2', '--node_rank=1', '--master_addr=10.0.0.1', '--master_port=7'],
        ),
        (
            dict(MAX_RESTARTS='3', PORT='7'),
            [
                '--max_restarts=3',
                '--rdzv_backend=c10d',
                '--rdzv_endpoint=127.0.0.1:7',
                '--rdzv_id=frlr_mm-7',
                '--local_addr=127.0.0.1',
            ],
        ),
        (
            dict(MAX_RESTARTS='3', NNODES='2', MASTER_ADDR='10.0.0.1', PORT='7'),
            ['--nnodes=2', '--max_restarts=3', '--rdzv_endpoint=10.0.0.1:7'],
        ),
    ],
)
def test_torchrun_command(launch, tmp_path, more, words):
    print_words_of('python', tmp_path)
    result = launch('dist_train.sh', 'my config.py', 2, '--resume', **more)
    assert result.returncode == 0, result.stderr
    command = result.stdout.splitlines()
    assert set(words) <= set(command)
    assert ('--local_addr=127.0.0.1' in command) == ('--local_addr=127.0.0.1' in words)
    assert '--nproc_per_node=2' in command
    assert command[-4:] == ['my config.py', '--launcher', 'pytorch', '--resume']
