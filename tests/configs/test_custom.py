"""The configs for one's own data, on generated pictures, as they are printed in the page."""

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config

from frlr_mm.engine import safe_load
from tests.support.recipes import CONFIG_ROOT, ROOT
from tests.tools.conftest import run_tool  # noqa: F401 (a fixture)

CONFIGS = sorted((CONFIG_ROOT / 'custom').glob('*.py'))
PAGE = (ROOT / 'docs/your_data.md').read_text()
FEW = [
    'train_cfg.max_epochs=1',
    'train_dataloader.batch_size=4',
    'default_hooks.logger.interval=1',
]
FEW += [f'{split}_dataloader.num_workers=0' for split in ('train', 'val')]
FEW += [f'{split}_dataloader.persistent_workers=False' for split in ('train', 'val')]
FEW += ['train_dataloader.dataset.indices=8', 'val_dataloader.dataset.indices=4']
# An eighth of the channels.
FEW += ['model.backbone.stem_channels=8', 'model.backbone.base_channels=8']


def write_images(names):
    rng = np.random.default_rng(0)
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(name), rng.integers(256, size=(40, 30, 3)))


def write_folders():
    for split in ('train', 'val'):
        write_images(f'data/my_images/{split}/{i:02d}/{split}.jpg' for i in range(20))


def write_labels():
    """One file with `gt_label`, one with `gt_score`, where -1 is unknown."""
    for split in ('train', 'val'):
        names = [f'{split}{i}.jpg' for i in range(8)]
        write_images(f'data/my_labels/{name}' for name in names)
        images = [
            dict(img_path=name, gt_label=[i, i + 1])
            if split == 'val'
            else dict(img_path=name, gt_score=[1, 0, 0, -1, -1] + [0] * 6 + [i % 2])
            for i, name in enumerate(names)
        ]
        classes = [f'label {i}' for i in range(12)]
        text = json.dumps(dict(metainfo=dict(classes=classes), data_list=images))
        Path(f'data/my_labels/{split}.json').write_text(text)


def write_persons():
    for folder, persons, cameras in (
        ('bounding_box_train', range(25), (1, 2)),
        ('query', range(30, 32), (1,)),
        ('bounding_box_test', range(30, 32), (2, 3)),
    ):
        write_images(
            f'data/my_persons/{folder}/{person:04d}_cam{camera}_0.jpg'
            for person in persons
            for camera in cameras
        )


WRITERS = dict(folders_hslr=write_folders, reid_hslr=write_persons)
WRITERS['multi-label_sslr'] = write_labels
# What of a run takes long or needs a network, and what is logged.
MORE = {
    'folders_hslr': (['model.head.in_channels=64'], 'accuracy/top1'),
    'multi-label_sslr': (['model.head.in_channels=64'], 'attribute/mAP'),
    'reid_hslr': (
        [
            'model.head.in_channels=256',
            'model.backbone.init_cfg=None',
            'train_cfg.val_interval=1',
        ],
        'reid/mAP',
    ),
}


def test_page_prints_each_config():
    printed = re.findall(r'```python\n# configs/custom/(\S+)\n(.*?)```', PAGE, re.DOTALL)
    assert [f'{config.name}' for config in CONFIGS] == sorted(name for name, _ in printed)
    for name, text in printed:
        assert text == (CONFIG_ROOT / 'custom' / name).read_text()
        assert len(text.splitlines()) <= 30


@pytest.mark.parametrize('config', CONFIGS, ids=lambda path: path.stem)
def test_trains_and_evaluates(run_tool, config):  # noqa: F811
    WRITERS[config.stem]()
    more, metric = MORE[config.stem]
    small = FEW if config.stem != 'reid_hslr' else [o for o in FEW if 'val_dataloader.d' not in o]
    status, output = run_tool('train.py', config, '--cfg-options', *small, *more)
    assert status == 0, output[-3000:]
    cfg = Config.fromfile(config)
    classes = cfg.model.head.num_classes
    assert re.search(rf'PriorBiasHook: head.fc.bias from 8 images, {classes} classes', output)
    assert re.search(r'Epoch\(train\) \[1\]\[2/2\].* loss: \d', output)
    assert re.search(rf'Epoch\(val\) \[1\].*{metric}: \d', output)
    state = safe_load.load(f'work_dirs/{config.stem}/epoch_1.pth')['state_dict']
    assert len(state['head.fc.bias']) == classes
    assert all(value.isfinite().all() for value in state.values())
    assert 'selects 1 of' not in output and 'sigmoids at 1 / 2' not in output


def test_another_number_of_classes_starts_at_the_prior(run_tool, tmp_path):  # noqa: F811
    """Fine-tuning as the page has it: the backbone is loaded, the classifier is not."""
    write_folders()
    config = CONFIG_ROOT / 'custom/folders_hslr.py'
    small = [*FEW, 'val_cfg=None', 'val_dataloader=None', 'val_evaluator=None']
    small = [option for option in small if not option.startswith('val_dataloader.')]
    small += ['model.head.in_channels=64', 'train_dataloader.dataset.indices=2']
    options = ['--cfg-options', *small]
    status, output = run_tool('train.py', config, '--work-dir', 'first', *options)
    assert status == 0, output[-3000:]
    path = Path('first/epoch_1.pth')
    state = safe_load.load(path)['state_dict']
    state['head.fc.weight'], state['head.fc.bias'] = torch.ones(7, 64), torch.ones(7)
    torch.save(dict(state_dict=state), 'weights.pth')
    status, output = run_tool(
        'train.py', config, '--work-dir', 'second', *options, 'load_from=weights.pth',
        'optim_wrapper.optimizer.lr=0.0',
    )  # fmt: skip
    assert status == 0, output[-3000:]
    assert 'size mismatch for head.fc.bias' in output
    assert 'PriorBiasHook: head.fc.bias from 2 images, 20 classes' in output
    tuned = safe_load.load('second/epoch_1.pth')['state_dict']
    assert torch.equal(tuned['backbone.conv1.weight'], state['backbone.conv1.weight'])
    assert tuned['head.fc.bias'].mean() < -2
