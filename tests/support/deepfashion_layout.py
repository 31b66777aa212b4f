"""A small DeepFashion in the official layout."""

from pathlib import Path

import cv2
import numpy as np

ITEMS = ('Sheer_Pleated-Front_Blouse', 'Striped_Dress')
FINE_TYPES = (1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6)


def make_labels(num_images=12, num_attributes=7, values=(1, -1, 0), seed=0):
    return np.random.default_rng(seed).choice(values, (num_images, num_attributes))


def write_list(path: Path, columns: str, rows: list, count=None) -> None:
    """Write a list_*.txt: the count, the names of the columns, the rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f'{len(rows) if count is None else count}\n{columns}\n'
        + ''.join(f'{row}\n' for row in rows)
    )


def image_names(num_images: int) -> list:
    return [f'img/{ITEMS[i % 2]}/img_{i + 1:08d}.jpg' for i in range(num_images)]


def write_images(root: Path, names: list, size=(40, 30)) -> None:
    rng = np.random.default_rng(0)
    for name in names:
        path = root / 'Img' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), rng.integers(0, 256, (*size, 3), dtype=np.uint8))


def write_coarse(root: Path, labels: np.ndarray, folder: str = 'Anno_coarse') -> list:
    """Write the coarse annotation of labels 1, -1, 0; every third image each is train, val, test.

    Returns the names of the images.
    """
    num_images, num_attributes = labels.shape
    names = image_names(num_images)
    attributes = [f'{f"abstract print {i}":<30}{i % 5 + 1}' for i in range(num_attributes)]
    # Like row 446 of the official file, which has one space where the others have many.
    attributes[-1] = f'shiny knit 1{num_attributes % 5 + 1}'.replace('1', ' ', 1)
    attributes[-1] = ' '.join(attributes[-1].split())
    write_list(root / folder / 'list_attr_cloth.txt', 'attribute_name  attribute_type', attributes)
    # The columns are padded: names with spaces at the right, labels at the left.
    write_list(
        root / folder / 'list_attr_img.txt',
        'image_name  attribute_labels',
        [
            f'{name:<70}' + ' '.join(f'{label:2d}' for label in row)
            for name, row in zip(names, labels)
        ],
    )
    write_list(
        root / folder / 'list_bbox.txt',
        'image_name  x_1 y_1 x_2 y_2',
        [f'{name:<70}{2 + i:03d} 003 020 {31 + i % 9:03d}' for i, name in enumerate(names)],
    )
    write_list(
        root / 'Eval' / 'list_eval_partition.txt',
        'image_name  evaluation_status',
        [f'{name:<70}{("train", "val", "test")[i % 3]}' for i, name in enumerate(names)],
    )
    return names


def write_fine(root: Path, labels: np.ndarray) -> list:
    """Write the fine annotation of labels 1 and 0, the same images in each split."""
    names = image_names(len(labels))
    num_attributes = labels.shape[1]
    folder = root / 'Anno_fine'
    write_list(
        folder / 'list_attr_cloth.txt',
        'attribute_name  attribute_type',
        [f'{f"fine_{i}":<20}{i % 6 + 1}' for i in range(num_attributes)],
    )
    for split in ('train', 'val', 'test'):
        texts = {
            f'{split}.txt': names,
            f'{split}_attr.txt': [' '.join(map(str, row)) for row in labels],
            f'{split}_bbox.txt': ['5 3 20 31'] * len(names),
        }
        for name, rows in texts.items():
            (folder / name).write_text('\n'.join(rows) + '\n')
    return names
