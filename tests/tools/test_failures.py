"""Trainings fed what no loss survives, or on disks that are full."""

import re
import resource

import cv2
import numpy as np
import pytest

from .conftest import assert_same_training


def test_nan_is_one_line(run_tool, make_config, tmp_path):
    status, output = run_tool(
        'train.py', *make_config('nan.py', "dict(type='FaultHook', at=7, fault='nan'),")
    )
    assert status == 1 and 'Traceback' not in output
    line = next(line for line in output.splitlines() if line.startswith('train.py: error: '))
    assert 'loss = nan at iteration 8, epoch 2, lr 0.' in line and 'images: ' in line


def test_full_disk_keeps_the_last_checkpoint(run_tool, make_config, whole_run, tmp_path):
    args = make_config('full.py')
    status, output = run_tool('train.py', *args, 'train_cfg.max_epochs=1')
    assert status == 0, output[-3000:]
    checkpoint = tmp_path / 'full/epoch_1.pth'
    before = checkpoint.read_bytes()
    # No file may get as large as a checkpoint, which fails as a full disk does.
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, hard))
    try:
        status, output = run_tool('train.py', *args, '--resume')
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert status == 1 and 'Traceback' not in output
    assert 'train.py: error: [Errno 27] File too large' in output and 'epoch_2.pth' in output
    assert checkpoint.read_bytes() == before
    assert sorted(path.name for path in checkpoint.parent.glob('*.pth*')) == ['epoch_1.pth']

    status, output = run_tool('train.py', *args, '--resume')
    assert status == 0, output[-3000:]
    assert_same_training(tmp_path / 'full/epoch_3.pth', whole_run)


def test_full_disk_for_logs_and_results(run_tool, make_config, whole_run, tmp_path):
    full = tmp_path / 'full.json'
    full.symlink_to('/dev/full')
    args = make_config('logs.py')
    backend = f"dict(type='LocalVisBackend', scalar_save_file='{full}')"
    with open(args[0], 'a') as file:
        file.write(f'visualizer = dict(vis_backends=[{backend}])')
    status, output = run_tool('train.py', *args)
    assert status == 1 and 'Traceback' not in output, output[-3000:]
    (line,) = re.findall('train.py: error: .*', output)
    assert 'No space left on device' in line and str(tmp_path / 'logs') in line

    args = make_config('results.py')
    out = '--out', full, '--out-item', 'metrics'
    status, output = run_tool('test.py', args[0], whole_run, *out, *args[1:])
    assert status == 1 and 'Traceback' not in output, output[-3000:]
    (line,) = re.findall('test.py: error: .*', output)
    assert 'No space left on device' in line and str(full) in line


@pytest.fixture
def image_run(make_config, tmp_path):
    """A training on JPEG files, one of them cut off."""
    rng = np.random.default_rng(0)
    for name in 'ab':
        folder = tmp_path / 'images' / name
        folder.mkdir(parents=True)
        for i in range(8):
            cv2.imwrite(str(folder / f'{i}.jpg'), rng.integers(256, size=(32, 32, 3)))
    broken = tmp_path / 'images/a/3.jpg'
    broken.write_bytes(broken.read_bytes()[:300])
    config = make_config('images.py')[0]
    config.write_text(
        config.read_text()
        + "dataset = dict(_delete_=True, type='CustomDataset', data_root='images', pipeline=[\n"
        "    dict(type='LoadCheckedImage'), dict(type='PackInputs')])\n"
        'train_dataloader = dict(dataset=dataset, batch_size=4)\n'
        'val_cfg = val_dataloader = val_evaluator = None\n'
    )
    return (
        config,
        '--work-dir',
        'images_run',
        '--cfg-options',
        'train_cfg.max_epochs=1',
        'model.head.num_classes=2',
        'train_dataloader.num_workers=1',
        'train_dataloader.persistent_workers=False',
    )


def test_unreadable_image_stops_or_is_skipped(run_tool, image_run):
    status, output = run_tool('train.py', *image_run)
    lines = [line for line in output.splitlines() if line.startswith('train.py: error: ')]
    assert status == 1 and len(lines) == 1, output[-3000:]
    assert 'images/a/3.jpg is not a readable image: ' in lines[0]
    status, output = run_tool(
        'train.py', *image_run, 'train_dataloader.dataset.pipeline.0.on_error=skip'
    )
    assert status == 0, output[-3000:]
    assert '1 unreadable images were skipped, 1 times in all' in output
    assert 'images/a/3.jpg: ' in output


def test_images_that_an_earlier_run_skipped(run_tool, image_run, tmp_path):
    """They are told again where it is resumed; the first image goes through the dry run, too."""
    folder = tmp_path / 'images/a'
    (folder / '3.jpg').unlink()
    whole = (folder / '0.jpg').read_bytes()
    (folder / '0.jpg').write_bytes(whole[:300])
    skip = (*image_run, 'train_dataloader.dataset.pipeline.0.on_error=skip')
    told = '1 unreadable images were skipped, 1 times in all'
    status, output = run_tool('train.py', *skip)
    assert status == 0 and told in output, output[-3000:]
    (folder / '0.jpg').write_bytes(whole)
    status, output = run_tool('train.py', *skip, 'train_cfg.max_epochs=2', '--resume')
    assert status == 0 and told in output, output[-3000:]
    status, output = run_tool('train.py', *skip)
    assert status == 0 and 'were skipped' not in output, output[-3000:]
