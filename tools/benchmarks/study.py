"""Compare SR, LR, HS-LR and SS-LR on the built-in glyphs: tune, then train with five seeds.

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
        help='categories-100, categories-1000, categories-2162, identification, attributes '
        '(default: all)',
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

from mmengine.config import Config
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from frlr_mm.datasets.glyphs._faces import TRAIN_FACES
from frlr_mm.reporting.machine import describe
from frlr_mm.reporting.study import (
    ABOUT,
    JOBS,
    LOSSES,
    METRICS,
    SEEDS,
    Results,
    Run,
    ablations,
    best_settings,
    quick_runs,
    tuning_runs,
)
from frlr_mm.reporting.tables import Row

# Of a checkout or of an installed package: configs stand beside tools.
ROOT = Path(__file__).resolve().parents[2]
# Settings are tuned on two of the training faces: upright and slanted, sans and serif.
VAL_FACES = ('DejaVuSans-Oblique', 'DejaVuSerif-Bold')
FIT_FACES = tuple(face for face in TRAIN_FACES if face not in VAL_FACES)
# The network of all runs: twice as fast as the recipes' own and as good after four epochs.
BACKBONE = dict(
    _delete_=True, type='ResNet', depth=18, stem_channels=16, base_channels=16, style='pytorch'
)


def make_config(run: Run, data_root: str, configs: Path = ROOT / 'configs') -> Config:
    """Return the config of a run: the recipe of its job and loss, and what the run changes."""
    settings = dict(run.settings)
    epochs = JOBS[run.job][2]
    suffix = dict(categories='', identification='-id', attributes='-attr')[run.kind]
    cfg = Config.fromfile(configs / f'glyphs/resnet18_b128-{run.loss}_glyphs{suffix}.py')
    # A copy: merging takes `_delete_` out of it.
    cfg.merge_from_dict(dict(model=dict(backbone=dict(BACKBONE))))
    cfg.optim_wrapper.optimizer.update(
        lr=settings.pop('lr'), weight_decay=settings.pop('weight_decay')
    )
    cfg.train_cfg.update(max_epochs=epochs, val_interval=1)
    cfg.param_scheduler[1].update(T_max=epochs - 1, end=epochs)
    cfg.default_hooks.checkpoint.max_keep_ckpts = 1
    cfg.randomness = dict(seed=run.seed)
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.update(num_workers=0, persistent_workers=False)
        loader.dataset.data_root = data_root
    if run.kind == 'attributes':
        cfg.val_dataloader.dataset.split = run.split
    else:
        _set_classes(cfg, run)
    _set_prior(cfg, settings.pop('prior', True))
    _set_loss(cfg, settings, epochs)
    cfg.test_dataloader, cfg.test_evaluator = cfg.val_dataloader, cfg.val_evaluator
    return cfg


def _set_classes(cfg: Config, run: Run) -> None:
    """Set the number of classes and, to tune, hold a part of the training data out."""
    num_classes = JOBS[run.job][1]
    train, val, head = cfg.train_dataloader.dataset, cfg.val_dataloader.dataset, cfg.model.head
    if run.split == 'val':
        train.faces = FIT_FACES
        val.update(split='train', faces=VAL_FACES)
    if run.kind == 'categories':
        val.num_classes = num_classes
    elif run.split == 'val':
        # A fifth of the training identities is to be found again.
        val.indices = -num_classes // 5 * len(VAL_FACES) * 3
        num_classes = num_classes * 4 // 5
    train.num_classes = head.num_classes = num_classes
    cfg.data_preprocessor.num_classes = num_classes


def _set_prior(cfg: Config, prior: bool) -> None:
    """Start the classifier from the prior, or every class from a probability of 0.5.

    A recipe sets the prior by PriorBiasHook or as `bias_prob`, 1 / C.
    """
    head = cfg.model.head
    if 'bias_prob' in (head.get('init_cfg') or {}):
        head.init_cfg.bias_prob = 1 / head.num_classes if prior else 0.5
    if not prior:
        hooks = cfg.get('custom_hooks', ())
        cfg.custom_hooks = [hook for hook in hooks if hook.type != 'PriorBiasHook']


def _set_loss(cfg: Config, settings: dict, epochs: int) -> None:
    """Set the parameters of the loss and how they move."""
    anneal = settings.pop('anneal', None)
    end = round(settings.pop('anneal_end', 0.8) * epochs)
    end_alpha = settings.pop('anneal_alpha', None)
    loss = cfg.model.head.loss
    loss.update(settings)
    hooks = [hook for hook in cfg.get('custom_hooks', ()) if hook.type != 'FocusAnnealingHook']
    if loss.type == 'HSLRLoss' and anneal != 'none':
        hooks.append(_annealing('ratio', 1.0, loss.ratio, anneal or 'exponential', end))
    if loss.type == 'SSLRLoss' and anneal:
        hooks.append(_annealing('gamma', 0.0, loss.gamma, anneal, end))
    if end_alpha:
        hooks.append(_annealing('alpha', loss.alpha, end_alpha, 'exponential', end))
    cfg.custom_hooks = hooks


def _annealing(param: str, start: float, to: float, schedule: str, end: int) -> dict:
    values = dict(start_value=start, end_value=to, schedule=schedule)
    return dict(type='FocusAnnealingHook', param=param, end=end, **values)


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
        RuntimeError: If training fails.
    """
    work_dir.mkdir(parents=True, exist_ok=True)
    cfg = make_config(run, str(data_root.resolve()))
    epochs = cfg.train_cfg.max_epochs
    metrics = METRICS[run.kind]
    # The process that trains inherits the lock. Where the study was killed and that process goes
    # on, the next start waits for it rather than train beside it.
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


def main(args: argparse.Namespace) -> None:
    """Run, and say what went wrong."""
    jobs = args.jobs = args.jobs or list(JOBS)
    if not set(jobs) <= set(JOBS):
        sys.exit(f'study.py: error: expected --jobs to be of {", ".join(JOBS)}, but got {jobs}')
    folder = args.results
    if args.quick:
        folder = args.work_dir = args.work_dir.with_name(f'{args.work_dir.name}_quick')
    results = Results(folder)
    columns = (TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn()) as progress:
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
