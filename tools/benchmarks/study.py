"""Compare SR, LR, HS-LR, SS-LR and their rivals: tune each alike, then train with several seeds.

Without --data, the jobs are those of the built-in glyphs. With it, those of real pictures come
first: docs/results/protocol.md says how to lay the data out.

Each run is a training run of tools/train.py. A run with a row in study_*.csv of the folder of
--results is not repeated, and one that was cut short goes on from its last checkpoint: the study
may be killed at any time. report_study.py writes the tables and the figures.
"""

import argparse
import os
from pathlib import Path


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--quick', action='store_true', help='six runs of the study, printed only: minutes'
    )
    parser.add_argument(
        '--jobs',
        nargs='+',
        metavar='JOB',
        help='jobs of frlr_mm/reporting/study.py, such as omniglot or categories-1000 (default: '
        'all for which there is data)',
    )
    parser.add_argument(
        '--data', type=Path, help='the folder of the sets of pictures (default: glyphs alone)'
    )
    parser.add_argument('--no-ablation', action='store_true', help='leave the ablation out')
    parser.add_argument(
        '--processes',
        type=int,
        default=os.cpu_count(),
        help='training runs at a time, one thread each (default: one for each core)',
    )
    parser.add_argument(
        '--work-dir',
        type=Path,
        default=Path('work_dirs/study'),
        help='the folder of logs and checkpoints (default: work_dirs/study)',
    )
    parser.add_argument(
        '--results',
        type=Path,
        default=Path('work_dirs/study'),
        help='the folder of the CSV files (default: work_dirs/study)',
    )
    args = parser.parse_args()
    if args.processes < 1:
        parser.error(f'expected --processes to be at least 1, but got {args.processes}')
    return args


if __name__ == '__main__':
    ARGS = parse_args()  # before the imports, which take seconds: --help answers at once

import fcntl
import json
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress

import torch
from mmengine.config import Config
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from frlr_mm.engine.files import replacing
from frlr_mm.reporting.machine import describe
from frlr_mm.reporting.study import ABOUT, CORRECT, Results, Run, best_settings, tuning_runs
from frlr_mm.reporting.study_ablations import ablations, default_runs, quick_runs
from frlr_mm.reporting.study_configs import make_config, record_correct
from frlr_mm.reporting.study_jobs import JOBS, LOSSES, METRICS, SEEDS, losses_of
from frlr_mm.reporting.tables import Row

# Of a checkout or of an installed package: configs stand beside tools.
ROOT = Path(__file__).resolve().parents[2]


def plan(results: Results, jobs: Iterable[str], ablation: bool) -> Iterator[Run | None]:
    """Yield the runs of the study in their order; None stands for one that waits for others.

    The losses of the paper's comparison come first on all jobs, then the others, then what was
    not tuned: a study that is stopped early has compared the former on as many jobs as it could.
    """
    jobs = list(jobs)
    for in_paper in (True, False):
        for job in jobs:
            main = LOSSES[JOBS[job].kind]
            losses = [loss for loss in losses_of(job) if (loss in main) == in_paper]
            for loss in losses:
                yield from tuning_runs(job, loss)
            for seed in SEEDS[: JOBS[job].seeds]:
                for loss in losses:
                    settings = best_settings(results, job, loss)
                    yield None if settings is None else Run(job, loss, 'test', seed, settings)
    for job in jobs:
        yield from default_runs(job)
        if ablation:
            yield from ablations(job)


def read_curve(work_dir: Path, metrics: tuple[str, ...]) -> list[dict]:
    """Return the validations of a run in their order, over all its starts."""
    rows = {}
    for log in sorted(work_dir.glob('*/vis_data/scalars.json')):
        for line in log.read_text().splitlines():
            with suppress(json.JSONDecodeError):  # a line that a kill cut short
                row = json.loads(line)
                if metrics[0] in row:
                    rows[row['step']] = row
    return [rows[step] for step in sorted(rows)]


