"""The config and the runner of a run, in one visible sequence; one-line errors."""

from .. import registration  # noqa: F401 (first: it says what is missing, and mends the rest)

# isort: split
import argparse
import atexit
import errno
import gc
import json
import logging
import multiprocessing
import os
import pickle
import re
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from urllib.error import URLError

import torch.distributed as dist
from mmengine.config import Config
from mmengine.config.utils import ConfigParsingError
from mmengine.dist import is_main_process
from mmengine.logging import print_log
from mmengine.registry import RUNNERS
from mmengine.runner import BaseLoop, Runner

from ..compat import ignore_known_log_lines
from ..datasets.transforms import UnreadableImageError
from .checkpoints import find_damage, find_latest_whole_checkpoint, read_meta
from .command_line import check_cfg_options, read_config
from .config_checks import (
    check_files,
    describe_finished,
    describe_unreadable_image,
    explained,
    refuse_skipped_images,
    refuse_unknown_optimizer,
    type_name,
    uses_plugin,
    walk,
)
from .convert import add_custom_import, convert, converted_name
from .cpu import adapt_config_to_cpu
from .hooks.finite_loss_hook import NonFiniteLossError
from .hooks.unreadable_images_hook import RECORD
from .log_targets import add_log_targets
from .run_checks import (
    CheckpointFitHook,
    CheckpointMisfitError,
    LabelRangeError,
    TrainingChecksHook,
    refuse_no_batches,
    refuse_tasks_without_labels,
)

# In default_hooks, where `--cfg-options default_hooks.finite_loss=None` turns one off.
_CHECKS = dict(dry_run=dict(type='DryRunHook'))
_FAULT_HOOKS = dict(
    preemption=dict(type='PreemptionHook'),
    finite_loss=dict(type='FiniteLossHook'),
)
# What a wrong config, path or option raises, here and upstream (which checks by assertions), while
# a run is read and built.
_CONFIG_ERRORS = (
    OSError,
    ImportError,
    SyntaxError,
    LookupError,
    TypeError,
    ValueError,
    AssertionError,
    ConfigParsingError,
)
# What a collective says where another process has died or hangs: gloo's errors are of no class.
_LOST_PROCESS = re.compile(
    r'Connection (?:closed by peer|reset|refused)|Broken pipe|Timed out waiting|'
    r'Application timeout caused pair closure|Read timeout|remote process exited|'
    r'Watchdog caught collective operation timeout'
)
# What ends a run that is under way and is not a bug: a checkpoint, a loss, an image, a label.
_RUN_ERRORS = (
    pickle.UnpicklingError,
    NonFiniteLossError,
    UnreadableImageError,
    LabelRangeError,
    CheckpointMisfitError,
)
_STORAGE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
_IMAGE_ERROR = f'{UnreadableImageError.__module__}.{UnreadableImageError.__qualname__}'


@contextmanager
def one_line_errors(work_dir: str | None = None) -> Iterator[None]:
    """End the program with one line where the user is to mend something; bugs keep tracebacks.

    Around what reads and builds a run, that is all that a wrong config, path or option raises.
    Around the run itself, with ``work_dir``, it is what is refused before the first step, as
    optimizers and schedules are built, checkpoints loaded and hooks asked; a loss that is not
    finite, an unreadable image, a process that the others have lost and a disk that does not take
    a file. With the environment variable
    ``FRLR_TRACEBACK=1`` every error keeps its traceback.

    Args:
        work_dir (str, optional): Where a run that is under way writes; it is named where an error
            names no file. None stands for reading and building. Defaults to None.
    """
    try:
        yield
    except Exception as error:
        line = _describe_error(error, work_dir)
        if line is None or os.environ.get('FRLR_TRACEBACK') == '1':
            raise
        line = f'{Path(sys.argv[0]).name}: error: {line}'
        _tell_launcher(line)
        sys.exit(line)


def _tell_launcher(line: str) -> None:
    """Leave an error where the launcher of several processes looks for it, to print it last."""
    for variable, text in (
        ('TORCHELASTIC_ERROR_FILE', json.dumps(dict(message=line, timestamp=int(time.time())))),
        ('FRLR_ERROR_FILE', f'{line}\n'),  # tools/dist_*.sh
    ):
        if os.environ.get(variable):
            Path(os.environ[variable]).write_text(text)


