"""Train with HS-LR on the built-in glyphs, evaluate, and draw what the network has learned."""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import mmcv
import mmengine
import numpy as np
import torch
from matplotlib.figure import Figure
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS
from mmengine.runner import find_latest_checkpoint
from mmpretrain import get_model
from torch.utils.data import DataLoader

from frlr_mm.compat.outputs import NONE_OF_THESE
from frlr_mm.datasets import ClassSubset
from frlr_mm.datasets.glyphs._faces import glyph_characters
from frlr_mm.evaluation.open_set import threshold_at
from frlr_mm.reporting.figures import save_figure

CONFIG = 'frlr_mm::glyphs/resnet18_b128-hslr_glyphs.py'
# A quarter of the recipe's characters, in smaller steps: minutes on two cores, not a quarter of an
# hour. The ratio is that of ten characters, as there.
NUM_CLASSES = 250
OPTIONS = {
    'randomness.seed': 0,
    'model.head.num_classes': NUM_CLASSES,
    **{
        f'{split}_dataloader.dataset.num_classes': NUM_CLASSES
        for split in ('train', 'val', 'test')
    },
    'model.head.loss.ratio': 0.04,
    'custom_hooks.1.end_value': 0.04,
    'train_dataloader.batch_size': 32,
    'optim_wrapper.optimizer.lr': 0.1,
}
# Characters that were never trained, beside those of the test set.
NUM_UNKNOWN = 100
# The share of test images that is not rejected.
ACCEPTED = 0.95


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--work-dir',
        type=Path,
        default=Path('work_dirs/demo'),
        help='the folder of checkpoints, logs and the figure (default: work_dirs/demo)',
    )
    parser.add_argument(
        '--cfg-options', nargs='+', default=[], help='handed to training and testing'
    )
    return parser.parse_args()


def run_command(*args: object) -> None:
    """Run ``frlr`` and end with its status if it fails."""
    words = list(map(str, args))
    print('$ frlr', *words, flush=True)
    status = subprocess.run([sys.executable, '-m', 'frlr_mm', *words]).returncode
    if status:
        sys.exit(status)


def predict(config: mmengine.Config, checkpoint: str) -> tuple[list[dict], torch.Tensor]:
    """Return test images with their labels and the sigmoid scores (N, C) of the checkpoint.

    Behind those of the test set come images of unknown characters, whose label is -1.
    """
    model = get_model(config, pretrained=checkpoint).eval()
    known = config.model.head.num_classes
    characters = dict(config.test_dataloader.dataset, num_classes=known + NUM_UNKNOWN)
    dataset = ClassSubset(DATASETS.build(characters), known, others='unknown')
    loader = DataLoader(dataset, config.test_dataloader.batch_size, collate_fn=pseudo_collate)
    with torch.no_grad():
        scores = [
            model(model.data_preprocessor(batch)['inputs'], mode='tensor').sigmoid()
            for batch in loader
        ]
    return [dataset.get_data_info(i) for i in range(len(dataset))], torch.cat(scores)


def choose(
    infos: list[dict], scores: torch.Tensor, num: int = 12, num_wrong: int = 4, seed: int = 0
) -> list[int]:
    """Choose test images at random, at most ``num_wrong`` of them wrongly classified."""
    order = np.random.default_rng(seed).permutation(len(infos))
    labels = np.array([info['gt_label'] for info in infos])
    is_right = scores.argmax(1).numpy() == labels
    wrong = [int(i) for i in order if not is_right[i]][:num_wrong]
    return [int(i) for i in order if is_right[i]][: num - len(wrong)] + wrong


