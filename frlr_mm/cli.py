"""The console command: ``frlr COMMAND`` runs a command line of ``tools/``, shipped in the wheel.

It imports nothing heavy itself, so that its help answers at once.
"""

import difflib
import importlib.util
import sys
from collections.abc import Mapping, Sequence

from . import __version__
from .engine.files import shipped_folder

# The file below tools/ and what it is for.
Table = Mapping[str, tuple[str, str]]
COMMANDS: Table = {
    'train': ('train.py', 'train a model; --loss hslr turns any classification recipe FRLR'),
    'test': ('test.py', 'test a checkpoint'),
    'convert': ('convert_config.py', 'write the config that `train --loss` would train'),
    'export': ('export_onnx.py', 'write a checkpoint as an ONNX file, and check it'),
    'demo': ('demo.py', 'train on the built-in data and draw what was learned, in minutes'),
}
ANALYZE: Table = {
    'calibrate': ('analysis/calibrate.py', 'fit scores to a validation set, in a checkpoint'),
    'choose_threshold': ('analysis/choose_threshold.py', 'choose the score to reject below'),
    'compare_runs': ('analysis/compare_runs.py', 'draw the logs of training runs'),
    'confusions': ('analysis/confusions.py', 'list and draw which classes are hard negatives'),
    'label_frequency': ('analysis/label_frequency.py', 'print how often each label occurs'),
    'plot_losses': ('analysis/plot_losses.py', 'draw the losses and their gradients'),
    'rank_list': ('analysis/rank_list.py', 'draw queries with what a checkpoint finds'),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command; its own options, and its help, are those of the file in ``tools/``.

    Args:
        argv (Sequence[str], optional): The arguments; None takes those of the process. Defaults to
            None.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    if args[:1] == ['--version']:
        print(f'frlr_mm {__version__}')
        return
    name, table = 'frlr', COMMANDS
    if args[:1] == ['analyze']:
        name, table, args = 'frlr analyze', ANALYZE, args[1:]
    if not args or args[0] in ('-h', '--help'):
        print(_help(name, table))
        sys.exit(0 if args else 2)
    command = args[0].replace('-', '_')
    if command not in table:
        names = [*table, *(('analyze',) if table is COMMANDS else ())]
        close = difflib.get_close_matches(command, names, n=1)
        hint = f'did you mean {close[0]!r}?' if close else f'expected one of {", ".join(names)}'
        sys.exit(f'{name}: error: no command {args[0]!r}; {hint}')
    path = shipped_folder() / 'tools' / table[command][0]
    spec = importlib.util.spec_from_file_location(f'frlr_{path.stem}', path)
    assert spec is not None and spec.loader is not None, 'a .py file always has a loader'
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # processes that it starts may ask for it
    # What it takes its name, in errors and its help, and its arguments from.
    sys.argv = [f'{name} {command}', *args[1:]]
    spec.loader.exec_module(module)
    module.main()


def _help(name: str, table: Table) -> str:
    rows = {command: line for command, (_, line) in table.items()}
    if table is COMMANDS:
        rows['analyze'] = 'draw and print what runs and data hold: frlr analyze --help'
    width = max(map(len, rows))
    lines = [f'  {command:{width}}  {line}' for command, line in rows.items()]
    return '\n'.join(
        [
            f'usage: {name} COMMAND [options]',
            '',
            *lines,
            '',
            f'{name} COMMAND --help: its options',
        ]
    )
