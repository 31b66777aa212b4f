"""What the command lines share: mmpretrain's options, configs and their names."""

from .. import registration  # noqa: F401 (first: it says what is missing, and mends the rest)

# isort: split
import argparse
import difflib
import importlib.util
import inspect
import os
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import mmpretrain
from mmengine.config import Config, DictAction
from mmengine.runner import Runner
from mmengine.utils import get_installed_path

from .files import shipped_folder

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


def find_stock_tool(name: str) -> Path:
    """Find a command line of mmpretrain.

    Args:
        name (str): Its file without folder and suffix, such as 'train' or 'publish_model'.

    Returns:
        Path: The file.

    Raises:
        FileNotFoundError: If mmpretrain was installed without its tools.
        ValueError: If it has no such tool.
    """
    folder = Path(mmpretrain.__file__).parent / '.mim' / 'tools'
    tools = {path.stem: path for path in folder.rglob('*.py')}
    if not tools:
        raise FileNotFoundError(f'{folder} is missing: reinstall mmpretrain with pip or mim')
    if name not in tools:
        close = difflib.get_close_matches(name, tools) or sorted(tools)
        raise ValueError(f'mmpretrain has no tool {name!r}; close to it: {", ".join(close)}')
    return tools[name]


def load_stock_tool(name: str, further: Mapping[str, dict] | None = None) -> ModuleType:
    """Load a command line of mmpretrain, so that its options and their meaning stay its own.

    Args:
        name (str): 'train' or 'test'.
        further (Mapping[str, dict], optional): Further options, each with the arguments of
            ``add_argument``. Defaults to None.

    Returns:
        ModuleType: With ``parse_args`` and ``merge_args``.

    Raises:
        FileNotFoundError: If mmpretrain was installed without its tools.
    """
    spec = importlib.util.spec_from_file_location(f'mmpretrain_{name}', find_stock_tool(name))
    assert spec is not None and spec.loader is not None, 'a .py file always has a loader'
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    tool.DictAction = CheckedDictAction  # type: ignore[attr-defined]

    class Parser(argparse.ArgumentParser):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            for option, arguments in (further or {}).items():
                self.add_argument(option, **arguments)

    tool.argparse = SimpleNamespace(ArgumentParser=Parser)  # type: ignore[attr-defined]
    return tool


class CheckedDictAction(DictAction):
    """``--cfg-options`` that names a pair without '=' in place of a traceback."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: list[str],
        option_string: str | None = None,
    ) -> None:
        """Refuse what is no pair, and parse the others."""
        for pair in values:
            if '=' not in pair:
                parser.error(f'argument {option_string}: expected KEY=VALUE, but got {pair!r}')
        super().__call__(parser, namespace, values, option_string)


def read_config(path: str) -> Config:
    """Read a config.

    Args:
        path (str): Its file, or a recipe of a package, as in
            'mmpretrain::resnet/resnet50_8xb32_in1k.py' or
            'frlr_mm::glyphs/resnet18_b128-hslr_glyphs.py'.

    Returns:
        Config: What is in it.

    Raises:
        FileNotFoundError: If it or one of its bases does not exist.
    """
    file = path
    if '::' in path:
        try:
            file = Config._get_cfg_path(path, '')[0]
        except FileNotFoundError as error:
            raise FileNotFoundError(f'config not found: {path}{_nearest_config(path)}') from error
    if not os.path.isfile(file):
        raise FileNotFoundError(f'config not found: {path}')
    return Config.fromfile(file)


def _nearest_config(path: str) -> str:
    """Return the recipe of a package whose name is nearest to one that is not there."""
    package, _, name = path.partition('::')
    root = (
        shipped_folder() if package == 'frlr_mm' else Path(get_installed_path(package), '.mim')
    ) / 'configs'
    names = [file.relative_to(root).as_posix() for file in root.rglob('*.py')]
    close = difflib.get_close_matches(name, names, n=1)
    return f'; did you mean {package}::{close[0]}?' if close else ''


def check_checkpoint(path: str) -> None:
    """Raise a FileNotFoundError unless ``path`` is a file or names another storage (http...)."""
    if '://' not in path and not os.path.isfile(path):
        raise FileNotFoundError(f'checkpoint not found: {path}')


def check_cfg_options(cfg: Config, options: dict) -> None:
    """Raise a KeyError where an option's first name is unknown: mmengine would ignore it."""
    known = set(cfg) | set(inspect.signature(Runner).parameters) | _FURTHER_FIELDS
    for key in options:
        field = key.split('.')[0]
        if field not in known:
            close = difflib.get_close_matches(field, known, n=1)
            hint = f'; did you mean {close[0]!r}?' if close else ''
            raise KeyError(f'--cfg-options {key}: the config has no field {field!r}{hint}')
