import json
import re

import mmengine
import pytest
import torch
from mmpretrain import ImageClassificationInferencer
from PIL import Image

from .conftest import ROOT, SMALL_GLYPHS, options

GLYPHS = ROOT / 'configs/glyphs/resnet18_b128-hslr_glyphs.py'


def val_lines(output):
    return re.findall(r'Epoch\(val\) \[(\d+)\]\[\d+/\d+\] +accuracy/top1', output)


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (['nowhere.py'], 'config not found: nowhere.py'),
        ([GLYPHS, '--cfg-options', 'foo'], "expected KEY=VALUE, but got 'foo'"),
        (
            [GLYPHS, *options({'trian_cfg.max_epochs': 1})],
            "no field 'trian_cfg'; did you mean 'train_cfg'?",
        ),
        (
            [GLYPHS, *options({'train_cfg.max_epoch': 1})],
            "SeededEpochTrainLoop has no such argument; did you mean 'max_epochs'?",
        ),
        (
            [GLYPHS, *options({'model.head.loss.alpha': -1})],
            'Expected `alpha` to be in [0, inf), but got -1',
        ),
        (
            [GLYPHS, *options({'model.head.loss.alpha.x': 1})],
            'alpha is a dict in the child config',
        ),
        (
            [
                GLYPHS,
                *options(SMALL_GLYPHS | {'train_dataloader.dataset.data_root': '/dev/null/x'}),
            ],
            '/dev/null/x',
        ),
        (
            [GLYPHS, '--resume', 'nowhere.pth', *options(SMALL_GLYPHS)],
            'checkpoint not found: nowhere.pth',
        ),
        (
            [GLYPHS, *options(SMALL_GLYPHS | {'model.head.num_classes': 30})],
            'Expected `model.head.num_classes` to be 20, the number of classes of '
            'GlyphCategories, or PriorBiasHook(allow_unused=True), but got 30',
        ),
        (
            [GLYPHS, *options(SMALL_GLYPHS), 'custom_hooks.1.begin=99'],
            'Expected `begin` of FocusAnnealingHook to be below the end of training, 10, but got',
        ),
        (
            [GLYPHS, *options(SMALL_GLYPHS | {'optim_wrapper.optimizer.type': 'SDG'})],
            "Expected `optim_wrapper.optimizer.type` to be an optimizer, but got 'SDG'; did you",
        ),
        (
            [GLYPHS, *options(SMALL_GLYPHS | {'optim_wrapper.optimizer.momentun': 0.9})],
            "unexpected keyword argument 'momentun'",
        ),
        (
            [GLYPHS, *options(SMALL_GLYPHS | {'param_scheduler.1.begin': 30})],
            'end should be larger than begin',
        ),
        (
            [GLYPHS, *options(SMALL_GLYPHS | {'load_from': 'nowhere.pth'})],
            "checkpoint not found: load_from = 'nowhere.pth'",
        ),
        (
            [
                GLYPHS,
                *options(SMALL_GLYPHS | {'train_dataloader.drop_last': True}),
                'train_dataloader.batch_size=1000',
            ],
            'Expected `train_dataloader` to have at least one batch, but got none from 540',
        ),
        (
            [GLYPHS, *options(SMALL_GLYPHS | {'val_evaluator.topk': '1,30'})],
            'Expected Accuracy in `val_evaluator` to take what the model predicts, but got',
        ),
    ],
)
def test_train_ends_with_one_line(run_tool, args, message):
    status, output = run_tool('train.py', *args)
    assert status in (1, 2)
    last = output.strip().splitlines()[-1]
    assert last.startswith('train.py: error: ')
    assert message in last
    assert 'Traceback' not in output and 'Epoch(train)' not in output


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        ([GLYPHS, 'nowhere.pth'], 'checkpoint not found: nowhere.pth'),
        ([GLYPHS, 'nowhere.pth', '--out-item', 'metrics'], '--out-item needs --out'),
        (['nowhere.py', GLYPHS], 'config not found: nowhere.py'),
    ],
)
def test_test_ends_with_one_line(run_tool, args, message):
    status, output = run_tool('test.py', *args)
    assert status == 1
    assert output.strip().splitlines()[-1].startswith(f'test.py: error: {message}')


def test_missing_data_folder(run_tool):
    status, output = run_tool(
        'train.py',
        ROOT / 'configs/glyphs/resnet18_b128-sr_glyphs.py',
        *options({'train_dataloader.dataset.type': 'CustomDataset'}),
        'train_dataloader.dataset._delete_=True',
        'train_dataloader.dataset.data_root=no_such_folder',
    )
    assert status == 1
    assert 'no_such_folder' in output.strip().splitlines()[-1]


def test_traceback_on_demand(run_tool, monkeypatch):
    monkeypatch.setenv('FRLR_TRACEBACK', '1')
    with pytest.raises(FileNotFoundError, match=r'nowhere\.py'):
        run_tool('train.py', 'nowhere.py')


