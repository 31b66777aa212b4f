"""Tables and the figure of the study on pictures, by its protocol."""

import json

import numpy as np
from matplotlib.figure import Figure

from .comparisons import Comparison, compare
from .figures import STYLES
from .search_tables import NAMES, NOTHING, ablation_table, describe_settings, tuning_table
from .study import Results, Run, best_settings, reported
from .study_ablations import default_runs
from .study_jobs import JOBS, METRICS, PICTURE_RATES, losses_of
from .tables import markdown_table

# The long jobs, in the order of the table, and other networks.
LONG = (
    'omniglot',
    'kanji',
    'categories-1000-long',
    'omniglot-id',
    'fashion',
    'cifar100',
    'tiny-imagenet',
)
OTHER_NETWORKS = ('omniglot-wide', 'omniglot-resnet50', 'cifar100-wide')
# What a figure calls the sets of pictures.
_TITLES = {'omniglot': 'Omniglot', 'cifar100': 'CIFAR-100', 'tiny-imagenet': 'Tiny ImageNet'}
_COLUMNS = ('sr', 'sr-smooth', 'lr', 'hslr', 'sslr', 'focal', 'asl', 'two-way', 'arcface')


def comparison_table(results: Results, job: str) -> str:
    """Return the table of a job: each loss, tuned, against SR and LR; edges of the grid marked."""
    metric = METRICS[JOBS[job].kind][0]
    rates = PICTURE_RATES[JOBS[job].kind]
    comparisons = {(each.loss, each.base): each for each in compare(results, job)}
    bases = list(dict.fromkeys(base for _, base in comparisons))
    rows = []
    for loss in losses_of(job):
        found = reported(results, job, loss)
        if not found:
            continue
        edge = json.loads(found[0]['settings'])['lr'] in (rates[0], rates[-1])
        values = [float(row[metric]) for row in found]
        cells = [_cell(comparisons.get((loss, base))) for base in bases]
        rows.append(
            [
                NAMES[loss],
                describe_settings(found[0]['settings']) + ' (edge)' * edge,
                len(found),
                f'{np.mean(values):.2f}',
                *cells,
                f'{np.median([float(row["seconds"]) for row in found]) / JOBS[job].epochs:.1f}',
            ]
        )
    if len(rows) < 2:
        return NOTHING
    header = ['loss', 'tuned settings', 'seeds', f'{metric.split("/")[1]}, %']
    against = [f'minus {NAMES[base]}' for base in bases]
    return markdown_table([*header, *against, 's/epoch'], rows)


def defaults_table(results: Results, job: str) -> str:
    """Return the table of the recipes' own settings, three seeds each."""
    runs = list(default_runs(job))
    settings: dict[str, dict | None] = {run.loss: run.settings for run in runs}
    metric = METRICS[JOBS[job].kind][0]
    comparisons = {(each.loss, each.base): each for each in compare(results, job, settings)}
    bases = list(dict.fromkeys(base for _, base in comparisons))
    rows = []
    for loss in settings:
        found = [row for run in runs if run.loss == loss and (row := results.find(run))]
        if not found:
            continue
        values = [float(row[metric]) for row in found]
        cells = [_shift(comparisons.get((loss, base))) for base in bases]
        text = Run(job, loss, 'test', 0, settings[loss] or {}).settings_text
        each = ' / '.join(f'{value:.2f}' for value in values)
        rows.append([NAMES[loss], describe_settings(text), f'{np.mean(values):.2f}', each, *cells])
    if not rows:
        return NOTHING
    header = ['loss', 'settings', f'{metric.split("/")[1]}, %', 'seed by seed']
    return markdown_table([*header, *(f'minus {NAMES[base]}' for base in bases)], rows)


