"""Unreadable images are noticed, and skipped on purpose alone."""

import os

import cv2
import numpy as np
import pytest
from mmcv.transforms import LoadImageFromFile
from mmpretrain.datasets import CustomDataset
from mmpretrain.registry import TRANSFORMS

from frlr_mm.datasets import LoadCheckedImage
from frlr_mm.datasets.transforms import UnreadableImageError


def encode(suffix):
    image = np.random.default_rng(0).integers(256, size=(40, 60, 3), dtype=np.uint8)
    return cv2.imencode(suffix, image)[1].tobytes()


WHOLE = {suffix: encode(suffix) for suffix in ('.jpg', '.png', '.bmp')}
BROKEN = {
    'empty.jpg': b'',
    'text.jpg': b'this is not an image\n' * 9,
    'half.jpg': WHOLE['.jpg'][: len(WHOLE['.jpg']) // 2],
    'nearly.jpg': WHOLE['.jpg'][:-40],
    'half.png': WHOLE['.png'][: len(WHOLE['.png']) // 2],
    'half.bmp': WHOLE['.bmp'][:200],
}


@pytest.mark.parametrize('suffix', WHOLE)
@pytest.mark.parametrize('padding', [b'', b'\0' * 100])
def test_whole_images_are_those_of_the_stock_transform(tmp_path, suffix, padding):
    path = tmp_path / f'image{suffix}'
    path.write_bytes(WHOLE[suffix] + padding)
    stock = LoadImageFromFile(to_float32=True)(dict(img_path=str(path)))
    checked = LoadCheckedImage(to_float32=True)(dict(img_path=str(path)))
    assert checked.keys() == stock.keys() and checked['img'].dtype == np.float32
    np.testing.assert_array_equal(checked['img'], stock['img'])
    assert checked['img_shape'] == checked['ori_shape'] == stock['img_shape'] == (40, 60)


@pytest.mark.parametrize('name', [*BROKEN, 'missing.jpg'])
def test_unreadable_image(tmp_path, name):
    path = tmp_path / name
    if name in BROKEN:
        path.write_bytes(BROKEN[name])
    with pytest.raises(UnreadableImageError, match=f'{path} is not a readable image: .+'):
        LoadCheckedImage()(dict(img_path=str(path)))
    record = tmp_path / 'record.txt'
    skip = TRANSFORMS.build(dict(type='LoadCheckedImage', on_error='skip', record=str(record)))
    assert skip(dict(img_path=str(path))) is skip(dict(img_path=str(path))) is None
    lines = record.read_text().splitlines()
    assert len(lines) == 2 and all(line.startswith(f'{path}\t') for line in lines)
    assert lines[0] == lines[1] and ' at 0x' not in lines[0]


def test_name_that_is_not_utf8_is_recorded(tmp_path):
    path, record = os.fsdecode(os.fsencode(tmp_path) + b'/\xff.jpg'), tmp_path / 'record.txt'
    skip = LoadCheckedImage(on_error='skip', record=str(record))
    assert skip(dict(img_path=path)) is None
    assert record.read_bytes().startswith(os.fsencode(path) + b'\t')


def test_data_set_takes_others_and_fails_where_there_is_none(tmp_path):
    (tmp_path / 'a').mkdir()
    for name, data in {**BROKEN, 'whole.jpg': WHOLE['.jpg']}.items():
        (tmp_path / 'a' / name).write_bytes(data)
    pipeline = [dict(type='LoadCheckedImage', on_error='skip')]

    def build():
        return CustomDataset(data_root=str(tmp_path), pipeline=pipeline)

    dataset = build()
    assert len(dataset) == 7
    for item in dataset:
        assert item['img_path'].endswith('whole.jpg')
    (tmp_path / 'a/whole.jpg').write_bytes(b'')
    with pytest.raises(Exception, match='Cannot find valid image'):
        build()[0]


def test_bad_policy():
    with pytest.raises(ValueError, match=r"`on_error` to be one of .*, but got 'ignore'"):
        LoadCheckedImage(on_error='ignore')
