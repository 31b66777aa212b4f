"""Compare runs by their logs: curves with a band over seeds, and a table of the last values.

A run is a working directory of tools/train.py; the runs of a group differ in the seed.
"""

import argparse
import csv
import math
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from frlr_mm.engine.files import replacing
from frlr_mm.engine.launch import one_line_errors
from frlr_mm.reporting.figures import figure_files, line_styles, save_figure
from frlr_mm.reporting.runs import Series, Summary, align, read_run, summarize
from frlr_mm.reporting.tables import markdown_table

Groups = dict[str, list[dict[str, Series]]]
Table = list[tuple[str, str, Summary]]


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        '--group',
        nargs='+',
        action='append',
        required=True,
        metavar=('NAME', 'DIR'),
        help='a name and the working directories of its runs, one for each seed; may be repeated',
    )
    parser.add_argument(
        '--keys', nargs='+', required=True, help='what to compare, such as loss accuracy/top1'
    )
    parser.add_argument('--out', type=Path, required=True, help='the figure: PNG and SVG')
    parser.add_argument('--csv', type=Path, help='a file for the table')
    args = parser.parse_args()
    names = [group[0] for group in args.group]
    for group in args.group:
        if len(group) < 2 or names.count(group[0]) > 1:
            parser.error(f'expected --group NAME DIR ..., each NAME once, but got {group}')
    return args


def read_groups(args: argparse.Namespace) -> Groups:
    """Read the logs, and make sure that every run has every key, to the same end in a group.

    Raises:
        FileNotFoundError: If a run has no log.
        ValueError: If a log is broken, a run lacks a key, or the runs of a group differ in length.
    """
    groups: Groups = {}
    for name, *folders in args.group:
        groups[name] = []
        for folder in folders:
            run = read_run(Path(folder))
            for key in args.keys:
                if key not in run:
                    raise ValueError(f'{folder} has no {key!r}; it has {", ".join(sorted(run))}')
            groups[name].append(run)
        for key in args.keys:
            ends = [run[key].steps[-1] for run in groups[name]]
            if len(set(ends)) > 1:
                pairs = zip(folders, ends, strict=True)
                raise ValueError(
                    f'Expected {key!r} of the runs of group {name!r} to end at the same '
                    f'{groups[name][0][key].unit}, but got '
                    + ', '.join(f'{end} in {folder}' for folder, end in pairs)
                )
    return groups


def make_table(groups: Groups, keys: list[str]) -> Table:
    """Summarise the last value of each key over the runs of each group."""
    return [
        (key, name, summarize([run[key].values[-1] for run in runs]))
        for key in keys
        for name, runs in groups.items()
    ]


def write_csv(path: Path, table: Table) -> None:
    """Write the table with all digits."""
    with replacing(path) as partial, partial.open('w', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(('metric', 'group', 'mean', 'std', 'ci95_low', 'ci95_high', 'seeds'))
        writer.writerows((key, name, *summary) for key, name, summary in table)


def draw(groups: Groups, keys: list[str]) -> Figure:
    """Draw a panel for each key: the mean of each group, and the range of its runs as a band."""
    columns = min(len(keys), 3)
    rows = math.ceil(len(keys) / columns)
    figure = Figure(figsize=(4.2 * columns, 3.3 * rows), layout='constrained')
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis, key in zip(axes, keys, strict=False):
        for (name, runs), style in zip(groups.items(), line_styles(list(groups)), strict=True):
            steps, values = align([run[key] for run in runs])
            style |= dict(markevery=max(1, len(steps) // 8))
            axis.plot(steps, values.mean(0), label=f'{name} ({len(runs)})', **style)
            if len(runs) > 1:
                axis.fill_between(
                    steps, values.min(0), values.max(0), color=style['color'], alpha=0.15, lw=0
                )
        axis.set(title=key, xlabel=runs[0][key].unit)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.3)
    for axis in axes[len(keys) :]:
        axis.set_visible(False)
    figure.legend(
        *next(iter(figure.axes)).get_legend_handles_labels(),
        loc='outside upper center',
        ncols=min(4, len(groups)),
        title='mean over runs (number of runs); the band is their range',
        fontsize=9,
        title_fontsize=9,
    )
    return figure


def main() -> None:
    """Read the command line and the logs; draw, print."""
    with one_line_errors():
        args = parse_args()
        figure_files(args.out)
        groups = read_groups(args)
        figure = draw(groups, args.keys)
        table = make_table(groups, args.keys)
        if args.csv:
            write_csv(args.csv, table)
        files = save_figure(figure, args.out)

    header = ('metric, last value', 'group', 'mean', 'SD', '95 % interval', 'seeds')
    rows = []
    for key, name, summary in table:
        mean, std, low, high = (f'{value:.4g}' for value in summary[:4])
        spread = (std, f'{low} to {high}') if summary.num > 1 else ('', '')
        rows.append((key, name, mean, *spread, summary.num))
    print(markdown_table(header, rows), *files, sep='\n')


if __name__ == '__main__':
    main()
