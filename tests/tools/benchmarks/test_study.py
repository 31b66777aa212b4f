"""The study goes on where it was killed, and reports what its rows say."""

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

ROOT = Path(__file__).resolve().parents[3]
BENCHMARKS = ROOT / 'tools/benchmarks'

# A study of two small runs; of the second the training kills the study and itself, once.
SMALL_STUDY = """
import os, sys
sys.path[:0] = [{benchmarks!r}, {root!r}]
import study, study_grid
from study_grid import BASE, JOBS, Run, make_config

JOBS.clear()
JOBS['categories-1000'] = ('categories', 10, 2)
runs = [Run('categories-1000', loss, 'test', 0, dict(BASE, lr=0.05)) for loss in ('sr', 'lr')]
study.plan = lambda *args: iter(runs)

def make_small_config(run, data_root):
    cfg = make_config(run, data_root)
    if run.loss == 'lr':
        cfg.custom_imports.imports.append('kill_hook')
        cfg.custom_hooks.append(dict(type='KillHook', study=os.getpid()))
    return cfg

study.make_config = make_small_config
study.main()
"""
KILL_HOOK = """
import os, signal
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

@HOOKS.register_module()
class KillHook(Hook):
    def __init__(self, study):
        self.study = study

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.epoch == 1 and not os.path.exists('killed'):
            open('killed', 'w').close()
            os.kill(self.study, signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)
"""


def run_study(folder):
    path = os.pathsep.join([str(folder), str(ROOT), os.environ.get('PYTHONPATH', '')])
    script = SMALL_STUDY.format(benchmarks=str(BENCHMARKS), root=str(ROOT))
    command = [sys.executable, '-c', script, '--results', 'results', '--processes', '1']
    return subprocess.run(
        [*command, '--work-dir', 'work'],
        cwd=folder,
        env=os.environ | dict(PYTHONPATH=path),
        capture_output=True,
        text=True,
        timeout=200,
    )


def read(path):
    with path.open(newline='') as file:
        return list(csv.DictReader(file))


def test_goes_on_after_a_kill(tmp_path):
    (tmp_path / 'kill_hook.py').write_text(KILL_HOOK)
    results = tmp_path / 'results' / 'study_categories.csv'
    killed = run_study(tmp_path)
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    (first,) = read(results)
    assert first['loss'] == 'sr' and len(first['curve'].split()) == 2

    resumed = run_study(tmp_path)
    assert resumed.returncode == 0, resumed.stderr[-2000:]
    rows = read(results)
    assert rows[0] == first and [row['loss'] for row in rows] == ['sr', 'lr']
    assert len(rows[1]['curve'].split()) == 2
    assert json.loads(rows[1]['settings']) == dict(lr=0.05, weight_decay=5e-4)
    assert rows[1]['machine'] and rows[1]['commit'] and rows[1]['threads'] == '1'
    once, twice = (
        (tmp_path / 'work' / f'categories-1000_test_{loss}_lr=0.05_weight_decay=0.0005_seed0')
        for loss in ('sr', 'lr')
    )
    assert len(list(once.glob('*/vis_data/scalars.json'))) == 1
    assert len(list(twice.glob('*/vis_data/scalars.json'))) == 2
    assert 'resumed epoch: 1' in (twice / 'output.txt').read_text()
    assert not list(tmp_path.glob('work/*/*.pth'))


@pytest.fixture
def study(monkeypatch):
    """The modules of the study."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import study
    import study_grid
    import study_report
    import study_results

    study.grid, study.report, study.results = study_grid, study_report, study_results
    return study


def add(results, run, value):
    row = dict.fromkeys(('accuracy/top1', 'accuracy/top5'), str(value))
    row |= dict.fromkeys(('date', 'commit', 'machine', 'cores', 'threads', 'torch', 'python'), 'x')
    results.add(run, row | dict(seconds='1', curve=str(value)))


def test_same_number_of_settings_for_each_loss(study):
    for kind, losses in study.grid.LOSSES.items():
        for loss in losses:
            settings = study.grid.tuning_settings(kind, loss)
            different = {json.dumps(each, sort_keys=True) for each in settings}
            assert len(different) == 2 * len(study.grid.RATES[kind])


def test_tunes_on_no_test_face_and_builds_each_config(study):
    nothing = study.results.Results(Path('none'))
    runs = [run for run in study.plan(nothing, study.JOBS, True) if run]
    assert {run.split for run in runs} == {'val'}
    assert not set(study.grid.VAL_FACES) & set(study.grid.FIT_FACES)
    for run in {(run.job, run.loss): run for run in runs}.values():
        cfg = study.make_config(run, 'data')
        assert dict(cfg.model.backbone, _delete_=True) == study.grid.BACKBONE
        train, val = cfg.train_dataloader.dataset, cfg.val_dataloader.dataset
        if run.kind == 'attributes':
            assert (train.split, val.split) == ('train', 'val')
            continue
        assert train.split == val.split == 'train'
        assert (train.faces, val.faces) == (study.grid.FIT_FACES, study.grid.VAL_FACES)


def test_report(study, tmp_path):
    results = study.results.Results(tmp_path)
    rng = np.random.default_rng(0)
    scores = {'sr': rng.uniform(80, 82, 5), 'lr': rng.uniform(81, 83, 5)}
    for loss, values in scores.items():
        settings = study.grid.tuning_settings('categories', loss)
        for i, run in enumerate(study.results.tuning_runs('categories-1000', loss)):
            assert study.results.best_settings(results, 'categories-1000', loss) is None
            add(results, run, 70 + (i == 3))
        assert study.results.best_settings(results, 'categories-1000', loss) == settings[3]
        for seed, value in enumerate(values):
            run = study.Run('categories-1000', loss, 'test', seed, settings[3])
            add(results, run, f'{value:.2f}')
    (tmp_path / 'README.md').write_text(
        'a\n<!-- study: categories-1000 -->\nold\n<!-- end of study -->\nb\n'
    )
    study.write_report(tmp_path)

    values = {loss: values.round(2) for loss, values in scores.items()}
    half = stats.t.interval(0.95, 4, scale=stats.sem(values['lr']))[1]
    shift = values['lr'] - values['sr']
    shift_half = stats.t.interval(0.95, 4, scale=stats.sem(shift))[1]
    p = stats.ttest_1samp(shift, 0).pvalue
    text = (tmp_path / 'README.md').read_text()
    assert text.startswith('a\n<!--') and text.endswith('-->\nb\n') and 'old' not in text
    row = next(line for line in text.splitlines() if line.startswith('| LR |'))
    lr = values['lr']
    assert f'| 5 | {lr.mean():.2f} ± {half:.2f} | {lr.std(ddof=1):.2f} |' in row
    assert f'| {shift.mean():+.2f} ± {shift_half:.2f} | {p:.2g} |' in row
    assert (tmp_path / 'study.png').is_file() and (tmp_path / 'study.svg').is_file()
