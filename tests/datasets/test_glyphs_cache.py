"""GlyphDataset: the images that it keeps on disk."""

import multiprocessing
import os
import shutil
import signal
import tempfile
from pathlib import Path

import numpy as np
import pytest

from frlr_mm.datasets.glyphs._faces import builtin_font
from tests.support.glyph_cases import images, load


def test_cache_is_used_again(tmp_path, monkeypatch):
    first = load(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == [first.cache_file.name]
    monkeypatch.setattr('frlr_mm.datasets.glyphs.base.render_glyph', None)
    assert np.array_equal(images(load(tmp_path)), images(first))


def test_each_set_has_a_cache_of_its_own(tmp_path):
    other = str(builtin_font('DejaVuSerif').path)
    fonts = [str(builtin_font(face).path) for face in ('DejaVuSans', 'DejaVuSans-Bold')]
    changes = [
        dict(),
        dict(split='test'),
        dict(num_classes=5),
        dict(samples_per_face=1),
        dict(seed=1),
        dict(task='identification'),
        dict(task='attributes'),
        dict(characters='abcd'),
        dict(characters='abcD'),
        dict(characters='abcd', fonts=fonts),
        dict(characters='abcd', fonts=[*fonts, other]),
        dict(characters='abcd', fonts=fonts, split='test'),
        dict(characters='abcd', fonts=fonts, faces=['DejaVuSans']),
    ]
    caches = {load(tmp_path, lazy_init=True, **change).cache_file for change in changes}
    assert len(caches) == len(changes)


SPOILED = {
    'half': lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    'header': lambda file: file.write_bytes(file.read_bytes()[:20]),
    'empty': lambda file: file.write_bytes(b''),
    'text': lambda file: file.write_text('not an array'),
    'zip': lambda file: file.write_bytes(b'PK\x03\x04 the start of an archive'),
    'shape': lambda file: np.save(file, np.load(file)[1:]),
    'dtype': lambda file: np.save(file, np.load(file).astype(np.float32)),
    'objects': lambda file: np.save(file, np.array([None, 'x'], dtype=object), allow_pickle=True),
}


@pytest.mark.parametrize('name', SPOILED)
def test_spoiled_cache_is_rendered_again(tmp_path, name):
    dataset = load(tmp_path)
    expected, good = images(dataset), dataset.cache_file.read_bytes()
    SPOILED[name](dataset.cache_file)
    assert dataset.cache_file.read_bytes() != good
    assert np.array_equal(images(load(tmp_path)), expected)
    assert dataset.cache_file.read_bytes() == good


def test_failed_write_leaves_nothing(tmp_path, monkeypatch):
    def fill_disk(file, array):
        file.write_bytes(b'half')
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(np, 'save', fill_disk)
    with pytest.raises(OSError, match='No space left'):
        load(tmp_path)
    assert not list(tmp_path.iterdir())


def die_while_writing(data_root):
    def write_half(file, array):
        file.write_bytes(b'half')
        os.kill(os.getpid(), signal.SIGKILL)

    np.save = write_half
    load(data_root)


def test_killed_while_writing(tmp_path):
    process = multiprocessing.get_context('fork').Process(
        target=die_while_writing, args=(tmp_path,)
    )
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()  # under a name of its own
    again = load(tmp_path)
    assert left != again.cache_file and again.cache_file.is_file()
    assert np.array_equal(images(again), images(load(tmp_path / 'other')))


def test_cache_has_the_rights_of_any_new_file(tmp_path):
    """Others who share the folder can read it."""
    tmp_path.joinpath('other').touch()
    assert load(tmp_path).cache_file.stat().st_mode == tmp_path.joinpath('other').stat().st_mode


def load_at_once(data_root, barrier, queue):
    barrier.wait()
    queue.put(images(load(data_root, num_classes=20)).tobytes())


def test_processes_start_at_once_on_an_empty_cache(tmp_path):
    context = multiprocessing.get_context('fork')
    barrier, queue = context.Barrier(3, timeout=60), context.Queue()
    data_root = tmp_path / 'not' / 'there'
    processes = [
        context.Process(target=load_at_once, args=(data_root, barrier, queue)) for _ in range(3)
    ]
    for process in processes:
        process.start()
    results = [queue.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(timeout=60)
    assert [process.exitcode for process in processes] == [0] * 3
    assert set(results) == {images(load(data_root, num_classes=20)).tobytes()}
    assert len(list(data_root.iterdir())) == 1


def test_unwritable_data_root():
    """The error of the file system, with the path, to a user without the right to write."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o555)
    user = os.geteuid()
    try:
        if user == 0:  # who may write everywhere
            os.seteuid(65534)
        with pytest.raises(PermissionError, match=str(folder)):
            load(folder)
        with pytest.raises(PermissionError, match=str(folder / 'below')):
            load(folder / 'below')
    finally:
        os.seteuid(user)
        shutil.rmtree(folder)


def test_data_root_is_a_file(tmp_path):
    file = tmp_path / 'file'
    file.touch()
    with pytest.raises(OSError, match=str(file)):
        load(file)
