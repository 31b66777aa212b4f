import csv

import numpy as np
import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.registry import DATASETS, HOOKS, MODELS, DefaultScope

from frlr_mm.evaluation.open_set import auroc
from frlr_mm.reporting import score_study
from frlr_mm.reporting.rivals import PLAIN_LR
from frlr_mm.reporting.score_study import LOSSES, MEASURES, Data, make_config, measure
from tests.tools.conftest import ROOT
from tests.tools.conftest import fork_commands as fork_commands  # fixtures
from tests.tools.conftest import run_tool as run_tool

SETTINGS = dict(sr={}, lr={}, hslr=dict(ratio=0.02), sslr=dict(gamma=0.5))


def config(loss, folder, name='glyphs'):
    settings = dict(SETTINGS[loss.removesuffix('-lr')], lr=0.3, weight_decay=0.1)
    return make_config(name, loss, 1, 20, settings, ROOT / 'configs', folder)


@pytest.mark.parametrize('loss', LOSSES)
def test_configs(loss, tmp_path):
    """Recipes with the settings, on known classes; the test set has unknown ones as well."""
    cfg = config(loss, tmp_path)
    assert cfg.optim_wrapper.optimizer.lr == 0.3 and cfg.randomness.seed == 1
    logistic = loss != 'sr'
    assert cfg.model.type == ('LogisticClassifier' if logistic else 'ImageClassifier')
    for key, value in SETTINGS[loss.removesuffix('-lr')].items():
        assert cfg.model.head.loss[key] == value
    hooks = {hook.type: hook for hook in cfg.get('custom_hooks', ())}
    assert ('PriorBiasHook' in hooks) == logistic
    assert ('LastPhaseHook' in hooks) == loss.endswith('-lr')
    if 'hslr' in loss:
        annealing = hooks['FocusAnnealingHook']
        assert (annealing.end_value, annealing.schedule) == (0.02, 'exponential')
    parts = [
        cfg[f'{split}_dataloader'].dataset
        for split in ('train', 'val', 'test')
    ]  # fmt: skip
    assert [part.get('others', 'drop') for part in parts] == ['drop', 'drop', 'unknown']
    assert {part.classes for part in parts} == {1000} == {cfg.model.head.num_classes}
    assert parts[2].dataset.num_classes == 2000


def test_network_and_data_of_photographs(tmp_path):
    from PIL import Image

    for split in ('train', 'test'):
        for i in range(100):
            folder = tmp_path / f'cifar100/{split}/class{i:02d}'
            folder.mkdir(parents=True)
            Image.fromarray(np.full((32, 32, 3), i, np.uint8)).save(folder / 'a.png')
    cfg = config('sslr', tmp_path, 'cifar100')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(dict(cfg.model, data_preprocessor=cfg.data_preprocessor))
        train, test = (
            DATASETS.build(cfg[f'{split}_dataloader'].dataset) for split in ('train', 'test')
        )
    assert len(train) == 50 and len(test) == 100
    labels = [test[i]['data_samples'].gt_label.item() for i in range(100)]
    assert labels == [*range(50), *[-1] * 50]
    inputs = torch.stack([train[i]['inputs'] for i in range(2)])
    data = model.data_preprocessor(dict(inputs=inputs))
    assert model(data['inputs'], mode='tensor').shape == (2, 50)


@pytest.mark.parametrize(('loss', 'name'), [('HSLRLoss', 'ratio'), ('SSLRLoss', 'gamma')])
def test_the_last_part_is_plain_lr(loss, name):
    from types import SimpleNamespace

    module = MODELS.build(dict(type=loss, **{name: 0.5}))
    runner = SimpleNamespace(
        model=SimpleNamespace(head=SimpleNamespace(loss_module=module)),
        message_hub=MessageHub('last phase'),
        max_iters=10,
    )
    param, value = PLAIN_LR[loss]
    hook = HOOKS.build(dict(type='LastPhaseHook', param=param, value=value, begin=0.8))
    values = []
    for runner.iter in range(10):
        hook.before_train_iter(runner, runner.iter)
        values.append(getattr(module, name))
    assert values == [0.5] * 8 + [dict(ratio=1.0, gamma=0.0)[name]] * 2


