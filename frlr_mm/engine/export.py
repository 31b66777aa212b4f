"""A classifier as an ONNX file that takes RGB images and returns scores or features."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmpretrain.models import ClsDataPreprocessor, MultiLabelClsHead
from torch import Tensor, nn

from ..models.classifiers.logistic_classifier import (
    LogisticClassifier,
    predicts_by_softmax,
    sum_of_branches,
)
from ..models.heads import BNNeckHead
from .files import replacing

# What torch's exporter is made for, and what onnxruntime has known for years.
OPSET = 18


class ExportedClassifier(nn.Module):
    """A classifier with its preprocessing in front and its scores behind.

    Args:
        model (nn.Module): An ``ImageClassifier`` or ``LogisticClassifier`` whose head predicts
            one or several classes, or a :class:`~frlr_mm.models.BNNeckHead`.

    Raises:
        ValueError: If the preprocessor pads or is not the stock one, or the head predicts
            something else.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: Any) -> None:
        super().__init__()
        preprocessor, head = model.data_preprocessor, model.head
        if type(preprocessor) is not ClsDataPreprocessor or preprocessor.pad_size_divisor > 1:
            raise ValueError(
                'Expected a ClsDataPreprocessor that does not pad, but got '
                f'{type(preprocessor).__name__}'
            )
        self.output = 'scores'
        if isinstance(head, MultiLabelClsHead) or (
            isinstance(model, LogisticClassifier) and predicts_by_softmax(head)
        ):
            self.activation: nn.Module = nn.Sigmoid()
        elif isinstance(head, BNNeckHead):
            self.output = 'feature'
        elif predicts_by_softmax(head):
            self.activation = nn.Softmax(1)
        else:
            raise ValueError(
                'Expected a head that predicts classes, or a BNNeckHead, but got '
                f'{type(head).__name__}'
            )
        self.model = model
        # Pipelines read BGR, which the preprocessor turns into RGB where `to_rgb` says so.
        self.takes_bgr = not preprocessor.to_rgb
        one = torch.ones(3, 1, 1)
        normalises = preprocessor._enable_normalize
        self.register_buffer('mean', preprocessor.mean if normalises else 0 * one)
        self.register_buffer('std', preprocessor.std if normalises else one)
        self.eval()

    def forward(self, image: Tensor) -> Tensor:
        """Predict.

        Args:
            image (Tensor): RGB images, uint8 (N, H, W, 3).

        Returns:
            Tensor: float32, scores (N, C) in [0, 1] or features (N, D).
        """
        x = image.permute(0, 3, 1, 2).float()
        if self.takes_bgr:
            x = x.flip(1)
        feats = self.model.extract_feat((x - self.mean) / self.std)
        if self.output == 'feature':
            return self.model.head.pre_logits(feats)
        return self.activation(sum_of_branches(self.model.head(feats)))


def describe_model(model: Any, output: str) -> dict[str, str]:
    """Return what a reader of the file has to know: ``classes`` and ``threshold`` as JSON.

    Args:
        model (nn.Module): The classifier, with the ``_dataset_meta`` that ``get_model`` sets.
        output (str): 'scores' or 'feature'.

    Returns:
        dict[str, str]: ``output``; ``loss``; ``classes``, a list or null; ``threshold``, the
        least score that is accepted, or at which one of several labels is predicted, or null.
    """
    head = model.head
    threshold = getattr(model, 'reject_below', None)
    if isinstance(head, MultiLabelClsHead):
        threshold = head.thr
    classes = (getattr(model, '_dataset_meta', None) or {}).get('classes')
    if output == 'feature':
        classes = threshold = None
    return dict(
        output=output,
        loss=type(getattr(head, 'loss_module', None)).__name__,
        classes=json.dumps(None if classes is None else list(classes)),
        threshold=json.dumps(threshold),
    )


def write_onnx(
    exported: ExportedClassifier, shape: Sequence[int], path: Path, metadata: dict[str, str]
) -> None:
    """Write the file, for any number of images of one size.

    Args:
        exported (ExportedClassifier): The model, on the CPU.
        shape (Sequence[int]): Height and width of the images.
        path (Path): The file, of the opset :data:`OPSET`.
        metadata (dict[str, str]): Goes into the file.
    """
    image = torch.zeros(2, *shape, 3, dtype=torch.uint8)
    program: Any = torch.onnx.export(
        exported,
        (image,),
        input_names=['image'],
        output_names=[exported.output],
        dynamic_shapes=dict(image={0: torch.export.Dim('batch')}),
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
    )
    program.model.metadata_props.update(metadata)
    with replacing(path) as partial:
        program.save(partial, external_data=False)


def largest_difference(
    exported: ExportedClassifier, path: Path, batches: Iterable[np.ndarray]
) -> float:
    """Return the largest difference between what onnxruntime and PyTorch compute.

    Args:
        exported (ExportedClassifier): The model.
        path (Path): Its file.
        batches (Iterable[np.ndarray]): Images, uint8 (N, H, W, 3).

    Returns:
        float: The largest absolute difference; of features, in units of the largest of each.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    difference = 0.0
    for batch in batches:
        with torch.no_grad():
            expected = exported(torch.from_numpy(batch)).numpy()
        (found,) = session.run(None, {'image': batch})
        if found.shape != expected.shape:
            raise ValueError(f'Expected an output of {expected.shape}, but got {found.shape}')
        distance = np.abs(found - expected)
        if exported.output == 'feature':
            distance = distance / np.abs(expected).max(1, keepdims=True)
        difference = max(difference, float(distance.max()))
    return difference
