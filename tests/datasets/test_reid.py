"""Person re-identification data sets, from files in the official layouts that the tests write."""

import os
from pathlib import Path

import pytest
from mmengine.dataset import base_dataset
from mmengine.registry import DATASETS

from frlr_mm.datasets import CUHK03NP, MSMT17, DukeMTMCreID, Market1501
from tests.support import reid_layouts

# Of each split of Market-1501: label, camera and, of a test split, whether it is a query.
MARKET1501_ITEMS = {
    'train': [(0, 1), (0, 2), (1, 2), (1, 3), (2, 1), (2, 6)],
    'query': [(1, 1, True), (3, 5, True)],
    'gallery': [(0, 1, False), (0, 3, False), (1, 1, False), (1, 2, False), (3, 4, False)],
}
MARKET1501_ITEMS['test'] = MARKET1501_ITEMS['query'] + MARKET1501_ITEMS['gallery']
CLASSES = {
    'market1501': (Market1501, '0002_c1s1_000451_03.jpg'),
    'dukemtmc': (DukeMTMCreID, '0001_c2_f0046182.jpg'),
    'cuhk03np': (CUHK03NP, '0003_c1_21.png'),
}


def items(dataset):
    """What the tests compare of each image; its file has to exist."""
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    assert all(Path(info['img_path']).is_file() for info in infos)
    fields = ('gt_label', 'camera_id', 'is_query')
    return [tuple(info[field] for field in fields if field in info) for info in infos]


@pytest.mark.parametrize('split', ['train', 'query', 'gallery', 'test'])
@pytest.mark.parametrize('archive_folder', ['', 'Market-1501-v15.09.15'])
def test_market1501(tmp_path, archive_folder, split):
    reid_layouts.write_market1501(tmp_path / archive_folder)
    dataset = Market1501(split, str(tmp_path))
    assert items(dataset) == MARKET1501_ITEMS[split]
    if split == 'train':
        assert dataset.metainfo['classes'] == ('0002', '0007', '0011')


def test_persons_are_not_taken_for_a_file(tmp_path, monkeypatch):
    """As mmengine takes text in the meta information, with a warning where it is none."""
    lines = []
    monkeypatch.setattr(
        base_dataset, 'print_log', lambda text, *args, **kwargs: lines.append(text)
    )
    reid_layouts.WRITERS['market1501'](tmp_path)
    dataset = Market1501('test', str(tmp_path), pipeline=[])
    assert dataset.metainfo['persons'] == (f'Market1501 in {tmp_path}',)
    assert lines == []


def test_market1501_drops_junk_and_keeps_distractors(tmp_path):
    reid_layouts.write_market1501(tmp_path)
    gallery = Market1501('gallery', str(tmp_path))
    names = [Path(gallery.get_data_info(i)['img_path']).name for i in range(len(gallery))]
    assert names == [
        name for name in reid_layouts.MARKET1501['bounding_box_test'] if not name.startswith('-1')
    ]
    assert sum(name.startswith('0000') for name in names) == 2


def test_dukemtmc(tmp_path):
    reid_layouts.write_dukemtmc(tmp_path / 'DukeMTMC-reID')
    assert items(DukeMTMCreID('train', str(tmp_path))) == [(0, 2), (0, 5), (1, 1), (1, 8)]
    assert items(DukeMTMCreID('query', str(tmp_path))) == [(2, 1, True), (4095, 8, True)]
    assert items(DukeMTMCreID('gallery', str(tmp_path))) == [
        (2, 1, False),
        (2, 2, False),
        (6, 7, False),
        (4095, 3, False),
    ]


@pytest.mark.parametrize('archive_folder', ['', 'cuhk03-np'])
def test_cuhk03np(tmp_path, archive_folder):
    reid_layouts.write_cuhk03np(tmp_path / archive_folder)
    assert items(CUHK03NP('train', str(tmp_path))) == [(0, 1), (0, 2), (1, 1), (1, 2)]
    labeled = CUHK03NP('train', str(tmp_path), boxes='labeled')
    assert items(labeled) == [(0, 1), (0, 2), (1, 1), (1, 2), (2, 1)]
    assert items(CUHK03NP('query', str(tmp_path))) == [(1, 1, True), (1, 2, True), (1467, 1, True)]
    assert items(CUHK03NP('gallery', str(tmp_path))) == [
        (1, 1, False),
        (1, 2, False),
        (1467, 2, False),
    ]


