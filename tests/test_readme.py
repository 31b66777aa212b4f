"""The README's commands name what is there, and its Python runs."""

import re
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import HOOKS, MODELS, DefaultScope

import frlr_mm  # noqa: F401 (mends what reads `mmpretrain::` in a config)

ROOT = Path(__file__).parents[1]
README = (ROOT / 'README.md').read_text()
PYTHON = re.findall(r'```python\n(.*?)```', README, re.DOTALL)
COMMANDS = re.findall(r'^(?:[A-Z_]+=\S+ )*((?:python|bash) tools/.+)$', README, re.MULTILINE)
COMMANDS += re.findall(r'`(python tools/[^`]+)`', README)


def test_config_of_five_lines(tmp_path):
    five_lines, annealed = PYTHON[:2]
    base, imports, _, model, _ = five_lines.splitlines()
    path = tmp_path / 'config.py'
    # The second piece holds the two lines that HS-LR changes, the loss and the hooks.
    for text in (five_lines, '\n'.join([base, imports, annealed, model])):
        path.write_text(text)
        cfg = Config.fromfile(path)
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            head = MODELS.build(cfg.model.head)
        assert type(head.loss_module).__name__ == cfg.loss.type
        hooks = [type(HOOKS.build(hook)).__name__ for hook in cfg.custom_hooks]
        assert hooks[0] == 'PriorBiasHook'
    assert cfg.loss.type == 'HSLRLoss' and hooks[1:] == ['FocusAnnealingHook']


def test_functions_without_mmengine():
    namespace = {}
    exec(PYTHON[2], namespace)
    assert namespace['cls_score'].grad.abs().sum() > 0


@pytest.mark.parametrize('command', COMMANDS)
def test_command_names_files_that_exist(command):
    words = [word for word in command.split() if word.startswith(('tools/', 'configs/'))]
    assert words
    assert [word for word in words if not (ROOT / word).is_file()] == []


@pytest.mark.parametrize('page', [ROOT / 'README.md', *(ROOT / 'docs').rglob('*.md')], ids=str)
def test_links_lead_somewhere(page):
    links = re.findall(r'\]\(([^)#:]+)(?:#[^)]*)?\)', page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []
