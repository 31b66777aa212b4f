"""GlyphDataset: what it gives, and its built-in fonts."""

import shutil

import matplotlib
import numpy as np
import pytest
import torch
from mmengine.dataset import default_collate
from mmpretrain.registry import DATASETS
from mmpretrain.structures import DataSample
from torch.utils.data import DataLoader

from frlr_mm.datasets import BaseGlyphDataset, GlyphAttributes, GlyphCategories, GlyphReID
from frlr_mm.datasets.glyphs._drawing import render_glyph
from frlr_mm.datasets.glyphs._faces import TEST_FACES, TRAIN_FACES, builtin_font, glyph_characters
from tests.support.glyph_cases import images, load

PIPELINE = [dict(type='RandomCrop', crop_size=32, padding=2), dict(type='PackInputs')]


@pytest.fixture(scope='module')
def data_root(tmp_path_factory):
    """A folder that tests which do not look at the cache share."""
    return str(tmp_path_factory.mktemp('glyphs'))


def test_characters():
    characters = glyph_characters()
    assert len(characters) == len(set(characters)) == 2162
    assert list(characters) == sorted(characters)
    assert ''.join(characters[:5]) == '!"#$%'
    # One of those that look the same stays: Latin A, neither Greek nor Cyrillic.
    assert 'A' in characters and not {'\u0391', '\u0410'} & set(characters)
    assert not [character for character in characters if character.isspace()]


def test_faces_of_the_splits_are_disjoint():
    assert len(TRAIN_FACES) == 9 and len(TEST_FACES) == 3
    assert not set(TRAIN_FACES) & set(TEST_FACES)
    assert len({*TRAIN_FACES.values(), *TEST_FACES.values()}) == 12


@pytest.mark.parametrize(('split', 'faces'), [('train', TRAIN_FACES), ('test', TEST_FACES)])
def test_items(data_root, split, faces):
    dataset = load(data_root, split)
    assert len(dataset) == 4 * len(faces) * 2
    assert glyph_characters()[:4] == dataset.CLASSES
    for item in dataset:
        assert item['img'].shape == (32, 32, 3) and item['img'].dtype == np.uint8
        assert (item['img'] == item['img'][..., :1]).all()
        assert item['img'].max() > 100 and (item['img'] == 0).any()  # white on black
        assert type(item['gt_label']) is int
    assert dataset.get_gt_labels().tolist() == sorted(list(range(4)) * len(faces) * 2)
    assert [dataset[i]['face'] for i in range(0, 2 * len(faces), 2)] == list(faces)


def test_images_of_a_character_differ(data_root):
    dataset = load(data_root)
    assert len(np.unique(images(dataset), axis=0)) == len(dataset)


class NoChange:
    """A generator of the middle of each range: no shift and no rotation."""

    def uniform(self, low, high, size=None):
        return np.full(size or (), (low + high) / 2)


def test_image_shows_its_character(data_root):
    """Capital letters look on average most like their own undistorted glyphs (T a little as J)."""
    dataset = load(data_root, num_classes=60, samples_per_face=4)
    letters = [i for i, character in enumerate(dataset.CLASSES) if 'A' <= character <= 'Z']
    assert len(letters) == 26
    means = images(dataset)[..., 0].reshape(60, -1, 32 * 32).mean(1)[letters]
    fonts = [builtin_font(face).open(40) for face in TRAIN_FACES]
    plain = np.stack(
        [
            np.mean([render_glyph(dataset.CLASSES[i], font, NoChange()) for font in fonts], axis=0)
            for i in letters
        ]
    ).reshape(26, -1)
    cosine = (means @ plain.T) / np.outer(*(np.linalg.norm(x, axis=1) for x in (means, plain)))
    assert (cosine.argmax(1) == np.arange(26)).sum() >= 24


