"""Write the table and the figure of the newest run in bench_losses.csv, beside it."""

import argparse
from pathlib import Path


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--results',
        type=Path,
        default=Path('work_dirs/bench'),
        help='the folder of bench_losses.csv (default: work_dirs/bench)',
    )
    return parser.parse_args()


if __name__ == '__main__':
    ARGS = parse_args()  # before the imports, which take seconds: --help answers at once

from matplotlib.figure import Figure

from frlr_mm.engine.files import replacing
from frlr_mm.engine.launch import one_line_errors
from frlr_mm.reporting.figures import save_figure, variant_styles
from frlr_mm.reporting.tables import Row, markdown_table, read_rows

# What is drawn: function, loss whose colour it has, which of the loss's variants, legend.
LINES = (
    ('cross_entropy', 'SR', 0, 'cross-entropy'),
    ('bce_with_logits', 'BCE', 0, 'binary cross-entropy'),
    ('sigmoid_focal_loss', 'focal', 0, 'focal (torchvision)'),
    ('AsymmetricLoss', 'ASL', 0, 'ASL (mmpretrain)'),
    ('hs_lr', 'HS-LR', 0, 'HS-LR, ratio 0.1'),
    ('hs_lr ratio 0.01', 'HS-LR', 1, 'HS-LR, ratio 0.01'),
    ('hs_lr compiled', 'HS-LR', 2, 'HS-LR, compiled'),
    ('hs_lr naive', 'HS-LR', 3, 'HS-LR, as published'),
    ('ss_lr', 'SS-LR', 0, 'SS-LR'),
    ('ss_lr compiled', 'SS-LR', 2, 'SS-LR, compiled'),
    ('ss_lr naive', 'SS-LR', 3, 'SS-LR, as published'),
)


def write_report(path: Path) -> None:
    """Write the page and the figure of the newest run, and the newest fused one, beside ``path``.

    Raises:
        FileNotFoundError: If there is no row.
    """
    rows = newest_rows(read_rows(path))
    if not rows:
        raise FileNotFoundError(f'{path} has no rows: run bench_losses.py first')
    with replacing(path.with_suffix('.md')) as partial:
        partial.write_text(page(rows), encoding='utf-8')
    full = [row for row in rows if row['part'] == 'full' and not row['D']]
    save_figure(draw(full), path.with_suffix('.png'), dpi=150)


def newest_rows(rows: list[Row]) -> list[Row]:
    """Return the rows of the newest run, and of the newest fused one on the same device."""
    plain = [row for row in rows if not row['D']]
    fused = [row for row in rows if row['D'] and row['device'] == plain[-1]['device']]
    return [row for part in (plain, fused) for row in part if row['date'] == part[-1]['date']]


def page(rows: list[Row]) -> str:
    """Return the Markdown page of a run."""
    about = rows[0]
    runs = dict.fromkeys(f'commit {row["commit"]}, {row["date"]} UTC' for row in rows)
    device = about['device']
    if device == 'cpu':
        device += f', {about["threads"]} thread(s) of {about["cores"]} cores'
    header = ('N x C', 'dtype', 'function', 'ms', 'ratio', 'to', 'forward ms', 'peak')
    forward = {key(row): row for row in rows if row['part'] == 'forward'}
    lines = []
    for row in rows:
        if row['part'] != 'full':
            continue
        n, c = int(row['N']), int(row['C'])
        size, peak = f'{n:,} x {c:,}', f'{int(row["peak_bytes"]) / (4 * n * c):.2f}'
        if row['D']:
            size += f', D {row["D"]}'
            grads = c * (int(row['D']) + 1) + n * int(row['D'])
            bytes_each = 4 if row['dtype'] == 'float32' else 2
            peak = f'{(int(row["peak_bytes"]) - bytes_each * grads) / 2**20:.0f} MiB'
        lines.append(
            (
                size,
                row['dtype'],
                row['function'],
                f'{row["p50_ms"]} ({row["p20_ms"]} to {row["p80_ms"]})',
                f'{row["ratio_p50"]} ({row["ratio_p20"]} to {row["ratio_p80"]})',
                row['baseline'],
                forward[key(row)]['p50_ms'],
                peak,
            )
        )
    return (
        '# Time and memory of the losses\n\n'
        f'{about["machine"]}, {device}, torch {about["torch"]}, {"; fused: ".join(runs)}, '
        f'{about["clock"]}. Forward and backward; median, with the 20th and the 80th '
        'percentile. Ratios are to the baseline in the same round. Peak memory is what is '
        'allocated beyond the inputs, their gradients included, in units of N x C x 4 bytes '
        '(the size of the logits in float32); for a classifier with D channels, in MiB beyond the '
        'gradients. `naive` is the formula as published.\n\n'
    ) + markdown_table(header, lines)


