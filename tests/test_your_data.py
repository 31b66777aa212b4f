"""The loops of docs/your_data.md, as they are printed."""

import re

import torch

from tests.support.recipes import ROOT

PAGE = (ROOT / 'docs/your_data.md').read_text()


def run(title):
    (code,) = re.findall(rf'```python\n# {title}\n(.*?)```', PAGE, re.DOTALL)
    assert len(code.splitlines()) <= 30
    namespace = {}
    with torch.random.fork_rng():
        exec(code, namespace)
    return namespace


def test_torch_loop():
    assert run('a loop on torch alone')['accuracy'] > 0.95


def test_timm_loop():
    found = run('a loop with timm')
    assert found['target'].shape == (20, 10) and (found['target'] > 0).all()
    assert sum(found['losses'][-3:]) < sum(found['losses'][:3])