def _describe_error(error: Exception, work_dir: str | None) -> str | None:
    """Return the line of an error, None for a bug."""
    hint = ' (FRLR_TRACEBACK=1 shows where it comes from)'
    if isinstance(error, RuntimeError) and (lost := _LOST_PROCESS.search(str(error))):
        rank = dist.get_rank() if dist.is_initialized() else 0
        return f'rank {rank}: another process has died or hangs ({lost.group()}){hint}'
    if work_dir is None:
        # An attribute that a config lacks, not one that a bug asked for.
        of_config = isinstance(getattr(error, 'obj', None), dict)
        if not isinstance(error, (*_CONFIG_ERRORS, *_RUN_ERRORS)) and not of_config:
            return None
        return _join_lines(error) + hint
    line = describe_unreadable_image(error)
    if line is not None:
        return line + hint
    if isinstance(error, OSError) and error.errno in _STORAGE_ERRORS:
        where = '' if error.filename else f' (work directory: {work_dir})'
        hint = f'{where}; what was written before is kept'
    elif _is_before_first_step(error):
        return _join_lines(error) + hint
    elif not isinstance(error, _RUN_ERRORS):
        return None
    # A worker of a data loader hands its error on with the traceback before it.
    return str(error).strip().splitlines()[-1].removeprefix(f'{_IMAGE_ERROR}: ') + hint


def _join_lines(error: Exception) -> str:
    # The text of a KeyError is the representation of its argument.
    text = error.args[0] if isinstance(error, KeyError) and error.args else error
    if isinstance(error, URLError):  # which does not say what was to be downloaded
        frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
        urls = (frame.f_locals['url'] for frame in frames if 'url' in frame.f_locals)
        text = f'cannot download {next(urls, "a file")}: {error.reason}'
    return ' '.join(str(text).split()) or type(error).__name__


