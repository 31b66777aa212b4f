"""The one place that mends upstream; each function says what it mends and when it can go.

:func:`apply` runs when the plugin registers, and is harmless where upstream is fixed.
"""

import functools
import importlib.metadata
import importlib.util
import logging
import os
import pickle
import re
import types
import warnings
from typing import Any

import mmengine.config.config
import mmengine.fileio.io
import mmengine.hub.hub
import mmengine.runner.checkpoint
import mmengine.utils.package_utils
import torch
from mmengine.fileio import register_backend
from mmengine.logging import print_log

from .engine import safe_load
from .engine.checkpoints import AtomicLocalBackend


def apply() -> None:
    """Mend what can be mended once for the process."""
    ignore_known_warnings()
    find_packages_without_pkg_resources()
    allow_checkpoint_types()
    keep_checkpoints_from_running_code()
    drop_code_and_explain_refusals()
    write_files_atomically()


def ignore_known_warnings() -> None:
    """Ignore what every run on mmcv-lite warns of: operators that no recipe here uses."""
    warnings.filterwarnings('ignore', 'Fail to import ``MultiScaleDeformableAttention``')


def ignore_known_log_lines(logger: logging.Logger) -> None:
    """Drop the two lines by which mmengine's own hooks warn of mmengine's own deprecations."""
    logger.addFilter(
        lambda record: (
            not str(record.msg).startswith(
                ('"FileClient" will be deprecated', '"HardDiskBackend" is the alias')
            )
        )
    )


def find_packages_without_pkg_resources() -> None:
    """Let ``mmpretrain::...`` in ``_base_`` be found.

    mmengine looks packages up through pkg_resources, which setuptools 82 no longer has and earlier
    versions warn of; onedl-mmengine does not. Can go when mmengine uses importlib.metadata.
    """
    if 'pkg_resources' not in mmengine.utils.package_utils.is_installed.__code__.co_names:
        return
    for module in (
        mmengine.utils.package_utils,
        mmengine.utils,
        mmengine.config.config,
        mmengine.hub.hub,
    ):
        for name, function in (
            ('is_installed', _is_installed),
            ('get_installed_path', _get_installed_path),
        ):
            if hasattr(module, name):
                setattr(module, name, function)


def _is_installed(package: str) -> bool:
    try:
        importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        spec = importlib.util.find_spec(package)
        return spec is not None and spec.origin is not None
    return True


def _get_installed_path(package: str) -> str:
    spec = importlib.util.find_spec(package)
    if spec is None:
        # A distribution whose module has another name: mmcv-lite, mmcv.
        top_level = importlib.metadata.distribution(package).read_text('top_level.txt')
        spec = importlib.util.find_spec(top_level.split()[0]) if top_level else None
    if spec is None or spec.origin is None:
        raise RuntimeError(f'{package} has no module with a path')
    return os.path.dirname(spec.origin)


def allow_checkpoint_types() -> None:
    """Let resume, test and load_from read mmengine's checkpoints as torch >= 2.6 loads them.

    torch then refuses all but tensors and plain containers, since a pickle can run code;
    mmengine's checkpoints also hold the history of the log. Can go when mmengine stores its log in
    plain types.
    """
    if safe_load.TORCH_RESTRICTS:
        torch.serialization.add_safe_globals(
            [(each, name) for name, each in safe_load.CHECKPOINT_TYPES.items()]
        )


class _SafelyLoadingTorch(types.ModuleType):
    """torch with another ``load``."""

    load = staticmethod(safe_load.load)

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


def keep_checkpoints_from_running_code() -> None:
    """Let no loader of mmengine run what a pickle says, whatever it asks torch for.

    mmengine leaves it to torch's default, which is to run it before torch 2.6, and so does
    torch.hub, by which it loads from http(s); onedl-mmengine catches torch's refusal and loads
    again without restriction. Can go when both ask for ``weights_only=True`` and nothing else.
    """
    module = mmengine.runner.checkpoint
    module.torch = _SafelyLoadingTorch('torch')
    module.load_url = safe_load.load_url


def drop_code_and_explain_refusals() -> None:
    """Drop the text of a config in a checkpoint, and say what was refused and how to allow it.

    - Resuming, mmengine runs ``meta['config']`` of a checkpoint as Python, to compare its
      ``gpu_ids`` with the number of processes. It has not written that entry since its first
      version, so it is dropped.
    - torch's own refusal advises to load without restriction.

    Can go when mmengine no longer runs that text.
    """
    loader = mmengine.runner.checkpoint.CheckpointLoader
    original = loader.load_checkpoint.__func__
    if hasattr(original, '__wrapped__'):
        return

    @functools.wraps(original)
    def load_checkpoint(
        cls: type, filename: str, map_location: Any = None, logger: Any = 'current'
    ) -> Any:
        try:
            checkpoint = original(cls, filename, map_location, logger)
        except pickle.UnpicklingError as error:
            raise pickle.UnpicklingError(_explain_refusal(filename, error)) from None
        meta = checkpoint.get('meta') if isinstance(checkpoint, dict) else None
        if isinstance(meta, dict) and meta.pop('config', None) is not None:
            print_log(f'Ignored the config inside of {filename}', logger, logging.WARNING)
        return checkpoint

    loader.load_checkpoint = classmethod(load_checkpoint)


def _explain_refusal(filename: str, error: pickle.UnpicklingError) -> str:
    """Return what a checkpoint was refused for, and how to allow it on purpose."""
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(filename)
    except Exception:  # of an older format, from http, made to confuse: torch names the first one
        names = re.findall(r'(?:GLOBAL|class) ([\w.]+)', str(error))[:1]
    if not names:
        reason = ' '.join(
            str(error).split('WeightsUnpickler error:')[-1].split('Check the')[0].split()
        )
        return f'Refused the checkpoint {filename}, which holds more than tensors: {reason}'
    return (
        f'Refused the checkpoint {filename}, which can run code: it holds '
        f'{", ".join(sorted(names))} besides tensors and plain values. If you trust it, allow '
        f'these by {safe_load.HOW_TO_ALLOW} in a module of your own that '
        '`custom_imports` of the config names'
    )


def write_files_atomically() -> None:
    """Let checkpoints and what ``mmengine.dump`` writes be whole or not there.

    mmengine writes into the file itself: a process killed meanwhile, or a full disk, leaves half a
    file in place of the last good one. Can go when its local backend renames.
    """
    register_backend('local', AtomicLocalBackend, force=True, prefixes='')
    mmengine.fileio.io.backend_instances.clear()  # those made before, of the old class
