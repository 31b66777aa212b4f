"""The reliability diagram: accuracy against confidence."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from frlr_mm.evaluation.calibration import Bins
from frlr_mm.reporting.figures import line_styles, save_figure


def save_reliability_diagram(series: Mapping[str, Bins], path: Path) -> tuple[Path, ...]:
    """Draw the accuracy of each bin against its mean score, above the share of images in it.

    Args:
        series (Mapping[str, Bins]): Bins of equal width by their name in the legend; '' for one
            that needs none.
        path (Path): The name of either file, PNG or SVG.

    Returns:
        tuple[Path, ...]: The names of both files.
    """
    figure = Figure(figsize=(4.2, 5), layout='constrained')
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    above.plot([0, 1], [0, 1], color='0.6', linewidth=1)
    styles = line_styles(list(series))
    for (name, bins), style in zip(series.items(), styles, strict=True):
        label = f'{name + ": " if name else ""}ECE {100 * bins.error():.1f} %'
        filled = bins.counts > 0
        above.plot(bins.confidence[filled], bins.accuracy[filled], label=label, **style)
        edges = np.linspace(0, 1, len(bins.counts) + 1)
        line = dict(color=style['color'], linestyle=style['linestyle'])
        below.stairs(100 * bins.counts / bins.counts.sum(), edges, **line)
    above.set(xlim=(0, 1), ylim=(0, 1), ylabel='accuracy')
    above.legend(loc='lower right')
    below.set(xlabel='largest score', ylabel='images, %')
    for axis in (above, below):
        axis.grid(alpha=0.3)
    return save_figure(figure, path, dpi=130)
