import re

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS
from mmpretrain import ImageClassificationInferencer
from PIL import Image

from frlr_mm.commands.calibrate import main
from frlr_mm.engine.safe_load import load
from tests.commands.conftest import SMALL, recipe
from tests.tools.conftest import options

LINE = r'(\d+) images of (\w+): scale (\S+), shift (\S+)'


def read(output):
    """Return images, split, scale, shift, and the measures of each row of the table."""
    num, split, *numbers = re.search(LINE, output).groups()
    header, _, *rows = [
        line.strip('| ').split(' | ') for line in output.splitlines() if '|' in line
    ]
    values = {row[0]: dict(zip(header[-len(row) + 1 :], map(float, row[1:]))) for row in rows}
    return int(num), split, *map(float, numbers), values


@pytest.mark.parametrize(('loss', 'scores'), [('hslr', 'top'), ('hslr', 'all'), ('sr', 'top')])
def test_calibrates_a_copy_once(loss, scores, run, save_model, tmp_path):
    checkpoint = save_model(recipe(loss), optimizer=dict(a=1))
    original = (tmp_path / checkpoint).read_bytes()
    args = (recipe(loss), checkpoint, '--out', 'new/calibrated.pth', '--figure', 'diagram.png')
    more = ('--scores', scores, *options(SMALL))
    status, output = run(main, *args, *more)
    assert status == 0, output
    num, split, scale, shift, values = read(output)
    assert (num, split) == (8 * 3, 'val') and scale != 1
    assert (shift == 0) == (loss == 'sr')
    kind = dict(top='ece', all='bce')[scores] if loss == 'hslr' else 'nll'
    assert values['after'][kind] < values['before'][kind]
    assert (tmp_path / checkpoint).read_bytes() == original
    with Image.open(tmp_path / 'diagram.png') as figure:
        assert len(figure.convert('L').getcolors()) > 50

    old, new = load(checkpoint), load('new/calibrated.pth')
    assert set(new) == {'state_dict', 'meta'} and new['meta']['epoch'] == 3
    assert new['meta']['calibration'] == pytest.approx(dict(scale=scale, shift=shift), rel=1e-4)
    changed = {
        key
        for key, value in old['state_dict'].items()
        if not torch.equal(value, new['state_dict'][key])
    }
    assert changed == {'head.fc.weight', 'head.fc.bias'}

    # mmpretrain's own inferencer gets them from the weights.
    cfg = Config.fromfile(recipe(loss))
    cfg.merge_from_dict(dict(SMALL))
    image = DATASETS.build(cfg.test_dataloader.dataset).get_data_info(0)['img']
    before, after = (
        ImageClassificationInferencer(cfg, path)(image)[0]['pred_scores'].astype(np.float64)
        for path in (checkpoint, 'new/calibrated.pth')
    )
    if loss == 'hslr':
        logits = np.log(before) - np.log1p(-before)
        expected = 1 / (1 + np.exp(-(scale * logits + shift)))
    else:
        expected = before**scale / (before**scale).sum()
    np.testing.assert_allclose(after, expected, rtol=1e-3, atol=1e-6)

    args = (recipe(loss), 'new/calibrated.pth', '--out', 'again.pth', *more)
    status, output = run(main, *args)
    assert status == 0 and 'calibrated already' in output
    assert read(output)[2:4] == (1, 0) and read(output)[4]['before'] == values['after']
    again = load('again.pth')
    for key, value in new['state_dict'].items():
        assert torch.equal(value, again['state_dict'][key])
    assert again['meta']['calibration'] == new['meta']['calibration']


def test_several_labels(run, save_model):
    config = recipe('sslr', '-attr')
    loaders = {key: value for key, value in SMALL.items() if 'num_classes' not in key}
    loaders |= {f'{split}_dataloader.dataset.indices': 300 for split in ('val', 'test')}
    checkpoint = save_model(config, options=loaders)
    args = (config, checkpoint, '--out', 'c.pth', '--split', 'test', *options(loaders))
    status, output = run(main, *args)
    assert status == 0, output
    num, split, _, _, values = read(output)
    assert (num, split) == (300, 'test')
    assert values['after']['bce'] < values['before']['bce']


@pytest.mark.parametrize(
    ('loss', 'kind', 'more', 'message'),
    [
        ('hslr', '', ('--figure', 'a.jpg'), 'end in .png or .svg'),
        ('hslr', '', ('--cfg-options', 'foo'), "--cfg-options: expected KEY=VALUE, but got 'foo'"),
        ('hslr', '', ('--cfg-options', 'val_dataloader=None'), 'to have a val_dataloader'),
        ('hslr', '-id', (), 'a head that predicts classes, but got BNNeckHead'),
    ],
)
def test_wrong_arguments_are_one_line(loss, kind, more, message, run, save_model):
    checkpoint = save_model(recipe(loss, kind))
    if '--cfg-options' not in more:
        more += tuple(options(SMALL))
    status, output = run(main, recipe(loss, kind), checkpoint, '--out', 'c.pth', *more)
    assert status != 0 and message in output and 'Traceback' not in output


def test_checkpoint_is_not_overwritten(run, save_model, tmp_path, monkeypatch):
    checkpoint = save_model(recipe('hslr'), optimizer=dict(a=1))
    original = (tmp_path / checkpoint).read_bytes()
    (tmp_path / 'link.pth').symlink_to(checkpoint)
    monkeypatch.setattr('frlr_mm.commands.calibrate.predict_logits', None)
    for out in (checkpoint, tmp_path / checkpoint, 'link.pth'):
        status, output = run(main, recipe('hslr'), checkpoint, '--out', out, *options(SMALL))
        assert (
            status != 0
            and f'`--out` to be another file than the checkpoint, but got {out}' in output
        )
    assert (tmp_path / checkpoint).read_bytes() == original


def test_missing_files_are_one_line(run):
    status, output = run(main, recipe('hslr'), 'no.pth', '--out', 'c.pth')
    assert status != 0 and 'checkpoint not found: no.pth' in output
