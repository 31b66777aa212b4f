"""Write the table and the picture of the newest run in bench_losses.csv."""

import csv
import sys
from pathlib import Path

import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt


def write_report(path: Path) -> None:
    """Write ``path`` with the endings .md and .png from its newest run, and newest fused one."""
    with path.open(newline='') as file:
        plain, fused = [], []
        for row in csv.DictReader(file):
            (fused if row['D'] else plain).append(row)
    fused = [row for row in fused if row['device'] == plain[-1]['device']]
    rows = [row for part in (plain, fused) for row in part if row['date'] == part[-1]['date']]
    path.with_suffix('.md').write_text('\n'.join(_table(rows)) + '\n')
    _draw(
        [row for row in rows if row['part'] == 'full' and not row['D']], path.with_suffix('.png')
    )


def _table(rows: list[dict]) -> list[str]:
    about = rows[0]
    runs = dict.fromkeys(f'commit {row["commit"]}, {row["date"]} UTC' for row in rows)
    lines = [
        '# Time and memory of the losses',
        '',
        f'{about["machine"]}, {about["device"]}, {about["threads"]} thread(s) of '
        f'{about["cores"]} cores, torch {about["torch"]}, {"; fused: ".join(runs)}, '
        f'{about["clock"]}. Forward and backward; median, and 20th to 80th '
        'percentile. Ratios are to the baseline of the same round. Peak memory is what is '
        'allocated beyond the inputs, their gradients included, in units of N x C x 4 bytes (of '
        'the logits in float32); for a classifier with D channels, in MiB beyond the gradients. '
        '`naive` is the formula as published.',
        '',
        '| N x C | dtype | function | ms | ratio | to | forward ms | peak |',
        '|---|---|---|---|---|---|---|---|',
    ]
    forward = {_key(row): row for row in rows if row['part'] == 'forward'}
    for row in rows:
        if row['part'] != 'full':
            continue
        size = f'{int(row["N"]):,} x {int(row["C"]):,}' + (f', D {row["D"]}' if row['D'] else '')
        peak = f'{int(row["peak_bytes"]) / (4 * int(row["N"]) * int(row["C"])):.2f}'
        if row['D']:
            grads = int(row['C']) * (int(row['D']) + 1) + int(row['N']) * int(row['D'])
            peak = f'{(int(row["peak_bytes"]) - 4 * grads) / 2**20:.0f} MiB'
        lines.append(
            f'| {size} | {row["dtype"]} | {row["function"]} '
            f'| {row["p50_ms"]} ({row["p20_ms"]} to {row["p80_ms"]}) '
            f'| {row["ratio_p50"]} ({row["ratio_p20"]} to {row["ratio_p80"]}) '
            f'| {row["baseline"]} | {forward[_key(row)]["p50_ms"]} | {peak} |'
        )
    return lines


def _key(row: dict) -> tuple:
    return row['N'], row['C'], row['D'], row['dtype'], row['function']


def _draw(rows: list[dict], path: Path) -> None:
    figure, panels = plt.subplots(1, 2, figsize=(11, 4.5), layout='constrained')
    rows = [row for row in rows if row['dtype'] == 'float32']
    for i, name in enumerate(dict.fromkeys(row['function'] for row in rows)):
        mine = [row for row in rows if row['function'] == name]
        classes = [int(row['C']) for row in mine]
        # A row of logits: batches of different sizes fall on one curve.
        values = (
            [1e3 * float(row['p50_ms']) / int(row['N']) for row in mine],
            [int(row['peak_bytes']) / int(row['N']) / 1024 for row in mine],
        )
        ours = name in ('ss_lr', 'hs_lr')
        for panel, value in zip(panels, values):
            panel.loglog(
                classes,
                value,
                marker='osD^vP*Xhd<>'[i % 12],
                markersize=5,
                label=name,
                color=plt.get_cmap('tab20')(2 * i % 20 + i // 10),
                linewidth=2.5 if ours else 1,
                linestyle='-' if ours else '--',
            )
    panels[0].set_ylabel('forward and backward, µs per image')
    panels[1].set_ylabel('peak memory beyond the logits, KiB per image')
    for panel in panels:
        panel.set_xlabel('classes')
        panel.grid(True, which='major', alpha=0.4)
    panels[0].legend(fontsize=8)
    about = rows[0]
    title = f'float32, {about["machine"]}, {about["device"]}, {about["threads"]} thread(s)'
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=130)
    plt.close(figure)


if __name__ == '__main__':
    write_report(Path(sys.argv[1]))