def drop_unvalidated(work_dir: Path, cfg: Config, metrics: tuple[str, ...]) -> None:
    """Drop the last checkpoint where a kill came before its validation.

    A run that goes on from it would leave that validation out.
    """
    epochs = sorted(int(path.stem.split('_')[1]) for path in work_dir.glob('epoch_*.pth'))
    validated = {row['step'] for row in read_curve(work_dir, metrics)}
    last = epochs.pop() if epochs else 0
    is_due = last == cfg.train_cfg.max_epochs or last % cfg.train_cfg.val_interval == 0
    if not last or not is_due or last in validated:
        return
    # First what points to it: a kill in between leaves a checkpoint that nothing points to.
    pointer = work_dir / 'last_checkpoint'
    if epochs:
        with replacing(pointer) as aside:
            aside.write_text(str(work_dir / f'epoch_{epochs[-1]}.pth'))
    else:
        pointer.unlink(missing_ok=True)
    (work_dir / f'epoch_{last}.pth').unlink()


def train(run: Run, args: argparse.Namespace, processes: set[subprocess.Popen]) -> Row:
    """Train a run, or what is left of it, and return its row.

    Raises:
        RuntimeError: If training fails.
    """
    work_dir = args.work_dir / run.name
    work_dir.mkdir(parents=True, exist_ok=True)
    cfg = make_config(run, str((args.work_dir / 'glyphs').resolve()), ROOT / 'configs', args.data)
    keeps_correct = run.kind == 'categories' and run.split == 'test'
    if keeps_correct:
        record_correct(cfg, work_dir / 'correct.txt')
    num_validations = -(-cfg.train_cfg.max_epochs // cfg.train_cfg.val_interval)
    metrics = METRICS[run.kind]
    # The process that trains inherits the lock. Where the study was killed and that process goes
    # on, the next start waits for it rather than train beside it.
    with open(work_dir / 'lock', 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        start = time.monotonic()
        if len(read_curve(work_dir, metrics)) < num_validations:
            drop_unvalidated(work_dir, cfg, metrics)
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
    if len(curve) != num_validations:
        raise RuntimeError(
            f'{run.name} has {len(curve)} validations of {num_validations}: see {work_dir}'
        )
    for checkpoint in work_dir.glob('*.pth'):
        checkpoint.unlink()
    device = 'cuda' if torch.cuda.is_available() else 'cpu'  # as the Runner chooses it
    about = describe(device) | dict(seconds=round(seconds), threads=1)
    return {
        **{name: f'{curve[-1][name]:.2f}' for name in metrics},
        'curve': ' '.join(f'{row[metrics[0]]:.2f}' for row in curve),
        **{name: str(about[name]) for name in ABOUT},
        CORRECT: (work_dir / 'correct.txt').read_text() if keeps_correct else '',
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
                    future = pool.submit(train, run, args, processes)
                    running[future] = run
                if not running:
                    return list(failed.values())
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    run = running.pop(future)
                    try:
                        results.add(run, future.result())
                    except (RuntimeError, ValueError) as error:
                        failed[run.key] = str(error)
                        progress.console.print(error)
        except BaseException:
            for process in processes:
                process.terminate()
            raise


def main(args: argparse.Namespace) -> None:
    """Run, and say what went wrong."""
    there = [job for job in JOBS if args.data or not JOBS[job].takes_pictures]
    jobs = args.jobs = args.jobs or there
    if not set(jobs) <= set(JOBS):
        sys.exit(f'study.py: error: expected --jobs to be of {", ".join(JOBS)}, but got {jobs}')
    if not set(jobs) <= set(there):
        sys.exit(
            'study.py: error: expected --data, the folder of the pictures, for the jobs '
            + ', '.join(job for job in jobs if job not in there)
        )
    folder = args.results
    if args.quick:
        folder = args.work_dir = args.work_dir.with_name(f'{args.work_dir.name}_quick')
    results = Results(folder)
    columns = (TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), refresh_per_second=1) as progress:
        failed = run_all(args, results, progress)
    if args.quick:
        for run in quick_runs():
            row = results.find(run)
            top1 = row['accuracy/top1'] if row else 'failed'
            print(f'{run.loss:5} {run.settings_text}: top-1 {top1} %')
    if failed:
        sys.exit('\n'.join(failed))


if __name__ == '__main__':
    main(ARGS)
