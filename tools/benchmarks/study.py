"""Compare SR, LR, HS-LR and SS-LR on the built-in glyphs: tune, train with five seeds, report.

Each run is a training by tools/train.py. A run that is in docs/results/study_*.csv is not
repeated, and one that was cut short goes on from its last checkpoint: the study may be killed at
any time.
"""

import argparse
import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path

from machine import describe
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from study_grid import JOBS, LOSSES, METRICS, ROOT, SEEDS, Run, ablations, make_config, quick_runs
from study_report import write_report
from study_results import ABOUT, Results, Row, best_settings, tuning_runs


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        '--quick', action='store_true', help='six runs of the study, printed only: minutes'
    )
    parser.add_argument('--jobs', nargs='+', choices=JOBS, default=list(JOBS), metavar='JOB')
    parser.add_argument('--no-ablation', action='store_true', help='leave the ablation out')
    parser.add_argument(
        '--processes',
        type=int,
        default=os.cpu_count(),
        help='trainings at a time, one thread each (default: one for each core)',
    )
    parser.add_argument(
        '--work-dir', type=Path, default=Path('work_dirs/study'), help='logs and checkpoints'
    )
    parser.add_argument(
        '--results', type=Path, default=ROOT / 'docs/results', help='the folder of the CSV files'
    )
    args = parser.parse_args()
    if args.processes < 1:
        parser.error(f'expected --processes to be at least 1, but got {args.processes}')
    return args


def plan(results: Results, jobs: Iterable[str], ablation: bool) -> Iterator[Run | None]:
    """Yield the runs of the study in their order; None stands for one that waits for others."""
    for job in jobs:
        kind = JOBS[job][0]
        for loss in LOSSES[kind]:
            yield from tuning_runs(job, loss)
        for seed in SEEDS:
            for loss in LOSSES[kind]:
                settings = best_settings(results, job, loss)
                yield None if settings is None else Run(job, loss, 'test', seed, settings)
        if ablation:
            yield from ablations(job)


def read_curve(work_dir: Path, metrics: tuple[str, ...]) -> list[dict]:
    """Return the validations of a run, one for each epoch, over all its starts."""
    rows = {}
    for log in sorted(work_dir.glob('*/vis_data/scalars.json')):
        for line in log.read_text().splitlines():
            with suppress(json.JSONDecodeError):  # a line that a kill cut short
                row = json.loads(line)
                if metrics[0] in row:
                    rows[row['step']] = row
    return [rows[step] for step in sorted(rows)]


def train(run: Run, work_dir: Path, data_root: Path, processes: set[subprocess.Popen]) -> Row:
    """Train a run, or what is left of it, and return its row.

    Raises:
        RuntimeError: If the training fails.
    """
    work_dir.mkdir(parents=True, exist_ok=True)
    cfg = make_config(run, str(data_root.resolve()))
    epochs = cfg.train_cfg.max_epochs
    metrics = METRICS[run.kind]
    # The training inherits the lock. Where the study was killed and its training goes on, the
    # next start waits for it rather than train beside it.
    with open(work_dir / 'lock', 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        start = time.monotonic()
        if len(read_curve(work_dir, metrics)) < epochs:
            config = work_dir / 'config.py'
            cfg.dump(config)
            command = [sys.executable, str(ROOT / 'tools/train.py'), str(config)]
            command += ['--work-dir', str(work_dir), '--resume']
            with open(work_dir / 'output.txt', 'a') as output:
                process = subprocess.Popen(
                    command,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    pass_fds=[lock.fileno()],
                    env=os.environ | dict(OMP_NUM_THREADS='1', MKL_NUM_THREADS='1'),
                )
                processes.add(process)
                status = process.wait()
            if status:
                raise RuntimeError(f'{run.name} ended with status {status}: see {output.name}')
        seconds = time.monotonic() - start
    curve = read_curve(work_dir, metrics)
    if len(curve) != epochs:
        raise RuntimeError(f'{run.name} has {len(curve)} validations of {epochs}: see {work_dir}')
    for checkpoint in work_dir.glob('*.pth'):
        checkpoint.unlink()
    about = describe('cpu') | dict(seconds=round(seconds), threads=1)
    return {
        **{name: f'{curve[-1][name]:.2f}' for name in metrics},
        'curve': ' '.join(f'{row[metrics[0]]:.2f}' for row in curve),
        **{name: str(about[name]) for name in ABOUT},
    }


def run_all(args: argparse.Namespace, results: Results, progress: Progress) -> list[str]:
    """Run what is left of the study and return what went wrong."""
    failed: dict[tuple, str] = {}
    running: dict[Future, Run] = {}
    processes: set[subprocess.Popen] = set()
    bar = progress.add_task('study')
    with ThreadPoolExecutor(args.processes) as pool:
        try:
            while True:
                if args.quick:
                    runs: list[Run | None] = list(quick_runs())
                else:
                    runs = list(plan(results, args.jobs, not args.no_ablation))
                # The ablation shares runs with the tuning.
                unique = {run.key: run for run in runs if run is not None}
                done = sum(results.find(run) is not None for run in unique.values())
                progress.update(bar, completed=done, total=len(unique) + runs.count(None))
                busy = {run.key for run in running.values()} | set(failed)
                left = [
                    run
                    for run in unique.values()
                    if run.key not in busy and results.find(run) is None
                ]
                for run in left[: args.processes - len(running)]:
                    work_dir = args.work_dir / run.name
                    future = pool.submit(train, run, work_dir, args.work_dir / 'glyphs', processes)
                    running[future] = run
                if not running:
                    return list(failed.values())
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    run = running.pop(future)
                    try:
                        results.add(run, future.result())
                    except RuntimeError as error:
                        failed[run.key] = str(error)
                        progress.console.print(error)
        except BaseException:
            for process in processes:
                process.terminate()
            raise


def main() -> None:
    """Read the command line, run, report."""
    args = parse_args()
    folder = args.results
    if args.quick:
        args.work_dir = args.work_dir.with_name(f'{args.work_dir.name}_quick')
        folder = args.work_dir
    results = Results(folder)
    columns = (TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn()) as progress:
        failed = run_all(args, results, progress)
    if args.quick:
        for run in quick_runs():
            row = results.find(run)
            top1 = row['accuracy/top1'] if row else 'failed'
            print(f'{run.loss:5} {run.settings_text}: top-1 {top1} %')
    else:
        write_report(folder)
    if failed:
        sys.exit('\n'.join(failed))


if __name__ == '__main__':
    main()
