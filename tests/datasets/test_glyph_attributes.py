"""The attributes of the built-in glyphs."""

import numpy as np
import pytest

from frlr_mm.datasets import GlyphAttributes, GlyphDataset
from frlr_mm.datasets._multi_label import checksum_split
from frlr_mm.datasets.glyphs._attributes import (
    MIN_CHARACTERS,
    attribute_names,
    attribute_types,
)
from frlr_mm.datasets.glyphs._drawing import render_glyph
from frlr_mm.datasets.glyphs._faces import TEST_FACES, TRAIN_FACES, builtin_font, glyph_characters

FACES = (*TRAIN_FACES, *TEST_FACES)


@pytest.fixture(scope='module')
def datasets(tmp_path_factory):
    root = str(tmp_path_factory.mktemp('glyphs'))
    return {
        split: GlyphAttributes(split, samples_per_face=1, data_root=root)
        for split in ('val', 'test')
    }


@pytest.mark.parametrize(
    ('character', 'face', 'expected'),
    [
        ('A', 'DejaVuSans', {'Latin', 'uppercase'}),
        ('é', 'DejaVuSans-Bold', {'Latin', 'lowercase', 'acute accent', 'bold'}),
        # two marks at once
        ('ấ', 'DejaVuSerif', {'Latin', 'lowercase', 'circumflex accent', 'acute accent', 'serif'}),
        (
            'Ἄ',
            'DejaVuSansMono-BoldOblique',
            {'Greek', 'uppercase', 'comma above', 'acute accent', 'bold', 'slanted', 'monospaced'},
        ),
        (
            'Й',
            'DejaVuSerif-BoldItalic',
            {'Cyrillic', 'uppercase', 'breve', 'bold', 'slanted', 'serif'},
        ),
        ('\u01c5', 'DejaVuSans', {'Latin', 'Lt'}),
        ('⅓', 'DejaVuSans-Oblique', {'No', 'slanted'}),
        ('∞', 'DejaVuSansMono', {'Sm', 'monospaced'}),
        ('7', 'DejaVuSans', {'Nd'}),
        # for private use: without a name
        ('\ue000', 'kanji-Bold', {'Co', 'bold'}),
    ],
)
def test_names(character, face, expected):
    assert attribute_names(character, face) == expected


def test_types():
    types = attribute_types(glyph_characters())
    assert len(types) == 35
    of_type = {kind: [n for n, k in types.items() if k == kind] for kind in types.values()}
    assert of_type['script'] == ['Armenian', 'Cyrillic', 'Georgian', 'Greek', 'Latin']
    assert of_type['case'] == ['lowercase', 'uppercase']
    assert of_type['category'] == ['Lm', 'Lt', 'Mn', 'No', 'Po', 'Sk', 'Sm', 'So']
    assert len(of_type['diacritic']) == 16
    assert of_type['face'] == ['bold', 'slanted', 'serif', 'monospaced']
    assert list(of_type) == ['script', 'case', 'category', 'diacritic', 'face']


def test_rare_attributes_are_left_out():
    characters = ['é'] * (MIN_CHARACTERS - 1) + ['ñ'] * MIN_CHARACTERS
    assert set(attribute_types(characters)) == {
        'Latin',
        'lowercase',
        'tilde',
        'bold',
        'slanted',
        'serif',
        'monospaced',
    }


def test_splits_share_no_character_and_leave_none_out():
    splits = {
        split: [c for c in glyph_characters() if checksum_split(c) == split]
        for split in ('train', 'val', 'test')
    }
    assert {split: len(c) for split, c in splits.items()} == dict(train=1521, val=213, test=428)
    assert sorted(c for part in splits.values() for c in part) == sorted(glyph_characters())


def test_data_set(datasets):
    dataset = datasets['val']
    types = attribute_types(glyph_characters())
    assert dataset.metainfo['classes'] == tuple(types)
    assert dataset.metainfo['attribute_types'] == tuple(types.values())
    assert len(dataset) == 213 * 12
    assert dataset.faces == FACES
    for i in (0, 700, 2555):
        info = dataset.get_data_info(i)
        character, face = dataset.characters[i // 12], FACES[i % 12]
        assert info['face'] == face
        assert info['img'].shape == (32, 32, 3)
        assert info['gt_score'].dtype == np.float32
        found = {name for name, value in zip(types, info['gt_score']) if value == 1}
        assert found == attribute_names(character, face) & set(types)
        assert set(info['gt_score']) <= {0.0, 1.0}


def test_every_attribute_has_positives_and_negatives(datasets):
    for dataset in datasets.values():
        scores = [dataset.get_data_info(i)['gt_score'] for i in range(len(dataset))]
        positives = np.sum(scores, 0)
        assert (positives >= 12).all()
        assert (positives < len(dataset) - 12).all()


def test_images_are_those_of_the_published_results(datasets):
    for split, dataset in datasets.items():
        count = dict(val=213, test=428)[split]
        assert dataset.cache_file.name == f'attributes-{split}-{count}x1-seed0-v1.npy'
        # The third stream of random numbers, in which the splits share no character.
        rng = np.random.default_rng((0, 2, 3, ord(dataset.characters[8])))
        drawn = render_glyph(dataset.characters[8], builtin_font(FACES[3]).open(40), rng)
        np.testing.assert_array_equal(dataset.get_data_info(8 * 12 + 3)['img'][..., 0], drawn)


def test_takes_no_notice_of_the_number_of_classes(datasets):
    dataset = datasets['val']
    built = GlyphDataset('val', 2, 1, task='attributes', data_root=dataset.data_root)
    assert type(built) is GlyphAttributes and len(built) == len(dataset)
    assert built.cache_file == dataset.cache_file


def test_refuses_a_bad_split():
    with pytest.raises(ValueError, match=r"`split` .*'val', 'test'\), but got 'dev'"):
        GlyphAttributes('dev')
