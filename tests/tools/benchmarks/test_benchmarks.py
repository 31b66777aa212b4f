"""The benchmarks run and leave rows that say where they were measured."""

import argparse
import ast
import csv
import os
import shutil
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import init_default_scope
from mmpretrain.utils import register_all_modules

from tests.tools.conftest import ROOT

BENCHMARKS = ROOT / 'tools/benchmarks'
SCRIPTS = sorted(BENCHMARKS.glob('*.py'))


def read(path):
    with path.open(newline='') as file:
        return list(csv.DictReader(file))


def shadow(folder, *names):
    """Write packages that must not be imported."""
    for name in names:
        (folder / name).mkdir()
        (folder / name / '__init__.py').write_text(f'raise ImportError("{name} is not wanted")\n')


@pytest.mark.parametrize('script', SCRIPTS, ids=lambda path: path.stem)
def test_help_answers_before_the_slow_imports(script, tmp_path):
    shadow(tmp_path, 'torch', 'matplotlib', 'scipy', 'frlr_mm')
    result = subprocess.run(
        [sys.executable, str(script), '--help'],
        capture_output=True,
        text=True,
        env=os.environ | dict(PYTHONPATH=str(tmp_path)),
    )
    assert result.returncode == 0, result.stderr
    assert f'usage: {script.name}' in result.stdout


@pytest.mark.parametrize(
    'tool', sorted((ROOT / 'tools').rglob('*.py')), ids=lambda path: path.stem
)
def test_tools_import_nothing_of_the_tests(tool):
    modules = []
    for node in ast.walk(ast.parse(tool.read_text())):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules.append(node.module or '')
    assert modules
    assert [name for name in modules if name.split('.')[0] == 'tests'] == []


