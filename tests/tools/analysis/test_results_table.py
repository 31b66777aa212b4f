import runpy
import subprocess
import sys

import pytest
import yaml

from ..conftest import ROOT

TOOL = ROOT / 'tools/analysis/results_table.py'
FILES = [
    path
    for folder in (ROOT, ROOT / 'docs', ROOT / 'configs')
    for path in (folder.rglob('*.md') if folder != ROOT else folder.glob('*.md'))
    if '<!-- results: ' in path.read_text()
]


def test_tables_of_the_project_are_those_of_the_metafiles():
    assert ROOT / 'README.md' in FILES
    result = subprocess.run(
        [sys.executable, TOOL, '--check', *FILES], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr


@pytest.fixture
def document(tmp_path):
    metadata = dict(
        Seed=0,
        Command='python train.py configs/a.py',
        Commit='abc',
        Machine='2 cores',
        Log='log.json',
    )
    model = dict(
        Name='a',
        Config='configs/a.py',
        Metadata=metadata,
        Results=[
            dict(Task='Image Classification', Dataset='Glyphs', Metrics={'Top 1 Accuracy': 12.5})
        ],
    )
    (tmp_path / 'metafile.yml').write_text(
        yaml.safe_dump(dict(Models=[model, dict(Name='b', Config='configs/b.py', Metadata={})]))
    )
    path = tmp_path / 'README.md'
    path.write_text(
        'before\n<!-- results: metafile.yml -->\nold\n<!-- end of results -->\nafter\n'
    )
    return path


def test_table_holds_the_measured_models(document):
    tool = runpy.run_path(str(TOOL))
    text = tool['table'](document.parent / 'metafile.yml', '../')
    assert text.splitlines() == [
        '| recipe | Top 1 Accuracy | seed | commit | log |',
        '| --- | --- | --- | --- | --- |',
        '| [a](../configs/a.py) | 12.5 | 0 | abc | [log](../log.json) |',
        '',
        'Measured on 2 cores: `python train.py CONFIG`.',
    ]


def test_check_fails_on_an_old_table_and_writing_mends_it():
    path = ROOT / 'configs' / 'glyphs' / 'README.partial-test.md'
    path.write_text('<!-- results: metafile.yml -->\nold\n<!-- end of results -->\n')
    try:
        check = subprocess.run([sys.executable, TOOL, '--check', path], capture_output=True)
        assert check.returncode == 1 and b'not that of its metafile' in check.stderr
        assert subprocess.run([sys.executable, TOOL, path]).returncode == 0
        assert '\nold\n' not in path.read_text()
        assert subprocess.run([sys.executable, TOOL, '--check', path]).returncode == 0
    finally:
        path.unlink()
