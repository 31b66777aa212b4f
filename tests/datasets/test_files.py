"""What all readers take alike, and the names of images that they refuse."""

import codecs
import re
from pathlib import Path

import numpy as np
import pytest

from frlr_mm.datasets import (
    CUHK03NP,
    MSMT17,
    DeepFashionAttribute,
    DukeMTMCreID,
    FashionProducts,
    Market1501,
    Omniglot,
    OmniglotReID,
    TinyImageNet,
)
from frlr_mm.datasets._files import check_image_name, list_images, read_lines
from tests.support import reid_layouts
from tests.support.deepfashion_layout import write_coarse, write_fine, write_images
from tests.support.fashion_layout import write_fashion
from tests.support.omniglot_layout import write_omniglot
from tests.support.tiny_imagenet_layout import write_tiny_imagenet


def write_deepfashion(root):
    labels = np.random.default_rng(0).choice([1, -1], (6, 3))
    write_images(root, write_coarse(root, labels))
    write_fine(root, (labels > 0).astype(int))


READERS = {
    'deepfashion': (
        write_deepfashion,
        lambda root, **kwargs: DeepFashionAttribute(root, 'train', with_bbox=True, **kwargs),
    ),
    'deepfashion-fine': (
        write_deepfashion,
        lambda root, **kwargs: DeepFashionAttribute(root, 'val', 'fine', with_bbox=True, **kwargs),
    ),
    'market1501': (
        reid_layouts.write_market1501,
        lambda root, **kwargs: Market1501('test', root, **kwargs),
    ),
    'dukemtmc': (
        reid_layouts.write_dukemtmc,
        lambda root, **kwargs: DukeMTMCreID('train', root, **kwargs),
    ),
    'cuhk03np': (
        reid_layouts.write_cuhk03np,
        lambda root, **kwargs: CUHK03NP('test', root, **kwargs),
    ),
    'msmt17': (
        reid_layouts.write_msmt17,
        lambda root, **kwargs: MSMT17('test', root, **kwargs),
    ),
    'tiny_imagenet-train': (
        write_tiny_imagenet,
        lambda root, **kwargs: TinyImageNet(root, 'train', **kwargs),
    ),
    'tiny_imagenet-val': (
        write_tiny_imagenet,
        lambda root, **kwargs: TinyImageNet(root, 'val', **kwargs),
    ),
    'omniglot': (write_omniglot, lambda root, **kwargs: Omniglot(root, **kwargs)),
    'omniglot-id': (
        write_omniglot,
        lambda root, **kwargs: OmniglotReID('test', root, **kwargs),
    ),
    'fashion_products': (
        write_fashion,
        lambda root, **kwargs: FashionProducts(root, 'train', **kwargs),
    ),
}
IMAGE_SUFFIXES = ('.jpg', '.png', '.JPEG')


def is_list(path):
    return path.suffix == '.txt' and path.name not in ('words.txt', 'LICENSE_DukeMTMC.txt')


def change_texts(root):
    """Let each list begin with a byte order mark and end its lines as Windows does."""
    for path in filter(is_list, list(root.rglob('*'))):
        text = path.read_bytes().replace(b'\n', b'\r\n')
        path.write_bytes(codecs.BOM_UTF8 + text + b'\r\n  \r\n')


def add_hidden_files(root):
    """Put beside each image what macOS leaves there, and another hidden file."""
    for path in list(root.rglob('*')):
        if path.suffix in IMAGE_SUFFIXES:
            for name in (f'._{path.name}', f'.{path.name}'):
                path.with_name(name).write_bytes(b'\0\5\x16\7')


def change_suffixes(root):
    """Change the case of all suffixes of images, in lists as well."""
    for path in list(root.rglob('*')):
        if path.suffix in IMAGE_SUFFIXES:
            path.rename(path.with_suffix(path.suffix.swapcase()))
        elif is_list(path):
            path.write_text(
                re.sub(r'\.(jpg|JPEG)\b', lambda match: match[0].swapcase(), path.read_text())
            )


