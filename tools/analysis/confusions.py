"""Show the pairs that hard selection picks most: a class and a negative of its images.

For each test image the k negatives with the highest logits are counted, k = ratio x C, as HS-LR
selects them. (`confusion_matrix.py` of mmpretrain counts the predicted class alone.)
"""

import argparse
import csv
import textwrap
import unicodedata
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from mmengine.dataset import BaseDataset
from mmpretrain.models import MultiLabelClsHead
from torch import nn

from frlr_mm._checks import check_number
from frlr_mm.commands._checkpoint import add_arguments, build_loader, load
from frlr_mm.engine.files import replacing
from frlr_mm.engine.launch import one_line_errors
from frlr_mm.engine.predict import predict_logits
from frlr_mm.functional import num_selected
from frlr_mm.models.losses import HSLRLoss
from frlr_mm.reporting.figures import figure_files, read_image, save_figure
from frlr_mm.reporting.tables import markdown_table


class Pairs(NamedTuple):
    """Pairs of classes, those that are picked most first; all (P,)."""

    classes: np.ndarray
    negatives: np.ndarray
    counts: np.ndarray
    probabilities: np.ndarray  # of the negative, mean over the images it is picked in


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_arguments(parser, config='a config of single-label classification')
    parser.add_argument('--out', type=Path, required=True, help='the figure: PNG and SVG')
    parser.add_argument('--csv', type=Path, help='a file for all pairs')
    parser.add_argument(
        '--ratio', type=float, help="the selected share of the classes (default: the loss's)"
    )
    parser.add_argument('--num-pairs', type=int, default=20, help='shown pairs (default: 20)')
    args = parser.parse_args()
    if args.num_pairs < 1:
        parser.error(f'expected --num-pairs to be at least 1, but got {args.num_pairs}')
    return args


def choose_ratio(model: nn.Module, ratio: float | None) -> float:
    """Return the ratio that was given, or that of the model's loss.

    Raises:
        ValueError: If there is none.
    """
    if ratio is not None:
        return ratio
    # Losses such as LabelSmoothFRLRLoss have another inside.
    ratios = [module.ratio for module in model.modules() if isinstance(module, HSLRLoss)]
    if not ratios:
        loss = type(getattr(model.head, 'loss_module', None)).__name__
        raise ValueError(f'{loss} has no ratio: give one by --ratio')
    return ratios[0]


def select(
    logits: torch.Tensor, labels: torch.Tensor, ratio: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the selected negatives (N, k) of each image and their probabilities (N, k)."""
    num_classes = logits.shape[1]
    # The positive is never selected, however many are.
    k = min(num_selected(num_classes, ratio), num_classes - 1)
    top = logits.scatter(1, labels[:, None], -torch.inf).topk(k)
    return top.indices.numpy(), top.values.sigmoid().numpy()


def count_pairs(labels: np.ndarray, picked: np.ndarray, probabilities: np.ndarray) -> Pairs:
    """Count how often each pair is picked; ties go by the mean probability of the negative."""
    classes = np.repeat(labels, picked.shape[1])
    num = int(max(labels.max(), picked.max())) + 1
    # One number for each pair: rows of pairs would be sorted many times slower.
    keys = classes * num + picked.ravel()
    unique, place, counts = np.unique(keys, return_inverse=True, return_counts=True)
    mean = np.bincount(place, probabilities.ravel()) / counts
    order = np.lexsort((-mean, -counts))
    return Pairs(*np.divmod(unique[order], num), counts[order], mean[order])


def class_title(name: str, width: int = 15, lines: int = 4) -> str:
    """Return the name of a class in lines; a class that is a character gets its code point too."""
    if len(name) != 1:
        return textwrap.fill(name, width, max_lines=lines, placeholder=' …')
    full = unicodedata.name(name, 'unnamed').capitalize()
    words = textwrap.fill(full, width, max_lines=lines, placeholder=' …')
    return f'U+{ord(name):04X}\n{words}'


def draw(dataset: BaseDataset, labels: np.ndarray, pairs: Pairs, num: int, k: int) -> Figure:
    """Draw an image of each of the two classes of the first pairs; labels are of all images."""
    num = min(num, len(pairs.counts))
    columns = min(num, 4)
    rows = -(-num // columns)
    figure = Figure(figsize=(2.2 * columns, 2.05 * rows + 0.6), layout='constrained')
    figure.suptitle(
        f'The negatives that are most often among the {k} hardest of an image\n'
        'Left: a class. Right: the negative, in how many images of the class, '
        'and its mean probability p',
        fontsize=11,
    )
    cells = figure.subfigures(rows, columns, squeeze=False, wspace=0.06, hspace=0.04).flat
    total = np.bincount(labels[labels >= 0], minlength=len(dataset.CLASSES))
    for place, cell in zip(range(num), cells, strict=False):
        pair = [int(pairs.classes[place]), int(pairs.negatives[place])]
        for axis, label in zip(cell.subplots(1, 2), pair, strict=True):
            examples = np.flatnonzero(labels == label)
            if len(examples):
                axis.imshow(read_image(dataset, int(examples[0])))
            axis.set_title(class_title(dataset.CLASSES[label]), fontsize=8, linespacing=1.15)
            axis.set(xticks=[], yticks=[], anchor='S')
        picked = f'{pairs.counts[place]} of {total[pair[0]]}'
        cell.supxlabel(f'{picked}, p = {pairs.probabilities[place]:.2g}', fontsize=9)
    return figure


def main() -> None:
    """Read the command line, select, count, draw, print."""
    with one_line_errors():
        args = parse_args()
        figure_files(args.out)
        if args.ratio is not None:
            check_number('ratio', args.ratio, high=1.0, open_low=True)
        cfg, model = load(args)
        if isinstance(model.head, MultiLabelClsHead):
            raise ValueError(
                f'Expected a head of one label per image, but got {type(model.head).__name__}'
            )
        ratio = choose_ratio(model, args.ratio)
        loader = build_loader(cfg, 'test')
        logits, labels = predict_logits(model, loader)
        known = labels >= 0
        if not known.any():
            raise ValueError('Expected images of known classes, but every label is below 0')
        picked, probabilities = select(logits[known], labels[known], ratio)

    labels, known = labels.numpy(), known.numpy()
    pairs = count_pairs(labels[known], picked, probabilities)
    classes = loader.dataset.CLASSES
    rows = [
        (classes[label], classes[negative], int(count), float(probability))
        for label, negative, count, probability in zip(*pairs, strict=True)
    ]
    if args.csv:
        with replacing(args.csv) as partial, partial.open('w', newline='') as file:
            writer = csv.writer(file)
            writer.writerow(('class', 'negative', 'images', 'mean_probability'))
            writer.writerows(rows)
    header = ('class', 'negative', 'images', 'mean probability')
    shown = [(*row[:3], f'{row[3]:.3g}') for row in rows[: args.num_pairs]]
    figure = draw(loader.dataset, labels, pairs, args.num_pairs, picked.shape[1])
    print(markdown_table(header, shown), *save_figure(figure, args.out, dpi=130), sep='\n')


if __name__ == '__main__':
    main()
