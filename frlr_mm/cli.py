"""What the command lines share: stock options, one-line errors, the config of a run."""

import argparse
import difflib
import importlib.util
import inspect
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Optional

import mmpretrain
import torch.distributed as dist
from mmengine.config import Config, DictAction
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from .compat import adapt_config_to_cpu, ignore_known_log_lines
from .safeguards import adapt_training, add_hooks, resolve_resume

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
