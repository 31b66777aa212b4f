import json
import re

import numpy as np
import onnxruntime
import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS
from mmpretrain import ImageClassificationInferencer
from PIL import Image

from frlr_mm.commands import export_onnx
from frlr_mm.commands.export_onnx import main
from tests.commands.conftest import SMALL, recipe
from tests.tools.conftest import ROOT, options


@pytest.mark.usefixtures('quiet_tracing')
def test_file_of_a_checkpoint(run, save_model, tmp_path, capsys):
    """What mmpretrain's inferencer predicts comes out of the file."""
    cfg = Config.fromfile(recipe('hslr'))
    cfg.merge_from_dict(dict(SMALL))
    # One stage of four: tracing takes longer than all else.
    cfg.model.backbone.update(num_stages=1, strides=(2,), dilations=(1,), out_indices=(0,))
    cfg.model.head.in_channels = 16
    cfg.dump('small.py')
    checkpoint = save_model('small.py', {})
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    images = [dataset.get_data_info(i)['img'] for i in range(6)]  # grey: RGB is BGR
    best = [each['pred_score'] for each in ImageClassificationInferencer(cfg, checkpoint)(images)]
    cfg.model.reject_below = threshold = sum(sorted(best)[2:4]) / 2  # half of them
    more = options({'model.reject_below': threshold})
    args = ('small.py', checkpoint, '--out', 'model.onnx', *more)
    status, output = run(main, *args)
    assert status == 0, output
    assert 'model.onnx: opset 18, image uint8 (N, 32, 32, 3) -> scores' in output
    found = re.search(r'over 4 random and 8 test images: (\S+)$', output, re.MULTILINE)
    assert float(found[1]) < 1e-4

    expected = ImageClassificationInferencer(cfg, checkpoint)(images)
    session = onnxruntime.InferenceSession('model.onnx')
    (scores,) = session.run(None, dict(image=np.stack(images)))
    about = session.get_modelmeta().custom_metadata_map
    assert len(json.loads(about['classes'])) == 8 and about['loss'] == 'HSLRLoss'
    assert json.loads(about['threshold']) == threshold
    for row, result in zip(scores, expected, strict=True):
        np.testing.assert_allclose(row, result['pred_scores'], atol=1e-5)
        label = row.argmax() if row.max() >= threshold else -1
        assert label == result['pred_label']

    # The lines of the page print the same.
    text = re.findall(r'```python\n(.*?)```', (ROOT / 'docs/scores.md').read_text(), re.DOTALL)
    for image, result in zip(images, expected, strict=True):
        Image.fromarray(image).save('image.png')
        capsys.readouterr()
        exec(text[-1], {})
        name, score = capsys.readouterr().out.rsplit(' ', 1)
        assert name == result['pred_class']
        assert float(score) == pytest.approx(result['pred_score'], abs=1e-4)
    assert {result['pred_label'] >= 0 for result in expected} == {True, False}


@pytest.mark.parametrize('old', ['the good file of before', None])
def test_a_file_that_differs_is_not_kept(old, run, save_model, tmp_path, monkeypatch):
    def fail(*args):
        raise ValueError('onnxruntime has no such kernel')

    monkeypatch.setattr(export_onnx, 'write_onnx', lambda model, shape, path, about: path.touch())
    args = (recipe('hslr'), save_model(recipe('hslr')), '--out', 'model.onnx', '--num-images', 0)
    if old:
        (tmp_path / 'model.onnx').write_text(old)
    before = sorted(tmp_path.iterdir())
    for compare, message in (
        (lambda *args: float('nan'), 'at most 0.0001, but got nan; the file is not kept'),
        (fail, 'onnxruntime has no such kernel'),
    ):
        monkeypatch.setattr(export_onnx, 'largest_difference', compare)
        status, output = run(main, *args, '--shape', 32, 32, *options(SMALL))
        assert status != 0 and message in output
        assert sorted(tmp_path.iterdir()) == before
        assert not old or (tmp_path / 'model.onnx').read_text() == old


def test_missing_packages_are_one_line(run, monkeypatch):
    monkeypatch.setattr(export_onnx, '_PACKAGES', ('onnx', 'no_such_package'))
    status, output = run(main, recipe('hslr'), 'model.pth', '--out', 'model.onnx')
    assert status != 0 and "no_such_package missing: pip install 'frlr_mm[export]'" in output


@pytest.mark.parametrize(
    ('more', 'message'),
    [
        (('--out', 'model.pb'), '--out to end in .onnx, but got model.pb'),
        (('--out', 'm.onnx', '--num-images', -1), '--num-images to be at least 0, but got -1'),
        (('--out', 'm.onnx', '--num-images', 0), '--shape where --num-images is 0'),
        (('--out', 'm.onnx', '--shape', 16, 16), 'of 16 x 16, but got [(32, 32)]'),
    ],
)
def test_wrong_arguments_are_one_line(more, message, run, save_model):
    checkpoint = save_model(recipe('hslr'))
    status, output = run(main, recipe('hslr'), checkpoint, *more, *options(SMALL))
    assert status != 0 and message in output and 'Traceback' not in output
