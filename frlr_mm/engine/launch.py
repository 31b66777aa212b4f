"""The config and the runner of a run, in one visible sequence; one-line errors."""

import argparse
import atexit
import difflib
import errno
import importlib.util
import inspect
import logging
import multiprocessing
import os
import pickle
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Optional

import mmpretrain
import torch
import torch.distributed as dist
from mmengine.config import Config, DictAction
from mmengine.logging import print_log
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from ..compat import adapt_config_to_cpu, ignore_known_log_lines
from ..datasets.transforms import UnreadableImageError
from .checkpoints import find_damage, find_latest_whole_checkpoint
from .hooks.finite_loss_hook import NonFiniteLossError
from .hooks.unreadable_images_hook import RECORD

# Top-level fields that mmengine and the stock command lines read, besides Runner's arguments.
_FURTHER_FIELDS = {
    'activation_checkpointing',
    'compile',
    'custom_imports',
    'efficient_conv_bn_eval',
    'find_unused_parameters',
    'model_wrapper_cfg',
    'runner_type',
    'sync_bn',
    'tta_model',
    'tta_pipeline',
}
# What building a run from a wrong config raises, here and upstream.
_CONFIG_ERRORS = (
    OSError,
    ImportError,
    KeyError,
    TypeError,
    ValueError,
    AttributeError,
    AssertionError,
    RuntimeError,
)


def load_stock_tool(name: str) -> ModuleType:
    """Load a command line of mmpretrain, so that its options and their meaning stay its own.

    Args:
        name (str): 'train' or 'test'.

    Returns:
        ModuleType: With ``parse_args`` and ``merge_args``.

    Raises:
        FileNotFoundError: If mmpretrain was installed without its tools.
    """
    path = Path(mmpretrain.__file__).parent / '.mim' / 'tools' / f'{name}.py'
    if not path.is_file():
        raise FileNotFoundError(f'{path} is missing: reinstall mmpretrain with pip or mim')
    spec = importlib.util.spec_from_file_location(f'mmpretrain_{name}', path)
    assert spec is not None and spec.loader is not None, 'a .py file always has a loader'
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    tool.DictAction = _CheckedDictAction  # type: ignore[attr-defined]
    return tool


class _CheckedDictAction(DictAction):
    """``--cfg-options`` that names a pair without '=' in place of a traceback."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: list[str],
        option_string: str | None = None,
    ) -> None:
        for pair in values:
            if '=' not in pair:
                parser.error(f'argument {option_string}: expected KEY=VALUE, but got {pair!r}')
        super().__call__(parser, namespace, values, option_string)


@contextmanager
def one_line_errors(errors: Optional[tuple[type[Exception], ...]] = None) -> Iterator[None]:
    """End the program with one line where a config, a path or an option is wrong.

    Only what reads and builds a run belongs inside; training keeps its tracebacks. With the
    environment variable ``FRLR_TRACEBACK=1`` these keep theirs as well.

    Args:
        errors (tuple[type[Exception], ...], optional): The errors that end in one line; None are
            all that a wrong config raises. Defaults to None.
    """
    expected = errors or _CONFIG_ERRORS
    try:
        yield
    except expected as error:
        if os.environ.get('FRLR_TRACEBACK') == '1':
            raise
        text = error.args[0] if isinstance(error, KeyError) and error.args else error
        line = ' '.join(str(text).split()) or type(error).__name__
        sys.exit(
            f'{Path(sys.argv[0]).name}: error: {line} (FRLR_TRACEBACK=1 shows where it comes from)'
        )


def check_checkpoint(path: str) -> None:
    """Raise a FileNotFoundError unless ``path`` is a file or names another storage (http...)."""
    if '://' not in path and not os.path.isfile(path):
        raise FileNotFoundError(f'checkpoint not found: {path}')


def read_config(stock: ModuleType, args: argparse.Namespace) -> Config:
    """Return the config of a run: the file, the options, what the machine demands.

    Args:
        stock (ModuleType): From :func:`load_stock_tool`.
        args (argparse.Namespace): What its ``parse_args`` returned.

    Returns:
        Config: What Runner is built from.

    Raises:
        FileNotFoundError: If the config or one of its bases does not exist.
        KeyError: If ``--cfg-options`` sets a top-level field that nothing reads.
        ValueError: If the checkpoint to resume is not whole.
    """
    if not os.path.isfile(args.config):
        raise FileNotFoundError(f'config not found: {args.config}')
    cfg = Config.fromfile(args.config)
    check_cfg_options(cfg, args.cfg_options or {})
    if hasattr(args, 'resume'):  # the options of training
        add_hooks(cfg)
    cfg = stock.merge_args(cfg, args)
    adapt_config_to_cpu(cfg)
    if hasattr(args, 'resume'):
        adapt_training(cfg)
        resolve_resume(cfg)
    return cfg


def check_cfg_options(cfg: Config, options: dict) -> None:
    """Raise a KeyError where an option's first name is unknown: mmengine would ignore it."""
    known = set(cfg) | set(inspect.signature(Runner).parameters) | _FURTHER_FIELDS
    for key in options:
        field = key.split('.')[0]
        if field not in known:
            close = difflib.get_close_matches(field, known, n=1)
            hint = f'; did you mean {close[0]!r}?' if close else ''
            raise KeyError(f'--cfg-options {key}: the config has no field {field!r}{hint}')


def build_runner(cfg: Config) -> Runner:
    """Build the runner of a config as the stock command lines do."""
    runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    ignore_known_log_lines(runner.logger)
    return runner


