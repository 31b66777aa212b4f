"""The benchmarks run and leave rows that say where they were measured."""

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def run(script, *args):
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get('PYTHONPATH')])])
    result = subprocess.run(
        [sys.executable, str(ROOT / 'tools/benchmarks' / script), *args],
        capture_output=True,
        text=True,
        env=os.environ | dict(PYTHONPATH=path),
    )
    assert result.returncode == 0, result.stderr[-3000:]


def read(path):
    with path.open(newline='') as file:
        return list(csv.DictReader(file))


def test_bench_losses(tmp_path):
    path = tmp_path / 'bench_losses.csv'
    shutil.copy(ROOT / 'docs/results/bench_losses.csv', path)
    before = len(read(path))
    run('bench_losses.py', '--quick', '--rounds', '2', '--out', str(tmp_path))
    rows = read(path)[before:]
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
    table = (tmp_path / 'bench_losses.md').read_text()
    assert table.count('| ss_lr |') == 4  # two sizes, two dtypes: the newest run alone
    assert (tmp_path / 'bench_losses.png').stat().st_size > 10_000


def test_bench_training(tmp_path):
    run(
        'bench_training.py',
        '--rounds',
        '1',
        '--steps',
        '1',
        '--out',
        str(tmp_path),
        '--recipe',
        'configs/glyphs/resnet18_b128-hslr_glyphs.py + NegativeClassDistractionHook interval=2',
        'configs/glyphs/resnet18_b128-sr_glyphs.py',
        '4',
        '32',
    )
    twin, recipe = read(tmp_path / 'bench_training.csv')
    assert float(twin['ratio_p50']) == 1 and float(recipe['ratio_p50']) > 0
    for row in (twin, recipe):
        assert row['steps'] == '2'  # one in two is watched
        assert float(row['images_per_s']) > 0 and int(row['peak_bytes']) > 0