def draw(
    log_file: Path,
    infos: list[dict],
    scores: torch.Tensor,
    classes: tuple[str, ...],
    shown: list[int],
    threshold: float,
) -> Figure:
    """Draw the learning curves above images with their highest sigmoid scores."""
    rows = [json.loads(line) for line in log_file.read_text().splitlines()]
    train = [row for row in rows if 'loss' in row]
    val = [row for row in rows if 'accuracy/top1' in row]

    figure = Figure(figsize=(12, 5.6), layout='constrained')
    curves, glyphs = figure.subfigures(2, 1, height_ratios=(1, 1.1))
    top1 = f'top-1 on held-out faces, % (last: {val[-1]["accuracy/top1"]:.1f})'
    panels = (
        ('HS-LR loss', train, 'iter', 'loss', 'iteration'),
        ('ratio: share of the classes selected', train, 'iter', 'ratio', 'iteration'),
        (top1, val, 'step', 'accuracy/top1', 'epoch'),
    )
    for axis, (title, source, x, y, label) in zip(curves.subplots(1, 3), panels, strict=True):
        axis.plot([row[x] for row in source], [row[y] for row in source], 'k.-')
        axis.set(title=title, xlabel=label, yscale='log' if y == 'ratio' else 'linear')
        axis.grid(alpha=0.3)

    glyphs.suptitle(
        'Test images and their three highest sigmoid scores; black: the right class; '
        f'below {threshold:.2f}: none of these'
    )
    for cell, i in zip(glyphs.subfigures(2, 6).flat, shown, strict=False):
        image, bars = cell.subplots(1, 2)
        if scores[i].max() < threshold:
            known = 'known' if infos[i]['gt_label'] >= 0 else 'never trained'
            cell.suptitle(f'{NONE_OF_THESE} ({known})', fontsize=9)
        image.imshow(infos[i]['img'], cmap='gray')
        image.axis('off')
        top = scores[i].topk(3)
        colors = ['k' if int(j) == infos[i]['gt_label'] else 'w' for j in top.indices]
        bars.barh(range(3), top.values.tolist(), color=colors, edgecolor='k')
        bars.set_yticks(range(3), [classes[int(j)] for j in top.indices], fontsize=12)
        bars.axvline(threshold, color='0.6', linestyle='dotted')
        bars.set(xlim=(0, 1), xticks=(0, 1), box_aspect=1)
        bars.invert_yaxis()
    return figure


def main() -> None:
    """Train, test, draw."""
    args = parse_args()
    options = ['--cfg-options', *(f'{key}={value}' for key, value in OPTIONS.items())]
    options += args.cfg_options
    run_command('train', CONFIG, '--work-dir', args.work_dir, *options)
    checkpoint = find_latest_checkpoint(args.work_dir)
    metrics_file = args.work_dir / 'metrics.json'
    run_command(
        'test',
        CONFIG,
        checkpoint,
        '--work-dir',
        args.work_dir,
        '--out',
        metrics_file,
        '--out-item',
        'metrics',
        *options,
    )

    # What it was trained with, options included, as it is written down there.
    config = mmengine.Config.fromfile(args.work_dir / Path(CONFIG).name)
    logs = sorted(args.work_dir.glob('*/vis_data/scalars.json'))
    # tools/test.py logs there as well; the last log of training holds its loss.
    log_file = next(log for log in reversed(logs) if '"loss"' in log.read_text())
    infos, scores = predict(config, checkpoint)
    is_known = np.array([info['gt_label'] >= 0 for info in infos])
    num_known, best = int(is_known.sum()), scores.amax(1).numpy()
    threshold = threshold_at(best[is_known], ACCEPTED)
    rejected = np.flatnonzero(~is_known & (best < threshold))
    shown = choose(infos[:num_known], scores[:num_known])
    # One of the unknown characters takes the place of a right one.
    shown = [*shown[1:], *np.random.default_rng(0).permutation(rejected)[:1].tolist()]
    figure = draw(log_file, infos, scores, glyph_characters(), shown, threshold)
    files = save_figure(figure, args.work_dir / 'demo.png', dpi=120)
    image_file = args.work_dir / 'glyph.png'
    mmcv.imwrite(infos[shown[0]]['img'], str(image_file))
    top1 = mmengine.load(metrics_file)['accuracy/top1']
    print(
        f'top-1: {top1:.1f} %\n'
        f'{NONE_OF_THESE}, where no score reaches {threshold:.3f}: {1 - ACCEPTED:.0%} of the test '
        f'images, {len(rejected) / (~is_known).sum():.0%} of those of unknown characters\n'
        f'image to try: {image_file}\n'
        f'figure: {" ".join(map(str, files))}'
    )


if __name__ == '__main__':
    main()
