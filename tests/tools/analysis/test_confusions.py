"""The counted pairs against a naive loop, and a figure from a checkpoint."""

import csv
import runpy
from collections import defaultdict

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmpretrain import get_model
from mmpretrain.registry import MODELS
from torch import nn

from frlr_mm.functional import num_selected
from frlr_mm.models.losses import HSLRLoss
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


def smoothed(loss):
    return dict(type='LabelSmoothFRLRLoss', loss=loss, label_smooth_val=0.1)


@pytest.mark.parametrize('wrap', [dict, smoothed])
def test_ratio_is_that_of_the_built_loss(wrap):
    choose_ratio = runpy.run_path(str(SCRIPT))['choose_ratio']

    def choose(loss, ratio=None):
        model = nn.Module()
        model.head = nn.Module()
        model.head.loss_module = MODELS.build(wrap(loss))
        return choose_ratio(model, ratio)

    assert choose(dict(type='HSLRLoss')) == HSLRLoss().ratio
    assert choose(dict(type='HSLRLoss', ratio=0.3)) == 0.3
    assert choose(dict(type='HSLRLoss', ratio=0.3), 0.2) == 0.2
    assert choose(dict(type='SSLRLoss'), 0.2) == 0.2
    with pytest.raises(ValueError, match='Loss has no ratio: give one by --ratio'):
        choose(dict(type='SSLRLoss'))


def test_images_of_unknown_classes_are_left_out(run_tool, tmp_path):
    """The ratio is the default of a loss inside another."""
    cfg = Config.fromfile(GLYPHS)
    cfg.model.head.num_classes = 10
    cfg.model.head.loss = smoothed(dict(type='HSLRLoss'))
    loader = cfg.test_dataloader
    loader.num_workers, loader.persistent_workers = 0, False
    data = dict(loader.dataset, num_classes=20, data_root='glyphs')
    loader.dataset = dict(type='ClassSubset', dataset=data, classes=10, others='unknown')
    config = tmp_path / 'config.py'
    cfg.dump(config)
    torch.save(dict(state_dict=get_model(cfg).state_dict()), tmp_path / 'model.pth')
    args = (config, 'model.pth', '--out', 'pairs.png', '--csv', 'pairs.csv')
    status, output = run_tool('analysis/confusions.py', *args)
    assert status == 0, output
    with (tmp_path / 'pairs.csv').open(newline='') as file:
        rows = list(csv.DictReader(file))
    k = num_selected(10, HSLRLoss().ratio)
    assert sum(int(row['images']) for row in rows) == 10 * 3 * k


def test_several_labels_per_image_are_refused(run_tool, tmp_path):
    cfg = Config.fromfile(GLYPHS)
    cfg.model.head.update(type='MultiLabelLinearClsHead', num_classes=20)
    cfg.dump(tmp_path / 'config.py')
    torch.save(dict(state_dict=get_model(cfg).state_dict()), tmp_path / 'model.pth')
    args = ('config.py', 'model.pth', '--out', 'pairs.png')
    status, output = run_tool('analysis/confusions.py', *args)
    assert status != 0 and 'Traceback' not in output
    assert 'Expected a head of one label per image, but got MultiLabelLinearClsHead' in output


@pytest.mark.parametrize(
    ('more', 'message'),
    [
        (('--ratio', 2), '`ratio` to be in (0, 1], but got 2'),
        (('--cfg-options', 'foo'), "--cfg-options: expected KEY=VALUE, but got 'foo'"),
        (('--num-pairs', 0), '--num-pairs'),
    ],
)
def test_wrong_arguments_are_one_line(run_tool, tmp_path, more, message):
    (tmp_path / 'model.pth').touch()
    for config in (GLYPHS, f'frlr_mm::glyphs/{GLYPHS.name}'):
        args = (config, 'model.pth', '--out', 'pairs.png')
        status, output = run_tool('analysis/confusions.py', *args, *more)
        assert status != 0 and message in output and 'Traceback' not in output
