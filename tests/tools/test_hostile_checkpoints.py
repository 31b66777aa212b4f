"""No checkpoint runs code, whichever way it is loaded."""

import pickle
import re
from fractions import Fraction

import pytest
import torch
from mmengine.config import Config
from mmpretrain import ImageClassificationInferencer

from frlr_mm.engine import safe_load
from tests.support.hostile import Evil, allowed, code_that_creates

from .conftest import ROOT, SMALL_GLYPHS, options

GLYPHS = ROOT / 'configs/glyphs/resnet18_b128-hslr_glyphs.py'
SMALL = [
    '--work-dir',
    'run',
    *options(SMALL_GLYPHS),
    'train_dataloader.dataset.samples_per_face=1',
]


@pytest.fixture
def commands():
    """The command lines that load a checkpoint."""
    return {
        'resume': lambda path: ('train.py', GLYPHS, '--resume', path, *SMALL),
        'load_from': lambda path: ('train.py', GLYPHS, *SMALL, f'load_from={path}'),
        'test': lambda path: ('test.py', GLYPHS, path, *SMALL),
    }


def test_malicious_checkpoint(run_tool, tmp_path, commands):
    torch.save(dict(state_dict={}, meta={}, extra=Evil(tmp_path / 'made')), 'evil.pth')
    for name, command in commands.items():
        status, output = run_tool(*command('evil.pth'))
        last = output.strip().splitlines()[-1]
        assert status == 1, name
        assert re.match(r'(train|test)\.py: error: Refused the checkpoint evil\.pth, ', last), name
        assert 'posix.mkdir' in last and 'Traceback' not in output, name
    with pytest.raises(pickle.UnpicklingError, match=r'Refused the checkpoint evil\.pth'):
        ImageClassificationInferencer(str(GLYPHS), 'evil.pth')
    assert not (tmp_path / 'made').exists()


def test_code_in_the_config_of_a_checkpoint(run_tool, tmp_path, commands):
    status, _ = run_tool('train.py', GLYPHS, *SMALL, 'train_cfg.max_epochs=1')
    assert status == 0
    checkpoint = safe_load.load('run/epoch_1.pth')
    code = code_that_creates(tmp_path / 'made')
    checkpoint['meta'].update(config=code, cfg=code)
    checkpoint['message_hub']['runtime_info']['cfg'] = code
    torch.save(checkpoint, 'evil.pth')
    status, output = run_tool(*commands['resume']('evil.pth'), 'train_cfg.max_epochs=2')
    assert status == 0
    assert 'resumed epoch: 1' in output
    ImageClassificationInferencer(str(GLYPHS), 'evil.pth')
    assert not (tmp_path / 'made').exists()
    assert 'Ignored the config inside of evil.pth' in output

    # What was closed: the text is Python that mmengine runs where it gets at it.
    Config.fromstring(code, file_format='.py')
    assert (tmp_path / 'made').exists()


def test_old_checkpoint_is_allowed_on_purpose(run_tool, tmp_path, monkeypatch, commands):
    torch.save(dict(state_dict={}, meta=dict(learning_rate=Fraction(1, 2))), 'old.pth')
    status, output = run_tool(*commands['test']('old.pth'))
    assert status == 1
    assert 'fractions.Fraction' in output and '`custom_imports`' in output

    advice = safe_load.HOW_TO_ALLOW.replace('...', 'fractions.Fraction').replace(
        'name: type', '"fractions.Fraction": fractions.Fraction'
    )
    assert safe_load.HOW_TO_ALLOW in output
    (tmp_path / 'my_types.py').write_text(
        f'import fractions\nimport torch\nimport frlr_mm.engine.safe_load\n{advice}\n'
    )
    (tmp_path / 'my_config.py').write_text(
        f'_base_ = {str(GLYPHS)!r}\ncustom_imports = dict(imports=["frlr_mm", "my_types"])\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    with allowed():  # what the module allows ends here
        status, output = run_tool('test.py', 'my_config.py', 'old.pth', '--allow-mismatch', *SMALL)
    assert status == 0 and 'accuracy/top1' in output
