"""The pieces of docs/scores.md do what the page says."""

import re
from pathlib import Path

from mmengine.config import Config
from PIL import Image

from tests.commands.conftest import SMALL, recipe
from tests.tools.conftest import ROOT, options
from tests.tools.conftest import run_tool as run_tool  # a fixture

PYTHON = re.findall(r'```python\n(.*?)```', (ROOT / 'docs/scores.md').read_text(), re.DOTALL)
MEASURES = ('auroc', 'fpr95_in', 'fpr95_out', 'aupr_in', 'aupr_out', 'oscr', 'aurc')


def test_config_of_known_and_unknown_classes(run_tool, save_model, tmp_path):
    """By tools/test.py, with both metrics, for sigmoids and for a softmax."""
    (text,) = (piece for piece in PYTHON if 'ClassSubset' in piece)
    for number, small in (('1000', '8'), ('2000', '12'), ("'data/glyphs'", "'glyphs'")):
        assert number in text
        text = text.replace(number, small)
    for loss in ('hslr', 'sr'):
        path = Path(f'{loss}.py')
        base = str(recipe('hslr').relative_to(ROOT))
        path.write_text(text.replace(base, str(recipe(loss))))
        small = {key: value for key, value in SMALL.items() if not key.startswith('test')}
        small |= {'test_dataloader.num_workers': 0, 'model.head.num_classes': 8}
        checkpoint = save_model(path, small)
        args = (path, checkpoint, '--work-dir', 'out', '--out', 'out.pkl', *options(small))
        status, output = run_tool('test.py', *args)
        assert status == 0, output[-3000:]
        names = {f'{name}_{score}' for name in MEASURES for score in ('logit', 'energy')}
        found = dict(re.findall(r'open_set/(\w+): (\S+)', output))
        assert found.keys() == names | {f'{name}_probability' for name in MEASURES} | {'accuracy'}
        assert float(found['auroc_logit']) > 50  # the classifier knows the known ones
        assert (found['auroc_logit'] == found['auroc_probability']) == (loss == 'hslr')
        with Image.open('work_dirs/reliability.png') as figure:
            assert figure.width > 300


def test_classifier_of_ones_own_config():
    (text,) = (piece for piece in PYTHON if "type='LogisticClassifier', head" in piece)
    cfg = Config.fromfile(recipe('sr'))
    namespace = {}
    exec(text, namespace)
    cfg.merge_from_dict(dict(model=namespace['model']))
    assert cfg.model.type == 'LogisticClassifier' and cfg.model.backbone.depth == 18
    assert cfg.model.head.loss == dict(type='SSLRLoss')


def test_number_of_lines_of_inference():
    (text,) = (piece for piece in PYTHON if 'onnxruntime' in piece)
    code = [line for line in text.splitlines() if line and not re.match('import|from', line)]
    assert len(code) <= 10
