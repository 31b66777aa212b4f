"""What was skipped is counted by image, not by what its reader said."""

import logging
import os
from types import SimpleNamespace

import pytest
from mmengine.registry import HOOKS

from frlr_mm.datasets import LoadCheckedImage
from frlr_mm.engine.hooks.unreadable_images_hook import RECORD


@pytest.fixture
def runner(tmp_path):
    return SimpleNamespace(work_dir=str(tmp_path), logger=logging.getLogger('unreadable'))


@pytest.fixture
def report(runner, caplog):
    """Return the lines that the hook logs at the end."""

    def run():
        HOOKS.build(dict(type='UnreadableImagesHook')).after_train(runner)
        return caplog.messages[-1].splitlines() if caplog.messages else []

    return run


def test_nothing_is_said_where_nothing_was_skipped(report):
    assert report() == []


def test_images_that_are_skipped_again_count_once(tmp_path, report):
    names = ['text.jpg', 'a tab\t.jpg', 'missing.jpg', 'next\u2028line.jpg']
    for name in names[:2]:
        (tmp_path / name).write_bytes(b'this is not an image' * 9)
    paths = [str(tmp_path / name) for name in names]
    paths.append(os.fsdecode(os.fsencode(tmp_path) + b'/\xfe.jpg'))
    paths.append(os.fsdecode(os.fsencode(tmp_path) + b'/\xff.jpg'))
    for _ in range(4):
        # A reader of its own, as each worker has.
        skip = LoadCheckedImage(on_error='skip', record=str(tmp_path / RECORD))
        for path in paths:
            assert skip(dict(img_path=path)) is None
    first, *listed = '\n'.join(report()).split(':\n')
    assert first.startswith('6 unreadable images were skipped, 24 times in all')
    assert all(paths[i] in listed[0] for i in range(3))


def test_reasons_that_differ_are_of_one_image(tmp_path, report):
    record = tmp_path / RECORD
    record.write_text('a.jpg\tthe file is empty\na.jpg\tNo such file\nb.jpg\tNo such file\n')
    assert report() == [
        f'2 unreadable images were skipped, 3 times in all ({record}):',
        'a.jpg: No such file',
        'b.jpg: No such file',
    ]