def key(row: Row) -> tuple[str, ...]:
    return row['N'], row['C'], row['D'], row['dtype'], row['function']


def draw(rows: list[Row]) -> Figure:
    """Draw time and peak memory as ratios to cross-entropy against the number of classes."""
    rows = [row for row in rows if row['dtype'] == 'float32']
    peaks = {row['C']: int(row['peak_bytes']) for row in rows if row['function'] == LINES[0][0]}
    figure = Figure(figsize=(8, 5.6), layout='constrained')
    axes = figure.subplots(1, 2)
    for function, loss, variant, label in LINES:
        mine = [row for row in rows if row['function'] == function]
        style = variant_styles(loss, 4)[variant] | dict(label=label, linewidth=1 + (variant == 0))
        classes = [int(row['C']) for row in mine]
        if mine:
            ratios = [int(row['peak_bytes']) / peaks[row['C']] for row in mine]
            axes[0].plot(classes, [float(row['ratio_p50']) for row in mine], **style)
            axes[1].plot(classes, ratios, **style)
    for axis, title in zip(axes, ('Time', 'Peak memory'), strict=True):
        axis.set(xscale='log', yscale='log', xlabel='classes')
        axis.set_title(f'{title}, relative to cross-entropy', fontsize=11)
        axis.grid(alpha=0.3)
        ticks = [tick for tick in (0.25, 0.5, 1, 2, 4, 8, 16) if tick_fits(axis, tick)]
        axis.set_yticks(ticks, [f'{tick:g}' for tick in ticks])
        axis.set_xticks([int(size) for size in peaks], [f'{int(size):,}' for size in peaks])
        axis.minorticks_off()
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc='outside lower center', ncols=3, fontsize=9.5
    )
    about = rows[0]
    where = about['machine']
    if about['device'] == 'cpu':
        where = f'cpu, {about["threads"]} thread{"s" * (about["threads"] != "1")} of {where}'
    figure.suptitle(
        f'{message(rows)}\n(forward and backward, float32, {where}; memory beyond the logits)',
        fontsize=11,
    )
    return figure


def tick_fits(axis, tick: float) -> bool:
    low, high = axis.get_ylim()
    return low <= tick <= high


def message(rows: list[Row]) -> str:
    """Return what a run says of the largest number of classes."""
    largest = max(rows, key=lambda row: int(row['C']))['C']
    found = {row['function']: row for row in rows if row['C'] == largest}
    base = int(found['cross_entropy']['peak_bytes'])

    def of(function: str) -> str:
        time, peak = float(found[function]['ratio_p50']), int(found[function]['peak_bytes'])
        return (
            f'takes {time:.3g} times as long as cross-entropy and {peak / base:.2g} of its memory'
        )

    return (
        f'With {int(largest):,} classes, SS-LR {of("ss_lr")};\n'
        f'HS-LR with ratio 0.01 {of("hs_lr ratio 0.01")}'
    )


if __name__ == '__main__':
    with one_line_errors():
        write_report(ARGS.results / 'bench_losses.csv')
