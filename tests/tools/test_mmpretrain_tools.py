"""mmpretrain's own tools on recipes and checkpoints of this package, as the table in docs says."""

import json
import re
import shutil
import sys
from pathlib import Path

import cv2
import mmengine
import numpy as np
import pytest

from tests.support.reid_layouts import write_market1501

from .conftest import ROOT, SMALL_GLYPHS, options

TASKS = {'categories': '', 're-ID': '-id', 'attributes': '-attr'}
METRICS = {'categories': 'Accuracy', 're-ID': 'ReIDMetric', 'attributes': 'AttributeMetric'}
FEW = {f'{split}_dataloader.dataset.indices': 60 for split in ('train', 'val', 'test')}
# What each command leaves, beside its output.
LEAVES = {
    '--out predictions.pkl': ['predictions.pkl'],
    '--out-item metrics': ['metrics.json'],
    '--show-dir': ['shown/59_0.png'],
    'publish_model': ['published_*-*.pth'],
    'browse_dataset': ['browsed/0.jpg'],
    'vis_scheduler': ['schedule.png'],
    'vis_tsne': ['tsne/*/feat_3.npy', 'tsne/*/feat_3.png'],
    'plot_curve': ['curves.png'],
    'analyze_results': ['analyzed/success/success.json', 'analyzed/fail/fail.json'],
    'confusion_matrix': ['confusions.pkl', 'confusions.png'],
    'kfold': ['folds/fold0/epoch_1.pth', 'folds/fold1/epoch_1.pth'],
}


def read_table():
    """Yield command, task and cell of each row in docs."""
    text = (ROOT / 'docs/mmpretrain_tools.md').read_text()
    table = re.search('<!-- tools -->\n(.*)<!-- end of tools -->', text, re.DOTALL)[1]
    header, _, *rows = table.strip().splitlines()
    tasks = [cell.strip() for cell in header.strip('|').split('|')][1:]
    for row in rows:
        command, *cells = (cell.strip() for cell in row.strip('|').split('|'))
        for task, cell in zip(tasks, cells, strict=True):
            # The other jobs take as long again.
            marks = [] if task == 'categories' else [pytest.mark.slow]
            yield pytest.param(
                command.strip('`'), task, cell, marks=marks, id=f'{task}-{command[1:-1]}'
            )


@pytest.fixture(autouse=True)
def _own_path(monkeypatch):
    """Keep what a tool does to the path and the window system to its test."""
    monkeypatch.setattr(sys, 'path', list(sys.path))
    monkeypatch.setenv('MPLBACKEND', 'Agg')


@pytest.fixture
def trained(run_tool, kept):
    """Train a recipe of a task for an epoch, once; return its folder, of config and checkpoint."""

    def train(task):
        folder = kept / f'tools{TASKS[task]}'
        if not folder.exists():
            data = {
                key: kept / 'glyphs' if key.endswith('data_root') else value
                for key, value in SMALL_GLYPHS.items()
                if task != 'attributes' or 'num_classes' not in key
            }
            status, output = run_tool(
                'train.py',
                ROOT / f'configs/glyphs/resnet18_b128-hslr_glyphs{TASKS[task]}.py',
                '--work-dir',
                folder,
                *options(data | (FEW if task == 'attributes' else {})),
                'train_cfg.max_epochs=1',
                'default_hooks.logger.interval=1',
            )
            assert status == 0, output[-2000:]
            name = 'tools/test.py CONFIG CHECKPOINT --out predictions.pkl'
            status, output = run(run_tool, name, folder, task)
            assert status == 0, output[-2000:]
            shutil.copy('predictions.pkl', folder)
        return folder

    return train


def run(run_tool, command, folder, task):
    """Run a command of docs; return its status and its output, or what it raised."""
    recipe = f'resnet18_b128-hslr_glyphs{TASKS[task]}.py'
    places = {
        'CONFIG': folder / recipe,
        'RECIPE': ROOT / 'configs/glyphs' / recipe,
        'CHECKPOINT': folder / 'epoch_1.pth',
        'LOG': next(folder.glob('*/vis_data/scalars.json')),
        'METRIC': METRICS[task],
        'IMAGE': Path('image.png'),
    }
    words = [
        re.sub('|'.join(places), lambda match: str(places[match[0]]), word)
        for word in command.split()
    ]
    words[0] = words[0].removeprefix('tools/')
    if words[0] == 'test.py':
        words += ['--work-dir', 'tested']
    try:
        return run_tool(*words)
    except Exception as error:  # whatever a tool of others raises
        return 1, repr(error)


@pytest.mark.parametrize(('command', 'task', 'cell'), [*read_table()])
def test_table(run_tool, trained, command, task, cell):
    folder = trained(task)
    # Where it is not what the command makes.
    Path('predictions.pkl').unlink(missing_ok=True)
    if '--out predictions.pkl' not in command:
        shutil.copy(folder / 'predictions.pkl', '.')
    cv2.imwrite('image.png', np.zeros((32, 32, 3), np.uint8))
    status, output = run(run_tool, command, folder, task)
    works = cell.split()[0]
    assert works in ('yes', 'no')
    assert (status in (0, None)) == (works == 'yes'), output[-2000:]
    for part, paths in LEAVES.items() if works == 'yes' else ():
        if part in command:
            for path in paths:
                assert list(Path().glob(path)), f'{command} left no {path}'
    if works == 'no' and 'tools/test.py' in command:
        assert output.strip().splitlines()[-1].startswith('test.py: error: Expected ')


