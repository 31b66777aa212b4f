"""Glyphs for identification: a character is a person, and a face is a camera."""

from collections import Counter

import numpy as np
import pytest

from frlr_mm.datasets import GlyphDataset
from frlr_mm.datasets.glyphs._faces import TEST_FACES, TRAIN_FACES, glyph_characters


@pytest.fixture(scope='module')
def load(tmp_path_factory):
    data_root = str(tmp_path_factory.mktemp('glyphs'))

    def load(split, **kwargs):
        settings = dict(num_classes=5, task='identification') | kwargs
        return GlyphDataset(split, data_root=data_root, **settings)

    return load


def infos(dataset):
    return [dataset.get_data_info(i) for i in range(len(dataset))]


def test_persons_to_find_are_none_of_those_trained_on(load):
    train, test = load('train').metainfo['classes'], load('test').metainfo['classes']
    assert train == glyph_characters()[:10:2]
    assert test == glyph_characters()[1:10:2]
    assert not set(train) & set(test)


def test_each_face_is_a_camera(load):
    for split, faces in (('train', TRAIN_FACES), ('test', TEST_FACES)):
        cameras = {(info['face'], info['camera_id']) for info in infos(load(split))}
        assert cameras == {(face, i) for i, face in enumerate(faces)}
    counts = Counter((info['gt_label'], info['camera_id']) for info in infos(load('train')))
    assert counts == {(label, camera): 3 for label in range(5) for camera in range(9)}


@pytest.mark.parametrize('samples_per_face', [2, 3])
def test_each_query_has_matches_by_other_cameras(load, samples_per_face):
    query = infos(load('query', samples_per_face=samples_per_face))
    gallery = infos(load('gallery', samples_per_face=samples_per_face))
    assert Counter((info['gt_label'], info['camera_id']) for info in query) == {
        (label, camera): 1 for label in range(5) for camera in range(3)
    }
    for info in query:
        matches = [
            other
            for other in gallery
            if other['gt_label'] == info['gt_label'] and other['camera_id'] != info['camera_id']
        ]
        assert len(matches) == 2 * (samples_per_face - 1)
    images = {info['img'].tobytes() for info in gallery}
    assert all(info['img'].tobytes() not in images for info in query)


def test_test_is_queries_then_gallery(load):
    test = infos(load('test'))
    parts = infos(load('query')) + infos(load('gallery'))
    assert len(test) == len(parts) == 5 * 3 * 3
    for one, other in zip(test, parts, strict=True):
        assert one['is_query'] == other['is_query'] == (one['sample_idx'] < 15)
        assert one['gt_label'] == other['gt_label']
        np.testing.assert_array_equal(one['img'], other['img'])


@pytest.mark.parametrize(
    ('split', 'arguments', 'message'),
    [
        ('val', {}, "`split` to be one of .*'gallery'.* but got 'val'"),
        ('query', dict(task='categories'), r"`split` to be one of \('train', 'test'\), but got"),
        (
            'train',
            dict(num_classes=1082),
            r'`num_classes` to be an int in \[2, 1081\], but got 1082',
        ),
        ('test', dict(samples_per_face=1), r'`samples_per_face` to be an int in \[2, inf\]'),
    ],
)
def test_bad_argument_is_named(load, split, arguments, message):
    with pytest.raises(ValueError, match=message):
        load(split, **arguments)
