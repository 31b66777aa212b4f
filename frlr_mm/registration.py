"""Importing this module mends upstream and registers the plugin with mmengine."""

import importlib.util

_STACK = ('mmengine', 'mmcv', 'mmpretrain', 'torchvision')
_missing = [name for name in _STACK if importlib.util.find_spec(name) is None]
if _missing:
    raise ModuleNotFoundError(
        f'frlr_mm needs {", ".join(_missing)} for all but frlr_mm.functional: '
        "pip install 'frlr_mm[mmpretrain]', or 'frlr_mm[onedl]' for the maintained forks"
    )

from . import compat  # noqa: E402 (not before the message above)

compat.apply()

# mmpretrain can be imported only once it is mended.
from . import datasets, evaluation, models  # noqa: E402
from .engine import cpu, hooks, loops, sharded_runner  # noqa: E402

__all__ = ['cpu', 'datasets', 'evaluation', 'hooks', 'loops', 'models', 'sharded_runner']
