"""mmpretrain's own tools on newer versions of the libraries that they call."""

import functools
import importlib.util
import inspect
from typing import Any


def mend_tool(name: str) -> None:
    """Let one of mmpretrain's tools call what newer versions of its libraries have changed.

    - `vis_cam` tells grad-cam whether to use CUDA, which grad-cam 1.5 reads off the model.
    - `vis_tsne` names `n_iter`, which is `max_iter` since scikit-learn 1.5.
    - `browse_dataset` crops a figure without the renderer that newer matplotlib wants.

    Can go when the tools ask for what their libraries have.

    Args:
        name (str): The tool, as 'vis_cam'.
    """
    if name == 'vis_cam' and importlib.util.find_spec('pytorch_grad_cam') is not None:
        cam = importlib.import_module('pytorch_grad_cam')
        for each in cam.base_cam.BaseCAM.__subclasses__():
            _rename_argument(each, 'use_cuda', None)
    elif name == 'vis_tsne' and importlib.util.find_spec('sklearn') is not None:
        _rename_argument(importlib.import_module('sklearn.manifold').TSNE, 'n_iter', 'max_iter')
    elif name == 'browse_dataset':
        boxes: Any = importlib.import_module('matplotlib._tight_bbox')
        original = boxes.adjust_bbox
        if 'renderer' in inspect.signature(original).parameters:
            boxes.adjust_bbox = lambda figure, box, renderer=None, **kwargs: original(
                figure, box, renderer or figure.canvas.get_renderer(), **kwargs
            )


def _rename_argument(cls: Any, old: str, new: str | None) -> None:
    """Let a class that has lost an argument take it for another, or for nothing."""
    original = cls.__init__
    if old in inspect.signature(original).parameters or hasattr(original, '__wrapped__'):
        return

    @functools.wraps(original)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        value = kwargs.pop(old, None)
        if value is not None and new is not None:
            kwargs[new] = value
        original(self, *args, **kwargs)

    cls.__init__ = init