def test_bench_losses_appends_to_what_is_there(run_tool, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    folder = tmp_path / 'work_dirs' / 'bench'
    folder.mkdir(parents=True)
    path = folder / 'bench_losses.csv'
    shutil.copy(ROOT / 'docs/results/bench_losses.csv', path)
    old = path.read_bytes()
    status, output = run_tool('benchmarks/bench_losses.py', '--quick', '--rounds', 2)
    assert status == 0, output
    assert path.read_bytes().startswith(old)
    rows = read(path)[len(old.splitlines()) - 1 :]
    names = {row['function'] for row in rows}
    assert {'cross_entropy', 'ss_lr', 'hs_lr', 'ss_lr naive', 'fused_linear_ss_lr'} <= names
    has_own = hasattr(torch.nn, 'LinearCrossEntropyOptions')  # from torch 2.13 on
    assert ('linear_cross_entropy' in names) == has_own
    assert {row['part'] for row in rows} == {'forward', 'backward', 'full'}
    assert {row['dtype'] for row in rows} == {'float32', 'bfloat16'}
    for row in rows:
        assert 0 < float(row['p20_ms']) <= float(row['p50_ms']) <= float(row['p80_ms'])
        assert int(row['peak_bytes']) > 0
        assert row['machine'] and row['torch'] and row['commit'] and row['threads'] == '1'
        if row['function'] == row['baseline']:
            assert float(row['ratio_p50']) == 1
    table = (folder / 'bench_losses.md').read_text()
    assert table.count('| ss_lr |') == 4  # two sizes, two dtypes: the newest run alone
    assert {path.name for path in folder.iterdir()} == {
        f'bench_losses.{suffix}' for suffix in ('csv', 'md', 'png', 'svg')
    }


def test_the_published_formulas_are_those_of_the_tests(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import bench_losses

    from tests.support import references

    torch.manual_seed(0)
    score, label = 3 * torch.randn(5, 40), torch.randint(40, (5,))
    torch.testing.assert_close(
        bench_losses.as_published(score, label, alpha=39, gamma=0.25),
        references.ss_lr_loss_as_published(score, label, 39, 0.25),
    )
    torch.testing.assert_close(
        bench_losses.as_published(score, label, alpha=100, ratio=0.1),
        references.hs_lr_loss_as_published(score, label, 100, 0.1),
    )


def test_fused_cross_entropy_of_torch_is_cross_entropy(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import bench_losses

    torch.manual_seed(0)
    inputs = [torch.randn(shape, requires_grad=True) for shape in ((5, 4), (23, 4), (23,))]
    losses, label = bench_losses.fused_losses(), torch.randint(23, (5,))
    names = ['linear + cross_entropy']
    if 'linear_cross_entropy' in losses:
        names.append('linear_cross_entropy')
    results = []
    for name in names:
        loss = losses[name](*inputs, label)
        results.append([loss, *torch.autograd.grad(loss, inputs)])
    expected = F.cross_entropy(F.linear(*inputs), label)
    for loss, *grads in results:
        torch.testing.assert_close(loss, expected)
        for a, e in zip(grads, torch.autograd.grad(expected, inputs, retain_graph=True)):
            torch.testing.assert_close(a, e)


@pytest.mark.parametrize('folder', ['docs/results', 'docs/results/gpu'])
def test_report_of_committed_rows(folder, run_tool, tmp_path, monkeypatch):
    """The page is generated, and nothing is written where it is not asked for."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    status, output = run_tool('benchmarks/report_losses.py')
    assert status == 1 and 'work_dirs/bench/bench_losses.csv has no rows' in output
    shutil.copy(ROOT / folder / 'bench_losses.csv', tmp_path)
    status, output = run_tool('benchmarks/report_losses.py', '--results', '.')
    assert status == 0, output
    page = (tmp_path / 'bench_losses.md').read_text()
    assert page == (ROOT / folder / 'bench_losses.md').read_text()


def test_bench_training_from_an_installed_package(tmp_path):
    """Configs and tools stand in `frlr_mm/.mim`, and there are neither tests nor a checkout."""
    ignored = shutil.ignore_patterns('__pycache__', '.mim')
    shutil.copytree(ROOT / 'frlr_mm', tmp_path / 'frlr_mm', ignore=ignored)
    mim = tmp_path / 'frlr_mm' / '.mim'
    for name in ('configs', 'tools'):
        shutil.copytree(ROOT / name, mim / name, ignore=ignored)
    shadow(tmp_path, 'tests')
    recipe = (
        'configs/cifar/resnet18_8xb16-hslr_cifar10.py + NegativeClassDistractionHook interval=2',
        'mmpretrain::resnet/resnet18_8xb16_cifar10.py',
    )
    result = subprocess.run(
        [sys.executable, str(mim / 'tools/benchmarks/bench_training.py')]
        + ['--rounds', '1', '--steps', '1', '--dtype', 'bfloat16']
        + ['--recipe', *recipe, '4', '32'],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=os.environ | dict(PYTHONPATH=str(tmp_path)),
    )
    assert result.returncode == 0, result.stderr[-3000:]
    twin, recipe = read(tmp_path / 'work_dirs' / 'bench' / 'bench_training.csv')
    assert twin.keys() == read(ROOT / 'docs/results/bench_training.csv')[0].keys()
    assert float(twin['ratio_p50']) == 1 and float(recipe['ratio_p50']) > 0
    for row in (twin, recipe):
        assert row['dtype'] == 'bfloat16'
        assert row['steps'] == '2'  # one in two is watched
        assert float(row['images_per_s']) > 0 and int(row['peak_bytes']) > 0
        assert row['commit'] == 'unknown'


def test_step_in_bfloat16(monkeypatch):
    """The forward pass is under autocast, weights and gradients are not."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    import bench_training

    register_all_modules()
    init_default_scope('mmpretrain')
    name = 'configs/glyphs/resnet18_b128-hslr_glyphs.py'
    for dtype in (torch.float32, torch.bfloat16):
        args = argparse.Namespace(device='cpu', dtype=str(dtype).removeprefix('torch.'))
        model = bench_training.Recipe(name, 2, 32, args).model
        outputs = []
        model.head.fc.register_forward_hook(lambda *found, into=outputs: into.append(found[2]))
        batch = dict(inputs=torch.zeros(2, 3, 32, 32), data_samples=None)
        model(model.data_preprocessor(batch)['inputs'])
        assert [output.dtype for output in outputs] == [dtype]
        assert {weight.dtype for weight in model.parameters()} == {torch.float32}


def test_bench_gpu_without_a_card(run_tool, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    status, output = run_tool('benchmarks/bench_gpu.py')
    assert status == 1
    assert output.splitlines() == [
        'bench_gpu.py: expected a CUDA device, but torch finds none here; to try the command '
        'without one: make bench-gpu DEVICE=cpu'
    ]


def test_bench_gpu_stops_when_the_time_is_up(run_tool):
    status, output = run_tool('benchmarks/bench_gpu.py', '--device', 'cpu', '--minutes', 0.005)
    assert status == 1
    assert output.splitlines()[-1] == (
        'bench_gpu.py: tests did not end in time; losses did not start in time; '
        'training did not start in time'
    )


@pytest.mark.slow
def test_bench_gpu_at_tiny_sizes(run_tool, tmp_path):
    status, output = run_tool('benchmarks/bench_gpu.py', '--device', 'cpu')
    assert status == 0, output[-3000:]
    rows = read(tmp_path / 'work_dirs/bench/bench_losses.csv')
    assert {row['device'] for row in rows} == {'cpu'} and all(row['machine'] for row in rows)
    assert {'ss_lr compiled', 'hs_lr compiled', 'fused_linear_hs_lr'} <= {
        row['function'] for row in rows
    }
    _, recipe = read(tmp_path / 'work_dirs/bench/bench_training.csv')
    assert recipe['dtype'] == 'bfloat16'
    # The tables of both, and the summary of pytest.
    assert '| 4 x 1,000, D 8 | float32 | fused_linear_ss_lr |' in output
    assert f'| {recipe["recipe"]} | 4 | 32 | bfloat16 | {recipe["p50_ms"]} |' in output
    assert ' passed, ' in output


def test_count_traffic_writes_its_table(run_tool, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    status, output = run_tool('benchmarks/count_traffic.py', '--quick', '--operations', 'ss_lr')
    assert status == 0, output
    page = (tmp_path / 'work_dirs/bench/traffic.md').read_text()
    assert page.count('| ss_lr |') == 4  # two dtypes, two kinds of labels
    assert page.count('| fused_linear_ss_lr |') == 2
    assert '| 4 x 100 | float32 | index | cross_entropy | 8.05 | 5.05 | 3.01 | 3.00 |\n' in page
    assert '    softplus: 1,600 bytes read, 1,600 written' in output
    assert 'linear_cross_entropy' not in page  # one operation that hides what it does


@pytest.mark.slow
def test_count_traffic_compiled(run_tool, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    status, output = run_tool('benchmarks/count_traffic.py', '--quick', '--compiled')
    assert status == 0, output
    lines = (tmp_path / 'work_dirs/bench/traffic.md').read_text().splitlines()
    cells = [[cell.strip() for cell in line.split('|')] for line in lines if '|' in line]
    assert cells[0][-3:] == ['compiled: passes', 'compiled: peak', '']
    for row in cells[2:]:
        if ', D ' in row[1]:
            assert row[-3:] == ['', '', '']
        else:
            assert 0 < float(row[-3]) < float(row[5]) or row[4].startswith('hs_lr')


@pytest.mark.slow
def test_bench_sharded_counts_and_times(tmp_path):
    arguments = dict(classes=40, processes=2, images=3, channels=5, rounds=2, out=tmp_path)
    result = subprocess.run(
        [sys.executable, str(BENCHMARKS / 'bench_sharded.py')]
        + [str(part) for key, value in arguments.items() for part in (f'--{key}', value)],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    rows = read(tmp_path / 'bench_sharded.csv')
    assert [(row['W'], row['function']) for row in rows] == [
        (w, name) for w in '12' for name in ('ss_lr', 'hs_lr ratio 0.01', 'softmax')
    ]
    assert rows[0].keys() == read(ROOT / 'docs/results/bench_sharded.csv')[0].keys()
    counted = {row['function']: row for row in rows if row['W'] == '2'}
    calls = {name: int(row['all_reduce_calls']) for name, row in counted.items()}
    # Eight rounds of the search; a maximum and two sums.
    assert calls == {'ss_lr': 0, 'hs_lr ratio 0.01': 8, 'softmax': 3}
    # Six images, their losses and the gradient of their features.
    assert int(counted['ss_lr']['reduce_scatter_bytes']) == 4 * (6 + 6 * 5)
    assert int(counted['softmax']['all_reduce_bytes']) == 3 * 6 * 4
    for row in rows:
        assert 0 < float(row['p20_ms']) <= float(row['p50_ms'])
        # Five weights and a bias for each class.
        assert int(row['peak_bytes']) > int(row['shard_bytes']) == 24 * 40 // int(row['W'])


@pytest.mark.parametrize(
    ('arguments', 'line'),
    [
        (('--images', 0), 'expected --images to be at least 1, but got 0'),
        (('--rounds', -1), 'expected --rounds to be at least 0, but got -1'),
        (('--processes', 1), 'expected --processes to be at least 2, but got 1'),
        (
            ('--classes', 3, '--processes', 4),
            'expected --classes to be at least 4, one for each process, but got 3',
        ),
    ],
)
def test_wrong_sizes_of_sharded_classifiers_are_one_line(run_tool, arguments, line):
    status, output = run_tool('benchmarks/bench_sharded.py', *arguments)
    assert status == 2 and line in output


@pytest.mark.parametrize(
    ('script', 'arguments', 'line'),
    [
        ('bench_losses.py', ('--graphs',), 'expected --device to be cuda with --graphs'),
        ('bench_gpu.py', ('--minutes', 0), 'expected --minutes to be above 0, but got 0'),
        ('bench_gpu.py', ('--minutes', 'nan'), 'expected --minutes to be above 0, but got nan'),
        ('bench_gpu.py', ('--device', 'tpu'), "invalid choice: 'tpu'"),
    ],
)
def test_wrong_choices_for_a_device_are_one_line(run_tool, script, arguments, line):
    status, output = run_tool(f'benchmarks/{script}', *arguments)
    assert status == 2 and line in output


@pytest.mark.parametrize('name', ['rounds', 'threads'])
@pytest.mark.parametrize('script', ['bench_losses.py', 'bench_training.py'])
def test_wrong_arguments_are_one_line(run_tool, script, name):
    status, output = run_tool(f'benchmarks/{script}', f'--{name}', 0)
    assert status == 2 and f'expected --{name} to be at least 1, but got 0' in output
