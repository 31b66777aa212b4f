"""The data sets inside the wrappers of mmengine and mmpretrain."""

import copy
from collections import Counter

import numpy as np
import pytest
from mmengine.registry import DATASETS, init_default_scope

from frlr_mm.datasets.label_counts import count_labels
from tests.support import deepfashion_layout, reid_layouts
from tests.support.fashion_layout import write_fashion
from tests.support.omniglot_layout import write_omniglot
from tests.support.tiny_imagenet_layout import write_tiny_imagenet

REID = dict(Market1501='market1501', DukeMTMCreID='dukemtmc', MSMT17='msmt17', CUHK03NP='cuhk03np')
GLYPHS = dict(samples_per_face=2, split='train')
# The arguments of each data set that trains, but for `data_root`.
DATA_SETS = {name: dict(type=name, split='train') for name in REID} | {
    'coarse': dict(type='DeepFashionAttribute', split='train'),
    'fine': dict(type='DeepFashionAttribute', split='train', annotation='fine'),
    'TinyImageNet': dict(type='TinyImageNet', split='train'),
    'Omniglot': dict(type='Omniglot', drawers=[1, 2, 3]),
    'OmniglotReID': dict(type='OmniglotReID', split='train'),
    'FashionProducts': dict(type='FashionProducts', split='train'),
    'GlyphCategories': dict(type='GlyphCategories', num_classes=3, **GLYPHS),
    'GlyphReID': dict(type='GlyphReID', num_classes=3, **GLYPHS),
    'GlyphAttributes': dict(
        type='GlyphAttributes', split='val', samples_per_face=1, characters='0123456789AÄaäĐđßñçé'
    ),
}


@pytest.fixture(scope='module')
def data_roots(tmp_path_factory):
    """Return the folder of each data set, in its official layout."""
    root = tmp_path_factory.mktemp('data')
    roots = {}
    for name, writer in REID.items():
        roots[name] = root / name
        reid_layouts.WRITERS[writer](roots[name])
    roots['coarse'] = root / 'coarse'
    deepfashion_layout.write_coarse(roots['coarse'], deepfashion_layout.make_labels(24))
    roots['fine'] = root / 'fine'
    labels = deepfashion_layout.make_labels(24, values=(1, 0))
    deepfashion_layout.write_fine(roots['fine'], labels)
    roots['TinyImageNet'] = root / 'tiny'
    roots['TinyImageNet'].mkdir()
    write_tiny_imagenet(roots['TinyImageNet'])
    roots['Omniglot'] = roots['OmniglotReID'] = root / 'omniglot'
    write_omniglot(root / 'omniglot', size=8)
    roots['FashionProducts'] = root / 'fashion'
    roots['FashionProducts'].mkdir()
    write_fashion(roots['FashionProducts'])
    return {name: str(roots.get(name, root / 'glyphs')) for name in DATA_SETS}


@pytest.fixture(params=DATA_SETS)
def config(request, data_roots):
    init_default_scope('mmpretrain')
    return dict(DATA_SETS[request.param], data_root=data_roots[request.param], pipeline=[])


def build(**config):
    return DATASETS.build(copy.deepcopy(config))


def labels_of(info):
    if 'gt_score' in info:
        return tuple(info['gt_score'].tolist())
    return info['gt_label']


def positives_of(info):
    if 'gt_score' in info:
        return np.flatnonzero(info['gt_score'] == 1).tolist()
    return [info['gt_label']]


def test_category_ids_are_the_positive_labels(config):
    dataset = build(**config)
    for i in range(len(dataset)):
        assert sorted(dataset.get_cat_ids(i)) == positives_of(dataset[i])


def test_class_balanced(config):
    dataset = build(**config)
    wrapped = build(type='ClassBalancedDataset', dataset=config, oversample_thr=1.0)
    expected = []
    frequency = Counter(c for i in range(len(dataset)) for c in set(positives_of(dataset[i])))
    for i in range(len(dataset)):
        rarest = min((frequency[c] for c in positives_of(dataset[i])), default=len(dataset))
        expected += [i] * int(np.ceil((len(dataset) / rarest) ** 0.5))
    assert len(expected) > len(dataset)
    found = [labels_of(wrapped[i]) for i in range(len(wrapped))]
    assert found == [labels_of(dataset[i]) for i in expected]
    # What reads labels alone reads them through the wrapper, too.
    counts = count_labels(wrapped, len(dataset.CLASSES))
    repeated = Counter(c for i in expected for c in positives_of(dataset[i]))
    assert counts.positive.tolist() == [repeated[c] for c in range(len(dataset.CLASSES))]


@pytest.mark.parametrize('seed', [None, 0])
def test_folds_are_the_data_set(config, seed):
    dataset = build(**config)
    whole = Counter(labels_of(dataset[i]) for i in range(len(dataset)))
    parts = [
        build(type='KFoldDataset', dataset=config, num_splits=2, seed=seed, test_mode=test_mode)
        for test_mode in (False, True)
    ]
    found = Counter(labels_of(part[i]) for part in parts for i in range(len(part)))
    assert found == whole and all(len(part) for part in parts)
    assert all(part.CLASSES == dataset.CLASSES for part in parts)
    assert all(positives_of(part[0]) == sorted(part.get_cat_ids(0)) for part in parts)


def test_folds_share_nothing_that_was_copied(config):
    """What mmengine has copied once it would find again, by an address that may be another's."""
    dataset = build(**config)
    one, other = dataset.get_subset([0]), dataset.get_subset([1])
    assert one.pipeline is not other.pipeline
    assert one._metainfo is not other._metainfo
    assert one.metainfo == other.metainfo == dataset.metainfo


def test_repeated_and_concatenated(config):
    dataset = build(**config)
    expected = 2 * [labels_of(dataset[i]) for i in range(len(dataset))]
    for wrapped in (
        build(type='RepeatDataset', dataset=config, times=2),
        build(type='ConcatDataset', datasets=[config, config]),
    ):
        assert [labels_of(wrapped[i]) for i in range(len(wrapped))] == expected
        assert [labels_of(wrapped.get_data_info(i)) for i in range(len(wrapped))] == expected
        assert wrapped.metainfo == dataset.metainfo


def test_balanced_fold(config):
    fold = dict(type='KFoldDataset', dataset=config, num_splits=2)
    wrapped = build(type='ClassBalancedDataset', dataset=fold, oversample_thr=0.5)
    assert {labels_of(wrapped[i]) for i in range(len(wrapped))} == {
        labels_of(info) for info in map(build(**fold).__getitem__, range(len(wrapped.dataset)))
    }
