"""Mistakes that used to train silently, or to end in a page of text: one line each."""

import os
import re
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config

from tests.support.processes import free_port

from .conftest import ROOT, SMALL_GLYPHS, options

SOFTMAX = ROOT / 'configs/glyphs/resnet18_b128-sr_glyphs.py'
SMALL = options(SMALL_GLYPHS)
DATASET = 'train_dataloader.dataset.'
FOLDERS = """
_base_ = {base!r}
model = dict(head=dict(num_classes=2))
dataset = dict(_delete_=True, type='CustomDataset', data_root='images', pipeline=[
    dict(type='LoadImageFromFile'), dict(type='PackInputs')])
train_dataloader = dict(dataset=dataset, batch_size=4, num_workers=0, persistent_workers=False)
val_cfg = val_dataloader = val_evaluator = None
test_dataloader = dict(dataset=dataset, num_workers=0)
train_cfg = dict(max_epochs=1)
randomness = dict(seed=0)
"""


@pytest.fixture
def folders(tmp_path):
    """A config for two folders of images."""
    rng = np.random.default_rng(0)
    for name in 'ab':
        folder = tmp_path / 'images' / name
        folder.mkdir(parents=True)
        for i in range(4):
            cv2.imwrite(str(folder / f'{i}.jpg'), rng.integers(256, size=(32, 32, 3)))
    config = tmp_path / 'folders.py'
    config.write_text(FOLDERS.format(base=str(SOFTMAX)))
    return config


def last_line(run_tool, *args, tool='train.py'):
    """Run what fails and return its last line, which is the only one about the error."""
    status, output = run_tool(tool, *args)
    assert status == 1 and 'Traceback' not in output, output[-3000:]
    lines = output.strip().splitlines()
    assert lines[-1].startswith(f'{tool}: error: ')
    assert [line for line in lines if 'error: ' in line] == lines[-1:]
    return lines[-1]


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (
            {'model.head.num_classes': 30},
            'Expected `model.head.num_classes` to be 20, the number of classes of '
            'GlyphCategories, but got 30',
        ),
        (
            {'model.head.num_classes': 19},
            'Expected `model.head.num_classes` to be 20, the number of classes of '
            'GlyphCategories, but got 19',
        ),
        (
            {'model.train_cfg.augments.type': 'Mixup', 'model.train_cfg.augments.alpha': 0.2},
            'Expected `data_preprocessor.num_classes` to be 20, the number of outputs of the '
            'classifier, but got 1000',
        ),
        ({'load_from': 'nowhere.pth'}, "checkpoint not found: load_from = 'nowhere.pth'"),
        (
            {'model.init_cfg.type': 'Pretrained', 'model.init_cfg.checkpoint': 'nowhere.pth'},
            "checkpoint not found: model.init_cfg.checkpoint = 'nowhere.pth'",
        ),
        (
            {'model.head.num_clases': 20},
            'model.head.num_clases: LinearClsHead has no such argument; did you mean '
            "'num_classes'?",
        ),
        (
            {'model.haed.x': 1},
            "model.haed: ImageClassifier has no such argument; did you mean 'hea",
        ),
        (
            {'model.backbone.typ': 1},
            'model.backbone.typ: ResNet_CIFAR has no such argument',
        ),
        (
            {'train_cfg.max_epoch': 1},
            "TrainLoop has no such argument; did you mean 'max_epochs'?",
        ),
        (
            {'model.head.loss.type': 'CrosEntropyLoss'},
            "model.head.loss.type: 'CrosEntropyLoss' is not registered; did you mean "
            "'CrossEntropyLoss'?",
        ),
        (
            {'model.head.loss.type': 'Zzzz'},
            "'Zzzz' is not registered; what registers it has to be among `custom_imports`",
        ),
    ],
)
def test_softmax_run_is_refused(run_tool, change, message):
    assert message in last_line(run_tool, SOFTMAX, *options(SMALL_GLYPHS | change))


SILENT = """
_base_ = {base!r}
custom_imports = None
model = dict(head=dict(num_classes=30, loss=dict(_delete_=True, type='HSLRLoss', ratio=0.01)))
"""


