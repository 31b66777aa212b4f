"""What importing loads: torch alone for the functions, the plugin where mmpretrain is there."""

import subprocess
import sys

import pytest

STACK = ('mmengine', 'mmcv', 'mmpretrain', 'cv2', 'matplotlib', 'torchvision')
# As if the packages were not installed.
BLOCK = f"""
import importlib.abc, sys

class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in {STACK!r}:
            raise ModuleNotFoundError(f'No module named {{name!r}}', name=name)

sys.meta_path.insert(0, Blocker())
find_spec = __import__('importlib.util').util.find_spec
def hidden(name, package=None):
    return None if name.split('.')[0] in {STACK!r} else find_spec(name, package)
importlib.util.find_spec = hidden
"""
STEP = """
import torch
from frlr_mm.functional import fused_linear_hs_lr_loss, hs_lr_loss, ss_lr_loss
x, y = torch.randn(4, 30, requires_grad=True), torch.arange(4)
for loss in (hs_lr_loss, ss_lr_loss):
    loss(x, y).backward()
fused_linear_hs_lr_loss(x, torch.randn(9, 30), None, y).backward()
assert x.grad.isfinite().all()
tied = torch.zeros(1, 200, requires_grad=True)
hs_lr_loss(tied, y[:1]).backward()
assert (tied.grad != 0).nonzero()[:, 1].tolist() == list(range(21))
"""
ALONE = f"""
import importlib, sys, warnings
from importlib import metadata
allowed = getattr(torch.serialization, 'get_safe_globals', list)  # from torch 2.4 on
state = lambda: (
    list(warnings.filters), sorted(map(str, allowed()))
)
before = state()
{STEP}
assert state() == before
loaded = {{name.split('.')[0] for name in sys.modules}} & set({STACK!r})
assert not loaded, loaded
# Nor does anything change once mmengine comes.
import mmengine.fileio, mmengine.runner.checkpoint, mmengine.utils
assert mmengine.utils.is_installed.__module__ == 'mmengine.utils.package_utils'
assert mmengine.runner.checkpoint.load_url.__module__.startswith('torch')
"""
ONE_LINE = """
import frlr_mm
for name in ('registration', 'models', 'engine.hooks', 'datasets', 'evaluation', 'engine.launch'):
    try:
        importlib.import_module(f'frlr_mm.{name}')
    except ModuleNotFoundError as error:
        assert "pip install 'frlr_mm[mmpretrain]'" in str(error) and 'mmengine' in str(error), name
        assert '\\n' not in str(error)
    else:
        raise AssertionError(f'{name} was imported')
"""
REGISTERED = """
from mmengine.registry import DATASETS, HOOKS, METRICS, MODELS
for registry, name in (
    (MODELS, 'HSLRLoss'), (MODELS, 'BNNeckHead'), (DATASETS, 'Market1501'),
    (HOOKS, 'PriorBiasHook'), (METRICS, 'ReIDMetric'),
):
    assert registry.get(name) is not None, name
"""
WITH_TORCH = {
    'functions, nothing else installed': f'{BLOCK}import frlr_mm.functional{STEP}',
    'functions, the stack installed': ALONE,
    'missing stack': BLOCK + ONE_LINE,
}
IMPORTS = [
    'import frlr_mm',
    'import frlr_mm.functional, frlr_mm.models',
    'import frlr_mm.functional, mmpretrain',
    'import mmpretrain, frlr_mm.functional',
    # As in a package that `python -m` looks for its module in.
    "import sys; sys.argv[:] = ['-m']; import frlr_mm",
]


def run(code):
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result


@pytest.fixture(scope='module')
def outcomes():
    """Run each code in a process that has imported nothing of ours; return statuses and stderr.

    The processes are forks of one that imports what takes long, torch for the first ones, and what
    mmpretrain imports for the others.
    """
    result = run(
        f"""
import os, sys, traceback

outcomes = []
def fork(codes):
    for code in codes:
        child = os.fork()
        if not child:
            try:
                assert not {{'frlr_mm', 'mmpretrain'}} & set(sys.modules)
                exec(code, {{'torch': torch}})
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        outcomes.append(os.waitpid(child, 0)[1])

import torch
fork({[*WITH_TORCH.values()]!r})
import cv2, matplotlib.pyplot, mmengine, torch._dynamo, torchvision
fork({[code + REGISTERED for code in IMPORTS]!r})
print(*outcomes)
"""
    )
    # Before its last line, mmpretrain of the forks has its say.
    statuses = result.stdout.splitlines()[-1].split()
    return dict(zip([*WITH_TORCH, *IMPORTS], statuses, strict=True)), result.stderr


@pytest.mark.parametrize('name', [*WITH_TORCH, *IMPORTS])
def test_import(outcomes, name):
    statuses, errors = outcomes
    assert statuses[name] == '0', errors


def test_import_does_not_warn_of_operators(outcomes):
    """The operators that mmcv-lite lacks are not warned of."""
    assert 'MultiScaleDeformableAttention' not in outcomes[1]


def test_functions_work_without_numpy():
    block = BLOCK.replace(repr(STACK), repr((*STACK, 'numpy')))
    run(f'{block}from frlr_mm import functional{STEP}')
