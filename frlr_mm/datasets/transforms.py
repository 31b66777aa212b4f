"""Transforms that mmpretrain lacks."""

import io
import os
import re
from typing import Any

import cv2
import mmcv
import numpy as np
from mmcv.image.io import imread_flags, supported_backends
from mmcv.transforms import BaseTransform, LoadImageFromFile
from mmengine.fileio import get
from mmengine.registry import TRANSFORMS
from PIL import Image

from .._checks import check_choice

POLICIES = ('error', 'skip')
# How a whole file ends, and how many bytes of padding are looked through for it.
_ENDS = {b'\xff\xd8': b'\xff\xd9', b'\x89PNG': b'IEND'}
_PADDING = 1024


class UnreadableImageError(ValueError):
    """A file is not a whole image."""


@TRANSFORMS.register_module()
class CropBBox(BaseTransform):
    """Crop an image to its bounding box.

    Required keys: ``img`` and ``bbox``, the corners x_1, y_1, x_2, y_2 in pixels, both inside the
    box. Modified keys: ``img`` and ``img_shape``. A box that reaches beyond the image is
    clipped.
    """

    def transform(self, results: dict) -> dict:
        """Crop the image.

        Args:
            results (dict): What the pipeline holds per image.

        Returns:
            dict: The same, cropped.

        Raises:
            KeyError: If there is no ``bbox``.
            ValueError: If the box lies outside the image.
        """
        if 'bbox' not in results:
            raise KeyError('CropBBox expected `bbox`: build the data set with `with_bbox=True`')
        height, width = results['img'].shape[:2]
        x_1, y_1, _, _ = results['bbox']
        if x_1 >= width or y_1 >= height:
            raise ValueError(
                f'Expected `bbox` to meet the image of {width} x {height} pixels, '
                f'but got {results["bbox"]} for {results.get("img_path")}'
            )
        results['img'] = mmcv.imcrop(results['img'], np.array(results['bbox']))
        results['img_shape'] = results['img'].shape[:2]
        return results


@TRANSFORMS.register_module()
class LoadCheckedImage(LoadImageFromFile):
    """Load an image, and notice where a file is not one or only a part of one.

    OpenCV fills what a truncated JPEG lacks with grey. Here the end of a JPEG or PNG file is
    looked for, and Pillow decides on files that have none. Damage in the middle is not noticed.

    Required and added keys are those of :class:`mmcv.transforms.LoadImageFromFile`.

    Args:
        on_error (str): 'error' to stop at an unreadable image, or 'skip' to take another one in
            its place, chosen at random, as mmengine's data sets do in training. Defaults to
            'error'.
        record (str, optional): The file that gets the path and the reason of each skipped image,
            a line each. tools/train.py sets it to ``unreadable_images.txt`` in the work folder.
            Defaults to None.
        **kwargs: Other arguments of :class:`mmcv.transforms.LoadImageFromFile`, but for
            ``ignore_empty``.

    Raises:
        ValueError: If ``on_error`` is neither, or mmcv does not know ``imdecode_backend`` or
            ``color_type``.
    """

    def __init__(self, on_error: str = 'error', record: str | None = None, **kwargs: Any) -> None:
        check_choice('on_error', on_error, POLICIES)
        super().__init__(**kwargs)
        # Here, since an error of a decoder is taken for damage of the image.
        check_choice('imdecode_backend', self.imdecode_backend, (None, *supported_backends))
        check_choice('color_type', self.color_type, imread_flags)
        self.on_error = on_error
        self.record = record

    def transform(self, results: dict) -> dict | None:
        """Load the image.

        Args:
            results (dict): What the pipeline holds per image, with ``img_path``.

        Returns:
            dict, optional: The same with the image, or None where it is skipped.

        Raises:
            UnreadableImageError: If the image is unreadable and is not to be skipped.
        """
        path = str(results['img_path'])
        try:
            image = self._load(path)
        except UnreadableImageError as error:
            if self.on_error == 'error':
                raise UnreadableImageError(f'{path} is not a readable image: {error}') from None
            if self.record is not None:
                # One write that appends: several workers and ranks share the file.
                line = os.fsencode(f'{path}\t{error}\n')
                file = os.open(self.record, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
                try:
                    os.write(file, line)
                finally:
                    os.close(file)
            return None
        results['img'] = image.astype(np.float32) if self.to_float32 else image
        results['img_shape'] = results['ori_shape'] = image.shape[:2]
        return results

    def _load(self, path: str) -> np.ndarray:
        try:
            data = get(path, backend_args=self.backend_args)
        except OSError as error:
            raise UnreadableImageError(error.strerror or str(error)) from None
        if not data:
            raise UnreadableImageError('the file is empty')
        end = next((end for start, end in _ENDS.items() if data.startswith(start)), None)
        if end is None or end not in data[-_PADDING:]:
            try:
                with Image.open(io.BytesIO(data)) as file:
                    file.load()
            except Exception as error:  # Pillow's decoders raise whatever they meet
                raise UnreadableImageError(_describe(error, data)) from None
        # Of the other decoders, what a missing library raises is none of the three.
        is_pillow = self.imdecode_backend == 'pillow'
        errors = Exception if is_pillow else (cv2.error, OSError, ValueError)
        try:
            image = mmcv.imfrombytes(data, flag=self.color_type, backend=self.imdecode_backend)
        except ImportError:
            raise
        except errors as error:
            raise UnreadableImageError(_describe(error, data)) from None
        if image is None:
            raise UnreadableImageError('it cannot be decoded')
        return image


def _describe(error: Exception, data: bytes) -> str:
    """Return the reason on one line, the same whenever the image is read."""
    reason = re.sub(r'<_io\.BytesIO object at \w+>', '', str(error)).replace(repr(data), '')
    return ' '.join(reason.split()) or type(error).__name__
