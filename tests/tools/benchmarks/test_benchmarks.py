"""The benchmarks run and leave rows that say where they were measured."""

import ast
import csv
import os
import shutil
import subprocess
import sys

import pytest

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
    import torch

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


def test_report_of_committed_rows(run_tool, tmp_path, monkeypatch):
    """The page is generated, and nothing is written where it is not asked for."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    status, output = run_tool('benchmarks/report_losses.py')
    assert status == 1 and 'work_dirs/bench/bench_losses.csv has no rows' in output
    shutil.copy(ROOT / 'docs/results/bench_losses.csv', tmp_path)
    status, output = run_tool('benchmarks/report_losses.py', '--results', '.')
    assert status == 0, output
    page = (tmp_path / 'bench_losses.md').read_text()
    assert page == (ROOT / 'docs/results/bench_losses.md').read_text()


def test_bench_training_from_an_installed_package(tmp_path):
    """Configs and tools stand in `frlr_mm/.mim`, and there are neither tests nor a checkout."""
    ignored = shutil.ignore_patterns('__pycache__', '.mim')
    shutil.copytree(ROOT / 'frlr_mm', tmp_path / 'frlr_mm', ignore=ignored)
    mim = tmp_path / 'frlr_mm' / '.mim'
    for name in ('configs', 'tools'):
        shutil.copytree(ROOT / name, mim / name, ignore=ignored)
    shadow(tmp_path, 'tests')
    recipe = (
        'configs/glyphs/resnet18_b128-hslr_glyphs.py + NegativeClassDistractionHook interval=2',
        'configs/glyphs/resnet18_b128-sr_glyphs.py',
    )
    result = subprocess.run(
        [sys.executable, str(mim / 'tools/benchmarks/bench_training.py')]
        + ['--rounds', '1', '--steps', '1', '--recipe', *recipe, '4', '32'],
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
        assert row['steps'] == '2'  # one in two is watched
        assert float(row['images_per_s']) > 0 and int(row['peak_bytes']) > 0
        assert row['commit'] == 'unknown'


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


@pytest.mark.parametrize('name', ['rounds', 'threads'])
@pytest.mark.parametrize('script', ['bench_losses.py', 'bench_training.py'])
def test_wrong_arguments_are_one_line(run_tool, script, name):
    status, output = run_tool(f'benchmarks/{script}', f'--{name}', 0)
    assert status == 2 and f'expected --{name} to be at least 1, but got 0' in output
