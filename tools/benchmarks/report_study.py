"""Write the tables and the figures of the study from its CSV files.

A table stands in a Markdown file between <!-- study: NAME --> and <!-- end of study -->, each a
line; the text around it is written by hand. NAME is hours, recommendation, a job, ablation-JOB or
tuning-JOB, and for real pictures overview, pictures, comparison-JOB or defaults-JOB. The figures
are study, study_cures and study_classes, as PNG and as SVG. The archive of --logs is
logs/study.tar.xz in the folder of --results; runs that it holds already stay in it.
"""

import argparse
from pathlib import Path


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('files', nargs='*', type=Path, help='Markdown files to fill')
    parser.add_argument(
        '--results',
        type=Path,
        default=Path('work_dirs/study'),
        help='the folder of the CSV files (default: work_dirs/study)',
    )
    parser.add_argument('--figures', type=Path, help='a folder for the figures (default: none)')
    parser.add_argument(
        '--logs',
        nargs='+',
        type=Path,
        metavar='DIR',
        help='pack the logs of the runs in these --work-dir of study.py (default: none)',
    )
    parser.add_argument(
        '--check', action='store_true', help='write nothing, fail where a table is old'
    )
    args = parser.parse_args()
    if not (args.files or args.figures or args.logs):
        parser.error('expected Markdown files, --figures or --logs, but got none of them')
    return args


if __name__ == '__main__':
    ARGS = parse_args()  # before the imports, which take seconds: --help answers at once

import sys

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from frlr_mm.engine.launch import one_line_errors
from frlr_mm.reporting.figures import STYLES, save_figure, variant_styles
from frlr_mm.reporting.picture_tables import (
    comparison_table,
    defaults_table,
    draw_against_classes,
    overview,
    pictures,
)
from frlr_mm.reporting.runs import summarize
from frlr_mm.reporting.search_tables import (
    NAMES,
    NOTHING,
    ablation_table,
    describe_settings,
    tuning_table,
)
from frlr_mm.reporting.study import (
    Results,
    Run,
    differences,
    reported,
    values_by_seed,
)
from frlr_mm.reporting.study_jobs import (
    BASE,
    BASELINE,
    FOCUS,
    JOBS,
    LOSSES,
    METRICS,
    SEEDS,
)
from frlr_mm.reporting.study_logs import pack_logs
from frlr_mm.reporting.tables import fill_files, markdown_table

TITLES = {
    'categories-100': '100 characters',
    'categories-1000': '1,000 characters',
    'categories-2162': 'All 2,162 characters',
    'identification': 'Re-identification',
    'attributes': 'Attributes',
}
# What stands beside the lines of the ablation: without the prior, without the annealing.
CURES = {
    'lr': ((dict(prior=False), 'without the prior'),),
    'sslr': ((dict(prior=False), 'without the prior'),),
    'hslr': (
        (dict(prior=False), 'without the prior'),
        (dict(anneal='none'), 'with a fixed ratio'),
    ),
}


def difference(results: Results, job: str, loss: str) -> tuple[str, str]:
    """Return the mean paired difference with its 95 % interval, and p of a paired t-test."""
    shifts = differences(results, job, loss)
    if loss == BASELINE[JOBS[job].kind] or len(shifts) < 2:
        return '', ''
    shift = summarize(shifts)
    p = stats.ttest_1samp(shifts, 0).pvalue
    return f'{shift.mean:+.2f} ± {shift.high - shift.mean:.2f}', f'{p:.2g}'


def job_table(results: Results, job: str) -> str:
    """Return the table of a job: each loss on the test split, and against the baseline."""
    kind = JOBS[job].kind
    first, *others = METRICS[kind]
    rows = []
    for loss in LOSSES[kind]:
        found = reported(results, job, loss)
        if not found:
            continue
        summary = summarize([float(row[first]) for row in found])
        rows.append(
            [
                NAMES[loss],
                describe_settings(found[0]['settings']),
                summary.num,
                f'{summary.mean:.2f} ± {summary.high - summary.mean:.2f}',
                f'{summary.std:.2f}',
                *difference(results, job, loss),
                *(f'{np.mean([float(row[name]) for row in found]):.2f}' for name in others),
            ]
        )
    if len(rows) < 2:  # nothing to compare
        return NOTHING
    names = [name.split('/')[1] for name in (first, *others)]
    minus = f'minus {NAMES[BASELINE[kind]]}'
    header = ['loss', 'tuned settings', 'seeds', f'{names[0]}, %', 'SD', minus, 'p', *names[1:]]
    return markdown_table(header, rows)


