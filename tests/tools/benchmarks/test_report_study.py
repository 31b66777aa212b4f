"""The tables and figures of the study say what its rows say."""

import os
import tarfile

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


def test_logs_are_packed_and_kept(run_tool, tmp_path):
    results = Results(tmp_path)
    runs = [Run(JOB, 'lr', 'test', seed, dict(lr=0.1, weight_decay=0.001)) for seed in range(3)]
    for run in runs[:2]:
        add(results, run, 70)
    for run in runs[1:]:  # the last one has no row
        for start in ('1', '2'):
            log = tmp_path / 'work' / run.name / start / 'vis_data/scalars.json'
            log.parent.mkdir(parents=True)
            log.write_text(f'start {start}\n')
    archive = tmp_path / 'logs/study.tar.xz'

    def names():
        with tarfile.open(archive) as tar:
            return {member.name: tar.extractfile(member).read().decode() for member in tar}

    args = (TOOL, '--results', '.', '--logs', 'work')
    assert run_tool(*args) == (0, 'logs/study.tar.xz: 1 runs\n')
    first = archive.read_bytes()
    assert names() == {f'{runs[1].name}.json': 'start 1\nstart 2\n'}
    os.utime(log)
    assert run_tool(*args)[0] == 0 and archive.read_bytes() == first

    # Another folder adds to it.
    (tmp_path / 'work').rename(tmp_path / 'gone')
    (tmp_path / 'gone' / runs[1].name).rename(tmp_path / 'gone' / runs[0].name)
    assert run_tool(*args[:-1], 'gone') == (0, 'logs/study.tar.xz: 2 runs\n')
    assert names() == {f'{run.name}.json': 'start 1\nstart 2\n' for run in runs[:2]}


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
        ((), 'expected Markdown files, --figures or --logs, but got none of them'),
        (('page.md',), 'page.md: Expected the block of the study to be hours, '),
        (('none.md',), 'none.md'),
        (('--logs', 'none'), 'Expected a folder of the runs of the study, but got none'),
    ):
        status, output = run_tool(TOOL, *args)
        assert status != 0 and message in output and 'Traceback' not in output
