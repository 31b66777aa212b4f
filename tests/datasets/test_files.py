"""Annotation files and images are data: they lead nowhere else."""

import os
from pathlib import Path

import numpy as np
import pytest

from frlr_mm.datasets import CUHK03NP, MSMT17, DeepFashionAttribute, Market1501, TinyImageNet
from frlr_mm.datasets.files import check_image_name, read_lines, refuse_links_out
from tests.datasets.test_tiny_imagenet import write_tiny_imagenet
from tests.support.deepfashion_layout import write_coarse, write_fine, write_images
from tests.support.reid_layouts import write_cuhk03np, write_market1501, write_msmt17


def write_deepfashion(root):
    labels = np.random.default_rng(0).choice([1, -1], (6, 3))
    write_images(root, write_coarse(root, labels))
    write_fine(root, (labels > 0).astype(int))


# How to write a data set, how to read it, and one of its images.
DATASETS = {
    'deepfashion': (
        write_deepfashion,
        lambda root, **kwargs: DeepFashionAttribute(root, 'train', **kwargs),
        'Img/img/Sheer_Pleated-Front_Blouse/img_00000001.jpg',
    ),
    'deepfashion-fine': (
        write_deepfashion,
        lambda root, **kwargs: DeepFashionAttribute(root, 'val', 'fine', **kwargs),
        'Img/img/Striped_Dress/img_00000002.jpg',
    ),
    'market1501': (
        write_market1501,
        lambda root, **kwargs: Market1501('train', root, **kwargs),
        'bounding_box_train/0002_c1s1_000451_03.jpg',
    ),
    'cuhk03np': (
        write_cuhk03np,
        lambda root, **kwargs: CUHK03NP('test', root, **kwargs),
        'detected/query/0001_c1_1.png',
    ),
    'msmt17': (
        write_msmt17,
        lambda root, **kwargs: MSMT17('query', root, **kwargs),
        'mask_test_v2/0003/0003_000_14_0302noon_0001_1.jpg',
    ),
    'tiny_imagenet-train': (
        write_tiny_imagenet,
        lambda root, **kwargs: TinyImageNet(root, 'train', **kwargs),
        'train/n01443537/images/n01443537_0.JPEG',
    ),
    'tiny_imagenet-val': (
        write_tiny_imagenet,
        lambda root, **kwargs: TinyImageNet(root, 'val', **kwargs),
        'val/images/val_0.JPEG',
    ),
}


@pytest.mark.parametrize('link', ['file', 'folder'])
@pytest.mark.parametrize('name', DATASETS)
def test_links_out_of_the_data_set(tmp_path, name, link):
    write, read, image = DATASETS[name]
    # Spaces, letters that are not ASCII, and a link to the data set itself are all fine.
    root, secret = tmp_path / 'dâta sét 数据', tmp_path / 'secret'
    root.mkdir()
    write(root)
    linked = tmp_path / 'linked'
    linked.symlink_to(root)
    expected = len(read(str(root)))
    assert len(read(str(linked))) == expected > 0

    moved = root / image if link == 'file' else (root / image).parent
    moved.rename(secret)
    moved.symlink_to(secret)
    for folder in (root, linked):
        with pytest.raises(ValueError, match=f'leads to {secret}.*`allow_links_out=True`'):
            read(str(folder))
        assert len(read(str(folder), allow_links_out=True)) == expected


def test_links_within_the_data_set_are_allowed(tmp_path):
    write_market1501(tmp_path)
    image = tmp_path / 'bounding_box_train/0002_c1s1_000451_03.jpg'
    kept = image.rename(tmp_path / 'kept.jpg')
    image.symlink_to(os.path.relpath(kept, image.parent))
    Market1501('train', str(tmp_path))


def test_prefix_of_the_config_may_be_elsewhere(tmp_path):
    root, images = tmp_path / 'root', tmp_path / 'images'
    root.mkdir()
    write_deepfashion(root)
    (root / 'Img').rename(images)
    assert len(DeepFashionAttribute(str(root), 'train', data_prefix=str(images))) == 2


def test_missing_images_are_no_links(tmp_path):
    (tmp_path / 'file').touch()
    refuse_links_out(str(tmp_path), [tmp_path / 'no' / 'a.jpg', tmp_path / 'file' / 'b.jpg'])


@pytest.mark.parametrize(
    'name', ['../a.jpg', 'img/../../a.jpg', '/etc/a.jpg', '..', 'a\\..\\b', 'a\0b', '\\\\host\\a']
)
def test_names_that_lead_elsewhere(name):
    with pytest.raises(ValueError, match=r'list\.txt:3: expected the name of an image'):
        check_image_name(Path('list.txt'), 3, name)


@pytest.mark.parametrize('name', ['img/a.jpg', 'a b/ü.jpg', 'a..b/c...jpg', './a.jpg'])
def test_names_that_stay(name):
    assert check_image_name(Path('list.txt'), 3, name) == name


def test_read_lines(tmp_path):
    path = tmp_path / 'list.txt'
    path.write_bytes('a\r\n\n  \nb\u2028c \x0b\n'.encode())
    assert read_lines(path) == [(1, 'a'), (4, 'b\u2028c')]
    assert read_lines(path, keep_blank=True)[1:3] == [(2, ''), (3, '')]
    path.write_bytes(b'a\nb\xff\n')
    with pytest.raises(ValueError, match=r'list\.txt:2: expected UTF-8'):
        read_lines(path)