@pytest.mark.parametrize('logistic', [True, False])
def test_measures_what_is_not_calibrated_on(logistic):
    torch.manual_seed(0)
    logits, label = torch.randn(300, 4) * 5, torch.randint(4, (300,))
    logits[torch.arange(300), label] += 5
    label[200:] = -1
    found = measure(logits, label, logistic)
    states = ['raw', 'calibrated', 'calibrated-all'] if logistic else ['raw', 'calibrated']
    assert list(found) == states
    for values in found.values():
        assert set(MEASURES) == set(values)
    assert found['calibrated']['ece'] < found['raw']['ece']
    known, unknown = logits[1:200:2].amax(1).numpy(), logits[200:].amax(1).numpy()
    assert found['raw']['auroc_logit'] == pytest.approx(100 * auroc(known, unknown))
    # Of the images that are calibrated on, nothing is measured.
    other = logits.clone()
    other[:200:2] = other[:200:2].flip(0)
    other[torch.arange(0, 200, 2), label[:200:2]] += 5
    assert measure(other, label, logistic)['raw'] == found['raw']


def test_hard_selection_keeps_as_many_negatives_of_fewer_classes():
    results = ROOT / 'docs/results'
    ratios = [
        score_study.tuned_settings(results, name, 'hslr-lr')['ratio'] for name in score_study.DATA
    ]
    assert ratios == [0.01, 0.01, 0.2]
    assert 'ratio' not in score_study.tuned_settings(results, 'cifar100', 'sslr')


def test_settings_of_one_loss_are_lines_of_their_own(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / 'tools/benchmarks')
    from study_scores import COLUMNS, table

    rows = [
        dict(data='cifar100', loss=loss, settings=settings, state='raw', epochs='12')
        | dict.fromkeys(COLUMNS.values(), value)
        for loss, settings, value in [
            ('hslr', '{"ratio": 0.2}', '1'),
            ('sr', '{"lr": 0.4}', '2'),
            ('hslr', '{"ratio": 0.01}', '3'),
            ('hslr', '{"ratio": 0.2}', '2'),
        ]
    ]
    lines = [line.split(' | ') for line in table(rows, 'cifar100').splitlines()[2:]]
    assert [line[0] for line in lines] == ['| SR', '| HS-LR (ratio 0.2)', '| HS-LR (ratio 0.01)']
    assert [line[2] for line in lines] == ['2', '1.5 ± 6.35', '3']
    assert [line[-1] for line in lines] == ['1 |', '2 |', '1 |']


def test_trains_measures_and_fills_the_tables_once(run_tool, fork_commands, monkeypatch, tmp_path):
    monkeypatch.setitem(score_study.DATA, 'glyphs', Data(score_study.GLYPHS, 10, 5))
    (tmp_path / 'results').mkdir()
    tuning = (ROOT / 'docs/results/study_categories.csv').read_text()
    (tmp_path / 'results/study_categories.csv').write_text(tuning)
    args = ('--results', 'results', '--work-dir', 'runs', '--seeds', 0, '--losses', 'hslr-lr')
    status, output = run_tool('benchmarks/study_scores.py', *args)
    assert status == 0, output[-3000:]
    with open('results/study_scores.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    assert [row['state'] for row in rows] == ['raw', 'calibrated', 'calibrated-all']
    assert {row['loss'] for row in rows} == {'hslr-lr'} and rows[0]['commit']
    assert len({row['auroc_logit'] for row in rows}) == 1 and not list((tmp_path).rglob('*.pth'))

    page = tmp_path / 'page.md'
    page.write_text('<!-- scores: glyphs -->\n<!-- end of scores -->\n')
    assert run_tool('benchmarks/study_scores.py', *args)[0] == 0  # nothing is left to run
    assert (tmp_path / 'results/study_scores.csv').read_text().count('hslr-lr') == 3
    status, output = run_tool(
        'benchmarks/study_scores.py', '--results', 'results', '--tables', 'page.md'
    )
    assert status == 0, output
    assert page.read_text().count('| HS-LR, then LR | ') == 3
    status, output = run_tool('benchmarks/study_scores.py', '--data', 'mnist')
    assert status != 0 and 'expected glyphs, omniglot, cifar100, but got mnist' in output