@pytest.mark.parametrize('version', ['V1', 'V2'])
@pytest.mark.parametrize('archive_folder', ['', 'MSMT17_{}'])
def test_msmt17(tmp_path, archive_folder, version):
    reid_layouts.write_msmt17(tmp_path / archive_folder.format(version), version)
    train = MSMT17('train', str(tmp_path), version=version)
    assert items(train) == [(0, 1), (0, 15), (1, 2), (1, 3)]
    assert train.metainfo['classes'] == ('0000', '0001')
    assert items(MSMT17('test', str(tmp_path), version=version)) == [
        (0, 9, True),
        (3, 14, True),
        (0, 9, False),
        (0, 10, False),
        (3, 1, False),
    ]


def test_builds_from_a_config_and_runs_its_pipeline(tmp_path):
    reid_layouts.write_market1501(tmp_path)
    dataset = DATASETS.build(
        dict(
            type='Market1501',
            split='test',
            data_root=str(tmp_path),
            pipeline=[
                dict(type='mmpretrain.LoadImageFromFile'),
                dict(type='mmpretrain.PackInputs', meta_keys=('camera_id', 'is_query')),
            ],
        )
    )
    item = dataset[1]
    assert item['inputs'].shape == (3, 128, 64)
    sample = item['data_samples']
    assert (sample.gt_label.item(), sample.camera_id, sample.is_query) == (3, 5, True)


@pytest.mark.parametrize(
    ('name', 'split', 'folder'),
    [
        ('market1501', 'train', 'bounding_box_train'),
        ('dukemtmc', 'test', 'query'),
        ('cuhk03np', 'test', 'bounding_box_test'),
    ],
)
def test_missing_folder_is_named(tmp_path, name, split, folder):
    reid_layouts.WRITERS[name](tmp_path)
    dataset_type, _ = CLASSES[name]
    root = tmp_path / 'detected' if name == 'cuhk03np' else tmp_path
    os.rename(root / folder, root / 'elsewhere')
    with pytest.raises(FileNotFoundError, match=f'{root / folder} is missing: .*data_root'):
        dataset_type(split, str(tmp_path))


@pytest.mark.parametrize('name', CLASSES)
def test_empty_folder_is_named(tmp_path, name):
    reid_layouts.WRITERS[name](tmp_path)
    dataset_type, example = CLASSES[name]
    folder = (tmp_path / 'detected' if name == 'cuhk03np' else tmp_path) / 'query'
    for path in folder.glob('0*g'):
        path.unlink()
    for path in folder.glob('[14]*g'):
        path.unlink()
    with pytest.raises(ValueError, match=f'Expected {folder} to hold images .* {example}'):
        dataset_type('test', str(tmp_path))


def test_gallery_of_junk_alone_is_empty(tmp_path):
    reid_layouts.write_market1501(tmp_path)
    for path in (tmp_path / 'bounding_box_test').glob('0*.jpg'):
        path.unlink()
    with pytest.raises(ValueError, match='bounding_box_test to hold images'):
        Market1501('gallery', str(tmp_path))


@pytest.mark.parametrize(
    ('name', 'odd'),
    [
        ('market1501', '0002_c7s1_000451_03.jpg'),
        ('market1501', '0002_c1s1_000451_03.jpg.jpg'),
        ('market1501', '-2_c1s1_000451_03.jpg'),
        ('market1501', '٠٠٠٢_c1s1_000451_03.jpg'),
        ('market1501', 'copy.png'),
        ('dukemtmc', '0001_c9_f0046182.jpg'),
        ('dukemtmc', '0001_c2_f046182.jpg'),
        ('cuhk03np', '0003_c3_21.png'),
        ('cuhk03np', '0003_c1_21.jpg'),
    ],
)
def test_name_that_does_not_fit_is_named(tmp_path, name, odd):
    reid_layouts.WRITERS[name](tmp_path)
    dataset_type, example = CLASSES[name]
    folder = (tmp_path / 'detected' if name == 'cuhk03np' else tmp_path) / 'bounding_box_train'
    (folder / odd).touch()
    with pytest.raises(ValueError, match=f'Expected {folder / odd} to have .* such as {example}'):
        dataset_type('train', str(tmp_path))