def overview(results: Results) -> str:
    """Return all long jobs: the mean of each loss, and what the protocol calls it against SR."""
    means_of = {
        job: {
            loss: np.mean([float(row[METRICS[JOBS[job].kind][0]]) for row in found])
            for loss in losses_of(job)
            if len(found := reported(results, job, loss)) > 1
        }
        for job in LONG + OTHER_NETWORKS
    }
    columns = [loss for loss in _COLUMNS if any(loss in means for means in means_of.values())]
    rows = []
    for job, means in means_of.items():
        if not means:
            continue
        base = 'lr' if JOBS[job].kind == 'attributes' else 'sr'
        marks = {
            each.loss: {'above': ' ▲', 'below': ' ▼', 'no difference': ' ='}.get(each.verdict, '')
            for each in compare(results, job)
            if each.base == base
        }
        cells = [
            f'{means[loss]:.1f}{marks.get(loss, "")}' if loss in means else '' for loss in columns
        ]
        metric = METRICS[JOBS[job].kind][0].split('/')[1]
        rows.append([job, JOBS[job].num_classes, metric, *cells])
    if not rows:
        return NOTHING
    header = ['job', 'classes', 'metric, %', *(NAMES[loss] for loss in columns)]
    return markdown_table(header, rows)


def pictures(results: Results) -> str:
    """Return all tables of the jobs on pictures that have rows, and name the jobs that wait."""
    text, waiting = '', []
    for job in JOBS:
        if not JOBS[job].takes_pictures and job not in LONG:
            continue
        tables = {
            'on the test split': comparison_table(results, job),
            "the recipes' own settings, not tuned": defaults_table(results, job),
        }
        if JOBS[job].tuned_on is None:
            tables['the search'] = tuning_table(results, job)
        tables['ablation and options'] = ablation_table(results, job)
        found = {title: table for title, table in tables.items() if table != NOTHING}
        if found:
            text += f'### {job}\n\n'
            text += ''.join(f'{title}:\n\n{table}\n' for title, table in found.items())
        if JOBS[job].seeds and tables['on the test split'] == NOTHING:
            waiting.append(f'`{job}`')
    if waiting:
        text += (
            f'Tuned settings are not measured yet on the test splits of {", ".join(waiting)}.\n'
        )
    return text


def _shift(each: Comparison | None) -> str:
    return f'{each.shift.mean:+.2f} ± {each.shift.high - each.shift.mean:.2f}' if each else ''


def _cell(each: Comparison | None) -> str:
    if each is None:
        return ''
    images = '' if each.images is None else f' (images ± {each.images:.2f})'
    return f'{_shift(each)}{images}, p {each.p:.2g}: {each.verdict}'


def draw_against_classes(results: Results) -> Figure | None:
    """Draw the difference to SR of each logistic loss against the number of classes, long jobs."""
    jobs = [job for job in LONG if JOBS[job].kind == 'categories']
    found = {
        job: {each.loss: each.shift for each in compare(results, job) if each.base == 'sr'}
        for job in jobs
        if best_settings(results, job, 'sr') is not None
    }
    found = {job: shifts for job, shifts in found.items() if shifts}
    if not found:
        return None
    figure = Figure(figsize=(7, 3.6), layout='constrained')
    axis = figure.subplots()
    for place, loss in enumerate(('lr', 'hslr', 'sslr')):
        points = [
            (JOBS[job].num_classes, shifts[loss])
            for job, shifts in found.items()
            if loss in shifts
        ]
        points.sort(key=lambda point: point[0])
        # Side by side, so that no interval hides another.
        classes = [num * 1.06 ** (place - 1) for num, _ in points]
        style = STYLES[NAMES[loss]]
        axis.errorbar(
            classes,
            [shift.mean for _, shift in points],
            yerr=[shift.high - shift.mean for _, shift in points],
            capsize=4,
            label=NAMES[loss],
            # (Sets of pictures differ in more than their classes: nothing joins them.)
            **style | dict(linestyle='none'),
        )
    axis.axhline(0, color='black', linewidth=1)
    axis.set(xscale='log', xlabel='classes', ylabel='points of top-1 above SR')
    names = {JOBS[job].num_classes: _TITLES.get(JOBS[job].data, JOBS[job].data) for job in found}
    axis.set_xticks(list(names), [f'{tick:,}\n{name}' for tick, name in names.items()])
    axis.minorticks_off()
    axis.grid(alpha=0.3)
    axis.legend()
    axis.set_title('Long training: difference to softmax of the same seed, 95 % interval')
    return figure
