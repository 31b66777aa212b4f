import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from frlr_mm.engine.files import replacing


def test_replaces_the_file_as_a_whole(tmp_path):
    path = tmp_path / 'new' / 'table.csv'
    with replacing(os.fspath(path)) as partial:
        assert partial.parent == path.parent and partial.suffix == '.csv'
        partial.write_text('first')
        assert not path.exists()
    assert path.read_text() == 'first' and list(path.parent.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / 'table.csv'
    path.write_text('old')

    def fail():
        with replacing(path) as partial:
            partial.write_text('new')
            raise RuntimeError('no space left')

    with pytest.raises(RuntimeError, match='no space left'):
        fail()
    assert path.read_text() == 'old' and list(tmp_path.iterdir()) == [path]


def test_writers_at_the_same_time_do_not_mix(tmp_path):
    path = tmp_path / 'table.csv'

    def write(letter):
        with replacing(path) as partial:
            for _ in range(20):
                with partial.open('a') as file:
                    file.write(letter)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, 'abcd'))
    assert path.read_text() in {20 * letter for letter in 'abcd'}