def test_warnings_and_a_run_that_is_finished(run_tool, tmp_path):
    config = tmp_path / 'silent.py'
    config.write_text(SILENT.format(base=str(SOFTMAX)))
    thirty = {key: 30 for key in SMALL_GLYPHS if key.endswith('.num_classes')}
    args = [config, *options(SMALL_GLYPHS | thirty), 'train_cfg.max_epochs=1']
    status, output = run_tool('train.py', *args)
    assert status == 0, output[-3000:]
    warnings = re.findall(r'WARNING - (.*)', output)
    assert [line for line in warnings if 'HSLRLoss' in line] == [
        'The config uses HSLRLoss without custom_imports = dict(imports=["frlr_mm"]): added in '
        f'{tmp_path}/work_dirs/silent, add it to yours for other tools',
        'HSLRLoss starts with 30 sigmoids at 1 / 2 (head.fc.bias is 0): the negatives of all '
        "classes come first; add dict(type='PriorBiasHook') to `custom_hooks`",
        'HSLRLoss with ratio 0.01 selects 1 of 30 classes: an image pushes down one class at a '
        'time; raise `ratio`, and `end_value` of the hook that anneals it, to select several',
    ]
    dumped = Config.fromfile('work_dirs/silent/silent.py')
    assert dumped.custom_imports == dict(imports=['frlr_mm'])

    status, output = run_tool('train.py', *args, '--resume')
    assert status == 0
    assert output.strip().splitlines()[-1] == (
        'work_dirs/silent/epoch_1.pth is the end of its run, epoch 1 of 1: nothing left to do; '
        'to train on, raise train_cfg.max_epochs, and the lengths in param_scheduler'
    )

    # A checkpoint of another model, and of the same with another classifier.
    checkpoint = 'work_dirs/silent/epoch_1.pth'
    line = last_line(run_tool, SOFTMAX, checkpoint, *SMALL, tool='test.py')
    assert 'Expected the checkpoint to be of this model, but 2 of its ' in line
    assert 'head.fc.weight has shape (30, 32) in the checkpoint and (20, 32) in the' in line
    deeper = options(SMALL_GLYPHS | thirty | {'model.backbone.depth': 101})
    line = last_line(
        run_tool, SOFTMAX, checkpoint, *deeper, 'model.head.in_channels=128', tool='test.py'
    )
    assert re.search(r'but (\d\d\d) of its \d\d\d parameters do not fit', line)
    status, output = run_tool('test.py', SOFTMAX, checkpoint, '--allow-mismatch', *SMALL)
    assert status == 0 and 'accuracy/top1' in output


@pytest.mark.parametrize('hook', ['', "custom_hooks = [dict(type='PriorBiasHook')]\n"])
def test_label_out_of_range(run_tool, folders, tmp_path, hook):
    (tmp_path / 'images/list.txt').write_text('a/0.jpg 0\nb/1.jpg 1\na/2.jpg 5\n')
    folders.write_text(folders.read_text() + hook)
    line = last_line(run_tool, folders, '--cfg-options', f'{DATASET}ann_file=list.txt')
    assert 'images/a/2.jpg' in line and 'of CustomDataset to be in [0, 2), ' in line
    assert '`num_classes`' in line and 'but got 5' in line


def test_line_of_a_list_without_a_label(run_tool, folders, tmp_path):
    for bad in ('a/2.jpg', 'a b/2.jpg', 'a/2.jpg 1.5'):
        (tmp_path / 'images/list.txt').write_text(f'a/0.jpg 0\n{bad}\n')
        line = last_line(run_tool, folders, *options({DATASET + 'ann_file': 'list.txt'}))
        assert (
            'images/list.txt:2: expected a path and the number of a class, such as "a.jpg 0", but '
            f'got {bad!r}'
        ) in line


def test_images_to_evaluate_are_not_skipped(run_tool, folders):
    skip = {'type': 'LoadCheckedImage', 'on_error': 'skip'}
    change = {f'test_dataloader.dataset.pipeline.0.{key}': value for key, value in skip.items()}
    torch.save(dict(state_dict={}), 'any.pth')
    assert (
        "Expected `on_error` of test_dataloader.dataset.pipeline.0 to be 'error', but got 'skip', "
        'which evaluates other images in place of those that cannot be read'
    ) in last_line(run_tool, folders, 'any.pth', *options(change), tool='test.py')


