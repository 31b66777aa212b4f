"""Omniglot, from a tree in the official layout that the tests write."""

from pathlib import Path

import pytest

from frlr_mm.datasets import Omniglot, OmniglotReID
from tests.support.omniglot_layout import CHARACTERS, write_omniglot

NAMES = ('Arcadian/character01', 'Greek/character01', 'Greek/character02')
UNKNOWN = ('Angelic/character01', 'Angelic/character02')


@pytest.fixture(scope='module')
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp('omniglot')
    write_omniglot(root, size=24)
    return root


@pytest.fixture
def root(tmp_path):
    write_omniglot(tmp_path, size=24)
    return tmp_path


def items(dataset, *keys):
    infos = map(dataset.get_data_info, range(len(dataset)))
    return [(Path(info['img_path']).name, *(info[key] for key in keys)) for info in infos]


def test_categories_by_drawers(tree):
    train, test = (Omniglot(str(tree), drawers=each) for each in ([2, 1], range(3, 21)))
    assert train.metainfo['classes'] == test.metainfo['classes'] == NAMES + UNKNOWN
    ids = sorted(character_id for *_, character_id in CHARACTERS)
    assert items(train, 'gt_label', 'drawer') == [
        (f'{character_id:04d}_{drawer:02d}.png', label, drawer)
        for label, character_id in enumerate(ids)
        for drawer in (1, 2)
    ]
    assert len(test) == 5 * 18
    assert not set(items(train)) & set(items(test))
    assert len(Omniglot(str(tree))) == 100


def test_labels_from_the_number_of_background_classes_on_are_unknown(tree):
    known = Omniglot(str(tree), part='background')
    both = Omniglot(str(tree), drawers=[20])
    assert known.metainfo['classes'] == NAMES
    labels = dict(items(both, 'gt_label'))
    assert [labels['0965_20.png'], labels['0966_20.png']] == [3, 4]
    shared = dict(items(known, 'gt_label'))
    assert all(labels[name] == shared[name] for name in labels.keys() & shared.keys())
    alone = Omniglot(str(tree), part='evaluation')
    assert alone.metainfo['classes'] == UNKNOWN and len(alone) == 40


def test_alphabets(tree):
    dataset = Omniglot(str(tree), part='background', alphabets=['Arcadian'])
    assert dataset.metainfo['classes'] == NAMES[:1]
    assert set(items(dataset, 'gt_label')) == {(f'0013_{d:02d}.png', 0) for d in range(1, 21)}
    assert 'Part: \tbackground' in repr(dataset)


def test_folder_of_torchvision_and_pixels(tmp_path):
    (tmp_path / 'omniglot-py').mkdir()
    write_omniglot(tmp_path / 'omniglot-py')
    load = [dict(type='LoadImageFromFile')]
    dataset = Omniglot(str(tmp_path), pipeline=load)
    image = dataset[0]['img']
    assert image.shape == (105, 105, 3)
    assert set(image.ravel()) == {0, 255} and not image[13, 1:].any() and image[12].all()


def test_re_identification(tree):
    train = OmniglotReID('train', str(tree))
    assert train.metainfo['classes'] == ('0013', '0394', '0395')
    assert len(train) == 60
    assert items(train, 'gt_label', 'camera_id')[20] == ('0394_01.png', 1, 1)
    test = OmniglotReID('test', str(tree))
    query, gallery = (OmniglotReID(split, str(tree)) for split in ('query', 'gallery'))
    found = items(test, 'gt_label', 'camera_id', 'is_query')
    assert found == items(query, 'gt_label', 'camera_id', 'is_query') + items(
        gallery, 'gt_label', 'camera_id', 'is_query'
    )
    assert [each[1:] for each in found[:4]] == [
        (965, 1, True),
        (965, 2, True),
        (966, 1, True),
        (966, 2, True),
    ]
    assert [each[2] for each in found[4:22]] == list(range(3, 21)) and len(found) == 40


def test_re_identification_tuned_on_alphabets_held_out(tree):
    train = OmniglotReID('train', str(tree), alphabets=['Greek'])
    val = OmniglotReID('test', str(tree), part='background', alphabets=['Arcadian'])
    assert train.metainfo['classes'] == ('0394', '0395') and len(train) == 40
    assert {label for _, label in items(val, 'gt_label')} == {13} and len(val) == 20


