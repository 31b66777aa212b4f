"""Figures as files, lines that can be told apart in grey, images of a data set."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import mmcv
import numpy as np
from matplotlib.figure import Figure
from mmengine.dataset import BaseDataset

# From dark to light: told apart by colour, and in grey by lightness, line and marker.
_COLORS = ('#000000', '#5e1a8b', '#b03a1a', '#2b83ba', '#2ca25f', '#e69f00', '#9a9a9a', '#86c9ef')
_DASHES: tuple[Any, ...] = (
    'solid',
    (0, (5, 1.5)),
    (0, (5, 1.5, 1, 1.5)),
    (0, (1.2, 1.2)),
    (0, (8, 2, 1, 2, 1, 2)),
    'solid',
    (0, (3, 3)),
    (0, (8, 3)),
)
_MARKERS = 'os^DvPX*'
FORMATS = ('.png', '.svg')


def line_style(i: int) -> dict[str, Any]:
    """Return colour, dashes and marker of the line number ``i``; they repeat after eight."""
    i %= len(_COLORS)
    return dict(color=_COLORS[i], linestyle=_DASHES[i], marker=_MARKERS[i], markersize=5)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give the name of a file to write, which then replaces ``path``; make its folder.

    Args:
        path (Path): The file to replace.

    Yields:
        Path: A name beside it with the same ending. Where writing fails, nothing is left of it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f'{path.stem}.partial{path.suffix}')
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def picture_files(path: Path) -> tuple[Path, ...]:
    """Return the PNG and the SVG that stand for a picture.

    Args:
        path (Path): The name of either.

    Returns:
        tuple[Path, ...]: Both names.

    Raises:
        ValueError: If ``path`` is the name of another format.
    """
    if path.suffix not in FORMATS:
        raise ValueError(f'Expected the picture to end in .png or .svg, but got {path}')
    return tuple(path.with_suffix(suffix) for suffix in FORMATS)


def save_figure(figure: Figure, path: Path, dpi: int = 100) -> tuple[Path, ...]:
    """Write a figure as PNG and as SVG; the same figure gives the same files.

    Args:
        figure (Figure): The figure.
        path (Path): The name of either file.
        dpi (int): Pixels an inch. Defaults to 100.

    Returns:
        tuple[Path, ...]: Both names.

    Raises:
        ValueError: If ``path`` ends in neither .png nor .svg.
    """
    paths = picture_files(path)
    # An SVG would hold the date and random ids.
    with matplotlib.rc_context({'svg.hashsalt': 'frlr_mm'}):
        for each in paths:
            metadata = dict(Date=None) if each.suffix == '.svg' else {}
            with replacing(each) as partial:
                figure.savefig(partial, dpi=dpi, metadata=metadata)
    return paths


def read_image(dataset: BaseDataset, index: int) -> np.ndarray:
    """Return an image as it is before the pipeline.

    Args:
        dataset (BaseDataset): Its items hold ``img``, BGR, or ``img_path``.
        index (int): The place of the image.

    Returns:
        np.ndarray: RGB, uint8 (H, W, 3).
    """
    info = dataset.get_data_info(index)
    image = info['img'] if 'img' in info else mmcv.imread(info['img_path'])
    return mmcv.bgr2rgb(image)
