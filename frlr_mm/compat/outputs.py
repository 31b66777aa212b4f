"""What comes out of a model: labels below 0, figures of images, exported networks."""

import functools
from typing import Any

import torch
from mmengine.visualization import Visualizer

from ..engine import show_dir

# What an image is called whose label is -1.
NONE_OF_THESE = 'none of these'


def show_rejected_images() -> None:
    """Let the inferencer and the visualizer say that an image is of none of the classes.

    The inferencer takes the label from the scores, whatever the model said, and to the visualizer
    the label -1 is the last class. Can go when both know a label below 0.
    """
    from mmpretrain.apis import ImageClassificationInferencer as Inferencer
    from mmpretrain.visualization import UniversalVisualizer

    postprocess, visualize = Inferencer.postprocess, UniversalVisualizer.visualize_cls
    if hasattr(postprocess, '__wrapped__'):
        return

    @functools.wraps(postprocess)
    def say_none(
        self: Any, preds: list, visualization: Any, return_datasamples: bool = False
    ) -> Any:
        results = postprocess(self, preds, visualization, return_datasamples)
        for sample, result in zip([] if return_datasamples else preds, results):
            if 'pred_label' in sample and (sample.pred_label < 0).any():
                name = dict(pred_class=NONE_OF_THESE) if 'pred_class' in result else {}
                result.update(name, pred_label=-1)
        return results

    @functools.wraps(visualize)
    def draw_none(
        self: Any, image: Any, data_sample: Any, classes: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        labels = [data_sample.get(name) for name in ('gt_label', 'pred_label')]
        if any((label < 0).any() for label in labels if label is not None):
            classes = classes or (self.dataset_meta or {}).get('classes')
            classes = classes and [*classes, NONE_OF_THESE]
            if 'pred_score' in data_sample:
                # The score at -1 is the last one.
                data_sample, score = data_sample.clone(), data_sample.pred_score
                score = torch.cat([score, score.max()[None]])
                data_sample.set_field(score, 'pred_score', dtype=torch.Tensor)
        return visualize(self, image, data_sample, classes, *args, **kwargs)

    Inferencer.postprocess, UniversalVisualizer.visualize_cls = say_none, draw_none


def decide_by_averaged_scores() -> None:
    """Let the label of scores averaged over views (``--tta``) be that of the average.

    mmpretrain keeps the label of the first view. Can go when it sets ``pred_label``.
    """
    from mmpretrain.models import AverageClsScoreTTA

    original = AverageClsScoreTTA._merge_single_sample
    if hasattr(original, '__wrapped__'):
        return

    @functools.wraps(original)
    def merge(self: Any, data_samples: list) -> Any:
        merged = original(self, data_samples)
        if hasattr(self.module, 'decide') and len(merged.get('pred_label', ())) == 1:
            merged.set_pred_label(self.module.decide(merged.pred_score[None]))
        return merged

    AverageClsScoreTTA._merge_single_sample = merge


def export_windows_of_any_batch() -> None:
    """Let an exported Swin Transformer take any number of images.

    mmpretrain divides the number of windows as floats, by which the exporter takes the number of
    images for a constant. Can go when it divides integers.
    """
    from mmpretrain.models.utils import ShiftWindowMSA

    def window_reverse(windows: Any, height: int, width: int, window_size: int) -> Any:
        rows, columns = height // window_size, width // window_size
        x = windows.view(-1, rows, columns, window_size, window_size, windows.shape[-1])
        return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, height, width, windows.shape[-1])

    ShiftWindowMSA.window_reverse = staticmethod(window_reverse)


def build_visualizers_with_a_scope() -> None:
    """Let `browse_dataset` build the visualizer of a recipe that inherits one of mmpretrain's.

    mmengine writes `_scope_` into what ``mmpretrain::...`` bases hold, and mmpretrain's tool hands
    it to the class itself. Can go when the tool builds it by the registry.
    """
    original = Visualizer.__init__
    if hasattr(original, '__wrapped__'):
        return

    @functools.wraps(original)
    def init(self: Any, name: str = 'visualizer', *args: Any, **kwargs: Any) -> None:
        kwargs.pop('_scope_', None)
        original(self, name, *args, **kwargs)  # mmengine looks for `name` in the signature

    Visualizer.__init__ = init


def draw_every_image() -> None:
    """Let `--show-dir` write a file for each image, with `--tta` too.

    mmpretrain numbers images by the size of the batch at hand, so that those of a smaller last
    batch take the numbers of earlier ones; it names a file after the image's own, whatever folder
    that is in; and it takes the views of `--tta` for images. Can go when it does none of these.
    """
    from mmpretrain.engine import VisualizationHook

    VisualizationHook._draw_samples = show_dir.draw_samples
