import re
from pathlib import Path

from mmpretrain import ImageClassificationInferencer
from PIL import Image

from .conftest import SMALL_GLYPHS, options


def test_demo_prints_top1_and_leaves_a_figure(run_tool, fork_commands):
    status, output = run_tool(
        'demo.py', '--work-dir', 'demo', *options(SMALL_GLYPHS), 'train_cfg.max_epochs=2'
    )
    assert status == 0, output[-3000:]
    assert re.search(r'^top-1: \d+\.\d %$', output, re.MULTILINE)
    # 5 % of the test images are rejected; of unknown ones more, even after two epochs.
    found = re.search(r'reaches (0\.\d+): 5% of the test images, (\d+)% of', output)
    assert 0 < float(found[1]) < 1 and int(found[2]) > 5
    assert output.splitlines()[-1] == 'figure: demo/demo.png demo/demo.svg'
    # README's example of inference.
    folder = Path('demo')
    config, checkpoint = folder / 'resnet18_b128-hslr_glyphs.py', folder / 'epoch_2.pth'
    infer = ImageClassificationInferencer(str(config), str(checkpoint))
    (result,) = infer(str(folder / 'glyph.png'))
    assert len(result['pred_scores']) == 20 and 0 <= result['pred_label'] < 20
    with Image.open('demo/demo.png') as figure:
        assert figure.width > 1000 and len(figure.convert('L').getcolors()) > 50
