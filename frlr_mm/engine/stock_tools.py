"""The command lines that mmpretrain is installed with."""

from .. import registration  # noqa: F401 (first: it says what is missing, and mends the rest)

# isort: split
import argparse
import difflib
import importlib.util
from pathlib import Path
from types import ModuleType

import mmpretrain
from mmengine.config import DictAction


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


def load_stock_tool(name: str) -> ModuleType:
    """Load a command line of mmpretrain, so that its options and their meaning stay its own.

    Args:
        name (str): 'train' or 'test'.

    Returns:
        ModuleType: With ``parse_args`` and ``merge_args``.

    Raises:
        FileNotFoundError: If mmpretrain was installed without its tools.
    """
    spec = importlib.util.spec_from_file_location(f'mmpretrain_{name}', find_stock_tool(name))
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
