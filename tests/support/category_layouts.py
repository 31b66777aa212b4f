"""Writers of small ImageNet and PASCAL VOC folders in the official layouts."""

from pathlib import Path

import cv2
import numpy as np

SIZES = ((60, 80), (50, 40))  # two, so that a batch needs what makes them one


def write_listed(root: Path, labels=(0, 1, 2, 2)) -> None:
    """Write ImageNet-1k or -21k with the optional lists of images."""
    rng = np.random.default_rng(0)
    for split in ('train', 'val'):
        rows = [f'n{label:08d}/{i}.JPEG {label}' for i, label in enumerate(labels)]
        for i, row in enumerate(rows):
            path = root / split / row.split()[0]
            path.parent.mkdir(parents=True, exist_ok=True)
            image = rng.integers(0, 256, (*SIZES[i % 2], 3), dtype=np.uint8)
            path.write_bytes(cv2.imencode('.jpg', image)[1].tobytes())
        (root / 'meta').mkdir(exist_ok=True)
        (root / 'meta' / f'{split}.txt').write_text('\n'.join(rows) + '\n')


def write_voc(root: Path, num_images: int = 4) -> None:
    """Write VOC 2007; the cat of every third image is difficult."""
    rng = np.random.default_rng(0)
    for folder in ('JPEGImages', 'Annotations', 'ImageSets/Main'):
        (root / folder).mkdir(parents=True)
    for i in range(num_images):
        names = (('dog', 0), ('person', 0), ('cat', 1))[: 1 + i % 3]
        objects = ''.join(
            f'<object><name>{name}</name><difficult>{difficult}</difficult></object>'
            for name, difficult in names
        )
        (root / 'Annotations' / f'{i:06d}.xml').write_text(f'<annotation>{objects}</annotation>')
        cv2.imwrite(
            str(root / 'JPEGImages' / f'{i:06d}.jpg'),
            rng.integers(0, 256, (*SIZES[i % 2], 3), dtype=np.uint8),
        )
    for split in ('trainval', 'test'):
        (root / 'ImageSets' / 'Main' / f'{split}.txt').write_text(
            ''.join(f'{i:06d}\n' for i in range(num_images))
        )
