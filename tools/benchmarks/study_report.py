"""Write the tables and pictures of the study from its CSV files.

A table stands in docs/results/README.md between ``<!-- study: NAME -->`` and ``<!-- end of study
-->``; the text around it is written by hand.
"""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy import stats
from study_grid import BASELINE, JOBS, LOSSES, METRICS, ROOT, Run, ablations
from study_pictures import NAMES, draw_cures, draw_results
from study_results import Results, Row, best_settings, reported, tuning_runs

from frlr_mm.reporting import summarize

BLOCK = re.compile(r'(<!-- study: (\S+) -->\n).*?(<!-- end of study -->)', re.DOTALL)


def values_by_seed(rows: list[Row], metric: str) -> dict[str, float]:
    """Return a metric of each seed."""
    return {row['seed']: float(row[metric]) for row in rows}


def describe_settings(text: str) -> str:
    """Return settings as a reader wants them."""
    return ', '.join(f'{name} {value:g}' for name, value in json.loads(text).items())


def table(header: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ['---'] * len(header), *rows]
    return '\n'.join(f'| {" | ".join(cells)} |' for cells in lines) + '\n'


def difference(values: dict[str, float], base: dict[str, float]) -> tuple[str, str]:
    """Return the mean difference of the same seeds with its 95 % interval, and p of a paired t."""
    seeds = [seed for seed in values if seed in base]
    if len(seeds) < 2:
        return '', ''
    pairs = np.array([[values[seed], base[seed]] for seed in seeds])
    shift = summarize(pairs[:, 0] - pairs[:, 1])
    p = stats.ttest_rel(pairs[:, 0], pairs[:, 1]).pvalue
    return f'{shift.mean:+.2f} ± {shift.high - shift.mean:.2f}', f'{p:.2g}'


def job_table(results: Results, job: str) -> str:
    """Return the table of a job: each loss on the test split, and against the baseline."""
    kind = JOBS[job][0]
    first, *others = METRICS[kind]
    base = values_by_seed(reported(results, job, BASELINE[kind]), first)
    rows = []
    for loss in LOSSES[kind]:
        found = reported(results, job, loss)
        if not found:
            continue
        by_seed = values_by_seed(found, first)
        summary = summarize(list(by_seed.values()))
        against = ('', '') if loss == BASELINE[kind] else difference(by_seed, base)
        rows.append(
            [
                NAMES[loss],
                describe_settings(found[0]['settings']),
                str(summary.num),
                f'{summary.mean:.2f} ± {summary.high - summary.mean:.2f}',
                f'{summary.std:.2f}',
                *against,
                *(f'{np.mean([float(row[name]) for row in found]):.2f}' for name in others),
            ]
        )
    if len(rows) < 2:  # nothing to compare
        return 'Not measured yet.\n'
    names = [name.split('/')[1] for name in (first, *others)]
    minus = f'minus {NAMES[BASELINE[kind]]}'
    header = ['loss', 'tuned settings', 'seeds', f'{names[0]}, %', 'SD', minus, 'p', *names[1:]]
    return table(header, rows)


def recommendation(results: Results) -> str:
    """Return the loss with the highest mean of each job, and its difference to the baseline."""
    rows = []
    for job, (kind, *_) in JOBS.items():
        metric = METRICS[kind][0]
        values = {
            loss: values_by_seed(found, metric)
            for loss in LOSSES[kind]
            if len(found := reported(results, job, loss)) > 1
        }
        base = values.get(BASELINE[kind])
        if base is None:
            continue
        means = {loss: float(np.mean(list(each.values()))) for loss, each in values.items()}
        loss = max(means, key=lambda each: means[each])
        name = NAMES[BASELINE[kind]]
        rows.append(
            [
                job,
                NAMES[loss],
                describe_settings(reported(results, job, loss)[0]['settings']),
                f'{metric.split("/")[1]} {means[loss]:.1f} %',
                f'{name} {means[BASELINE[kind]]:.1f} %',
                difference(values[loss], base)[0] if loss != BASELINE[kind] else '',
                str(len(values[loss])),
            ]
        )
    if not rows:
        return 'Not measured yet.\n'
    header = ['job on glyphs', 'highest mean', 'settings', 'result', 'against']
    return table([*header, 'difference, 95 % interval', 'seeds'], rows)


