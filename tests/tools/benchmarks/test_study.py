"""The study goes on where it was killed, and trains on the recipes."""

import csv
import json
import os
import signal
from pathlib import Path

import pytest
from mmengine.config import Config

from frlr_mm.reporting.study import Results, Run
from frlr_mm.reporting.study_configs import BACKBONE, FIT_FACES, VAL_FACES, make_config
from frlr_mm.reporting.study_jobs import BASE, JOBS
from tests.reporting.test_study import add
from tests.support.processes import run_script
from tests.tools.conftest import ROOT

BENCHMARKS = ROOT / 'tools/benchmarks'

# A study of two small runs; of the second the training kills the study and itself, once.
SMALL_STUDY = """
import argparse, os, sys
from pathlib import Path
sys.path[:0] = [{benchmarks!r}, {root!r}]
import study
from frlr_mm.reporting.study import Run
from frlr_mm.reporting.study_jobs import BASE, JOBS, Job

JOBS.clear()
JOBS['categories-1000'] = Job('categories', 10, 2)
runs = [Run('categories-1000', loss, 'test', 0, dict(BASE, lr=0.05)) for loss in ('sr', 'lr')]
study.plan = lambda *args: iter(runs)
make_config = study.make_config

def make_small_config(*args):
    cfg = make_config(*args)
    cfg.custom_imports.imports.append('kill_hook')
    cfg.custom_hooks.append(dict(type='KillHook', study=os.getpid()))
    return cfg

study.make_config = make_small_config
sys.argv[1:] = ['--processes', '1']
study.main(study.parse_args())
"""
KILL_HOOK = """
import os, signal
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

@HOOKS.register_module()
class KillHook(Hook):
    def __init__(self, study):
        self.study = study

    def {moment}(self, runner, batch_idx, data_batch=None):
        if runner.epoch == {epoch} and not os.path.exists('killed'):
            open('killed', 'w').close()
            os.kill(self.study, signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)
"""


def run_study(folder):
    path = os.pathsep.join([str(folder), str(ROOT), os.environ.get('PYTHONPATH', '')])
    script = folder / 'small_study.py'
    script.write_text(SMALL_STUDY.format(benchmarks=str(BENCHMARKS), root=str(ROOT)))
    return run_script([script], folder, PYTHONPATH=path)


@pytest.mark.parametrize(('moment', 'epoch'), [('before_train_iter', 1), ('before_val_iter', 2)])
def test_goes_on_after_a_kill(tmp_path, moment, epoch):
    (tmp_path / 'kill_hook.py').write_text(KILL_HOOK.format(moment=moment, epoch=epoch))
    folder = tmp_path / 'work_dirs' / 'study'
    # The first run has finished before.
    add(Results(folder), Run('categories-1000', 'sr', 'test', 0, dict(BASE, lr=0.05)), 50)
    path = folder / 'study_categories.csv'
    finished = path.read_bytes()

    status, output = run_study(tmp_path)
    assert status == -signal.SIGKILL, output[-2000:]
    assert path.read_bytes() == finished

    status, output = run_study(tmp_path)
    assert status == 0, output[-2000:]
    assert path.read_bytes().startswith(finished)
    with path.open(newline='') as file:
        _, row = csv.DictReader(file)
    assert row['loss'] == 'lr' and len(row['curve'].split()) == 2
    assert json.loads(row['settings']) == dict(lr=0.05, weight_decay=5e-4)
    assert row['machine'] and row['commit'] and row['threads'] == '1'
    (run,) = (each for each in folder.iterdir() if each.name.startswith('categories-1000'))
    assert run.name == 'categories-1000_test_lr_lr=0.05_weight_decay=0.0005_seed0'
    assert len(list(run.glob('*/vis_data/scalars.json'))) == 2
    assert 'resumed epoch: 1' in (run / 'output.txt').read_text()
    assert not list(run.glob('*.pth'))


