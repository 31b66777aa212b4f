"""Tiny ImageNet, from a tree in the official layout that the tests write."""

import pytest
from mmpretrain.datasets import CustomDataset

from frlr_mm.datasets import TinyImageNet
from tests.support.tiny_imagenet_layout import WNIDS, write_tiny_imagenet


@pytest.fixture
def root(tmp_path):
    write_tiny_imagenet(tmp_path)
    return tmp_path


def items(dataset):
    infos = map(dataset.get_data_info, range(len(dataset)))
    return [(info['img_path'], info['gt_label']) for info in infos]


def test_train_agrees_with_the_stock_data_set_of_the_tree(root):
    ours = TinyImageNet(str(root), 'train')
    stock = CustomDataset(data_root=str(root), data_prefix='train', extensions=('.JPEG',))
    assert items(ours) == items(stock)
    assert ours.metainfo['classes'] == stock.metainfo['classes'] == tuple(sorted(WNIDS))
    assert len(ours) == 6


def test_val(root):
    dataset = TinyImageNet(str(root), 'val')
    labels = {wnid: i for i, wnid in enumerate(sorted(WNIDS))}
    assert items(dataset) == [
        (f'{root}/val/images/val_{i}.JPEG', labels[WNIDS[i % 3]]) for i in range(6)
    ]
    assert dataset.metainfo['classes'] == tuple(sorted(WNIDS))


def test_refuses_other_splits(root):
    with pytest.raises(ValueError, match="Expected `split` to be one of .* but got 'test'"):
        TinyImageNet(str(root), 'test')


@pytest.mark.parametrize(
    ('file', 'text', 'match'),
    [
        ('wnids.txt', 'n01443537\nfish\n', r"wnids.txt:2: .*'fish'"),
        ('wnids.txt', 'n01443537\nn01443537\n', r'wnids.txt:2: .*not there yet'),
        (
            'val/val_annotations.txt',
            'val_0.JPEG\tn02124075\t0\t32\t44\n',
            r':1: expected 6 columns',
        ),
        ('val/val_annotations.txt', 'val_0.JPEG\tn00000001\t0\t32\t44\t62\n', r':1: .*n00000001'),
        (
            'val/val_annotations.txt',
            'val_0.JPEG\tn02124075\t0\t32\t44\t62\n../a.JPEG\tn02124075\t0\t32\t44\t62\n',
            r':2: expected an image in .*got ../a.JPEG',
        ),
        (
            'val/val_annotations.txt',
            'val_0.JPEG\tn02124075\t0\t32\t44\t62\nval_0.JPEG\tn01443537\t0\t32\t44\t62\n',
            r'val_annotations.txt:2: the image val_0.JPEG is there twice',
        ),
    ],
)
def test_errors_name_file_and_line(root, file, text, match):
    (root / file).write_text(text)
    with pytest.raises(ValueError, match=match):
        TinyImageNet(str(root), 'val')


def test_class_without_images(root):
    for path in (root / 'train' / WNIDS[0] / 'images').iterdir():
        path.unlink()
    with pytest.raises(ValueError, match=f'{WNIDS[0]}/images'):
        TinyImageNet(str(root), 'train')


@pytest.mark.parametrize(
    ('missing', 'split'),
    [
        ('wnids.txt', 'train'),
        ('val/val_annotations.txt', 'val'),
        (f'train/{WNIDS[1]}', 'train'),
        ('val/images', 'val'),
    ],
)
def test_missing_file_or_folder(root, missing, split):
    (root / missing).rename(root / 'elsewhere')
    with pytest.raises(FileNotFoundError, match=missing):
        TinyImageNet(str(root), split)