def tuning_table(results: Results, job: str) -> str:
    """Return the search: each setting tried, on the split to tune on."""
    kind = JOBS[job][0]
    rows = []
    for loss in LOSSES[kind]:
        best = best_settings(results, job, loss)
        for run in tuning_runs(job, loss):
            row = results.find(run)
            if row:
                mark = '**' if run.settings == best else ''
                value = f'{mark}{row[METRICS[kind][0]]}{mark}'
                rows.append([NAMES[loss], describe_settings(row['settings']), value])
    if not rows:
        return 'Not measured yet.\n'
    return table(['loss', 'settings', f'{METRICS[kind][0].split("/")[1]}, %'], rows)


def ablation_table(results: Results, job: str) -> str:
    """Return every run of an ablation, what differs from the loss's first run, and the metric."""
    metric = METRICS[JOBS[job][0]][0]
    groups: dict[tuple[str, str], list[float]] = {}
    for run in ablations(job):
        row = results.find(run)
        if row:
            values = groups.setdefault((run.loss, changes_text(run)), [])
            values.append(float(row[metric]))
    if not groups:
        return 'Not measured yet.\n'
    rows = []
    for (loss, changes), values in sorted(
        groups.items(), key=lambda item: (list(NAMES).index(item[0][0]), item[0][1] != '')
    ):
        text = ' / '.join(f'{value:.1f}' for value in values)
        rows.append([NAMES[loss], changes or 'nothing', text])
    return table(['loss', 'changed', f'{metric.split("/")[1]}, %, a number a seed'], rows)


def changes_text(run: Run) -> str:
    """Return in what a run of an ablation differs from its loss's first one."""
    first = next(each.settings for each in ablations(run.job) if each.loss == run.loss)
    changed = {k: v for k, v in run.settings.items() if first.get(k) != v}
    return ', '.join(f'{name} {value}' for name, value in changed.items())


def hours(results: Results) -> str:
    """Return how long the rows took in all, and on what."""
    rows = [row for rows in results.rows.values() for row in rows]
    if not rows:
        return 'Not measured yet.\n'
    total = sum(float(row['seconds']) for row in rows) / 3600
    about = {
        f'{row["machine"]}, {row["cores"]} cores, torch {row["torch"]}, Python {row["python"]}'
        for row in rows
    }
    commits = ', '.join(sorted({row['commit'] for row in rows}))
    return (
        f'{len(rows)} trainings of one thread each, {total:.1f} hours of threads in all; '
        f'{"; ".join(sorted(about))}; commits {commits}.\n'
    )


def write_report(folder: Path) -> None:
    """Write the tables of the README.md in ``folder`` and two above, and the pictures."""
    results = Results(folder)
    blocks: dict[str, Callable[[], str]] = dict(
        hours=lambda: hours(results),
        recommendation=lambda: recommendation(results),
    )
    for job in JOBS:
        blocks[job] = lambda job=job: job_table(results, job)
        blocks[f'ablation-{job}'] = lambda job=job: ablation_table(results, job)
        blocks[f'tuning-{job}'] = lambda job=job: tuning_table(results, job)
    # The project's README recommends what the tables say.
    pages = [folder / 'README.md', folder.resolve().parents[1] / 'README.md']
    for path in filter(Path.is_file, pages):
        text = BLOCK.sub(lambda match: match[1] + blocks[match[2]]() + match[3], path.read_text())
        partial = path.with_name(f'{path.name}.partial')
        partial.write_text(text)
        partial.replace(path)
    draw_results(results, folder)
    draw_cures(results, folder)


if __name__ == '__main__':
    write_report(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / 'docs/results')
