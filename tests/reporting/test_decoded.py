"""Decoded images are those of the files, in one array."""

import os
from types import SimpleNamespace

import mmcv
import numpy as np
import pytest
import torch
from PIL import Image

from frlr_mm.reporting.decoded import ChannelsLastHook, LoadDecodedImage, decode_folder

COLOUR = np.random.default_rng(0).integers(0, 256, (3, 8, 6, 3), np.uint8)


def write(folder, images):
    for name, image in zip(('b/1.PNG', 'a/2.png', 'a/1.png'), images, strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / name)
    (folder / 'a/boxes.txt').write_text('no image')


def test_images_by_path(tmp_path):
    folder, file = tmp_path / 'set', tmp_path / 'cache/set.npy'
    write(folder, COLOUR)
    decode_folder(folder, file, (6, 8))
    assert np.load(file).shape == (3, 8, 6, 3)
    load = LoadDecodedImage(str(file), str(folder))
    for name, image in zip(('b/1.PNG', 'a/2.png', 'a/1.png'), COLOUR, strict=True):
        results = load(dict(img_path=f'{folder}/{name}'))
        np.testing.assert_array_equal(results['img'], image[..., ::-1])  # BGR
        assert results['img_shape'] == results['ori_shape'] == (8, 6)
        results['img'][:] = 0  # of its own: the next one has the pixels again
    again = load(dict(img_path=f'{folder}/a/1.png'))['img']
    np.testing.assert_array_equal(again, COLOUR[2, ..., ::-1])
    with pytest.raises(KeyError, match='a/3.png'):
        load(dict(img_path=f'{folder}/a/3.png'))


def test_size_and_grey(tmp_path):
    grey = np.repeat(COLOUR[..., :1], 3, axis=3)
    write(tmp_path / 'set', grey)
    decode_folder(tmp_path / 'set', tmp_path / 'set.npy', (3, 4))
    assert np.load(tmp_path / 'set.npy').shape == (3, 4, 3, 1)
    image = LoadDecodedImage(str(tmp_path / 'set.npy'), str(tmp_path / 'set'))(
        dict(img_path=f'{tmp_path}/set/a/1.png')
    )['img']
    expected = mmcv.imresize(grey[2], (3, 4), interpolation='area')
    np.testing.assert_array_equal(image, expected)


def test_decodes_once_and_leaves_nothing_behind_where_it_fails(tmp_path):
    write(tmp_path / 'set', COLOUR)
    decode_folder(tmp_path / 'set', tmp_path / 'set.npy', (6, 8))
    before = os.stat(tmp_path / 'set.npy')
    decode_folder(tmp_path / 'set', tmp_path / 'set.npy', (6, 8))
    assert os.stat(tmp_path / 'set.npy') == before
    (tmp_path / 'set/a/1.png').write_bytes(b'broken')
    with pytest.raises(ValueError, match=r'a/1.png to be an image, but it cannot be decoded'):
        decode_folder(tmp_path / 'set', tmp_path / 'other.npy', (6, 8))
    assert sorted(path.name for path in tmp_path.iterdir()) == ['set', 'set.npy', 'set.txt']
    (tmp_path / 'empty').mkdir()
    with pytest.raises(ValueError, match='empty to hold images, but it holds none'):
        decode_folder(tmp_path / 'empty', tmp_path / 'other.npy', (6, 8))


def test_weights_with_the_channels_last():
    model = torch.nn.Conv2d(3, 4, 3)
    values = model.weight.detach().clone()
    assert not model.weight.is_contiguous(memory_format=torch.channels_last)
    ChannelsLastHook().before_train(SimpleNamespace(model=model))
    assert model.weight.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(model.weight, values)