def link_images_out(root):
    """Move each image out of the data set, and leave a link to it."""
    outside = root.with_name('outside')
    outside.mkdir()
    for i, path in enumerate(sorted(root.rglob('*'))):
        if path.suffix in IMAGE_SUFFIXES:
            path.symlink_to(path.rename(outside / f'{i}'))


@pytest.mark.parametrize(
    'change', [change_texts, add_hidden_files, change_suffixes, link_images_out]
)
@pytest.mark.parametrize('name', READERS)
def test_all_readers_take_alike(tmp_path, name, change):
    write, read = READERS[name]
    root = tmp_path / 'dâta sét 数据'  # other scripts and spaces as well
    root.mkdir()
    write(root)

    def items():
        dataset = read(str(root))
        infos = [dataset.get_data_info(i) for i in range(len(dataset))]
        return [
            {key: np.asarray(value).tolist() for key, value in info.items()}
            | dict(img_path=str(Path(info['img_path']).with_suffix('')))
            for info in infos
        ]

    before = items()
    change(root)
    assert items() == before != []


@pytest.mark.parametrize('name', READERS)
def test_links_are_not_looked_for(tmp_path, name):
    """The argument of earlier versions is an error that names it."""
    write, read = READERS[name]
    write(tmp_path)
    with pytest.raises(TypeError, match='allow_links_out'):
        read(str(tmp_path), allow_links_out=True)


# A list without a header, and whose rows are known by their place.
ALIGNED = {
    'persons': ('msmt17', 'list_query.txt'),
    'names': ('deepfashion-fine', 'Anno_fine/val.txt'),
    'labels': ('deepfashion-fine', 'Anno_fine/val_attr.txt'),
    'boxes': ('deepfashion-fine', 'Anno_fine/val_bbox.txt'),
    'classes': ('tiny_imagenet-val', 'wnids.txt'),
    'images': ('tiny_imagenet-val', 'val/val_annotations.txt'),
}


@pytest.mark.parametrize('name', ALIGNED)
def test_blank_line_in_the_middle_of_a_list_without_a_header(tmp_path, name):
    reader, file = ALIGNED[name]
    write, read = READERS[reader]
    write(tmp_path)
    path = tmp_path / file
    path.write_text(path.read_text().replace('\n', '\n \n', 1))
    with pytest.raises(ValueError, match=rf'{path.name}:2: |line 2 of .*{path.name} '):
        read(str(tmp_path))


def test_prefix_of_the_config_may_be_elsewhere(tmp_path):
    write_deepfashion(tmp_path)
    dataset = DeepFashionAttribute(str(tmp_path), 'train', data_prefix='/images')
    assert dataset.get_data_info(0)['img_path'].startswith('/images/img/')


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
    path.write_bytes('\ufeffa\r\n\n  \nb\u2028c \x0b\n\n\t'.encode())
    assert read_lines(path) == [(1, 'a'), (2, ''), (3, ''), (4, 'b\u2028c')]
    path.write_bytes(b'a\rb\nc')  # a carriage return alone ends no line
    assert read_lines(path) == [(1, 'a\rb'), (2, 'c')]
    path.write_bytes(b'a\nb\xff\n')
    with pytest.raises(ValueError, match=r'list\.txt:2: expected UTF-8'):
        read_lines(path)
    for blank in (b'', codecs.BOM_UTF8, b'\n \r\n'):
        path.write_bytes(blank)
        assert read_lines(path) == []


def test_list_images(tmp_path):
    for name in ('b.JPG', 'a.jpg', '.c.jpg', '._a.jpg', 'd.jpg.txt', 'Thumbs.db'):
        (tmp_path / name).touch()
    assert list_images(tmp_path, ['.jpg']) == ['a.jpg', 'b.JPG']
