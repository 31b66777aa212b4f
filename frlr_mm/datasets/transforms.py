"""Transforms that mmpretrain lacks."""

import mmcv
import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS


@TRANSFORMS.register_module()
class CropBBox(BaseTransform):
    """Crop an image to its bounding box.

    Required keys: ``img`` and ``bbox``, the corners x_1, y_1, x_2, y_2 in pixels, both inside of
    the box. Modified keys: ``img`` and ``img_shape``. A box that reaches beyond the image is
    clipped.
    """

    def transform(self, results: dict) -> dict:
        """Crop the image.

        Args:
            results (dict): What the pipeline holds of an image.

        Returns:
            dict: The same, cropped.

        Raises:
            KeyError: If there is no ``bbox``.
            ValueError: If the box lies outside of the image.
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
