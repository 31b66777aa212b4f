"""Tables of the study's search and of its ablations, and what all its tables share."""

import json

from .study import Results, Run, best_settings, tuning_runs
from .study_ablations import ablations
from .study_jobs import JOBS, METRICS, losses_of
from .tables import markdown_table

NAMES = {
    'sr': 'SR',
    'sr-smooth': 'SR, smoothed',
    'lr': 'LR',
    'hslr': 'HS-LR',
    'sslr': 'SS-LR',
    'focal': 'focal',
    'asl': 'ASL',
    'two-way': 'two-way',
    'arcface': 'ArcFace',
}
NOTHING = 'Not measured yet.\n'


def describe_settings(text: str) -> str:
    """Return settings as a reader wants them."""
    return ', '.join(
        f'{name} {value if isinstance(value, str) else format(value, "g")}'
        for name, value in json.loads(text).items()
    )


def tuning_table(results: Results, job: str) -> str:
    """Return the search: each setting tried, on the split to tune on."""
    metric = METRICS[JOBS[job].kind][0]
    rows = []
    for loss in losses_of(job):
        best = best_settings(results, job, loss)
        values: dict[str, list[str]] = {}
        for run in tuning_runs(job, loss):
            row = results.find(run)
            if row:
                values.setdefault(row['settings'], []).append(row[metric])
        for settings, seeds in values.items():
            mark = '**' * (json.loads(settings) == best)
            value = ' / '.join(seeds)
            rows.append([NAMES[loss], describe_settings(settings), f'{mark}{value}{mark}'])
    header = ['loss', 'settings', f'{metric.split("/")[1]}, %']
    return markdown_table(header, rows) if rows else NOTHING


def ablation_table(results: Results, job: str) -> str:
    """Return every run of an ablation, how it differs from the loss's first, and the metric."""
    metric = METRICS[JOBS[job].kind][0]
    groups: dict[tuple[str, str], list[str]] = {}
    # (A run may be of two of them.)
    for run in {run.key: run for run in ablations(job)}.values():
        row = results.find(run)
        if row:
            values = groups.setdefault((run.loss, changes_text(run)), [])
            values.append(f'{float(row[metric]):.1f}')
    order = sorted(groups, key=lambda group: (list(NAMES).index(group[0]), group[1] != ''))
    rows = [
        [NAMES[loss], changes or 'nothing', ' / '.join(groups[loss, changes])]
        for loss, changes in order
    ]
    header = ['loss', 'changed', f'{metric.split("/")[1]}, %, seed by seed']
    return markdown_table(header, rows) if rows else NOTHING


def changes_text(run: Run) -> str:
    """Return in what a run of an ablation differs from its loss's first one."""
    first = next(each.settings for each in ablations(run.job) if each.loss == run.loss)
    default = dict(anneal='exponential') if run.loss == 'hslr' else {}
    first = default | first
    changed = {k: v for k, v in (default | run.settings).items() if first.get(k) != v}
    return ', '.join(f'{name} {value}' for name, value in changed.items())