def _is_before_first_step(error: Exception) -> bool:
    """Return whether it is of what the run builds, or of a hook that looks before it starts."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    is_running = any(
        frame.f_code.co_name == 'run' and isinstance(frame.f_locals.get('self'), BaseLoop)
        for frame in frames
    )
    if not is_running:
        return isinstance(error, (*_CONFIG_ERRORS, RuntimeError))
    return isinstance(error, _CONFIG_ERRORS) and any(
        frame.f_code is Runner.call_hook.__code__
        and frame.f_locals['fn_name'] in ('before_run', 'before_train', 'before_test')
        for frame in frames
    )


def build_run(stock: ModuleType, args: argparse.Namespace, training: bool) -> Runner:
    """Read the config of a run, change it in this order, and build its runner.

    Args:
        stock (ModuleType): From :func:`~frlr_mm.engine.command_line.load_stock_tool`.
        args (argparse.Namespace): What its ``parse_args`` returned.
        training (bool): Whether the run trains.

    Returns:
        Runner: With its loops and data sets, so that missing data is an error here.

    Raises:
        FileNotFoundError: If the config, one of its bases or data is missing.
        KeyError: If ``--cfg-options`` sets a top-level field that nothing reads.
        ValueError: If the checkpoint to resume is not whole.
    """
    cfg = read_config(args.config)
    check_cfg_options(cfg, args.cfg_options or {})
    plugin_type = uses_plugin(cfg)  # before what follows adds hooks of the plugin
    hooks = _CHECKS | _FAULT_HOOKS if training else _CHECKS
    cfg.default_hooks = hooks | (cfg.get('default_hooks') or {})
    loss = getattr(args, 'loss', None)
    if args.work_dir is None and cfg.get('work_dir') is None:
        name = Path(converted_name(cfg.filename, loss) if loss else cfg.filename).stem
        args.work_dir = os.path.join('./work_dirs', name)
    cfg = stock.merge_args(cfg, args)
    cfg, lines = convert(cfg, loss) if loss else (cfg, [])
    _load_without_workers(cfg)
    add_log_targets(cfg, getattr(args, 'log_to', None) or [])
    adapt_config_to_cpu(cfg)
    if not training or not add_custom_import(cfg):
        plugin_type = None
    refuse_skipped_images(cfg, 'val_dataloader' if training else 'test_dataloader')
    if training:
        _seed_by_iteration(cfg)
        _record_unreadable_images(cfg)
        _keep_two_checkpoints(cfg)
        _resolve_resume(cfg)
        check_files(cfg)
        _end_where_finished(cfg)
        _forget_unreadable_images(cfg)
    _choose_runner(cfg)
    with explained(cfg):
        runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
        ignore_known_log_lines(runner.logger)
        if training:
            refuse_tasks_without_labels(runner)
            refuse_unknown_optimizer(cfg)
        _ = (runner.train_loop, runner.val_loop) if training else runner.test_loop
    if training:
        refuse_no_batches(runner)
        runner.register_hook(TrainingChecksHook())
    elif not getattr(args, 'allow_mismatch', False):
        runner.register_hook(CheckpointFitHook())
    if loss:
        _keep_seed(runner)
        runner.logger.info(
            '\n'.join([f'--loss {loss} changes these lines of the config:', *lines])
        )
    if plugin_type:
        runner.logger.warning(
            f'The config uses {plugin_type} without custom_imports = dict(imports=["frlr_mm"]): '
            f'added in {runner.work_dir}, add it to yours for other tools'
        )
    return runner


def _end_where_finished(cfg: Config) -> None:
    line = describe_finished(cfg)
    if line is not None:
        leave_process_group()
        print(line)
        sys.exit(0)


def _keep_seed(runner: Runner) -> None:
    """Write the seed that was drawn into the config, so that this alone repeats the run."""
    runner.cfg.randomness = dict(runner.cfg.get('randomness') or {}) | dict(seed=runner.seed)
    runner.dump_config()


def _choose_runner(cfg: Config) -> None:
    """Let a sharded classifier have the runner that it takes, unless the config names one."""
    types = {type_name(node.get('type')) for _, node in walk(cfg.get('model'))}
    if 'ShardedLinearClsHead' in types:
        cfg.setdefault('runner_type', 'ShardedRunner')


def _load_without_workers(cfg: Config) -> None:
    """Let ``num_workers=0`` do: workers that are not there cannot persist, torch says."""
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        if cfg.get(name) is not None and not cfg[name].get('num_workers'):
            cfg[name].persistent_workers = False


def _seed_by_iteration(cfg: Config) -> None:
    """Let a resumed run repeat the one that was interrupted, bit for bit.

    By the seeded loops and ``init_worker``, unless the config names others. In deterministic mode
    workers do not persist in training: their random numbers depend on when they were started.
    """
    train_cfg = cfg.get('train_cfg')
    if train_cfg is not None and 'type' not in train_cfg:
        by_epoch = train_cfg.pop('by_epoch', True)
        train_cfg.type = 'SeededEpochTrainLoop' if by_epoch else 'SeededIterTrainLoop'
    for name in ('train_dataloader', 'val_dataloader'):
        if cfg.get(name) is not None:
            cfg[name].setdefault('worker_init_fn', dict(type='init_worker'))
    if (cfg.get('randomness') or {}).get('deterministic') and cfg.get('train_dataloader'):
        cfg.train_dataloader.persistent_workers = False
    # Workers that outlive signals, as those of `init_worker`, have to be ended.
    atexit.unregister(_end_workers)
    atexit.register(_end_workers)


def _end_workers() -> None:
    """End the workers of a failed run: Python waits for them, and they ignore SIGTERM."""
    # torch's own handler would raise at each worker that is killed.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for child in multiprocessing.active_children():
        if child.daemon:
            child.kill()


def _record_unreadable_images(cfg: Config) -> None:
    """Give each LoadCheckedImage in training a file to note what it skips, and show it."""
    for _, transform in walk(cfg.get('train_dataloader')):
        if type_name(transform.get('type')) != 'LoadCheckedImage':
            continue
        transform.setdefault('record', str(Path(cfg.work_dir, RECORD)))
        cfg.default_hooks.setdefault('unreadable', dict(type='UnreadableImagesHook'))


def _forget_unreadable_images(cfg: Config) -> None:
    """Delete the note of what an older run has skipped, unless this one resumes.

    Before the runner is built, where the processes wait for each other: none of them loads an
    image before all have come this far.
    """
    if not cfg.get('resume') and is_main_process():
        Path(cfg.work_dir, RECORD).unlink(missing_ok=True)


def _keep_two_checkpoints(cfg: Config) -> None:
    """Keep two where one is to be kept: mmengine deletes the old before it writes the new."""
    checkpoint = cfg.default_hooks.get('checkpoint')
    if checkpoint is not None and checkpoint.get('max_keep_ckpts') == 1:
        checkpoint.max_keep_ckpts = 2
        print_log('Two checkpoints are kept: one while the other is written', 'current')


def _resolve_resume(cfg: Config) -> None:
    """Set the checkpoint that ``resume`` goes on from: the one named, or the newest whole one.

    Without any, training starts from the beginning. Where the config has no seed, that of the
    checkpoint is taken, so that the order of the data stays the same.
    """
    if not cfg.get('resume'):
        return
    if cfg.get('load_from') is None:
        cfg.load_from = find_latest_whole_checkpoint(cfg.work_dir)
        if cfg.load_from is None:
            cfg.resume = False
            print_log(
                f'No whole checkpoint in {cfg.work_dir}: training starts from the beginning',
                'current',
                level=logging.WARNING,
            )
            return
    elif '://' in cfg.load_from:
        return
    elif damage := find_damage(cfg.load_from):
        raise ValueError(f'checkpoint {cfg.load_from} is {damage}')
    randomness = cfg.get('randomness') or {}
    if randomness.get('seed') is None:
        seed = read_meta(cfg.load_from).get('seed')
        if seed is not None:
            cfg.randomness = dict(randomness) | dict(seed=seed)


def leave_process_group() -> None:
    """End what the processes of a run share, its threads included, once the run is done.

    The caller lets go of the runner before, since a process group lives as long as a model that
    is wrapped in DistributedDataParallel. Threads that are left to the interpreter's exit may
    release a tensor once Python takes no thread any more, and the process aborts after all its
    work.
    """
    if dist.is_initialized():
        # A thread of gloo takes Python's lock to release the tensors of the last collective, and
        # torch 2.1 waits for that thread with the lock held.
        time.sleep(0.1)
        dist.destroy_process_group()
        # Runners, loops and hooks refer to each other.
        gc.collect()
