"""Count the labels of a multi-label data set: a Markdown table, most frequent first.

The last line is the mean share of positives: the prior to start a classifier's bias from.
"""

import argparse

import numpy as np
from mmengine.config import Config, DictAction
from mmengine.registry import DATASETS, init_default_scope

import frlr_mm  # noqa: F401 (registers the data sets)
from frlr_mm.cli import one_line_errors


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='a recipe with a multi-label data set')
    parser.add_argument(
        '--split',
        choices=('train', 'val', 'test'),
        default='train',
        help='whose dataloader to count',
    )
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, help='fields to override, as KEY=VALUE'
    )
    return parser.parse_args()


def main() -> None:
    """Count, print."""
    args = parse_args()
    with one_line_errors():
        cfg = Config.fromfile(args.config)
        cfg.merge_from_dict(args.cfg_options or {})
        init_default_scope('mmpretrain')
        dataset = DATASETS.build(cfg[f'{args.split}_dataloader'].dataset)
        if not isinstance(dataset.get_data_info(0).get('gt_score'), np.ndarray):
            raise ValueError(
                f'expected a data set with `gt_score`, but {args.config} has '
                f'{type(dataset).__name__}'
            )
    positive = np.zeros(len(dataset.CLASSES), np.int64)
    unknown = np.zeros_like(positive)
    for i in range(len(dataset)):
        score = dataset.get_data_info(i)['gt_score']
        positive += score == 1
        unknown += score < 0

    types = dataset.metainfo.get('attribute_types', [''] * len(positive))
    print('| Attribute | Type | Positive | Unknown | Share of positives |')
    print('|---|---|---|---|---|')
    share = positive / np.maximum(len(dataset) - unknown, 1)
    for i in np.argsort(-positive, kind='stable'):
        print(
            f'| {dataset.CLASSES[i]} | {types[i]} | {positive[i]:,} | {unknown[i]:,} '
            f'| {share[i]:.2%} |'
        )
    known = len(dataset) * len(positive) - unknown.sum()
    print(
        f'\n{len(dataset):,} images, {len(positive):,} attributes, '
        f'{positive.sum() / len(dataset):.2f} positive an image, '
        f'{positive.sum() / max(known, 1):.4f} of all known labels'
    )


if __name__ == '__main__':
    main()