@pytest.mark.parametrize(
    'line',
    [
        '../../secret.jpg 0',
        '/etc/0000_000_01_0303morning_0015_0.jpg 0',
        '0000/../0000_000_01_0303morning_0015_0.jpg 0',
        '0000/0000_000_16_0303morning_0015_0.jpg 0',
        '0000/0000_000_01_0303night_0015_0.jpg 0',
        '0000/0000_000_01_0303morning_0015_0.jpg',
        '0000/0000_000_01_0303morning_0015_0.jpg -1',
        '0000/0000_000_01_0303morning_0015_0.jpg 0 1',
    ],
)
def test_msmt17_names_the_line_that_does_not_fit(tmp_path, line):
    reid_layouts.write_msmt17(tmp_path)
    list_file = tmp_path / 'list_train.txt'
    lines = reid_layouts.MSMT17['list_train.txt']
    list_file.write_text('\n'.join([*lines[:2], line, *lines[2:]]) + '\n')
    with pytest.raises(ValueError, match=f'Expected line 3 of {list_file} to be like'):
        MSMT17('train', str(tmp_path))


@pytest.mark.parametrize('person_id', [0, 7])
def test_msmt17_names_the_line_that_names_an_image_again(tmp_path, person_id):
    reid_layouts.write_msmt17(tmp_path)
    list_file = tmp_path / 'list_train.txt'
    name = reid_layouts.MSMT17['list_train.txt'][0].split()[0]
    list_file.write_text(list_file.read_text() + f'{name} {person_id}\n')
    with pytest.raises(ValueError, match=f'{list_file}:5: the image {name} is there twice'):
        MSMT17('train', str(tmp_path))


def test_msmt17_ids_are_sorted_before_they_are_relabelled(tmp_path):
    reid_layouts.write_msmt17(tmp_path)
    path = tmp_path / 'list_train.txt'
    lines = path.read_text().splitlines()
    path.write_text('\n'.join(reversed(lines)) + '\n')
    dataset = DATASETS.build(dict(type='MSMT17', split='train', data_root=str(tmp_path)))
    assert dataset.metainfo['classes'] == ('0000', '0001')
    assert [dataset.get_data_info(i)['gt_label'] for i in range(4)] == [1, 1, 0, 0]


def test_msmt17_names_what_is_missing(tmp_path):
    reid_layouts.write_msmt17(tmp_path, 'V1')
    with pytest.raises(FileNotFoundError, match='mask_train_v2 is missing'):
        MSMT17('train', str(tmp_path), version='V2')
    (tmp_path / 'list_gallery.txt').write_text('')
    with pytest.raises(ValueError, match=r'list_gallery\.txt .* but it is empty'):
        MSMT17('test', str(tmp_path), version='V1')
    (tmp_path / 'list_gallery.txt').unlink()
    with pytest.raises(FileNotFoundError, match=r'list_gallery\.txt is missing'):
        MSMT17('test', str(tmp_path), version='V1')


@pytest.mark.parametrize(
    ('dataset_type', 'arguments', 'message'),
    [
        (Market1501, dict(split='val'), r"`split` to be one of \('train', .* but got 'val'"),
        (CUHK03NP, dict(split='train', boxes='drawn'), "`boxes` to be one of .* but got 'drawn'"),
        (MSMT17, dict(split='train', version='V3'), "`version` to be one of .* but got 'V3'"),
    ],
)
def test_bad_argument_is_named(tmp_path, dataset_type, arguments, message):
    with pytest.raises(ValueError, match=message):
        dataset_type(data_root=str(tmp_path), **arguments)
