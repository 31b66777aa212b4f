"""DeepFashion attributes, from files in the official layout that the tests write."""

import pickle

import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, MODELS, DefaultScope
from mmpretrain.models import ClsDataPreprocessor
from torch import nn

from frlr_mm.datasets import CropBBox, DeepFashionAttribute, _deepfashion_files
from frlr_mm.datasets._deepfashion_files import read_labels
from tests.support.deepfashion_layout import (
    image_names,
    make_labels,
    write_coarse,
    write_fine,
    write_images,
)


@pytest.fixture
def labels():
    return make_labels()


@pytest.fixture
def root(tmp_path, labels):
    write_coarse(tmp_path, labels)
    return tmp_path


def replace(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def expected_score(row):
    return np.select([row == 1, row == 0], [1, -1], 0).astype(np.float32)


@pytest.mark.parametrize(
    ('split', 'first', 'serialize_data'),
    [('train', 0, True), ('val', 1, False), ('test', 2, True)],
)
def test_coarse_labels(root, labels, split, first, serialize_data):
    dataset = DeepFashionAttribute(str(root), split, serialize_data=serialize_data)
    names = image_names(len(labels))[first::3]
    assert len(dataset) == 4
    for i, (name, row) in enumerate(zip(names, labels[first::3])):
        info = dataset.get_data_info(i)
        assert info['img_path'] == f'{root}/Img/{name}'
        assert info['gt_label'] == np.flatnonzero(row == 1).tolist() == dataset.get_cat_ids(i)
        assert info['gt_score'].dtype == np.float32
        np.testing.assert_array_equal(info['gt_score'], expected_score(row))
        assert set(info) == {'img_path', 'gt_label', 'gt_score', 'sample_idx'}


def test_names_with_spaces_and_the_row_without_the_wide_separator(root):
    dataset = DeepFashionAttribute(str(root), 'train')
    assert dataset.metainfo['classes'] == (
        *(f'abstract print {i}' for i in range(6)),
        'shiny knit',
    )
    assert dataset.metainfo['attribute_types'] == (
        'texture',
        'fabric',
        'shape',
        'part',
        'style',
        'texture',
        'shape',
    )


def test_older_layout(tmp_path, labels):
    write_coarse(tmp_path, labels, folder='Anno')
    assert len(DeepFashionAttribute(str(tmp_path), 'train')) == 4


def test_unknown_as_negative(root, labels):
    dataset = DeepFashionAttribute(str(root), 'train', unknown='negative')
    for i, row in enumerate(labels[::3]):
        np.testing.assert_array_equal(dataset.get_data_info(i)['gt_score'], row == 1)


def test_rows_are_joined_by_name_not_by_order(root, labels):
    path = root / 'Anno_coarse' / 'list_attr_img.txt'
    count, columns, *rows = path.read_text().splitlines()
    path.write_text('\n'.join([count, columns, *rows[::-1]]) + '\n')
    dataset = DeepFashionAttribute(str(root), 'train')
    for i, row in enumerate(labels[::3]):
        np.testing.assert_array_equal(dataset.get_data_info(i)['gt_score'], expected_score(row))


@pytest.mark.parametrize('chunk', [1, 1 << 20])
def test_pieces_of_any_size_and_other_spaces(root, labels, chunk, monkeypatch):
    monkeypatch.setattr(_deepfashion_files, '_CHUNK_BYTES', chunk)
    for path in root.rglob('*.txt'):
        # A blank line among the rows: where line 1 counts them, they are known by their names.
        header, rows = path.read_text().split('\n')[:2], path.read_text().split('\n')[2:]
        rows = [row.replace(' 1 ', '\t1 ') for row in rows]
        path.write_text('\n'.join([*header, *rows[:3], ' ', *rows[3:], '  ', '']))
    dataset = DeepFashionAttribute(str(root), 'test', with_bbox=True)
    assert len(dataset) == 4
    for i, row in enumerate(labels[2::3]):
        np.testing.assert_array_equal(dataset.get_data_info(i)['gt_score'], expected_score(row))


def test_boxes(root):
    dataset = DeepFashionAttribute(str(root), 'val', with_bbox=True)
    assert [dataset.get_data_info(i)['bbox'] for i in range(2)] == [[3, 3, 20, 32], [6, 3, 20, 35]]


def test_fine(tmp_path):
    labels = make_labels(values=(1, 0))
    names = write_fine(tmp_path, labels)
    dataset = DeepFashionAttribute(str(tmp_path), 'val', annotation='fine', with_bbox=True)
    assert len(dataset) == 12
    for i, (name, row) in enumerate(zip(names, labels)):
        info = dataset.get_data_info(i)
        assert info['img_path'] == f'{tmp_path}/Img/{name}'
        assert info['bbox'] == [5, 3, 20, 31]
        np.testing.assert_array_equal(info['gt_score'], row)
    assert dataset.metainfo['attribute_types'] == (
        'texture',
        'sleeve',
        'length',
        'neckline',
        'fabric',
        'fit',
        'texture',
    )


def test_survives_pickling_and_subsets(root, labels):
    dataset = pickle.loads(pickle.dumps(DeepFashionAttribute(str(root), 'train')))
    subset = dataset.get_subset([3, 1])
    np.testing.assert_array_equal(subset.get_data_info(0)['gt_score'], expected_score(labels[9]))


def test_stock_pipeline_carries_unknown_labels_to_the_loss(tmp_path):
    labels = make_labels()
    labels[0] = -1  # no positive at all
    write_images(tmp_path, write_coarse(tmp_path, labels))
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        dataset = DATASETS.build(
            dict(
                type='DeepFashionAttribute',
                data_root=str(tmp_path),
                split='train',
                with_bbox=True,
                pipeline=[
                    dict(type='LoadImageFromFile'),
                    dict(type='CropBBox'),
                    dict(type='Resize', scale=(8, 8)),
                    dict(type='PackInputs'),
                ],
            )
        )
        batch = ClsDataPreprocessor(num_classes=7)(pseudo_collate([dataset[i] for i in range(4)]))
        head = MODELS.build(
            dict(
                type='MultiLabelLinearClsHead',
                num_classes=7,
                in_channels=2,
                loss=dict(type='HSLRLoss'),
            )
        )
    calls = []
    head.loss_module.register_forward_pre_hook(lambda _, args: calls.append(args[1]))
    head.loss((torch.ones(4, 2),), batch['data_samples'])['loss'].backward()
    np.testing.assert_array_equal(calls[0], np.stack([expected_score(r) for r in labels[::3]]))
    assert batch['inputs'].shape == (4, 3, 8, 8)


def test_stock_losses_are_wrong_on_unknown_labels():
    # Why there is `unknown='negative'`: the loss of an unknown label has no lower bound.
    score, target = torch.tensor([[9.0]]), torch.tensor([[-1.0]])
    assert nn.functional.binary_cross_entropy_with_logits(score, target) > 17


@pytest.mark.parametrize(('box', 'size'), [([3, 2, 10, 5], (4, 8)), ([3, 2, 90, 90], (38, 27))])
def test_crop(box, size):
    img = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    found = CropBBox()(dict(img=img, bbox=box))
    assert found['img_shape'] == found['img'].shape[:2] == size
    np.testing.assert_array_equal(
        found['img'], img[2 : 6 if size[0] == 4 else None, 3 : 3 + size[1]]
    )


def test_crop_refuses_a_box_outside_of_the_image_and_none():
    img = np.zeros((40, 30, 3), np.uint8)
    with pytest.raises(ValueError, match='30 x 40'):
        CropBBox()(dict(img=img, bbox=[30, 2, 40, 5]))
    with pytest.raises(KeyError, match='with_bbox'):
        CropBBox()(dict(img=img))


def test_labels_of_more_attributes_than_int16_counts(tmp_path):
    num_attributes = 100_000
    path = tmp_path / 'labels.txt'
    path.write_text(
        '2\nimage  labels\na ' + '1 ' * num_attributes + '\nb ' + '0 ' * num_attributes
    )
    rows = list(read_labels(path, num_attributes, has_names=True))
    everything = list(range(num_attributes))
    assert rows[0][2].tolist() == rows[1][3].tolist() == everything
    assert rows[0][3].size == rows[1][2].size == 0
