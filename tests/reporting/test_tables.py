import pytest

from frlr_mm.reporting.tables import (
    append_rows,
    fill_blocks,
    fill_files,
    markdown_table,
    read_rows,
)


def test_rows_are_appended_to_what_is_there(tmp_path):
    path = tmp_path / 'new' / 'rows.csv'
    assert read_rows(path) == []
    append_rows(path, [])
    assert not path.exists()
    append_rows(path, [dict(a=1, b='x, y')])
    append_rows(path, [dict(b='z', a=2)])
    assert path.read_bytes() == b'a,b\n1,"x, y"\n2,z\n'
    assert read_rows(path) == [dict(a='1', b='x, y'), dict(a='2', b='z')]
    with pytest.raises(ValueError, match='these differ: b, c'):
        append_rows(path, [dict(a=3, c=4)])
    assert len(read_rows(path)) == 2


def test_lines_end_as_those_before(tmp_path):
    path = tmp_path / 'rows.csv'
    path.write_bytes(b'a,b\r\n1,2')
    append_rows(path, [dict(a=3, b=4)])
    assert path.read_bytes() == b'a,b\r\n1,2\r\n3,4\r\n'


def test_markdown_table():
    assert markdown_table(['a', 'b'], [[1, 'x'], ['', 2.5]]) == (
        '| a | b |\n| --- | --- |\n| 1 | x |\n|  | 2.5 |\n'
    )


def test_a_bar_in_a_cell_is_not_the_end_of_it():
    assert markdown_table(['a|b', 'c'], [['|', 1]]) == (
        '| a\\|b | c |\n| --- | --- |\n| \\| | 1 |\n'
    )


TEXT = """a
<!-- study: one -->
old
<!-- end of study -->
b
<!-- study: two -->
<!-- end of study -->
<!-- results: one -->
kept
<!-- end of results -->
"""


def test_blocks_are_filled_by_kind_and_name():
    filled = fill_blocks(TEXT, 'study', lambda name: f'new {name}\n')
    assert filled == TEXT.replace('old\n', 'new one\n').replace('two -->\n', 'two -->\nnew two\n')
    assert fill_blocks(filled, 'study', lambda name: f'new {name}\n') == filled


def test_a_block_without_an_end_is_refused(tmp_path):
    text = TEXT.replace('<!-- end of study -->\nb\n', 'b\n')
    with pytest.raises(ValueError, match=r"after each block, but \['one'\] lack it"):
        fill_blocks(text, 'study', str)
    good, bad = tmp_path / 'good.md', tmp_path / 'bad.md'
    good.write_text(TEXT)
    bad.write_text(text)
    with pytest.raises(ValueError, match=r'bad\.md: Expected'):
        fill_files([good, bad], 'study', lambda path, name: 'new\n')
    assert good.read_text() == TEXT


def test_files_that_differ_are_named_and_written_unless_checked(tmp_path):
    paths = [tmp_path / 'a.md', tmp_path / 'b.md']
    for path in paths:
        path.write_text(TEXT)

    def content(path, name):
        return (
            'old\n' if (path.name, name) == ('a.md', 'one') else f'{path.stem}\n' * (name == 'one')
        )

    assert fill_files(paths, 'study', content, check=True) == paths[1:]
    assert paths[1].read_text() == TEXT
    assert fill_files(paths, 'study', content) == paths[1:]
    assert paths[1].read_text() == TEXT.replace('old\n', 'b\n')
    assert fill_files(paths, 'study', content, check=True) == []
