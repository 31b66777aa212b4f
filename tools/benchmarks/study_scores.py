"""Measure scores of SR, LR, HS-LR and SS-LR on known and unknown classes, five seeds.

Each run is a training run of tools/train.py with the settings that study.py has tuned, of which
every other test image of the known classes then calibrates the scores and the others measure
them. A run with rows in study_scores.csv of the folder of --results is not repeated, and one that
was cut short goes on. --tables fills Markdown files from that file: a table stands between
<!-- scores: DATA --> and <!-- end of scores -->, each a line.
"""

import argparse
from pathlib import Path


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--data', nargs='+', default=['glyphs'], help='glyphs (default), omniglot, cifar100'
    )
    parser.add_argument('--losses', nargs='+', help='default: all')
    parser.add_argument('--seeds', nargs='+', type=int, help='default: 0 1 2 3 4')
    parser.add_argument('--epochs', type=int, help='default: 6 for glyphs, 12 for pictures')
    parser.add_argument(
        '--data-root', type=Path, default=Path('data'), help='the folder of the data sets'
    )
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/study_scores'))
    parser.add_argument(
        '--results',
        type=Path,
        default=Path('docs/results'),
        help='the folder of study_scores.csv and of the tuning (default: docs/results)',
    )
    parser.add_argument(
        '--tables', nargs='+', type=Path, help='train nothing, fill these Markdown files'
    )
    args = parser.parse_args()
    if args.epochs is not None and args.epochs < 3:
        parser.error(f'expected --epochs to be at least 3, but got {args.epochs}')
    return args


if __name__ == '__main__':
    ARGS = parse_args()  # before the imports, which take seconds: --help answers at once

import json
import os
import subprocess
import sys
import time

from mmengine.registry import init_default_scope
from mmengine.runner import Runner, find_latest_checkpoint
from mmpretrain import get_model

from frlr_mm.engine.launch import one_line_errors
from frlr_mm.engine.predict import predict_logits
from frlr_mm.models import LogisticClassifier
from frlr_mm.reporting.machine import describe
from frlr_mm.reporting.runs import summarize
from frlr_mm.reporting.score_study import (
    DATA,
    LOSSES,
    MEASURES,
    SEEDS,
    make_config,
    measure,
    tuned_settings,
)
from frlr_mm.reporting.search_tables import describe_settings
from frlr_mm.reporting.study import ABOUT
from frlr_mm.reporting.tables import Row, append_rows, fill_files, markdown_table, read_rows

ROOT = Path(__file__).resolve().parents[2]
NAMES = {'sr': 'SR', 'lr': 'LR', 'hslr': 'HS-LR', 'sslr': 'SS-LR'}
STATES = {
    'raw': 'none',
    'calibrated': 'predicted class',
    'calibrated-all': 'all classes',
}
# A column of a table: its title and the measure.
COLUMNS = {
    'top-1, %': 'accuracy',
    'ECE, %': 'ece',
    'classwise ECE, %': 'ece_classwise',
    'Brier': 'brier',
    'NLL': 'nll',
    'AUROC by probability, %': 'auroc_probability',
    'by logit': 'auroc_logit',
    'by energy': 'auroc_energy',
    'FPR95 by probability, %': 'fpr95_in_probability',
    'OSCR by probability, %': 'oscr_probability',
    'AURC by probability, %': 'aurc_probability',
}


def run(args: argparse.Namespace, name: str, loss: str, seed: int, rows: list[Row]) -> list[dict]:
    """Train and measure, and return the rows; none where ``rows`` has them."""
    settings = tuned_settings(args.results, name, loss)
    epochs = args.epochs or DATA[name].epochs
    text = json.dumps(settings, sort_keys=True)
    key = dict(data=name, loss=loss, seed=str(seed), epochs=str(epochs), settings=text)
    if any(all(row[part] == value for part, value in key.items()) for row in rows):
        return []
    work_dir = args.work_dir / f'{name}-{loss}-{epochs}-{seed}'
    work_dir.mkdir(parents=True, exist_ok=True)
    root = args.data_root.resolve()
    cfg = make_config(name, loss, seed, epochs, settings, ROOT / 'configs', root)
    config = work_dir / 'config.py'
    cfg.dump(config)
    start = time.monotonic()
    command = [sys.executable, ROOT / 'tools/train.py', config, '--work-dir', work_dir, '--resume']
    environment = os.environ | dict(OMP_NUM_THREADS='1', MKL_NUM_THREADS='1')
    with open(work_dir / 'output.txt', 'a') as output:
        status = subprocess.run(
            [str(part) for part in command], stdout=output, stderr=output, env=environment
        ).returncode
    if status:
        raise RuntimeError(f'{work_dir.name} ended with status {status}: see {output.name}')
    seconds = time.monotonic() - start
    init_default_scope('mmpretrain')
    checkpoint = find_latest_checkpoint(work_dir)
    model = get_model(cfg, pretrained=checkpoint).eval()
    logits, label = predict_logits(model, Runner.build_dataloader(cfg.test_dataloader))
    found = measure(logits, label, isinstance(model, LogisticClassifier))
    about = describe('cpu') | dict(seconds=round(seconds), threads=1)
    for each in work_dir.glob('*.pth'):
        each.unlink()
    return [
        dict(
            **key,
            state=state,
            **{measure: f'{values[measure]:.6g}' for measure in MEASURES},
            **{part: about[part] for part in ABOUT},
        )
        for state, values in found.items()
    ]


def table(rows: list[Row], name: str) -> str:
    """Return the table of a data set: mean over seeds and the half of its 95 % interval."""
    rows = [row for row in rows if row['data'] == name]
    if not rows:
        return '(not run yet)\n'
    if len({row['epochs'] for row in rows}) > 1:
        raise ValueError(f'Expected runs of {name} of one length, but there are several')
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row['loss'], row['settings'], row['state']), []).append(row)
    lines = []
    for loss, settings, state in sorted(groups, key=lambda each: LOSSES.index(each[0])):
        mine = groups[loss, settings, state]
        cells = []
        for column in COLUMNS.values():
            summary = summarize([float(row[column]) for row in mine])
            half = '' if len(mine) == 1 else f' ± {summary.high - summary.mean:.3g}'
            cells.append(f'{summary.mean:.4g}{half}')
        base = NAMES[loss.removesuffix('-lr')]
        full = f'{base}, then LR' if loss.endswith('-lr') else base
        if len({each[1] for each in groups if each[0] == loss}) > 1:
            full += f' ({describe_settings(settings)})'
        lines.append((full, STATES[state], *cells, len(mine)))
    return markdown_table(('loss', 'calibration', *COLUMNS, 'seeds'), lines)


def main(args: argparse.Namespace) -> None:
    """Run what is left, or fill tables."""
    file = args.results / 'study_scores.csv'
    with one_line_errors():
        for given, allowed in ((args.data, DATA), (args.losses or (), LOSSES)):
            if not set(given) <= set(allowed):
                raise ValueError(f'expected {", ".join(allowed)}, but got {", ".join(given)}')
        if args.tables:
            rows = read_rows(file)
            fill_files(args.tables, 'scores', lambda _, name: table(rows, name))
            return
    for name in args.data:
        for seed in args.seeds or SEEDS:
            for loss in args.losses or LOSSES:
                found = run(args, name, loss, seed, read_rows(file))
                append_rows(file, found)
                for row in found:
                    shown = ', '.join(f'{part} {row[part]}' for part in ('accuracy', 'ece'))
                    print(f'{name}, {loss}, seed {seed}, {row["state"]}: {shown}', flush=True)


if __name__ == '__main__':
    main(ARGS)
