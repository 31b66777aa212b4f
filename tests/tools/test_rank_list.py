import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmpretrain import get_model
from PIL import Image

from tests.support import reid_layouts
from tests.tools.conftest import ROOT, SMALL_GLYPHS, options

GLYPHS = ROOT / 'configs' / 'glyphs' / 'resnet18_b128-sr_glyphs-id.py'
MARKET1501 = ROOT / 'configs' / 'reid' / 'resnet50_b64-hslr_market1501.py'
SMALL_MARKET1501 = {
    'model.backbone.depth': 18,
    'model.backbone.stem_channels': 8,
    'model.backbone.base_channels': 8,
    'model.head.in_channels': 64,
    'model.head.num_classes': 3,
} | {
    f'{split}_dataloader.{name}': value
    for split in ('train', 'val', 'test')
    for name, value in (
        ('num_workers', 0),
        ('persistent_workers', False),
        ('dataset.data_root', 'market1501'),
    )
}
# Of matplotlib's tab:green and tab:red.
GREEN, RED = (44, 160, 44), (214, 39, 40)


def count_pixels(path, colour):
    image = np.asarray(Image.open(path).convert('RGB'))
    return (image == colour).all(-1).sum()


@pytest.fixture
def glyph_checkpoint(tmp_path):
    """A network that has seen nothing finds some glyphs again and mistakes others."""
    torch.manual_seed(0)
    model = get_model(Config.fromfile(GLYPHS))
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'model.pth')
    return tmp_path / 'model.pth'


def test_glyphs(run_tool, tmp_path, glyph_checkpoint):
    status, output = run_tool(
        'analysis/rank_list.py',
        GLYPHS,
        glyph_checkpoint,
        '--out',
        'figures/ranks.svg',
        '--num-queries',
        '3',
        *options(SMALL_GLYPHS),
    )
    assert status == 0, output
    assert '3 of 60 queries' in output
    figure = tmp_path / 'figures' / 'ranks.png'
    assert count_pixels(figure, GREEN) > 100
    assert count_pixels(figure, RED) > 100
    assert Image.open(figure).width == 1200
    assert {path.name for path in figure.parent.iterdir()} == {'ranks.png', 'ranks.svg'}


def test_train_test_and_rank_list_of_image_files(run_tool, tmp_path):
    """From scratch, by the commands of the documentation."""
    reid_layouts.write_market1501(tmp_path / 'market1501')
    status, output = run_tool(
        'train.py',
        MARKET1501,
        '--work-dir',
        'run',
        *options(
            SMALL_MARKET1501
            | {
                'model.backbone.init_cfg': None,
                'train_cfg.max_epochs': 1,
                'default_hooks.checkpoint.interval': 1,
            }
        ),
    )
    assert status == 0, output
    status, output = run_tool(
        'test.py', MARKET1501, 'run/epoch_1.pth', '--work-dir', 'run', *options(SMALL_MARKET1501)
    )
    assert status == 0, output
    assert 'reid/mAP' in output
    assert 'reid/queries_left_out: 0.0000' in output

    status, output = run_tool(
        'analysis/rank_list.py',
        MARKET1501,
        'run/epoch_1.pth',
        '--out',
        'ranks.png',
        *options(SMALL_MARKET1501),
    )
    assert status == 0, output
    assert '2 of 2 queries' in output
    # The two distractors are wrong for both queries; each has a match in another camera.
    assert count_pixels(tmp_path / 'ranks.png', RED) > count_pixels(tmp_path / 'ranks.png', GREEN)
    assert count_pixels(tmp_path / 'ranks.png', GREEN) > 100


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        ((GLYPHS, 'none.pth'), 'checkpoint not found: none.pth'),
        (('none.py', __file__), 'config not found: none.py'),
        (
            (f'frlr_mm::glyphs/{GLYPHS.name}s', __file__),
            f'did you mean frlr_mm::glyphs/{GLYPHS.name}?',
        ),
        ((GLYPHS, __file__, '--cfg-options', 'foo'), "expected KEY=VALUE, but got 'foo'"),
        ((GLYPHS, 'none.pth', '--out', 'ranks.jpg'), '.png or .svg, but got ranks.jpg'),
        ((GLYPHS, 'none.pth', '--num-queries', '0'), '--num-queries to be at least 1, but got 0'),
    ],
)
def test_bad_argument_is_one_line(run_tool, args, message):
    status, output = run_tool('analysis/rank_list.py', '--out', 'ranks.png', *args)
    assert status
    assert message in output
    assert 'Traceback' not in output


def test_config_of_another_task_is_refused(run_tool, glyph_checkpoint):
    categories = GLYPHS.with_name('resnet18_b128-sr_glyphs.py')
    with pytest.raises(ValueError, match='ReIDMetric expected samples with'):
        run_tool(
            'analysis/rank_list.py',
            categories,
            glyph_checkpoint,
            '--out',
            'ranks.png',
            *options(SMALL_GLYPHS),
        )