def recommendation(results: Results) -> str:
    """Return the loss with the highest mean of each job, and its difference to the baseline."""
    rows = []
    for job in TITLES:
        kind = JOBS[job].kind
        means = {
            loss: float(np.mean(list(values.values())))
            for loss in LOSSES[kind]
            if len(values := values_by_seed(results, job, loss)) > 1
        }
        base = BASELINE[kind]
        if base not in means:
            continue
        loss = max(means, key=lambda each: means[each])
        found = reported(results, job, loss)
        rows.append(
            [
                job,
                NAMES[loss],
                describe_settings(found[0]['settings']),
                f'{METRICS[kind][0].split("/")[1]} {means[loss]:.1f} %',
                f'{NAMES[base]} {means[base]:.1f} %',
                difference(results, job, loss)[0],
                len(found),
            ]
        )
    if not rows:
        return NOTHING
    header = ['job on glyphs', 'highest mean', 'settings', 'result', 'against']
    return markdown_table([*header, 'difference, 95 % interval', 'seeds'], rows)


def hours(results: Results) -> str:
    """Return how long the rows took in all, and on what."""
    rows = [row for rows in results.rows.values() for row in rows]
    if not rows:
        return NOTHING
    total = sum(float(row['seconds']) for row in rows) / 3600
    about = {
        f'{row["machine"]}, {row["cores"]} cores, torch {row["torch"]}, Python {row["python"]}'
        for row in rows
    }
    commits = ', '.join(sorted({row['commit'] for row in rows}))
    return (
        f'{len(rows)} training runs, one thread each: {total:.1f} hours of one thread in all; '
        f'{"; ".join(sorted(about))}; commits {commits}.\n'
    )


def block(results: Results, name: str) -> str:
    """Return the block of a name.

    Raises:
        ValueError: If there is no block of this name.
    """
    if name == 'hours':
        return hours(results)
    if name == 'recommendation':
        return recommendation(results)
    if name in ('overview', 'pictures'):
        return {'overview': overview, 'pictures': pictures}[name](results)
    tables = {
        'ablation-': ablation_table,
        'tuning-': tuning_table,
        'comparison-': comparison_table,
        'defaults-': defaults_table,
    }
    for prefix, table in tables.items():
        if name.startswith(prefix) and name.removeprefix(prefix) in JOBS:
            return table(results, name.removeprefix(prefix))
    if name in JOBS:
        return job_table(results, name)
    known = (
        f'hours, recommendation, overview, pictures, {", ".join(JOBS)} or a kind of table and -JOB'
    )
    raise ValueError(f'Expected the block of the study to be {known}, but got {name!r}')


def verdict(results: Results, job: str) -> str:
    """Return what the intervals of a job say, as a sentence."""
    kind = JOBS[job].kind
    above, below, others = [], [], [loss for loss in LOSSES[kind] if loss != BASELINE[kind]]
    for loss in others:
        shifts = differences(results, job, loss)
        if len(shifts) > 1:
            summary = summarize(shifts)
            above += [NAMES[loss]] * (summary.low > 0)
            below += [NAMES[loss]] * (summary.high < 0)
    base = 'softmax' if BASELINE[kind] == 'sr' else NAMES[BASELINE[kind]]
    if len(above) == len(others):
        return f'every logistic loss is above {base}'
    parts = [
        f'{" and ".join(names)} {"is" if len(names) == 1 else "are"} {side}'
        for names, side in ((above, 'above'), (below, 'below'))
        if names
    ]
    return f'{", ".join(parts)} {base}' if parts else f'no loss differs clearly from {base}'


def draw_differences(results: Results) -> Figure | None:
    """Draw the paired differences to the baseline, a panel for each job."""
    found = {
        job: losses
        for job in TITLES
        if (
            losses := [
                loss for loss in LOSSES[JOBS[job].kind] if difference(results, job, loss)[0]
            ]
        )
    }
    if not found:
        return None
    sizes = [len(losses) + 1.4 for losses in found.values()]
    figure = Figure(figsize=(8, 0.31 * sum(sizes) + 0.9), layout='constrained')
    axes = figure.subplots(len(found), 1, sharex=True, squeeze=False, height_ratios=sizes)[:, 0]
    for axis, (job, losses) in zip(axes, found.items(), strict=True):
        for place, loss in enumerate(losses):
            _draw_difference(axis, place, differences(results, job, loss), NAMES[loss])
        axis.axvline(0, color='black', linewidth=1)
        axis.set_yticks(range(len(losses)), [NAMES[loss] for loss in losses], fontsize=11)
        axis.set(ylim=(len(losses) - 0.4, -0.6))
        axis.grid(axis='x', alpha=0.3)
        axis.set_title(f'{TITLES[job]}: {verdict(results, job)}', loc='left', fontsize=12)
    metrics = 'top-1; in re-identification and attributes, mAP'
    axes[-1].set_xlabel(f'points above SR, or in attributes above LR ({metrics})', fontsize=11)
    figure.suptitle(
        'Difference of the same seed to softmax (SR), or in attributes to LR:\n'
        'mean, 95 % interval, and each seed (faint)',
        fontsize=12,
    )
    return figure


