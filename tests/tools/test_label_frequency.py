import pytest

from tests.support.deepfashion_layout import make_labels, write_coarse

from .conftest import ROOT, options

CONFIG = ROOT / 'configs/attributes/resnet50_8xb32-hslr_deepfashion-coarse.py'


def test_counts_labels(run_tool, tmp_path):
    labels = make_labels()
    write_coarse(tmp_path, labels)
    status, output = run_tool(
        'analysis/label_frequency.py',
        CONFIG,
        '--split',
        'val',
        *options({'val_dataloader.dataset.data_root': tmp_path}),
    )
    assert status == 0, output
    mine = labels[1::3]
    row = f'| abstract print 2 | shape | {(mine[:, 2] == 1).sum()} | {(mine[:, 2] == 0).sum()} |'
    assert row in output
    share = (mine == 1).sum() / (mine != 0).sum()
    assert f'4 images, 7 attributes, {(mine == 1).sum() / 4:.2f} positive per image' in output
    assert f'{share:.4f} of all known labels' in output


@pytest.mark.parametrize('config', [CONFIG, f'frlr_mm::attributes/{CONFIG.name}'])
def test_missing_data_is_one_line(run_tool, config):
    status, output = run_tool('analysis/label_frequency.py', config)
    assert status == 1
    assert 'label_frequency.py: error: DeepFashionAttribute expected the folder' in output
    assert 'Traceback' not in output


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (('none.py',), 'config not found: none.py'),
        ((CONFIG, '--cfg-options', 'foo'), "--cfg-options: expected KEY=VALUE, but got 'foo'"),
        (
            (CONFIG, '--cfg-options', 'train_dataloder.num_workers=0'),
            "no field 'train_dataloder'; did you mean 'train_dataloader'?",
        ),
    ],
)
def test_bad_argument_is_one_line(run_tool, args, message):
    status, output = run_tool('analysis/label_frequency.py', *args)
    assert status and message in output and 'Traceback' not in output
