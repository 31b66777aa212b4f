"""Figures as files, one style for each loss, images of a data set."""

import re
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib
import mmcv
import numpy as np
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from mmengine.dataset import BaseDataset

from frlr_mm.engine.files import replacing

# A loss has one style in every figure. Told apart by colour, and in grey by dashes and marker.
STYLES: dict[str, dict[str, Any]] = {
    'SR': dict(color='#000000', linestyle='solid', marker='o'),
    'LR': dict(color='#5e1a8b', linestyle=(0, (5, 1.5)), marker='s'),
    'HS-LR': dict(color='#b03a1a', linestyle=(0, (5, 1.5, 1, 1.5)), marker='^'),
    'SS-LR': dict(color='#2b83ba', linestyle=(0, (1.2, 1.2)), marker='D'),
    'focal': dict(color='#2ca25f', linestyle=(0, (8, 2, 1, 2, 1, 2)), marker='v'),
    'ASL': dict(color='#e69f00', linestyle='solid', marker='P'),
    'two-way': dict(color='#9a9a9a', linestyle=(0, (3, 3)), marker='X'),
    'BCE': dict(color='#86c9ef', linestyle=(0, (8, 3)), marker='*'),
}
FORMATS = ('.png', '.svg')


def line_styles(names: Sequence[str]) -> list[dict[str, Any]]:
    """Return colour, dashes and marker of each line of a figure.

    Args:
        names (Sequence[str]): What the lines stand for. One that is named after a loss, such as
            'HS-LR' or 'HS-LR, ratio 0.01', has the style of the loss, the first of several; the
            others take the styles that are left, in their order, and repeat after eight.

    Returns:
        list[dict[str, Any]]: Arguments of ``Axes.plot``, one for each name.
    """
    losses = [next((loss for loss in STYLES if _is_of(name, loss)), None) for name in names]
    first = [loss is not None and loss not in losses[:i] for i, loss in enumerate(losses)]
    taken = {loss for loss, mine in zip(losses, first, strict=True) if mine}
    free = cycle([loss for loss in STYLES if loss not in taken] or list(STYLES))
    return [
        dict(STYLES[loss if mine and loss else next(free)], markersize=5)
        for loss, mine in zip(losses, first, strict=True)
    ]


def variant_styles(loss: str, num: int) -> list[dict[str, Any]]:
    """Return colour, dashes and marker of variants of one loss, from its colour to a light one.

    Args:
        loss (str): A key of ``STYLES``.
        num (int): How many variants; the first has the style of the loss.

    Returns:
        list[dict[str, Any]]: Arguments of ``Axes.plot``, one for each variant.
    """
    color = np.array(to_rgb(STYLES[loss]['color']))
    styles = [dict(STYLES[loss], markersize=5)]
    for i, other in zip(range(1, num), cycle(each for each in STYLES if each != loss)):
        shade = to_hex(tuple(color + (1 - color) * 0.6 * i / (num - 1)))
        styles.append(dict(STYLES[other], color=shade, markersize=5))
    return styles


def _is_of(name: str, loss: str) -> bool:
    return re.match(rf'{re.escape(loss)}(?![\w-])', name) is not None


def figure_files(path: Path) -> tuple[Path, ...]:
    """Return the PNG and the SVG of a figure.

    Args:
        path (Path): The name of either.

    Returns:
        tuple[Path, ...]: Both names.

    Raises:
        ValueError: If ``path`` is the name of another format.
    """
    if path.suffix not in FORMATS:
        raise ValueError(f'Expected the figure to end in .png or .svg, but got {path}')
    return tuple(path.with_suffix(suffix) for suffix in FORMATS)


def save_figure(figure: Figure, path: Path, dpi: int = 100) -> tuple[Path, ...]:
    """Write a figure as PNG and as SVG; the same figure gives the same files.

    Args:
        figure (Figure): The figure.
        path (Path): The name of either file.
        dpi (int): Pixels per inch of the PNG. Defaults to 100.

    Returns:
        tuple[Path, ...]: Both names.

    Raises:
        ValueError: If ``path`` ends in neither .png nor .svg.
    """
    paths = figure_files(path)
    # An SVG would hold the date and random ids.
    with matplotlib.rc_context({'svg.hashsalt': 'frlr_mm'}):
        for each in paths:
            metadata = dict(Date=None) if each.suffix == '.svg' else {}
            with replacing(each) as partial:
                figure.savefig(partial, dpi=dpi, metadata=metadata)
    return paths


def read_image(dataset: BaseDataset, index: int) -> np.ndarray:
    """Return an image as the data set holds it, before its pipeline.

    Args:
        dataset (BaseDataset): Its items hold ``img``, BGR, or ``img_path``.
        index (int): The index of the image.

    Returns:
        np.ndarray: RGB, uint8 (H, W, 3).
    """
    info = dataset.get_data_info(index)
    image = info['img'] if 'img' in info else mmcv.imread(info['img_path'])
    return mmcv.bgr2rgb(image)