def test_depends_on_the_seed_alone(tmp_path):
    first, again, other = (
        images(load(tmp_path / name, seed=seed)) for name, seed in (('a', 0), ('b', 0), ('a', 1))
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_first_classes_and_samples_stay_the_same(data_root):
    few, more = load(data_root), load(data_root, num_classes=7, samples_per_face=3)
    assert more.CLASSES[:4] == few.CLASSES
    few, more = images(few).reshape(4, 9, 2, -1), images(more).reshape(7, 9, 3, -1)
    assert np.array_equal(more[:4, :, :2], few)


# Of each data set: how to build it, its cache, its stream of random numbers, and its characters.
BUILT_IN = {
    'train': (dict(split='train'), 'train-4x2-seed5-v1.npy', 1, slice(4)),
    'test': (dict(split='test'), 'test-4x2-seed5-v1.npy', 0, slice(4)),
    'reid train': (
        dict(split='train', task='identification'),
        'identification-train-4x2-seed5-v1.npy',
        1,
        slice(0, 8, 2),
    ),
    'reid gallery': (
        dict(split='gallery', task='identification'),
        'identification-test-4x2-seed5-v1.npy',
        0,
        slice(1, 8, 2),
    ),
}


@pytest.mark.parametrize('name', BUILT_IN)
def test_images_and_caches_are_those_of_the_published_results(data_root, name):
    arguments, cache, stream, chosen = BUILT_IN[name]
    faces = TRAIN_FACES if arguments['split'] == 'train' else TEST_FACES
    dataset = load(data_root, seed=5, **arguments)
    assert dataset.cache_file.name == cache
    expected = []
    for character in glyph_characters()[chosen]:
        for i, face in enumerate(faces):
            rng = np.random.default_rng((5, stream, i, ord(character)))
            drawn = [render_glyph(character, builtin_font(face).open(40), rng) for _ in range(2)]
            expected += drawn[1:] if arguments['split'] == 'gallery' else drawn
    np.testing.assert_array_equal(images(dataset)[..., 0], expected)


@pytest.mark.parametrize(
    ('task', 'dataset_type'),
    [
        ('categories', GlyphCategories),
        ('identification', GlyphReID),
        ('attributes', GlyphAttributes),
    ],
)
def test_each_task_has_a_class(data_root, task, dataset_type):
    dataset = load(data_root, task=task, lazy_init=True)
    assert type(dataset) is dataset_type and isinstance(dataset, BaseGlyphDataset)
    assert repr(dataset).startswith(f'Dataset {dataset_type.__name__}')
    assert DATASETS.get(dataset_type.__name__) is dataset_type


@pytest.fixture
def fonts(tmp_path, monkeypatch):
    """A copy of matplotlib's fonts in use; the folder of the files."""
    folder = tmp_path / 'mpl-data' / 'fonts' / 'ttf'
    folder.mkdir(parents=True)
    for face in (*TRAIN_FACES, *TEST_FACES):
        shutil.copy(builtin_font(face).path, folder)
    monkeypatch.setattr(matplotlib, 'get_data_path', lambda: str(tmp_path / 'mpl-data'))
    glyph_characters.cache_clear()
    yield folder
    glyph_characters.cache_clear()


def test_missing_font(fonts, tmp_path):
    file = fonts / 'DejaVuSerif.ttf'
    file.unlink()
    with pytest.raises(FileNotFoundError, match=f'{file} is missing; reinstall matplotlib'):
        load(tmp_path, 'test')


def test_changed_font(fonts, tmp_path):
    file = fonts / 'DejaVuSans-BoldOblique.ttf'
    file.write_bytes(file.read_bytes() + b'\0')
    with pytest.raises(ValueError, match=f'{file}.*SHA-256.*6edf0283160186af, but got [0-9a-f]+'):
        load(tmp_path)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(split='val'), r"`split`.*\('train', 'test'\).*'val'"),
        (dict(num_classes=1), r'`num_classes`.*\[2, 2162\].*1'),
        (dict(num_classes=2163), r'`num_classes`.*\[2, 2162\].*2163'),
        (dict(num_classes=10.0), r'`num_classes`.*10\.0'),
        (dict(task='tags'), "`task` to be one of .*, but got 'tags'"),
        (dict(samples_per_face=0), '`samples_per_face`.*0'),
        (dict(samples_per_face=True), '`samples_per_face`.*True'),
        (dict(seed=-1), '`seed`.*-1'),
        (dict(seed='0'), "`seed`.*'0'"),
        (dict(faces=[]), r'`faces`.*DejaVuSans.*\(\)'),
        (dict(faces=['DejaVuSans-BoldOblique']), '`faces`.*BoldOblique'),
    ],
)
def test_bad_argument(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        load(tmp_path, **changes)
    assert not list(tmp_path.iterdir())


def test_built_by_config_through_a_stock_pipeline(data_root):
    dataset = DATASETS.build(
        dict(
            type='GlyphDataset',
            split='train',
            num_classes=4,
            samples_per_face=2,
            data_root=data_root,
            pipeline=PIPELINE,
        )
    )
    batch = default_collate([dataset[i] for i in (0, 30, 71)])
    assert batch['inputs'].shape == (3, 3, 32, 32) and batch['inputs'].dtype == torch.uint8
    assert all(isinstance(sample, DataSample) for sample in batch['data_samples'])
    assert [sample.gt_label.item() for sample in batch['data_samples']] == [0, 1, 3]
    assert batch['data_samples'][0].img_shape[:2] == (32, 32)


def test_dataloader_workers(data_root):
    dataset = load(data_root, pipeline=[dict(type='PackInputs')])
    loader = DataLoader(dataset, batch_size=16, num_workers=1, collate_fn=default_collate)
    batches = list(loader)
    inputs = torch.cat([batch['inputs'] for batch in batches])
    expected = torch.from_numpy(images(load(data_root))).permute(0, 3, 1, 2)
    assert torch.equal(inputs, expected)
    labels = [sample.gt_label.item() for batch in batches for sample in batch['data_samples']]
    assert labels == dataset.get_gt_labels().tolist()


def test_items_are_copies(data_root):
    dataset = load(data_root)
    dataset[0]['img'][:] = 7
    assert (dataset[0]['img'] != 7).any()


def test_base_arguments(data_root):
    dataset = load(data_root, indices=5, metainfo=dict(note='x'), lazy_init=True)
    assert dataset.metainfo['note'] == 'x' and glyph_characters()[:4] == dataset.CLASSES
    dataset.full_init()
    assert len(dataset) == 5


def test_keeps_the_named_faces(data_root):
    names = ['DejaVuSerif', 'DejaVuSans-Bold']
    whole, kept = load(data_root), load(data_root, faces=names)
    chosen = [item['face'] in names for item in whole]
    assert sum(chosen) == len(kept) == 4 * 2 * 2
    np.testing.assert_array_equal(images(kept), images(whole)[chosen])
    assert kept.cache_file == whole.cache_file and '(2 faces)' in repr(kept)


def test_repr(data_root):
    text = repr(load(data_root, 'test'))
    assert 'test (3 faces)' in text and str(load(data_root, 'test').cache_file) in text


def test_progress_bar_only_where_it_takes_long(tmp_path, monkeypatch, capsys):
    load(tmp_path / 'quick')
    assert 'Rendering' not in capsys.readouterr().out
    clock = iter(range(10**6))
    monkeypatch.setattr('frlr_mm.datasets.glyphs.base.time.monotonic', lambda: next(clock))
    load(tmp_path / 'slow')
    assert 'Rendering 72 glyphs' in capsys.readouterr().out
