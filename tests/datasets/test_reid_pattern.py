"""Re-ID data sets of one's own file names."""

import numpy as np
import pytest
from PIL import Image

from frlr_mm.datasets import CUHK03NP, DukeMTMCreID, Market1501

PATTERN = r'(?P<pid>-?\d+)_cam(?P<camera>\d+)_.*'
FILES = {
    'bounding_box_train': ['0019_cam2_a.png', '7_cam11_b.JPG', '0007_cam2_c.jpg'],
    'query': ['3_cam1_x.jpg'],
    'bounding_box_test': ['3_cam2_x.jpeg', '-1_cam2_y.jpg', '0_cam3_z.png'],
}


def write(root, files=FILES):
    for folder, names in files.items():
        (root / folder).mkdir(parents=True)
        for name in names:
            Image.fromarray(np.zeros((4, 2, 3), np.uint8)).save(root / folder / name)


def items(dataset):
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    return sorted((info['gt_label'], info['camera_id']) for info in infos)


@pytest.mark.parametrize('kind', [Market1501, DukeMTMCreID])
def test_names_of_ones_own(tmp_path, kind):
    write(tmp_path)
    train = kind('train', str(tmp_path), pattern=PATTERN)
    assert items(train) == [(0, 2), (0, 11), (1, 2)]
    assert train.metainfo['classes'] == ('0007', '0019')
    assert items(kind('query', str(tmp_path), pattern=PATTERN)) == [(3, 1)]
    # Junk is junk in one's own names, too.
    assert items(kind('gallery', str(tmp_path), pattern=PATTERN)) == [(0, 3), (3, 2)]


def test_below_another_folder_with_other_arguments(tmp_path):
    write(tmp_path / 'labeled')
    dataset = CUHK03NP('train', str(tmp_path), boxes='labeled', pattern=PATTERN)
    assert len(dataset) == 3


def test_name_that_does_not_fit(tmp_path):
    write(tmp_path)
    with pytest.raises(ValueError, match='train/0007_cam2_c.jpg to have a name that `pattern`'):
        Market1501('train', str(tmp_path), pattern=r'(?P<pid>\d)_cam(?P<camera>\d+)_.*')
    with pytest.raises(ValueError, match=r'to have a name of Market1501, such as 0002_c1s1_0004'):
        Market1501('train', str(tmp_path))


def test_group_that_is_no_number(tmp_path):
    write(tmp_path)
    for pattern, ids in (
        (r'(?P<pid>\d+_cam)(?P<camera>\d+)_.*', "'0007_cam' and '2'"),
        (r'(?P<pid>\d+)_cam\d+_.(?P<camera>\d+)?', "'0007' and None"),
    ):
        with pytest.raises(ValueError, match=f'to be whole numbers in .*, but got {ids}'):
            Market1501('train', str(tmp_path), pattern=pattern)


@pytest.mark.parametrize('name', ['1_0_cam2_a.jpg', '\u0661_cam2_a.jpg', '7_cam1_0_a.jpg'])
def test_group_that_int_alone_would_read(tmp_path, name):
    """As another number: 1_0 is not person 10."""
    write(tmp_path, dict(FILES, bounding_box_train=['10_cam2_a.jpg', name]))
    with pytest.raises(ValueError, match='to be whole numbers in '):
        Market1501('train', str(tmp_path), pattern=r'(?P<pid>[\d_]+)_cam(?P<camera>[\d_]+)_.*')


def test_folder_without_images(tmp_path):
    write(tmp_path, dict(FILES, bounding_box_train=['-1_cam1_a.jpg']))
    with pytest.raises(ValueError, match='such as those of `pattern`, but it holds none'):
        Market1501('train', str(tmp_path), pattern=PATTERN)


@pytest.mark.parametrize(
    ('pattern', 'message'),
    [
        (r'(?P<pid>\d+', r"`pattern` to be a regular expression, but got '\(\?P<pid>"),
        (7, '`pattern` to be a regular expression, but got 7'),
        (r'(\d+)_(\d+)', r'have the groups \(\?P<pid>...\) and \(\?P<camera>...\), but got'),
        (r'(?P<pid>\d+)', r'have the groups \(\?P<pid>...\) and \(\?P<camera>...\), but got'),
    ],
)
def test_bad_patterns(tmp_path, pattern, message):
    with pytest.raises(ValueError, match=message):
        Market1501('train', str(tmp_path), pattern=pattern)