def _draw_difference(axis: Axes, place: int, shifts: list[float], name: str) -> None:
    style = dict(color=STYLES[name]['color'], marker=STYLES[name]['marker'])
    summary = summarize(shifts)
    axis.plot(shifts, [place] * len(shifts), linestyle='', markersize=6, alpha=0.3, **style)
    half = summary.high - summary.mean
    axis.errorbar(summary.mean, place, xerr=half, capsize=5, linewidth=2.2, markersize=8, **style)


def draw_cures(results: Results) -> Figure | None:
    """Draw validations with and without the prior, and of HS-LR without its annealing."""
    figure = Figure(figsize=(8, 4.3), layout='constrained')
    axes = figure.subplots(1, len(CURES), sharey=True)
    drawn = False
    for axis, (loss, cures) in zip(axes, CURES.items(), strict=True):
        styles = variant_styles(NAMES[loss], 1 + len(cures))
        variants = (
            ('sr', {}, 'SR', variant_styles('SR', 1)[0]),
            (loss, {}, NAMES[loss], styles[0]),
            *((loss, *cure, style) for cure, style in zip(cures, styles[1:], strict=True)),
        )
        last = {}
        for name, changes, label, style in variants:
            curves = read_curves(results, name, changes)
            if not len(curves):
                continue
            drawn = True
            last[label] = curves[:, -1].mean()
            epochs = np.arange(1, curves.shape[1] + 1)
            axis.plot(epochs, curves.mean(0), linewidth=1.8, label=label, **style)
            low, high = curves.min(0), curves.max(0)
            axis.fill_between(epochs, low, high, color=style['color'], alpha=0.15, linewidth=0)
        if NAMES[loss] in last:
            ends = [f'{label} at {last[label]:.0f} %' for _, label in cures if label in last]
            title = f'{NAMES[loss]} ends at {last[NAMES[loss]]:.0f} %'
            axis.set_title(',\n'.join([title, *ends]), fontsize=11, loc='left')
            axis.legend(fontsize=9, loc='upper left')
        axis.set(xlabel='epoch', xticks=range(1, JOBS['categories-1000'].epochs + 1))
        axis.grid(alpha=0.3)
    axes[0].set_ylabel('top-1 on held-out training faces, %', fontsize=11)
    return figure if drawn else None


def read_curves(results: Results, loss: str, changes: dict) -> np.ndarray:
    """Return the validations (seeds, epochs) of a variant of the ablation."""
    settings = BASE | FOCUS.get(loss, {}) | changes
    runs = [Run('categories-1000', loss, 'val', seed, settings) for seed in SEEDS[:3]]
    rows = [row for run in runs if (row := results.find(run))]
    return np.array([[float(value) for value in row['curve'].split()] for row in rows])


def main(args: argparse.Namespace) -> None:
    """Fill the files, draw the figures."""
    with one_line_errors():
        results = Results(args.results)
        changed = fill_files(
            args.files, 'study', lambda _, name: block(results, name), check=args.check
        )
    if args.check:
        if changed:
            names = ', '.join(map(str, changed))
            sys.exit(f'{names}: a table is not that of {args.results}; run report_study.py')
        return
    print(*changed, sep='\n', end='\n' * bool(changed))
    if args.logs:
        archive = args.results / 'logs/study.tar.xz'
        with one_line_errors():
            print(f'{archive}: {pack_logs(results, args.logs, archive)} runs')
    if args.figures:
        for name, draw in (
            ('study.png', draw_differences),
            ('study_cures.png', draw_cures),
            ('study_classes.png', draw_against_classes),
        ):
            figure = draw(results)
            if figure:
                print(*save_figure(figure, args.figures / name, dpi=150), sep='\n')


if __name__ == '__main__':
    main(ARGS)
