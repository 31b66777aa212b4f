import runpy
import sys

import pytest
import yaml

from tests.tools.conftest import ROOT

TOOL = ROOT / 'tools/analysis/results_table.py'
FILES = [
    path
    for folder in (ROOT, ROOT / 'docs', ROOT / 'configs')
    for path in (folder.rglob('*.md') if folder != ROOT else folder.glob('*.md'))
    if '<!-- results: ' in path.read_text()
]


def test_tables_of_the_project_are_those_of_the_metafiles(run_tool):
    assert ROOT / 'README.md' in FILES
    status, output = run_tool('analysis/results_table.py', '--check', *FILES)
    assert status == 0, output


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


def test_check_fails_on_an_old_table_and_writing_mends_it(document, monkeypatch):
    monkeypatch.syspath_prepend(TOOL.parent)
    import results_table

    monkeypatch.setattr(results_table, 'ROOT', document.parent)

    def run(*args):
        monkeypatch.setattr(sys, 'argv', ['results_table.py', *args, str(document)])
        results_table.main()

    old = document.read_text()
    with pytest.raises(SystemExit, match=r'README\.md: a table is not that of its metafile'):
        run('--check')
    assert document.read_text() == old
    run()
    text = document.read_text()
    assert text.startswith('before\n<!--') and text.endswith('-->\nafter\n')
    assert '[a](configs/a.py)' in text and 'old' not in text
    run('--check')
    document.write_text(old.replace('metafile.yml', 'none.yml'))
    with pytest.raises(SystemExit, match=r'none\.yml, which is missing'):
        run()