def test_train_resume_test_and_infer(run_tool, tmp_path):
    small = options(SMALL_GLYPHS)
    status, output = run_tool(
        'train.py', GLYPHS, '--work-dir', 'run', *small, 'train_cfg.max_epochs=2'
    )
    assert status == 0
    assert val_lines(output) == ['1', '2']
    assert 'will be deprecated' not in output and '"HardDiskBackend"' not in output
    assert re.search(r'ratio: 0\.\d+ +loss: \d', output)

    status, output = run_tool(
        'train.py', GLYPHS, '--work-dir', 'run', '--resume', *small, 'train_cfg.max_epochs=3'
    )
    assert status == 0
    assert 'resumed epoch: 2' in output
    assert val_lines(output) == ['3']

    status, output = run_tool(
        'test.py',
        GLYPHS,
        'run/epoch_3.pth',
        '--work-dir',
        'run',
        '--out',
        'metrics.json',
        '--out-item',
        'metrics',
        *small,
    )
    assert status == 0
    metrics = mmengine.load('metrics.json')
    assert set(metrics) == {'accuracy/top1', 'accuracy/top5'}
    logged = [
        json.loads(line)
        for line in max((tmp_path / 'run').glob('*/vis_data/2*.json')).read_text().splitlines()
    ]
    assert logged[-1]['accuracy/top1'] == pytest.approx(metrics['accuracy/top1'])

    status, _ = run_tool(
        'test.py',
        GLYPHS,
        'run/epoch_3.pth',
        '--work-dir',
        'run',
        '--out',
        'predictions.pkl',
        '--show-dir',
        'shown',
        '--interval',
        '20',
        *small,
    )
    assert status == 0
    predictions = mmengine.load('predictions.pkl')
    assert len(predictions) == 60 and predictions[0]['pred_score'].shape == (20,)
    assert (
        len(list((tmp_path / 'run').rglob('*.png')))
        + len(list((tmp_path / 'shown').rglob('*.png')))
        >= 3
    )

    Image.new('RGB', (32, 32)).save('black.png')
    config = f'run/{GLYPHS.name}'  # as it was run, with 20 classes
    (result,) = ImageClassificationInferencer(config, 'run/epoch_3.pth')('black.png')
    assert result['pred_scores'].shape == (20,) and len(result['pred_class']) == 1


def test_mixed_precision_on_the_cpu(run_tool):
    assert not torch.cuda.is_available() or pytest.fail('this test is about machines without one')
    status, output = run_tool(
        'train.py',
        GLYPHS,
        '--work-dir',
        'run',
        '--amp',
        *options(SMALL_GLYPHS),
        'train_cfg.max_epochs=1',
    )
    assert status == 0
    assert 'Mixed precision on the CPU: bfloat16' in output
    assert val_lines(output) == ['1']
    status, output = run_tool(
        'test.py', GLYPHS, 'run/epoch_1.pth', '--work-dir', 'run', '--amp', *options(SMALL_GLYPHS)
    )
    assert status == 0
    assert 'accuracy/top1' in output


@pytest.fixture(scope='module')
def imagenet(tmp_path_factory):
    """ImageNet's layout: 1,000 class folders, images in a few."""
    root = tmp_path_factory.mktemp('imagenet')
    for split in ('train', 'val'):
        for i in range(1000):
            (root / split / f'n{i:08d}').mkdir(parents=True)
        for i in (0, 1, 500, 999):
            Image.effect_noise((64 + i % 7, 48), 80).convert('RGB').save(
                root / split / f'n{i:08d}' / f'{i}.JPEG'
            )
    return root


@pytest.mark.parametrize(
    ('name', 'changes'),
    [
        (
            'resnet50_frlr.py',
            {
                'model.backbone.stem_channels': 8,
                'model.backbone.base_channels': 8,
                'model.head.in_channels': 256,
            },
        ),
        # Its second schedule begins at epoch 20, which mmengine refuses in so short a run. Of a
        # smaller ViT the checkpoints take 70 MB in place of a gigabyte.
        (
            'vit-base-p16_frlr.py',
            {
                'param_scheduler.1.begin': 0,
                'model.backbone.arch': 'deit-tiny',
                'model.backbone.patch_size': 56,
                'model.head.in_channels': 192,
            },
        ),
    ],
)
def test_entry_recipe_on_an_imagenet_shaped_folder(run_tool, imagenet, name, changes):
    """Image size and batch augmentations are the recipe's own."""
    small = {
        f'{split}_dataloader.{key}': value
        for split in ('train', 'val', 'test')
        for key, value in (
            ('batch_size', 2),
            ('num_workers', 0),
            ('persistent_workers', False),
            ('dataset.data_root', imagenet),
        )
    }
    command = (ROOT / 'configs' / name, '--work-dir', 'run', *options(small | changes))
    status, output = run_tool('train.py', *command, 'train_cfg.max_epochs=1')
    assert status == 0
    assert val_lines(output) == ['1']
    status, output = run_tool('train.py', *command, 'train_cfg.max_epochs=2', '--resume')
    assert status == 0
    assert val_lines(output) == ['2']
    status, output = run_tool('test.py', command[0], 'run/epoch_2.pth', *command[1:])
    assert status == 0
    assert 'Epoch(test) [2/2]    accuracy/top1' in output
