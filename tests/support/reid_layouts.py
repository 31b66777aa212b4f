"""Writers of tiny data sets in the official layouts: the right names, one colour per image."""

from pathlib import Path

import numpy as np
from PIL import Image

# Of each set: persons to train on, persons to test on (the id 0 of Market-1501 is a distractor).
MARKET1501 = {
    'bounding_box_train': [
        '0007_c3s1_000451_03.jpg',
        '0002_c1s1_000451_03.jpg',
        '0002_c2s1_000301_01.jpg',
        '0011_c6s4_012345_00.jpg',
        '0007_c2s3_000001_02.jpg',
        '0011_c1s1_000002_01.jpg',
    ],
    'query': ['0001_c1s1_001051_00.jpg', '0003_c5s2_000010_00.jpg'],
    'bounding_box_test': [
        '-1_c1s1_000401_03.jpg',
        '-1_c4s6_020000_05.jpg',
        '0000_c1s1_000151_01.jpg',
        '0000_c3s2_000152_02.jpg',
        '0001_c1s1_001051_03.jpg',
        '0001_c2s1_000301_01.jpg',
        '0003_c4s1_000009_01.jpg',
    ],
}
DUKEMTMC = {
    'bounding_box_train': [
        '0001_c2_f0046182.jpg',
        '0001_c5_f0051341.jpg',
        '0005_c8_f0000001.jpg',
        '0005_c1_f0000002.jpg',
    ],
    'query': ['0002_c1_f0044158.jpg', '4095_c8_f0000010.jpg'],
    'bounding_box_test': [
        '0002_c1_f0044160.jpg',
        '0002_c2_f0044170.jpg',
        '0006_c7_f0012345.jpg',
        '4095_c3_f0000020.jpg',
    ],
}
CUHK03NP = {
    'bounding_box_train': ['0003_c1_21.png', '0003_c2_7.png', '0010_c1_1.png', '0010_c2_110.png'],
    'query': ['0001_c1_1.png', '0001_c2_6.png', '1467_c1_3.png'],
    'bounding_box_test': ['0001_c1_2.png', '0001_c2_5.png', '1467_c2_4.png'],
}
MSMT17 = {
    'list_train.txt': [
        '0000/0000_000_01_0303morning_0015_0.jpg 0',
        '0000/0000_001_15_0303noon_0036_1.jpg 0',
        '0001/0001_000_02_0113afternoon_0008_0_ex.jpg 1',
        '0001/0001_001_03_0302morning_0009_12.jpg 1',
    ],
    'list_val.txt': ['0001/0001_045_12_0303morning_0006_2.jpg 1'],
    'list_query.txt': [
        '0000/0000_005_09_0303morning_0020_0.jpg 0',
        '0003/0003_000_14_0302noon_0001_1.jpg 3',
    ],
    'list_gallery.txt': [
        '0000/0000_010_09_0303morning_0020_1.jpg 0',
        '0000/0000_011_10_0303morning_0021_0.jpg 0',
        '0003/0003_001_01_0302noon_0001_0_ex.jpg 3',
    ],
}


def write_image(path, colour, size=(64, 128)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((size[1], size[0], 3), colour, np.uint8)).save(path)


def write_folders(root, files):
    """Write a set that has a folder for each split; images of one person have one colour."""
    for folder, names in files.items():
        for name in names:
            person_id = int(name.split('_')[0])
            write_image(Path(root, folder, name), (37 * person_id % 256, person_id % 256, 128))


def write_market1501(root):
    write_folders(root, MARKET1501)
    # Windows left one in each folder of the archive.
    for folder in MARKET1501:
        Path(root, folder, 'Thumbs.db').write_bytes(b'\xd0\xcf\x11\xe0')


def write_dukemtmc(root):
    write_folders(root, DUKEMTMC)
    Path(root, 'LICENSE_DukeMTMC.txt').write_text('licence')


def write_cuhk03np(root):
    write_folders(Path(root, 'detected'), CUHK03NP)
    # One box in the training set more, as in the archive.
    more = CUHK03NP['bounding_box_train'] + ['0011_c1_2.png']
    write_folders(Path(root, 'labeled'), CUHK03NP | dict(bounding_box_train=more))


def write_msmt17(root, version='V2'):
    folders = dict(V1=('train', 'test'), V2=('mask_train_v2', 'mask_test_v2'))[version]
    for list_name, lines in MSMT17.items():
        Path(root).mkdir(parents=True, exist_ok=True)
        Path(root, list_name).write_text('\n'.join(lines) + '\n')
        folder = folders[0 if list_name in ('list_train.txt', 'list_val.txt') else 1]
        for line in lines:
            name, person_id = line.split()
            write_image(Path(root, folder, name), (0, 90 * int(person_id) % 256, 10))


WRITERS = {
    'market1501': write_market1501,
    'dukemtmc': write_dukemtmc,
    'cuhk03np': write_cuhk03np,
    'msmt17': write_msmt17,
}
