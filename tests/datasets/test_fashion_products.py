"""Fashion Product Images, from a folder in the official layout that the tests write."""

import zlib
from pathlib import Path

import numpy as np
import pytest

from frlr_mm.datasets import FashionProducts
from tests.support.fashion_layout import HEADER, row, write_fashion

CLASSES = (
    'masterCategory: Apparel',
    'subCategory: Topwear',
    'articleType: Shirts',
    'baseColour: Blue',
    'baseColour: White',
    'usage: Casual',
)


@pytest.fixture
def root(tmp_path):
    write_fashion(tmp_path)
    return tmp_path


def by_id(dataset):
    infos = map(dataset.get_data_info, range(len(dataset)))
    return {int(Path(info['img_path']).stem): info for info in infos}


def test_labels(root):
    splits = [FashionProducts(str(root), split) for split in ('train', 'val', 'test')]
    products = {}
    for dataset in splits:
        assert dataset.metainfo['classes'] == CLASSES
        types = tuple(name.split(': ')[0] for name in CLASSES)
        assert dataset.metainfo['attribute_types'] == types
        assert not products.keys() & by_id(dataset).keys()
        products |= by_id(dataset)
    assert sorted(products) == list(range(1000, 1040))
    for i in range(40):
        info = products[1000 + i]
        usage = 1 if i % 5 else -1
        assert info['gt_score'].tolist() == [1, 1, 1, 1 - i % 2, i % 2, usage]
        assert info['gt_score'].dtype == np.float32
        assert info['gt_label'] == np.flatnonzero(info['gt_score'] == 1).tolist()


def test_splits_follow_a_checksum_of_the_id(root):
    for split, places in (('train', range(7)), ('val', [7]), ('test', [8, 9])):
        expected = [i for i in range(1000, 1040) if zlib.crc32(b'%d' % i) % 10 in places]
        assert sorted(by_id(FashionProducts(str(root), split))) == expected and expected


def test_unknown_as_negative_and_for_class_balance(root):
    dataset = FashionProducts(str(root), 'train', unknown='negative')
    scores = np.stack([info['gt_score'] for info in by_id(dataset).values()])
    assert scores.min() == 0 and (scores[:, -1] == 0).any()
    assert dataset.get_cat_ids(0) == dataset.get_data_info(0)['gt_label']


def test_rare_values_are_no_labels(root):
    dataset = FashionProducts(str(root), 'train', columns=('usage', 'baseColour'), min_products=21)
    assert dataset.metainfo['classes'] == ('usage: Casual',)


def test_rare_value_leaves_the_others_negative(tmp_path):
    write_fashion(tmp_path)
    with (tmp_path / 'styles.csv').open('a') as file:
        file.write(row(2000, 'Rust', 'Casual') + '\n')
    (tmp_path / 'images/1000.jpg').rename(tmp_path / 'images/2000.jpg')
    found = {}
    for split in ('train', 'val', 'test'):
        found |= by_id(FashionProducts(str(tmp_path), split, min_products=19))
    assert found[2000]['gt_score'].tolist() == [1, 1, 1, 0, 0, 1]


def test_products_without_an_image_are_left_out_and_counted(root, monkeypatch):
    texts = []
    log = 'frlr_mm.datasets.fashion_products.print_log'
    monkeypatch.setattr(log, lambda text, *_: texts.append(text))
    (root / 'images/1003.jpg').unlink()
    (root / 'images/1007.jpg').unlink()
    found = {}
    for split in ('train', 'val', 'test'):
        found |= by_id(FashionProducts(str(root), split, min_products=5))
    assert len(found) == 38 and not found.keys() & {1003, 1007}
    assert texts[0].endswith('2 of 40 products have no image and are left out')


@pytest.mark.parametrize('end', [b'\r\n', b'\r'])
def test_byte_order_mark_and_other_line_ends(root, end):
    path = root / 'styles.csv'
    path.write_bytes(b'\xef\xbb\xbf' + path.read_bytes().replace(b'\n', end))
    assert FashionProducts(str(root), 'train').metainfo['classes'] == CLASSES


@pytest.mark.parametrize(
    ('arguments', 'match'),
    [
        (dict(split='all'), "`split` to be one of .* but got 'all'"),
        (dict(unknown='drop'), "`unknown` to be one of .* but got 'drop'"),
        (dict(columns=()), r'`columns` to be different names of columns'),
        (dict(columns='usage'), "`columns` .* but got 'usage'"),
        (dict(columns=['usage', 'usage']), '`columns` to be different'),
        (dict(columns=['size']), r'styles.csv:1: .* but size is missing'),
        (dict(min_products=0), r'`min_products` to be an int in \[1, inf\]'),
        (dict(min_products=99), '`min_products` = 99 products have, but there are no'),
    ],
)
def test_refuses_arguments(root, arguments, match):
    with pytest.raises(ValueError, match=match):
        FashionProducts(str(root), **(dict(split='train') | arguments))


@pytest.mark.parametrize(
    ('lines', 'match'),
    [
        ([HEADER, '1000,Men,Apparel'], r'styles.csv:2: expected 10 columns, but got 3'),
        ([HEADER, row(1000, 'Blue', ''), row(1000, 'Blue', '')], r':3: the product 1000 is there'),
        ([HEADER, row(1000, 'Blue', '').replace('1000', '../a', 1)], r":2: .* got '../a'"),
        ([HEADER.replace('usage', 'use')], r':1: expected the columns .* but usage is missing'),
        ([], r':1: expected the columns id'),
        ([HEADER, row(1, 'Blue', '')], r'styles.csv: expected products with an image'),
    ],
)
def test_errors_name_file_and_line(root, lines, match):
    (root / 'styles.csv').write_text('\n'.join(lines))
    with pytest.raises(ValueError, match=match):
        FashionProducts(str(root), 'train')


def test_other_encodings_are_refused(root):
    lines = [HEADER, *(row(1000 + i, 'Blé' if i == 298 else 'Blue', '') for i in range(400))]
    (root / 'styles.csv').write_bytes('\n'.join(lines).encode('latin-1'))
    with pytest.raises(ValueError, match=r"styles.csv:300: expected UTF-8, but got b'1298,"):
        FashionProducts(str(root), 'train')


@pytest.mark.parametrize(
    ('name', 'match'),
    [
        ('"Shirt', ':300: expected a row of CSV, its quotes closed, but got: unexpected end'),
        ('"Shirt" blue', ':300: .* but got: .* expected after'),
        ('x' * 140_000, ':300: .* but got: field larger than field limit'),
        ('"Two\nlines"', ':403: expected 10 columns, but got 2'),  # the last row, which is short
    ],
)
def test_line_of_open_quotes_and_long_cells(root, name, match):
    start = row(1000, 'Blue', '').partition(',')[2].partition('"')[0]
    rows = [f'{1000 + i},{start}{name if i == 298 else "Shirt"}' for i in range(400)]
    (root / 'styles.csv').write_text('\n'.join([HEADER, *rows, '1400,Men']))
    with pytest.raises(ValueError, match=rf'styles.csv{match}'):
        FashionProducts(str(root), 'train')


@pytest.mark.parametrize('missing', ['styles.csv', 'images'])
def test_missing_file_or_folder(root, missing):
    (root / missing).rename(root / 'elsewhere')
    with pytest.raises(FileNotFoundError, match=missing):
        FashionProducts(str(root), 'train')