@pytest.fixture
def study(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import study

    return study


@pytest.mark.parametrize(
    ('saved', 'validated', 'left'),
    [
        ([3, 4], [2, 4], [3, 4]),
        ([3, 4], [2], [3]),
        ([2, 3], [2], [2, 3]),  # no validation is due
        ([2], [], []),
        ([4, 5], [2, 4], [4]),  # the last epoch has one in any case
        ([], [], []),
    ],
)
def test_epoch_without_its_validation_is_trained_again(study, tmp_path, saved, validated, left):
    for epoch in saved:
        (tmp_path / f'epoch_{epoch}.pth').touch()
        (tmp_path / 'last_checkpoint').write_text(str(tmp_path / f'epoch_{epoch}.pth'))
    log = tmp_path / '1/vis_data/scalars.json'
    log.parent.mkdir(parents=True)
    log.write_text(''.join(f'{{"reid/mAP": 1, "step": {step}}}\n' for step in validated))
    cfg = Config(dict(train_cfg=dict(max_epochs=5, val_interval=2)))
    study.drop_unvalidated(tmp_path, cfg, ('reid/mAP',))
    files = [tmp_path / f'epoch_{epoch}.pth' for epoch in left]
    assert sorted(tmp_path.glob('*.pth')) == files
    pointer = tmp_path / 'last_checkpoint'
    assert pointer.read_text() == str(files[-1]) if files else not pointer.exists()


def test_tunes_on_no_test_face_and_builds_each_config(study):
    nothing = Results(Path('none'))
    jobs = [job for job in JOBS if not JOBS[job].takes_pictures]
    runs = [run for run in study.plan(nothing, jobs, True) if run]
    assert {run.split for run in runs} == {'val'}
    assert not set(VAL_FACES) & set(FIT_FACES)
    for run in {(run.job, run.loss): run for run in runs}.values():
        cfg = make_config(run, 'data', ROOT / 'configs')
        assert BACKBONE.items() <= dict(cfg.model.backbone, _delete_=True).items()
        train, val = cfg.train_dataloader.dataset, cfg.val_dataloader.dataset
        if run.kind == 'attributes':
            assert (train.split, val.split) == ('train', 'val')
            continue
        assert train.split == val.split == 'train'
        assert (train.faces, val.faces) == (FIT_FACES, VAL_FACES)


# A recipe sets the prior and the end of the annealing in one of two ways.
RECIPES = {
    'by number': ("dict(type='Normal', layer='Linear', std=0.01, bias_prob=1 / 1000)", '', 8),
    'by hook': (
        "dict(type='Normal', layer='Linear', std=0.01)",
        "dict(type='PriorBiasHook'),",
        0.8,
    ),
}


@pytest.mark.parametrize('kind', RECIPES)
@pytest.mark.parametrize('prior', [True, False])
def test_prior_and_annealing_of_a_run(tmp_path, kind, prior):
    init_cfg, hook, end = RECIPES[kind]
    path = tmp_path / 'glyphs' / 'resnet18_b128-hslr_glyphs.py'
    path.parent.mkdir()
    path.write_text(f"""
_base_ = {str(ROOT / 'configs/glyphs/resnet18_b128-hslr_glyphs.py')!r}
model = dict(head=dict(init_cfg=dict(_delete_=True, **{init_cfg})))
custom_hooks = [
    {hook}
    dict(type='FocusAnnealingHook', param='ratio', start_value=1.0, end_value=0.01, end={end}),
]
""")
    settings = BASE | dict(ratio=0.03, anneal_end=0.6) | ({} if prior else dict(prior=False))
    cfg = make_config(Run('categories-1000', 'hslr', 'val', 0, settings), 'data', tmp_path)
    hooks = {each.type: each for each in cfg.custom_hooks}
    assert ('PriorBiasHook' in hooks) == (prior and kind == 'by hook')
    expected = {'by number': 0.001 if prior else 0.5, 'by hook': None}[kind]
    assert cfg.model.head.init_cfg.get('bias_prob') == expected
    annealing = hooks['FocusAnnealingHook']
    assert annealing.end == 2 and isinstance(annealing.end, int)  # of four epochs
    assert (annealing.end_value, cfg.model.head.loss.ratio) == (0.03, 0.03)
    none = Run('categories-1000', 'hslr', 'val', 0, settings | dict(anneal='none'))
    types = {each.type for each in make_config(none, 'data', tmp_path).custom_hooks}
    assert 'FocusAnnealingHook' not in types


def test_unknown_job_is_one_line(run_tool):
    status, output = run_tool('benchmarks/study.py', '--jobs', 'x')
    assert status == 1 and 'expected --jobs to be of omniglot, ' in output
    assert 'Traceback' not in output


def test_order_of_the_runs_on_pictures(study):
    jobs = ['omniglot', 'omniglot-short', 'omniglot-id']
    runs = list(study.plan(Results(Path('none')), jobs, ablation=True))
    named = [(run.job, run.loss, run.split) if run else None for run in runs]
    # Nothing is tested before its settings have been chosen, which a long job takes from one of
    # half its length; the paper's losses come first, on all jobs.
    expected = []
    for tuned_on in ('omniglot-half', 'omniglot-short', 'omniglot-id-short'):
        for loss in ('sr', 'lr', 'hslr', 'sslr'):
            expected += [(tuned_on, loss, 'val')] * 12
        expected += [None] * 20
    assert named[:204] == expected
    assert [each[1] for each in named[204:228]] == ['sr-smooth'] * 12 + ['focal'] * 12
    assert ('omniglot-id-short', 'arcface', 'val') in named[228:]
    # Then the recipes' own settings, seed by seed, and the ablation.
    defaults = named.index(('omniglot', 'sr', 'test'))
    assert [run.seed for run in runs[defaults : defaults + 12]] == [0] * 4 + [1] * 4 + [2] * 4
    assert all(run for run in runs[defaults:])
    rest = runs[defaults + 12 :]
    assert {(run.job, run.split) for run in rest} == {
        ('omniglot-short', 'val'),
        ('omniglot-id', 'test'),
        ('omniglot-id', 'val'),
    }
    # Prior, annealing and selection are taken apart at half the length, and options tried.
    runs = list(study.plan(Results(Path('none')), ['omniglot-half'], ablation=True))
    assert sum(run.settings.get('prior') is False for run in runs) == 9
    assert sum('bias_decay' in run.settings for run in runs) == 9


def test_pictures_need_a_folder(run_tool):
    status, output = run_tool('benchmarks/study.py', '--jobs', 'omniglot', '--processes', '1')
    line = 'study.py: error: expected --data, the folder of the pictures, for the jobs omniglot'
    assert status == 1 and output.splitlines() == [line]
