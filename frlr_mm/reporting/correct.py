"""Which test images a run gets right, for statistics over images beside those over seeds."""

import base64
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS

from frlr_mm.engine.files import replacing


@METRICS.register_module()
class CorrectImages(BaseMetric):
    """Write down for each image whether its class has the highest score; the last run counts.

    Args:
        out_file (str): The file, text of :func:`pack_bits`.
        **kwargs: Other arguments of :class:`mmengine.evaluator.BaseMetric`.
    """

    def __init__(self, out_file: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.out_file = out_file

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Compare the predicted with the true class of each image of a batch.

        Args:
            data_batch (Any): Not used.
            data_samples (Sequence[dict]): With ``pred_score`` and ``gt_label``.
        """
        for sample in data_samples:
            self.results.append(int(sample['pred_score'].argmax()) == int(sample['gt_label']))

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Write the file; there is nothing to log.

        Args:
            results (list): Whether each image is right.

        Returns:
            dict[str, float]: Empty.
        """
        with replacing(Path(self.out_file)) as aside:
            aside.write_text(pack_bits(np.array(results, bool)))
        return {}


def pack_bits(bits: np.ndarray) -> str:
    """Return bools (N,) as text: their number, and base64 of their compressed bytes."""
    packed = zlib.compress(np.packbits(bits).tobytes(), 9)
    return f'{len(bits)}:{base64.b64encode(packed).decode()}'


def unpack_bits(text: str) -> np.ndarray:
    """Return the bools (N,) of a text of :func:`pack_bits`."""
    number, packed = text.split(':')
    content = np.frombuffer(zlib.decompress(base64.b64decode(packed)), np.uint8)
    return np.unpackbits(content, count=int(number)).astype(bool)
