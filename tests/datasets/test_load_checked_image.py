"""Unreadable images are noticed, and skipped on purpose alone."""

import os
import struct
import zlib

import cv2
import mmcv
import numpy as np
import pytest
from mmcv.transforms import LoadImageFromFile
from mmpretrain.datasets import CustomDataset
from mmpretrain.registry import TRANSFORMS
from PIL import Image

from frlr_mm.datasets import LoadCheckedImage
from frlr_mm.datasets.transforms import UnreadableImageError


def encode(suffix):
    image = np.random.default_rng(0).integers(256, size=(40, 60, 3), dtype=np.uint8)
    return cv2.imencode(suffix, image)[1].tobytes()


def change_header(png, size):
    """Give a PNG another width and height, and the checksum of these."""
    head = png[12:16] + struct.pack('>II', *size) + png[24:29]
    return png[:12] + head + struct.pack('>I', zlib.crc32(head)) + png[33:]


WHOLE = {suffix: encode(suffix) for suffix in ('.jpg', '.png', '.bmp')}
BROKEN = {
    'empty.jpg': b'',
    'text.jpg': b'this is not an image\n' * 9,
    'half.jpg': WHOLE['.jpg'][: len(WHOLE['.jpg']) // 2],
    'nearly.jpg': WHOLE['.jpg'][:-40],
    'half.png': WHOLE['.png'][: len(WHOLE['.png']) // 2],
    'half.bmp': WHOLE['.bmp'][:200],
}
# With the end of a whole file.
DAMAGED = {
    'size.png': change_header(WHOLE['.png'], (60_000, 60_000)),
    'chunk.png': WHOLE['.png'].replace(b'IDAT', b'\x12\xc6\xc3\xd0'),
    'start.png': WHOLE['.png'][:4] + WHOLE['.png'][8:],
    'start.jpg': WHOLE['.jpg'][:2] + WHOLE['.jpg'][len(WHOLE['.jpg']) // 2 :],
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


@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
@pytest.mark.parametrize('name', [*BROKEN, *DAMAGED, 'missing.jpg'])
def test_unreadable_image(tmp_path, name, backend):
    path = tmp_path / name
    if name != 'missing.jpg':
        path.write_bytes((BROKEN | DAMAGED)[name])
    cfg = dict(type='LoadCheckedImage', imdecode_backend=backend)
    with pytest.raises(UnreadableImageError, match=f'{path} is not a readable image: .+'):
        TRANSFORMS.build(cfg)(dict(img_path=str(path)))
    record = tmp_path / 'record.txt'
    skip = TRANSFORMS.build(dict(cfg, on_error='skip', record=str(record)))
    assert skip(dict(img_path=str(path))) is skip(dict(img_path=str(path))) is None
    lines = record.read_text().splitlines()
    assert len(lines) == 2 and all(line.startswith(f'{path}\t') for line in lines)
    assert lines[0] == lines[1] and ' at 0x' not in lines[0]


def test_damaged_metadata_under_pillow(tmp_path):
    """Here its reader of TIFF raises a SyntaxError."""
    path = tmp_path / 'image.png'
    Image.new('RGB', (4, 4)).save(path, exif=b'MM\xe0*\0\0\0\x08')
    with pytest.raises(UnreadableImageError, match=f'{path} is not a readable image: '):
        LoadCheckedImage(imdecode_backend='pillow')(dict(img_path=str(path)))


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


@pytest.mark.parametrize('name', ['on_error', 'imdecode_backend', 'color_type'])
def test_bad_arguments(name):
    with pytest.raises(ValueError, match=rf"`{name}` to be one of .*, but got 'ignore'"):
        LoadCheckedImage(**{name: 'ignore'})


@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
def test_missing_library_is_not_damage(tmp_path, monkeypatch, backend):
    def imfrombytes(*args, **kwargs):
        raise ImportError('a library is missing')

    monkeypatch.setattr(mmcv, 'imfrombytes', imfrombytes)
    path = tmp_path / 'image.png'
    path.write_bytes(WHOLE['.png'])
    with pytest.raises(ImportError, match='a library is missing'):
        LoadCheckedImage(on_error='skip', imdecode_backend=backend)(dict(img_path=str(path)))
