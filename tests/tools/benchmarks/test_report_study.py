"""The tables and figures of the study say what its rows say."""

import numpy as np
import pytest
from scipy import stats

from frlr_mm.reporting.study import Results, Run, best_settings, tuning_runs
from tests.reporting.test_study import add
from tests.tools.conftest import ROOT

TOOL = 'benchmarks/report_study.py'
JOB = 'categories-1000'


def add_scores(results, scores):
    for loss, values in scores.items():
        for run in tuning_runs(JOB, loss):
            add(results, run, 70)
        settings = best_settings(results, JOB, loss)
        for seed, value in enumerate(values):
            add(results, Run(JOB, loss, 'test', seed, settings), f'{value:.2f}')


def test_tables_of_the_project_are_those_of_its_rows(run_tool):
    pages = (ROOT / 'README.md', *(ROOT / 'docs').rglob('*.md'))
    files = [path for path in pages if '<!-- study: ' in path.read_text()]
    assert {'README.md', 'tables.md'} <= {path.name for path in files}
    status, output = run_tool(TOOL, *files, '--results', ROOT / 'docs/results', '--check')
    assert status == 0, output


def test_tables_and_figures(run_tool, tmp_path):
    rng = np.random.default_rng(0)
    scores = {'sr': rng.uniform(80, 82, 5), 'lr': rng.uniform(81, 83, 5)}
    add_scores(Results(tmp_path), scores)
    page = tmp_path / 'page.md'
    page.write_text(f'a\n<!-- study: {JOB} -->\nold\n<!-- end of study -->\nb\n')
    args = (TOOL, page, '--results', '.')
    status, output = run_tool(*args, '--check')
    assert status == 1 and 'page.md: a table is not that of .' in output
    assert 'old' in page.read_text()
    assert run_tool(*args, '--figures', 'figures')[0] == 0
    assert run_tool(*args, '--check')[0] == 0

    values = {loss: values.round(2) for loss, values in scores.items()}
    half = stats.t.interval(0.95, 4, scale=stats.sem(values['lr']))[1]
    shift = values['lr'] - values['sr']
    shift_half = stats.t.interval(0.95, 4, scale=stats.sem(shift))[1]
    p = stats.ttest_rel(values['lr'], values['sr']).pvalue
    text = page.read_text()
    assert text.startswith('a\n<!--') and text.endswith('-->\nb\n') and 'old' not in text
    row = next(line for line in text.splitlines() if line.startswith('| LR |'))
    lr = values['lr']
    assert f'| 5 | {lr.mean():.2f} ± {half:.2f} | {lr.std(ddof=1):.2f} |' in row
    assert f'| {shift.mean():+.2f} ± {shift_half:.2f} | {p:.2g} |' in row
    names = sorted(path.name for path in (tmp_path / 'figures').iterdir())
    assert names == ['study.png', 'study.svg', 'study_cures.png', 'study_cures.svg']


def test_without_rows_there_is_nothing_to_draw(run_tool, tmp_path):
    (tmp_path / 'page.md').write_text('<!-- study: hours -->\n<!-- end of study -->\n')
    status, output = run_tool(TOOL, 'page.md', '--figures', 'figures')
    assert (status, output) == (0, 'page.md\n')
    assert 'Not measured yet.' in (tmp_path / 'page.md').read_text()
    assert not (tmp_path / 'figures').exists()


@pytest.mark.parametrize(
    ('gains', 'sentence'),
    [
        (dict(lr=2, hslr=2, sslr=2), 'every logistic loss is above softmax'),
        (dict(lr=0, hslr=2, sslr=2), 'HS-LR and SS-LR are above softmax'),
        (dict(lr=0, hslr=-2, sslr=2), 'SS-LR is above, HS-LR is below softmax'),
        (dict(lr=0, hslr=0, sslr=0), 'no loss differs clearly from softmax'),
    ],
)
def test_titles_say_what_the_intervals_say(tmp_path, monkeypatch, gains, sentence):
    monkeypatch.syspath_prepend(ROOT / 'tools/benchmarks')
    import report_study

    results = Results(tmp_path)
    seeds = np.array([80, 81, 82, 83, 84])
    noise = np.array([-1, 1, 0, -1, 1])
    add_scores(
        results, {'sr': seeds} | {loss: seeds + gain + noise for loss, gain in gains.items()}
    )
    assert report_study.verdict(results, JOB) == sentence


def test_errors_are_one_line(run_tool, tmp_path):
    (tmp_path / 'page.md').write_text('<!-- study: x -->\n<!-- end of study -->\n')
    for args, message in (
        ((), 'expected Markdown files or --figures, but got neither'),
        (('page.md',), 'page.md: Expected the block of the study to be hours, '),
        (('none.md',), 'none.md'),
    ):
        status, output = run_tool(TOOL, *args)
        assert status != 0 and message in output and 'Traceback' not in output