def test_unknown_tool_is_one_line(run_tool):
    status, output = run_tool('mmpretrain_tool.py', 'publish_modl')
    assert status == 1
    last = output.strip().splitlines()[-1]
    assert last.startswith("mmpretrain_tool.py: error: mmpretrain has no tool 'publish_modl'")
    assert 'close to it: publish_model' in last


def test_published_checkpoint_is_the_same_model(run_tool, trained):
    folder = trained('categories')
    run(
        run_tool, 'tools/mmpretrain_tool.py publish_model CHECKPOINT out.pth', folder, 'categories'
    )
    (published,) = Path().glob('out_*.pth')
    command = f'tools/test.py CONFIG {published} --out m.json --out-item metrics'
    status, output = run(run_tool, command, folder, 'categories')
    assert status == 0, output[-2000:]
    log = next(folder.glob('*/vis_data/scalars.json')).read_text().splitlines()
    assert mmengine.load('m.json')['accuracy/top1'] == json.loads(log[-1])['accuracy/top1']


# As grad-cam 1.5 is called, which no longer has `use_cuda`; the map is the activation's own mean.
GRAD_CAM = {
    '__init__.py': """
from . import base_cam
from .base_cam import GradCAM, GradCAMPlusPlus
""",
    'base_cam.py': """
from .activations_and_gradients import ActivationsAndGradients

class BaseCAM:
    def __init__(self, model, target_layers, reshape_transform=None):
        self.model, self.target_layers = model, target_layers
        self.activations_and_grads = ActivationsAndGradients(
            model, target_layers, reshape_transform)

    def __call__(self, inputs, targets, eigen_smooth, aug_smooth):
        import torch
        self.model(inputs)
        maps = self.activations_and_grads.activation.mean(1, keepdim=True)
        return torch.nn.functional.interpolate(maps, inputs.shape[-2:])[:, 0].sigmoid().numpy()

class GradCAM(BaseCAM):
    def __init__(self, model, target_layers, reshape_transform=None):
        super().__init__(model, target_layers, reshape_transform)

class GradCAMPlusPlus(GradCAM):
    pass
""",
    'activations_and_gradients.py': """
class ActivationsAndGradients:
    def __init__(self, model, target_layers, reshape_transform):
        self.handles = [layer.register_forward_hook(self.keep) for layer in target_layers]

    def keep(self, module, args, output):
        self.activation = output.detach()

    def release(self):
        for handle in self.handles:
            handle.remove()
""",
    'utils/__init__.py': '',
    'utils/image.py': """
import numpy as np

def show_cam_on_image(image, mask, use_rgb):
    return np.uint8(255 * (image + mask[..., None]) / 2)
""",
}


def test_vis_cam_with_a_grad_cam_that_reads_the_device(run_tool, trained, tmp_path, monkeypatch):
    folder = trained('categories')
    for name, text in GRAD_CAM.items():
        path = tmp_path / 'packages/pytorch_grad_cam' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(tmp_path / 'packages')
    cv2.imwrite('image.png', np.zeros((32, 32, 3), np.uint8))
    load = "[dict(type='LoadImageFromFile'), dict(type='PackInputs')]"
    config = tmp_path / 'load.py'
    config.write_text(
        f'_base_ = {str(folder / "resnet18_b128-hslr_glyphs.py")!r}\n'
        f'test_dataloader = dict(dataset=dict(pipeline={load}))\n'
    )
    command = f'tools/mmpretrain_tool.py vis_cam IMAGE {config} CHECKPOINT --save-path cam.png'
    status, output = run(run_tool, command, folder, 'categories')
    assert status in (0, None), output[-2000:]
    assert cv2.imread('cam.png').shape == (32, 32, 3)
    for name in [name for name in sys.modules if name.startswith('pytorch_grad_cam')]:
        monkeypatch.delitem(sys.modules, name)


@pytest.fixture
def market(run_tool, trained, tmp_path):
    """Write a config of the re-ID model on a small Market-1501; return its path and its data."""
    folder = trained('re-ID')
    root = tmp_path / 'market'
    root.mkdir()
    write_market1501(root)
    path = tmp_path / 'market.py'
    pipeline = "[dict(type='LoadImageFromFile'), dict(type='Resize', scale=32), "
    meta = "dict(type='PackInputs', meta_keys=('camera_id', 'is_query'))]"
    data = f"_delete_=True, type='Market1501', data_root={str(root)!r}, pipeline={pipeline}{meta}"
    path.write_text(
        f'_base_ = {str(folder / "resnet18_b128-hslr_glyphs-id.py")!r}\n'
        f"train_dataloader = dict(batch_size=2, dataset=dict({data}, split='train'))\n"
        f"val_dataloader = test_dataloader = dict(dataset=dict({data}, split='test'))\n"
        'model = dict(head=dict(num_classes=3))\n'
    )
    return path, root


def test_verify_dataset_finds_a_broken_image(run_tool, market):
    config, root = market
    broken = next(root.rglob('0007_c3s1_000451_03.jpg'))
    broken.write_bytes(b'')
    status, output = run_tool(
        'mmpretrain_tool.py', 'verify_dataset', config, '--out-path', 'broken.txt'
    )
    assert status in (0, None), output[-2000:]
    assert Path('broken.txt').read_text().split() == [str(broken)]


def test_folds_of_persons_without_validation(run_tool, market):
    config, _ = market
    command = ('kfold-cross-valid', config, '--num-splits', '3', '--fold', '0')
    status, output = run_tool(
        'mmpretrain_tool.py', *command, '--no-validate', '--work-dir', 'folds'
    )
    assert status in (0, None), output[-2000:]
    assert Path('folds/fold0/epoch_1.pth').exists()
