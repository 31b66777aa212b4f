"""Comparisons of losses: pairs by seed, Holm's correction, what the protocol calls them."""

import numpy as np
import pytest
from scipy import stats

from frlr_mm.reporting.comparisons import bootstrap_half, compare, holm, planned
from frlr_mm.reporting.correct import pack_bits
from frlr_mm.reporting.picture_tables import (
    comparison_table,
    defaults_table,
    draw_against_classes,
    overview,
    pictures,
)
from frlr_mm.reporting.study import ABOUT, CORRECT, Results, Run, best_settings, tuning_runs
from frlr_mm.reporting.study_ablations import default_runs
from frlr_mm.reporting.study_jobs import losses_of

JOB = 'omniglot'
# Five seeds of each loss: LR far above, HS-LR as good as SR, SS-LR not clear, focal below.
SHIFTS = {
    'sr': [0, 0, 0, 0, 0],
    'lr': [2.0, 2.1, 1.9, 2.2, 2.0],
    'hslr': [0.1, 0.0, -0.1, 0.1, 0.0],
    'sslr': [3, -2, 1, 2, -1],
    'focal': [-4.0, -4.2, -3.9, -4.1, -4.0],
}
BASES = [80.0, 81.0, 79.5, 80.4, 80.9]


def add(results, run, value, bits=None):
    row = dict.fromkeys(('accuracy/top1', 'accuracy/top5', 'curve'), f'{value:.2f}')
    correct = {} if bits is None else {CORRECT: pack_bits(bits)}
    about = dict.fromkeys(ABOUT, 'x') | dict(seconds='240')
    results.add(run, row | about | correct)


@pytest.fixture
def results(tmp_path):
    results = Results(tmp_path)
    rng = np.random.default_rng(0)
    for loss, shifts in SHIFTS.items():
        for i, run in enumerate(tuning_runs(JOB, loss)):
            add(results, run, 70 + (i % 6 == 1))
        best = best_settings(results, JOB, loss)
        for seed, (base, shift) in enumerate(zip(BASES, shifts, strict=True)):
            bits = rng.random(500) < (base + shift) / 100
            add(results, Run(JOB, loss, 'test', seed, best), base + shift, bits)
    return results


def test_tuning_takes_the_mean_over_two_seeds(tmp_path):
    results = Results(tmp_path)
    runs = tuning_runs(JOB, 'hslr')
    assert [run.seed for run in runs] == [0] * 6 + [1] * 6
    # The best of seed 0 is not the best of both.
    for run, value in zip(runs, [9, 5, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0], strict=True):
        assert best_settings(results, JOB, 'hslr') is None
        add(results, run, value)
    assert best_settings(results, JOB, 'hslr') == runs[1].settings


def test_comparisons(results):
    found = {(each.loss, each.base): each for each in compare(results, JOB)}
    # SR with smoothing waits, and so does LR in none of them.
    assert set(planned(JOB)) - found.keys() == {('sr-smooth', 'sr')}
    expected = {
        ('lr', 'sr'): 'above',
        ('hslr', 'sr'): 'no difference',
        ('sslr', 'sr'): 'open',
        ('focal', 'sr'): 'below',
        ('hslr', 'lr'): 'below',
        ('sslr', 'lr'): 'open',
    }
    assert {pair: each.verdict for pair, each in found.items()} == expected
    shift = found['lr', 'sr'].shift
    half = stats.t.ppf(0.975, 4) * stats.sem(SHIFTS['lr'])
    assert (shift.mean, shift.high - shift.mean) == pytest.approx((2.04, half))
    ours = np.mean([results.correct(run('lr', seed, results)) for seed in range(5)], axis=0)
    theirs = np.mean([results.correct(run('sr', seed, results)) for seed in range(5)], axis=0)
    assert found['lr', 'sr'].images == bootstrap_half(100 * (ours - theirs))


def run(loss, seed, results):
    return Run(JOB, loss, 'test', seed, best_settings(results, JOB, loss))


def test_comparisons_that_wait_count_in_the_correction(results):
    found = {(each.loss, each.base): each for each in compare(results, JOB)}
    raw = {
        pair: stats.ttest_1samp(np.subtract(*map(SHIFTS.get, pair)), 0).pvalue for pair in found
    }
    smallest = min(raw, key=raw.get)
    assert len(planned(JOB)) == 7
    assert found[smallest].p == pytest.approx(7 * raw[smallest])


def test_holm():
    values = [0.01, 0.04, 0.03, 0.005]
    assert holm(values) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0] and holm([]) == []


def test_bootstrap_is_that_of_a_mean():
    values = np.random.default_rng(1).normal(0, 2, 4000)
    assert bootstrap_half(values) == pytest.approx(1.96 * 2 / np.sqrt(4000), rel=0.05)


def test_tables_say_what_the_comparisons_say(results):
    table = comparison_table(results, JOB)
    lines = {line.split(' | ')[0].strip('| '): line for line in table.splitlines()}
    assert '| minus SR | minus LR | s/epoch |' in table
    assert all(line.endswith('| 10.0 |') for line in table.splitlines()[2:])
    assert 'lr 0.4' in lines['LR'] and '(edge)' not in table
    assert '+2.04 ± ' in lines['LR'] and lines['LR'].count(': above') == 1
    assert ': no difference' in lines['HS-LR'] and 'images ±' in lines['HS-LR']
    assert 'SR, smoothed' not in lines
    row = next(line for line in overview(results).splitlines() if line.startswith('| omniglot'))
    assert row.split('|')[2:5] == [' 1623 ', ' top1 ', ' 80.4 ']
    assert ' 82.4 ▲ ' in row and ' 80.4 = ' in row and ' 76.3 ▼ ' in row
    assert draw_against_classes(results) is not None
    text = pictures(results)
    start = f'### omniglot\n\non the test split:\n\n{table}\n### omniglot-half\n\nthe search:\n\n'
    assert text.startswith(start)
    # Both seeds of a setting in a cell, the chosen one marked.
    assert (
        '| HS-LR | anneal cosine, lr 0.4, ratio 0.01, weight_decay 0.0005 | **71.00 / 71.00** |'
        in text
    )
    assert text.count('###') == 2 and 'test splits of `omniglot-short`, `kanji`' in text


def test_defaults_and_nothing(tmp_path):
    results = Results(tmp_path)
    for table in (comparison_table(results, JOB), defaults_table(results, JOB), overview(results)):
        assert table == 'Not measured yet.\n'
    assert draw_against_classes(results) is None
    for each in default_runs(JOB):
        add(results, each, 80 + each.seed + 2 * (each.loss == 'hslr'))
    lines = defaults_table(results, JOB).splitlines()
    assert lines[2] == '| SR | lr 0.2, weight_decay 0.0005 | 81.00 | 80.00 / 81.00 / 82.00 |  |  |'
    hslr = next(line for line in lines if line.startswith('| HS-LR'))
    assert hslr.endswith('| 82.00 / 83.00 / 84.00 | +2.00 ± 0.00 | +2.00 ± 0.00 |')


def test_every_job_has_planned_comparisons():
    assert planned('fashion') == [(loss, 'lr') for loss in losses_of('fashion') if loss != 'lr']
    assert ('arcface', 'sr') in planned('omniglot-id')
