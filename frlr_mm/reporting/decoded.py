"""What makes small networks fast on a CPU: images decoded once, and channels last.

Where a network is small, decoding takes as long as training. The images of a folder are kept in
one array on disk, at one size, which is mapped into memory: all runs of a machine share it.
"""

from pathlib import Path

import mmcv
import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, TRANSFORMS
from mmengine.runner import Runner

from frlr_mm.engine.files import replacing

_SUFFIXES = ('.png', '.jpg', '.jpeg')


def decode_folder(folder: Path, file: Path, scale: tuple[int, int]) -> None:
    """Decode all images below a folder, unless their array is there already.

    Args:
        folder (Path): The folder; its images are found by their suffixes, at any depth.
        file (Path): The array to write, '.npy'; the images' paths go beside it, to '.txt'.
        scale (tuple[int, int]): Width and height of the decoded images.

    Raises:
        ValueError: If the folder holds no images, or one of them cannot be decoded.
    """
    if file.is_file():
        return
    paths = sorted(path for path in folder.rglob('*') if path.suffix.lower() in _SUFFIXES)
    if not paths:
        raise ValueError(f'Expected {folder} to hold images, but it holds none')
    width, height = scale
    images = np.empty((len(paths), height, width, 3), np.uint8)
    for i, path in enumerate(paths):
        image = mmcv.imread(path)
        if image is None:
            raise ValueError(f'Expected {path} to be an image, but it cannot be decoded')
        images[i] = mmcv.imresize(image, scale, interpolation='area')
    if (images == images[..., :1]).all():
        images = images[..., :1]
    # The array goes last: where it is, its names are.
    with replacing(file.with_suffix('.txt')) as aside:
        aside.write_text(''.join(f'{path.relative_to(folder).as_posix()}\n' for path in paths))
    with replacing(file) as aside, aside.open('wb') as opened:
        np.save(opened, images)


@TRANSFORMS.register_module()
class LoadDecodedImage(BaseTransform):
    """Take an image from an array of :func:`decode_folder` in place of its file.

    Args:
        file (str): The array.
        folder (str): The folder that the images were decoded from, as ``img_path`` begins.

    Sets ``img``, uint8 (H, W, 3), ``img_shape`` and ``ori_shape``.
    """

    def __init__(self, file: str, folder: str) -> None:
        self.file = file
        self.folder = folder
        self._images: np.ndarray | None = None
        self._rows: dict[str, int] = {}

    def transform(self, results: dict) -> dict:
        """Add the image of ``img_path``.

        Args:
            results (dict): With ``img_path``.

        Returns:
            dict: The same, with the image.

        Raises:
            KeyError: If the image is not one of the array.
        """
        if self._images is None:
            names = Path(self.file).with_suffix('.txt').read_text().splitlines()
            self._rows = {name: row for row, name in enumerate(names)}
            self._images = np.load(self.file, mmap_mode='r')
        row = self._rows[results['img_path'].removeprefix(f'{self.folder}/')]
        image = self._images[row]
        image = np.repeat(image, 3, axis=2) if image.shape[2] == 1 else np.array(image)
        results.update(img=image, img_shape=image.shape[:2], ori_shape=image.shape[:2])
        return results


@HOOKS.register_module()
class ChannelsLastHook(Hook):
    """Lay the weights out with the channels last, which a CPU convolves faster."""

    def before_train(self, runner: Runner) -> None:
        """Lay them out, after a checkpoint has been loaded.

        Args:
            runner (Runner): The runner, with the model.
        """
        runner.model.to(memory_format=torch.channels_last)
