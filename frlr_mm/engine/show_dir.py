"""What `--show-dir` writes: a file for each image."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.dist import get_rank, get_world_size
from mmengine.fileio import join_path


def draw_samples(
    hook: Any, batch_idx: int, data_batch: dict, data_samples: Sequence[Any], step: int = 0
) -> None:
    """Draw every ``interval``-th image of a pass over a data set, each into a file of its own.

    In place of a method of mmpretrain's ``VisualizationHook``. A file has the name of the image's
    own; an image without one, with one that another folder has too, or on a further process has
    its number in the data set, alone or before the name.

    Args:
        hook (VisualizationHook): The hook.
        batch_idx (int): The number of the batch; 0 starts a pass.
        data_batch (dict): With ``inputs``, the images, or their views with `--tta`.
        data_samples (Sequence[DataSample]): What the model predicts of each.
        step (int): The end of the names. Defaults to 0.
    """
    if not hook.enable:
        return
    if batch_idx == 0:
        hook._num_seen, hook._names = 0, set()
    first = hook._num_seen
    hook._num_seen += len(data_samples)
    images = data_batch['inputs']
    if isinstance(images[0], list) or images[0].ndim == 4:
        images = images[0]  # the first view of each image
    for i, (image, sample) in enumerate(zip(images, data_samples, strict=True), first):
        if i % hook.interval:
            continue
        # As DefaultSampler deals images out to processes.
        index = i * get_world_size() + get_rank()
        name = os.path.basename(sample.get('img_path') or '')
        if not name:
            name = str(index)
        elif name in hook._names or get_rank():
            name = f'{index}_{name}'
        hook._names.add(name)
        if hook.out_dir is not None:
            hook.draw_args['out_file'] = join_path(hook.out_dir, f'{name}_{step}.png')
        hook._visualizer.visualize_cls(
            image=image.permute(1, 2, 0).cpu().numpy().astype(np.uint8),
            data_sample=sample,
            step=step,
            name=name,
            **hook.draw_args,
        )
