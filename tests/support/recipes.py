"""The recipes below configs/, read once, and their differences."""

import copy
import functools
from pathlib import Path
from unittest import mock

import mmengine.config.utils
import mmpretrain
from mmengine.config import Config

import frlr_mm  # noqa: F401 (mends what reads `mmpretrain::` in a recipe)

ROOT = Path(__file__).parents[2]
CONFIG_ROOT = ROOT / 'configs'
STOCK_ROOT = Path(mmpretrain.__file__).parent / '.mim/configs'
RECIPES = {
    path.stem: path
    for path in sorted(CONFIG_ROOT.rglob('*.py'))
    if not {'_base_', 'custom'} & {*path.relative_to(CONFIG_ROOT).parts}
}


# Which file a name of mmpretrain stands for; each time it reads some hundred metafiles.
_get_cfg_metainfo = functools.cache(mmengine.config.utils._get_cfg_metainfo)


@functools.cache
def _read(path: Path) -> Config:
    with mock.patch.object(mmengine.config.utils, '_get_cfg_metainfo', _get_cfg_metainfo):
        return Config.fromfile(path)


def load(name: str) -> Config:
    """Return a copy of the config of a recipe, or of a path like ``mmpretrain::resnet/x.py``."""
    stock = name.removeprefix('mmpretrain::')
    return copy.deepcopy(_read(RECIPES[name] if stock == name else STOCK_ROOT / stock))


def flatten(value, prefix: str = '') -> dict:
    """Flatten nested dicts to dotted keys; lists stay whole.

    Without the ``_scope_`` keys that mmengine adds to what it inherits from another package.
    """
    if not isinstance(value, dict) or not value:
        return {prefix: _without_scope(value)}
    flat = {}
    for key, item in value.items():
        if key != '_scope_':
            flat.update(flatten(item, f'{prefix}.{key}' if prefix else key))
    return flat


def _without_scope(value):
    if isinstance(value, dict):
        return {k: _without_scope(v) for k, v in value.items() if k != '_scope_'}
    if isinstance(value, (list, tuple)):
        return [_without_scope(v) for v in value]
    return value
