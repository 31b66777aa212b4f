import re

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS
from mmpretrain import ImageClassificationInferencer

from frlr_mm.commands.choose_threshold import limit_errors, main
from frlr_mm.evaluation.open_set import threshold_at
from tests.commands.conftest import SMALL, recipe
from tests.tools.conftest import options

SCORE = np.array([0.9, 0.8, 0.8, 0.7, 0.6, 0.5, 0.5, 0.4, 0.3, 0.1])
RIGHT = np.array([1, 1, 1, 0, 1, 1, 0, 0, 1, 0], bool)


@pytest.mark.parametrize(('share', 'expected'), [(0.01, 0.9), (0.3, 0.8), (0.31, 0.7), (1, 0.1)])
def test_accepts_a_share(share, expected):
    assert threshold_at(SCORE[::-1], share) == expected
    assert (expected <= SCORE).mean() >= share > (expected < SCORE).mean()


@pytest.mark.parametrize('share', [0.0, 0.2, 0.25, 0.3, 0.5])
def test_limits_errors(share):
    """The least of the scores that do, by a loop over all of them."""
    order = np.random.default_rng(0).permutation(10)
    fitting = [t for t in SCORE if (~RIGHT[t <= SCORE]).mean() <= share]
    assert limit_errors(SCORE[order], RIGHT[order], share) == min(fitting)


def test_no_threshold_limits_the_errors():
    with pytest.raises(ValueError, match='even the least share is 0.25'):
        limit_errors(np.array([0.5, 0.5, 0.5, 0.5]), RIGHT[:4], 0.1)


OPEN = {
    'val_dataloader.dataset': dict(
        type='ClassSubset',
        classes=8,
        others='unknown',
        _delete_=True,
        dataset=dict(
            type='GlyphDataset',
            split='test',
            num_classes=12,
            samples_per_face=1,
            data_root='glyphs',
            pipeline=[dict(type='PackInputs')],
        ),
    )
}


def read(output):
    """Return the threshold and the shares in the table."""
    rows = re.findall(r'^\| (.*?) \| (\S+) % \| (\d+) \|$', output, re.MULTILINE)
    threshold = re.search(r'model\.reject_below=(\S+)', output)[1]
    return threshold, {what: (float(share), int(of)) for what, share, of in rows}


def test_the_threshold_does_what_was_said(run, save_model, tmp_path):
    """It comes out of the inferencer, given as text, as it went in."""
    cfg = Config.fromfile(recipe('hslr'))
    cfg.merge_from_dict(dict(SMALL))
    cfg.merge_from_dict(OPEN)
    cfg.dump('open.py')
    checkpoint = save_model('open.py', options={})
    status, output = run(main, 'open.py', checkpoint, '--accept', 0.75)
    assert status == 0, output
    threshold, rows = read(output)
    assert rows['known images accepted'] == (75.0, 24)
    assert rows['unknown images accepted'][1] == 12
    accepted = 18 + round(12 * rows['unknown images accepted'][0] / 100)
    assert rows['errors among accepted images'][1] == accepted

    cfg.model.reject_below = float(threshold)
    dataset = DATASETS.build(cfg.val_dataloader.dataset)
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    results = ImageClassificationInferencer(cfg, checkpoint)([info['img'] for info in infos])
    shown = [result['pred_label'] >= 0 for result in results]
    assert sum(shown[:24]) == 18 and sum(shown) == accepted
    assert all((r['pred_class'] == 'none of these') == (not s) for r, s in zip(results, shown))


def test_limits_errors_of_a_checkpoint(run, save_model):
    checkpoint = save_model(recipe('lr'))
    status, output = run(main, recipe('lr'), checkpoint, '--error', 1.0, *options(SMALL))
    assert status == 0, output
    _, rows = read(output)
    assert rows['known images accepted'] == (100.0, 24)
    assert rows['errors among accepted images'] == rows['errors among known images, all accepted']


@pytest.mark.parametrize(
    ('loss', 'kind', 'more', 'message'),
    [
        ('sr', '', ('--accept', 0.5), 'a LogisticClassifier of single labels, but got ImageCl'),
        ('hslr', '-id', ('--accept', 0.5), 'with BNNeckHead'),
        ('hslr', '', ('--accept', 1.5), '--accept to be in (0, 1], but got 1.5'),
        ('hslr', '', ('--error', 0), '--error to be in (0, 1], but got 0'),
        ('hslr', '', (), 'one of the arguments --accept --error is required'),
    ],
)
def test_wrong_arguments_are_one_line(loss, kind, more, message, run, save_model):
    checkpoint = save_model(recipe(loss, kind))
    status, output = run(main, recipe(loss, kind), checkpoint, *more, *options(SMALL))
    assert status != 0 and message in output and 'Traceback' not in output
