"""The counted pairs against a naive loop, and a figure from a checkpoint."""

import csv
import runpy
from collections import defaultdict

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmpretrain import get_model

from tests.tools.conftest import ROOT, options

SCRIPT = ROOT / 'tools/analysis/confusions.py'
GLYPHS = ROOT / 'configs/glyphs/resnet18_b128-hslr_glyphs.py'
SMALL = {
    'test_dataloader.dataset.num_classes': 20,
    'test_dataloader.dataset.data_root': 'glyphs',
    'test_dataloader.num_workers': 0,
    'model.head.num_classes': 20,
}


def test_count_pairs():
    rng = np.random.default_rng(0)
    labels = rng.integers(5, size=40)
    picked = np.stack([rng.permutation(np.delete(np.arange(5), label))[:2] for label in labels])
    probabilities = rng.random(picked.shape)
    found = defaultdict(list)
    for label, row, values in zip(labels, picked, probabilities, strict=True):
        for negative, value in zip(row, values, strict=True):
            found[label, negative].append(value)
    expected = sorted(
        ((i, j, len(values), np.mean(values)) for (i, j), values in found.items()),
        key=lambda pair: (-pair[2], -pair[3]),
    )
    pairs = runpy.run_path(str(SCRIPT))['count_pairs'](labels, picked, probabilities)
    np.testing.assert_allclose(np.stack(pairs, 1), expected)


def test_a_character_is_named_by_its_code_point():
    title = runpy.run_path(str(SCRIPT))['class_title']
    assert title('\u02bc') == 'U+02BC\nModifier letter\napostrophe'
    assert title('L') == 'U+004C\nLatin capital\nletter l'
    assert title('Persian cat') == 'Persian cat'
    assert title('one two three four five six seven', lines=2) == 'one two three\nfour five six …'
    assert title('\ue000') == 'U+E000\nUnnamed'


def test_figure_of_a_checkpoint(run_tool, tmp_path):
    torch.manual_seed(0)
    cfg = Config.fromfile(GLYPHS)
    cfg.model.head.num_classes = 20
    model = get_model(cfg)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'model.pth')
    args = (GLYPHS, 'model.pth', '--out', 'pairs.png', '--csv', 'pairs.csv', '--num-pairs', 3)
    status, output = run_tool('analysis/confusions.py', *args, '--ratio', 0.1, *options(SMALL))
    assert status == 0, output
    assert (tmp_path / 'pairs.png').is_file() and (tmp_path / 'pairs.svg').is_file()
    with (tmp_path / 'pairs.csv').open(newline='') as file:
        rows = list(csv.DictReader(file))
    # 20 characters in three faces, two negatives of 20 for each image
    assert sum(int(row['images']) for row in rows) == 20 * 3 * 2
    assert all(row['class'] != row['negative'] for row in rows)
    counts = [int(row['images']) for row in rows]
    assert counts == sorted(counts, reverse=True) and max(counts) <= 3
    first = rows[0]
    assert f'| {first["class"]} | {first["negative"]} | {first["images"]} |' in output


@pytest.mark.parametrize(
    ('more', 'message'),
    [
        (('--ratio', 2), '`ratio` to be in (0, 1], but got 2'),
        (('--cfg-options', 'foo'), "--cfg-options: expected KEY=VALUE, but got 'foo'"),
        (
            ('--cfg-options', 'model.head.loss.type=X', 'model.head.loss.ratio=None'),
            'X has no ratio',
        ),
        (('--num-pairs', 0), '--num-pairs'),
    ],
)
def test_wrong_arguments_are_one_line(run_tool, tmp_path, more, message):
    (tmp_path / 'model.pth').touch()
    for config in (GLYPHS, f'frlr_mm::glyphs/{GLYPHS.name}'):
        args = (config, 'model.pth', '--out', 'pairs.png')
        status, output = run_tool('analysis/confusions.py', *args, *more)
        assert status != 0 and message in output and 'Traceback' not in output
