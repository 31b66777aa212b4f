"""The console command, its names, and that its help loads nothing heavy."""

import subprocess
import sys

import pytest

import frlr_mm
from frlr_mm import cli
from tests.support.recipes import ROOT

HEAVY = ('torch', 'mmengine', 'mmpretrain', 'matplotlib', 'numpy')


@pytest.mark.parametrize(
    'args',
    [['-m', 'frlr_mm', '--help'], ['-c', 'from frlr_mm.cli import main; main(["--help"])']],
    ids=['module', 'console command'],
)
def test_help_loads_nothing_heavy(args):
    """What takes seconds to import is imported by the command alone."""
    code = [sys.executable, '-X', 'importtime', *args]
    result = subprocess.run(code, cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {line.rpartition('|')[2].strip() for line in result.stderr.splitlines()}
    assert not loaded & set(HEAVY) and 'frlr_mm.cli' in loaded
    assert result.stdout.startswith('usage: frlr COMMAND [options]')
    assert all(f'\n  {name} ' in result.stdout for name in (*cli.COMMANDS, 'analyze'))


@pytest.mark.parametrize('table', [cli.COMMANDS, cli.ANALYZE])
def test_table_names_the_command_lines(table):
    for path, line in table.values():
        code = (ROOT / 'tools' / path).read_text()
        assert 'def main() -> None:' in code or 'import main\n' in code
        assert line[0].islower() and not line.endswith('.')


def test_every_analysis_has_a_name():
    files = {f'analysis/{path.name}' for path in (ROOT / 'tools/analysis').glob('*.py')}
    # Those two write pages of the repository.
    repository = {'analysis/results_table.py', 'analysis/stock_recipes.py'}
    assert {path for path, _ in cli.ANALYZE.values()} == files - repository


@pytest.mark.parametrize(
    ('args', 'status', 'output'),
    [
        ([], 2, 'usage: frlr COMMAND'),
        (['--version'], None, f'frlr_mm {frlr_mm.__version__}'),
        (['analyze'], 2, 'usage: frlr analyze COMMAND'),
        (['analyze', '--help'], 0, '  compare_runs  '),
        (['analyze', 'compare-runs', '--help'], 0, 'usage: frlr analyze compare_runs [-h]'),
        (['convert', '--help'], 0, 'usage: frlr convert [-h] --loss {hslr,sslr,lr}'),
    ],
)
def test_commands(args, status, output, capsys, monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['frlr', *args])
    if status is None:
        cli.main()
    else:
        with pytest.raises(SystemExit) as error:
            cli.main()
        assert error.value.code == status
    assert output in capsys.readouterr().out


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (['trian'], "frlr: error: no command 'trian'; did you mean 'train'?"),
        (['analyse'], "frlr: error: no command 'analyse'; did you mean 'analyze'?"),
        (
            ['analyze', 'x'],
            "frlr analyze: error: no command 'x'; expected one of calibrate",
        ),
        (['convert', 'nowhere.py', '--loss', 'lr'], 'frlr convert: error: config not found: nowh'),
    ],
)
def test_mistakes_are_one_line(args, message, monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['frlr', *args])
    with pytest.raises(SystemExit, match='frlr') as error:
        cli.main()
    assert str(error.value).startswith(message) and '\n' not in str(error.value)


def test_entry_point(capsys, monkeypatch):
    """`pip install` makes the command of what pyproject.toml names."""
    assert "\nfrlr = 'frlr_mm.cli:main'\n" in (ROOT / 'pyproject.toml').read_text()
    cli.main(['--version'])
    assert capsys.readouterr().out == f'frlr_mm {frlr_mm.__version__}\n'
