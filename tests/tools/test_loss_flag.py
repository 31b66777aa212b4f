"""tools/train.py --loss, the config that it leaves, and tools/convert_config.py."""

import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmpretrain import ImageClassificationInferencer
from mmpretrain.datasets import CIFAR10

from tests.support.small_recipes import load_cifar

from .conftest import ROOT, SMALL_GLYPHS, load, options

SOFTMAX = ROOT / 'configs/glyphs/resnet18_b128-sr_glyphs.py'
SMALL = [*options(SMALL_GLYPHS), 'train_cfg.max_epochs=1', 'val_cfg=None', 'val_evaluator=None']
SMALL += ['val_dataloader=None']


def weights(folder):
    return load(Path(folder, 'epoch_1.pth'))['state_dict']


def assert_equal(mine, other):
    assert mine.keys() == other.keys()
    assert all(torch.equal(value, other[name]) for name, value in mine.items())


def test_flag_leaves_a_plain_config_that_repeats_the_run(run_tool, tmp_path):
    status, output = run_tool('train.py', SOFTMAX, '--loss', 'hslr', *SMALL)
    assert status == 0, output[-3000:]
    assert "\n+ model.head.loss = dict(type='HSLRLoss', alpha='sum', ratio=0.3)\n" in output
    assert "\n+ custom_hooks: dict(type='PriorBiasHook')\n" in output
    assert re.search(r'ratio: 0\.\d+ +loss: \d', output)
    # The name says the loss, so that a softmax run beside it is another one.
    folder = Path('work_dirs/resnet18_b128-hslr_glyphs')
    plain = folder / 'resnet18_b128-hslr_glyphs.py'
    text = plain.read_text()
    assert '_base_' not in text and isinstance(Config.fromfile(plain).randomness.seed, int)

    status, output = run_tool('train.py', plain, '--work-dir', 'again')
    assert status == 0, output[-3000:]
    assert_equal(weights(folder), weights('again'))

    # With the same seed, so does the config that is written without training.
    seed = Config.fromfile(plain).randomness.seed
    status, output = run_tool(
        'convert_config.py', SOFTMAX, '--loss', 'hslr', '--out', 'my/c.py', *options(SMALL_GLYPHS)
    )
    assert status == 0, output
    assert output.splitlines()[-1] == 'config: my/c.py'
    args = ['--work-dir', 'converted', *SMALL, f'randomness.seed={seed}']
    status, output = run_tool('train.py', 'my/c.py', *args)
    assert status == 0, output[-3000:]
    assert_equal(weights(folder), weights('converted'))
    # ... and tools that know nothing of the plugin read both.
    for config in (plain, 'my/c.py'):
        model = ImageClassificationInferencer(str(config), str(folder / 'epoch_1.pth')).model
        assert type(model.head.loss_module).__name__ == 'HSLRLoss'


def test_names_of_packages_and_the_default_file(run_tool):
    for config, out in (
        ('mmpretrain::resnet/resnet18_8xb16_cifar10.py', 'resnet18_8xb16-sslr_cifar10.py'),
        ('frlr_mm::glyphs/resnet18_b128-sr_glyphs.py', 'resnet18_b128-sslr_glyphs.py'),
    ):
        status, output = run_tool('convert_config.py', config, '--loss', 'sslr')
        assert status == 0 and output.splitlines()[-1] == f'config: {out}', output
        assert Config.fromfile(out).model.head.loss.type == 'SSLRLoss'


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (
            ['mmpretrain::resnet/resnet18.py', '--loss', 'lr'],
            'config not found: mmpretrain::resnet/resnet18.py; did you mean mmpretrain::resn',
        ),
        (
            ['frlr_mm::glyphs/resnet18_b128-sr_glyph.py', '--loss', 'lr'],
            'did you mean frlr_mm::glyphs/resnet18_b128-sr_glyphs.py?',
        ),
        (
            ['mmpretrain::mae/mae_vit-base-p16_8xb512-amp-coslr-300e_in1k.py', '--loss', 'lr'],
            'Expected a recipe with a classification loss to replace, but MAEPretrainHead does no',
        ),
        ([SOFTMAX, '--loss', 'lr', '--out', SOFTMAX], '`--out` to be another file than the recip'),
        ([SOFTMAX, '--loss', 'sr'], "argument --loss: invalid choice: 'sr'"),
        ([SOFTMAX, '--loss', 'lr', '--cfg-options', 'modle.x=1'], "did you mean 'model'?"),
    ],
)
def test_mistakes_are_one_line(run_tool, args, message):
    before = SOFTMAX.read_text()
    for tool in ('convert_config.py', 'train.py'):
        if tool == 'train.py' and '--out' in args:
            continue
        status, output = run_tool(tool, *args)
        assert status in (1, 2) and 'Traceback' not in output
        last = output.strip().splitlines()[-1]
        assert last.startswith(f'{tool}: error: ') and message in last
    assert SOFTMAX.read_text() == before


def test_stock_recipe_by_its_name(run_tool, monkeypatch):
    """The command that README shows, on a few pictures in place of the archive."""
    monkeypatch.setattr(CIFAR10, 'load_data_list', load_cifar)
    few = ['train_cfg.max_epochs=1', 'default_hooks.logger.interval=1']
    for split in ('train', 'val'):
        few += [f'{split}_dataloader.num_workers=0', f'{split}_dataloader.batch_size=2']
        few += [f'{split}_dataloader.persistent_workers=False']
    stock = 'mmpretrain::resnet/resnet18_8xb16_cifar10.py'
    status, output = run_tool('train.py', stock, '--loss', 'hslr', '--cfg-options', *few)
    assert status == 0, output[-3000:]
    assert re.search(r'Epoch\(train\) \[1\]\[2/2\].* ratio: 0\.\d+ +loss: \d', output)
    assert 'PriorBiasHook: head.fc.bias from 4 images, 10 classes' in output
    assert Path('work_dirs/resnet18_8xb16-hslr_cifar10/epoch_1.pth').is_file()
    assert "\n+ custom_imports.imports: 'frlr_mm'\n" in output and 'The config uses' not in output
    # Two warnings of the stack that say nothing to a user.
    assert 'pkg_resources' not in output and 'MultiScaleDeformableAttention' not in output
