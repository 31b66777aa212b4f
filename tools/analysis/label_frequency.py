"""Count the labels of a data set, as PriorBiasHook does: a Markdown table, most frequent first."""

import argparse

import numpy as np
from mmengine.registry import DATASETS

from frlr_mm.commands._checkpoint import add_config, load_config
from frlr_mm.datasets.label_counts import count_labels
from frlr_mm.engine.launch import one_line_errors
from frlr_mm.reporting.tables import markdown_table


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_config(parser, config='a recipe')
    parser.add_argument(
        '--split',
        choices=('train', 'val', 'test'),
        default='train',
        help='whose dataloader to count',
    )
    return parser.parse_args()


def main() -> None:
    """Count, print."""
    args = parse_args()
    with one_line_errors():
        cfg = load_config(args)
        dataset = DATASETS.build(cfg[f'{args.split}_dataloader'].dataset)
        classes = dataset.metainfo['classes']
        counts = count_labels(dataset, len(classes))
    positive, unknown = counts.positive, counts.unknown

    types = dataset.metainfo.get('attribute_types', [''] * len(positive))
    share = positive / np.maximum(counts.known, 1)
    rows = [
        (classes[i], types[i], f'{positive[i]:,.0f}', f'{unknown[i]:,}', f'{share[i]:.2%}')
        for i in np.argsort(-positive, kind='stable')
    ]
    header = ('Attribute', 'Type', 'Positive', 'Unknown', 'Share of positives')
    print(markdown_table(header, rows))
    print(
        f'{counts.num_images:,} images, {len(classes):,} attributes, '
        f'{positive.sum() / max(counts.num_images, 1):.2f} positive per image, '
        f'{counts.mean_share:.4f} of all known labels'
    )


if __name__ == '__main__':
    main()