@pytest.mark.parametrize(
    ('kind', 'more', 'layout'),
    [
        ('CustomDataset', {}, 'a folder of images per class, or `ann_file` with lines'),
        ('ImageNet', {'split': 'train'}, 'train/n01440764/*.JPEG and val/n01440764/*.JPEG'),
        ('CIFAR10', {'split': 'train', 'download': False}, 'cifar-10-batches-py with data_batch'),
        ('VOC', {'split': 'trainval'}, 'JPEGImages, Annotations and ImageSets/Main'),
        ('CUB', {'split': 'train'}, 'images, images.txt, image_class_labels.txt'),
        ('MultiLabelDataset', {'ann_file': 'x.json'}, '`ann_file`, a JSON file, and the images'),
        ('Places205', {'ann_file': 'x.txt'}, 'what its docstring describes'),
    ],
)
def test_missing_data_root(run_tool, folders, kind, more, layout):
    values = {'type': kind, 'data_root': 'no_such_folder'} | more
    line = last_line(run_tool, folders, *options({DATASET + k: v for k, v in values.items()}))
    assert f'train_dataloader.dataset: {kind} expects {layout}' in line
    assert "in `data_root` = 'no_such_folder', which is missing" in line


def test_missing_file_below_a_data_root(run_tool, folders):
    line = last_line(run_tool, folders, *options({f'{DATASET}ann_file': 'nothing.txt'}))
    assert 'train_dataloader.dataset: CustomDataset expects a folder of images per class' in line
    assert 'images/nothing.txt is missing' in line


@pytest.mark.parametrize('workers', [0, 1])
@pytest.mark.parametrize('fault', ['empty', 'garbage', 'missing'])
def test_unreadable_image_with_the_stock_loader(run_tool, folders, tmp_path, fault, workers):
    image = tmp_path / 'images/a/2.jpg'
    if fault == 'missing':
        (tmp_path / 'images/list.txt').write_text('a/0.jpg 0\nb/9.jpg 1\n')
    else:
        image.write_bytes(b'' if fault == 'empty' else b'no image' * 20)
    extra = [f'{DATASET}ann_file=list.txt'] if fault == 'missing' else ['randomness.seed=0']
    line = last_line(
        run_tool, folders, '--cfg-options', f'train_dataloader.num_workers={workers}', *extra
    )
    assert 'cannot be read (' in line and "dict(type='LoadCheckedImage', on_error='skip')" in line
    if workers == 0:
        assert f'images/{"b/9" if fault == "missing" else "a/2"}.jpg cannot be read' in line


@pytest.mark.slow
@pytest.mark.parametrize('launcher', ['dist_train.sh', 'torchrun'])
def test_line_is_the_last_one_of_several_processes(launcher, tmp_path):
    """Where the launcher is ours; torchrun's own page ends with it and a rule."""
    bad = ['--work-dir', 'run', *options(SMALL_GLYPHS | {'model.head.num_clases': 3})]
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ['PATH']])
    env = os.environ | dict(PATH=path, PORT=str(free_port()), OMP_NUM_THREADS='1')
    env['PYTHONPATH'] = str(ROOT)
    if launcher == 'torchrun':
        torchrun = ['-m', 'torch.distributed.run', '--nproc_per_node=2', '--master_port']
        command = [sys.executable, *torchrun, env['PORT'], '-m', 'frlr_mm', 'train', SOFTMAX]
        command += ['--launcher', 'pytorch']
    else:
        command = ['bash', ROOT / 'tools/dist_train.sh', SOFTMAX, '2']
    result = subprocess.run(
        [*map(str, command), *bad], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert result.returncode == 1
    line = "error: model.head.num_clases: LinearClsHead has no such argument; did you mean 'num_cl"
    last = result.stderr.strip().splitlines()[-1 if launcher == 'dist_train.sh' else -2]
    assert line in last