def leave_process_group() -> None:
    """End what the processes of a run share, once it is done.

    Left to the interpreter's exit, the threads of a process group may still run when their owner
    goes, and the process aborts after all its work.
    """
    if dist.is_initialized():
        dist.destroy_process_group()


# In default_hooks, where `--cfg-options default_hooks.finite_loss.max_skips=3` changes one and
# `default_hooks.finite_loss=None` turns it off.
HOOKS = dict(
    preemption=dict(type='PreemptionHook'),
    finite_loss=dict(type='FiniteLossHook'),
)
_IMAGE_ERROR = f'{UnreadableImageError.__module__}.{UnreadableImageError.__qualname__}'
_STORAGE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)


def add_hooks(cfg: Config) -> None:
    """Add the hooks of this module to a config that does not set them.

    Args:
        cfg (Config): Changed in place.
    """
    hooks = cfg.get('default_hooks') or {}
    cfg.default_hooks = HOOKS | hooks


def adapt_training(cfg: Config) -> None:
    """Set what makes a resumed training repeat the one that was interrupted.

    - The seeded loops in place of mmengine's, unless the config names one.
    - ``init_worker`` for the workers of data loaders, unless the config names another.
    - In deterministic mode no persistent workers in training, whose random numbers depend on when
      they were started.
    - For each LoadCheckedImage in training, a file to note what it skips, and a hook to show it.
    - One checkpoint more where one is kept: mmengine deletes the old before it writes the new.

    Args:
        cfg (Config): The config of a run; changed in place.
    """
    atexit.unregister(_end_workers)
    atexit.register(_end_workers)
    train_cfg = cfg.get('train_cfg')
    if train_cfg is not None and 'type' not in train_cfg:
        by_epoch = train_cfg.pop('by_epoch', True)
        train_cfg.type = 'SeededEpochTrainLoop' if by_epoch else 'SeededIterTrainLoop'
    for name in ('train_dataloader', 'val_dataloader'):
        if cfg.get(name) is not None:
            cfg[name].setdefault('worker_init_fn', dict(type='init_worker'))
    if (cfg.get('randomness') or {}).get('deterministic') and cfg.get('train_dataloader'):
        cfg.train_dataloader.persistent_workers = False
    for transform in _find_dicts(cfg.get('train_dataloader'), 'LoadCheckedImage'):
        transform.setdefault('record', str(Path(cfg.work_dir, RECORD)))
        cfg.default_hooks.setdefault('unreadable', dict(type='UnreadableImagesHook'))
    checkpoint = cfg.default_hooks.get('checkpoint')
    if checkpoint is not None and checkpoint.get('max_keep_ckpts') == 1:
        checkpoint.max_keep_ckpts = 2
        print_log('Two checkpoints are kept: one while the other is written', 'current')


def _end_workers() -> None:
    """End the workers of a failed training: Python waits for them, and they ignore SIGTERM."""
    # torch's own handler would raise at each worker that is killed.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for child in multiprocessing.active_children():
        if child.daemon:
            child.kill()


def _find_dicts(cfg: object, kind: str) -> Iterator[dict]:
    """Yield the dictionaries of a type, wherever they are."""
    if isinstance(cfg, dict):
        if cfg.get('type') == kind:
            yield cfg
        cfg = list(cfg.values())
    if isinstance(cfg, (list, tuple)):
        for each in cfg:
            yield from _find_dicts(each, kind)


def resolve_resume(cfg: Config) -> None:
    """Set the checkpoint that ``resume`` goes on from: the one named, or the newest whole one.

    Without any, training starts from the beginning. Where the config has no seed, that of the
    checkpoint is taken, so that the order of the data stays the same.

    Args:
        cfg (Config): The config of a run; changed in place.

    Raises:
        ValueError: If the checkpoint that was named is not whole.
    """
    if not cfg.get('resume'):
        return
    if cfg.get('load_from') is None:
        path = find_latest_whole_checkpoint(cfg.work_dir)
        if path is None:
            cfg.resume = False
            print_log(
                f'No whole checkpoint in {cfg.work_dir}: training starts from the beginning',
                'current',
                level=logging.WARNING,
            )
            return
        cfg.load_from = path
    elif '://' in cfg.load_from:
        return
    else:
        damage = find_damage(cfg.load_from)
        if damage is not None:
            raise ValueError(f'checkpoint {cfg.load_from} is {damage}')
    randomness = cfg.get('randomness') or {}
    if randomness.get('seed') is None:
        try:
            checkpoint = torch.load(cfg.load_from, 'cpu', mmap=True, weights_only=True)
        except pickle.UnpicklingError:
            return  # refused with an explanation where the runner loads it
        seed = checkpoint.get('meta', {}).get('seed')
        if seed is not None:
            cfg.randomness = dict(randomness) | dict(seed=seed)


@contextmanager
def one_line_faults(work_dir: str) -> Iterator[None]:
    """End the program with one line where a loss is not finite, or a file no image or not written.

    The line names ``work_dir`` where the error names no file. Other errors of a training keep
    their tracebacks, as do these with ``FRLR_TRACEBACK=1``.
    """
    try:
        yield
    except (NonFiniteLossError, UnreadableImageError, OSError) as error:
        hint = ''
        if isinstance(error, OSError):
            if error.errno not in _STORAGE_ERRORS:
                raise
            where = '' if error.filename else f' (work directory: {work_dir})'
            hint = f'{where}; what was written before is kept'
        if os.environ.get('FRLR_TRACEBACK') == '1':
            raise
        # A worker of a data loader hands its error on with the traceback before it.
        line = str(error).strip().splitlines()[-1].removeprefix(f'{_IMAGE_ERROR}: ')
        sys.exit(f'{Path(sys.argv[0]).name}: error: {line}{hint}')
