"""What tools/train.py adds to every run against faults."""

import atexit
import errno
import logging
import multiprocessing
import os
import pickle
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.logging import print_log

from .checkpoints import find_damage, find_latest_whole_checkpoint
from .datasets.transforms import UnreadableImageError
from .hooks.finite_loss_hook import NonFiniteLossError
from .hooks.unreadable_images_hook import RECORD

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