@pytest.mark.parametrize(
    ('arguments', 'match'),
    [
        (dict(drawers=[0]), r'Expected `drawers` to be an int in \[1, 20\], but got 0'),
        (dict(drawers=[21]), r'Expected `drawers` to be an int in \[1, 20\], but got 21'),
        (dict(drawers=['1']), "Expected `drawers` to be an int .*but got '1'"),
        (dict(drawers=[]), 'Expected `drawers` to name at least one drawer, but got none'),
        (dict(part='test'), "Expected `part` to be one of .*'all'.*, but got 'test'"),
        (dict(alphabets=['Latin']), r"Expected `alphabets` to be some of .* got \['Latin'\]"),
        (dict(alphabets='Greek'), "Expected `alphabets` to be some of .* got 'Greek'"),
        (dict(alphabets=['Angelic'], part='background'), 'Expected `alphabets` to be some of'),
    ],
)
def test_refuses_arguments(tree, arguments, match):
    with pytest.raises(ValueError, match=match):
        Omniglot(str(tree), **arguments)


def test_re_identification_refuses_arguments(tree):
    with pytest.raises(ValueError, match="`part` to be one of .* but got 'test'"):
        OmniglotReID('train', str(tree), part='test')
    with pytest.raises(ValueError, match="`split` to be one of .* but got 'val'"):
        OmniglotReID('val', str(tree))


@pytest.mark.parametrize(
    ('old', 'new', 'match'),
    [
        ('Greek/character01/0394_01.png', 'Greek/character01/394_01.png', r'character01/394_01'),
        ('Greek/character01/0394_01.png', 'Greek/character01/0394_21.png', r'drawer in \[1, 20\]'),
        (
            'Greek/character01/0394_01.png',
            'Greek/character01/0395_01.png',
            r"hold one character, but got the ids \['0394', '0395'\]",
        ),
        (
            'Greek/character01/0394_01.png',
            'Arcadian/character01/0394_01.png',
            r"Arcadian/character01 to hold one character.*\['0013', '0394'\]",
        ),
    ],
)
def test_wrong_names_are_named(root, old, new, match):
    background = root / 'images_background'
    (background / old).rename(background / new)
    with pytest.raises(ValueError, match=match):
        Omniglot(str(root))


def test_two_folders_of_one_id_and_empty_folders(root):
    greek = root / 'images_background/Greek'
    for path in list((greek / 'character02').iterdir()):
        path.rename(path.with_name(path.name.replace('0395', '0394')))
    with pytest.raises(ValueError, match='0394 is that of .*Greek/character01, too'):
        Omniglot(str(root))
    for path in list((greek / 'character02').iterdir()):
        path.unlink()
    with pytest.raises(ValueError, match='Greek/character02 to hold images such as'):
        Omniglot(str(root))


def test_alphabet_in_both_folders(root):
    both = [root / folder / 'Greek' for folder in ('images_background', 'images_evaluation')]
    (root / 'images_evaluation/Angelic').rename(both[1])
    with pytest.raises(ValueError, match=f'one folder, but got {both[0]} and {both[1]}'):
        Omniglot(str(root))
    assert len(Omniglot(str(root), part='background')) == 60


@pytest.mark.parametrize('missing', ['images_background', 'images_evaluation'])
def test_missing_folder(root, missing):
    (root / missing).rename(root / 'elsewhere')
    with pytest.raises(FileNotFoundError, match=f'{missing} is missing: expected `data_root`'):
        Omniglot(str(root))
    split = 'train' if missing == 'images_background' else 'query'
    with pytest.raises(FileNotFoundError, match=f'{missing} is missing'):
        OmniglotReID(split, str(root))


def test_hidden_files_are_passed_over(root):
    (root / 'images_background/.DS_Store').write_text('')
    (root / 'images_background/Greek/.hidden').mkdir()
    (root / 'images_background/Greek/character01/._0394_01.png').write_text('')
    assert len(Omniglot(str(root))) == 100
