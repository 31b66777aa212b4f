"""A small Tiny ImageNet in the official layout."""

import cv2
import numpy as np

# Not sorted, like the official file.
WNIDS = ('n02124075', 'n01443537', 'n04067472')


def write_tiny_imagenet(root, wnids=WNIDS, size=64):
    """Write two training and two validation images of each class."""
    image = np.zeros((size, size, 3), np.uint8)
    (root / 'wnids.txt').write_text(''.join(f'{wnid}\n' for wnid in wnids))
    (root / 'words.txt').write_text(''.join(f'{wnid}\ta thing\n' for wnid in wnids))
    rows = []
    for i, wnid in enumerate(wnids):
        folder = root / 'train' / wnid
        (folder / 'images').mkdir(parents=True)
        names = [f'{wnid}_{k}.JPEG' for k in range(2)]
        (folder / f'{wnid}_boxes.txt').write_text(
            ''.join(f'{name}\t0\t10\t63\t58\n' for name in names)
        )
        (root / 'val' / 'images').mkdir(parents=True, exist_ok=True)
        for k, name in enumerate(names):
            val_name = f'val_{k * len(wnids) + i}.JPEG'
            rows.append((k * len(wnids) + i, f'{val_name}\t{wnid}\t0\t32\t44\t62\n'))
            jpeg = cv2.imencode('.jpg', image + i % 256)[1].tobytes()
            (folder / 'images' / name).write_bytes(jpeg)
            (root / 'val' / 'images' / val_name).write_bytes(jpeg)
    (root / 'val' / 'val_annotations.txt').write_text(''.join(row for _, row in sorted(rows)))
