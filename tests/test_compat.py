import importlib.metadata
import os
import pickle
import shutil
import sys
from fractions import Fraction
from pathlib import Path, PurePosixPath

import mmengine.utils.package_utils
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.runner import CheckpointLoader
from mmpretrain.models import RandomBatchAugment
from mmpretrain.visualization import UniversalVisualizer

from frlr_mm import compat
from frlr_mm.compat import tools
from frlr_mm.engine import safe_load
from tests.support.hostile import allowed
from tests.support.recipes import ROOT


def test_stock_configs_are_found_without_pkg_resources(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'pkg_resources', None)  # makes its import fail
    config = tmp_path / 'config.py'
    config.write_text("_base_ = 'mmpretrain::resnet/resnet18_8xb32_in1k.py'\n")
    assert Config.fromfile(config).model.backbone.depth == 18


def test_package_lookup():
    import mmpretrain

    lookup = mmengine.utils.package_utils
    assert lookup.is_installed('mmpretrain') and lookup.is_installed('torch')
    assert not lookup.is_installed('no_such_package')
    assert lookup.get_installed_path('mmpretrain') == os.path.dirname(mmpretrain.__file__)
    # a distribution whose module has another name
    assert lookup.get_installed_path('opencv-python').endswith('cv2')
    with pytest.raises(importlib.metadata.PackageNotFoundError):
        lookup.get_installed_path('no_such_package')


def test_refusal_names_what_is_missing_and_how_to_allow_it(tmp_path):
    path = tmp_path / 'old.pth'
    torch.save(dict(state_dict={}, meta=dict(a=PurePosixPath('x'), b=Fraction(1))), path)
    with pytest.raises(pickle.UnpicklingError) as error:
        CheckpointLoader.load_checkpoint(str(path), map_location='cpu')
    text = str(error.value)
    # Before torch 2.6 the first one alone is known.
    second = f'{PurePosixPath.__module__}.PurePosixPath'  # which depends on Python
    names = ['fractions.Fraction', second][not safe_load.TORCH_RESTRICTS :]
    assert str(path) in text and ', '.join(names) in text
    assert safe_load.HOW_TO_ALLOW in text and 'custom_imports' in text
    assert 'weights_only' not in text  # torch advises to switch it off

    with allowed(PurePosixPath, Fraction):
        loaded = CheckpointLoader.load_checkpoint(str(path), map_location='cpu')
    assert loaded['meta'] == dict(a=PurePosixPath('x'), b=Fraction(1))


@pytest.mark.parametrize('text', ['x = 1', 3])
def test_config_inside_of_a_checkpoint_is_dropped(tmp_path, text):
    path = tmp_path / 'checkpoint.pth'
    torch.save(dict(state_dict={}, meta=dict(config=text, epoch=1)), path)
    loaded = CheckpointLoader.load_checkpoint(str(path), map_location='cpu')
    assert loaded['meta'] == dict(epoch=1)


def test_apply_twice_changes_nothing():
    load_url = mmengine.runner.checkpoint.load_url
    load_checkpoint = CheckpointLoader.load_checkpoint.__func__
    compat.apply()
    assert mmengine.runner.checkpoint.load_url is load_url
    assert CheckpointLoader.load_checkpoint.__func__ is load_checkpoint


@pytest.mark.parametrize('kind', ['Mixup', 'CutMix', 'ResizeMix'])
def test_unknown_labels_stay_unknown_in_mixed_images(kind):
    """A mixture is known where both of its labels are."""
    torch.manual_seed(0)
    np.random.seed(0)
    augment = RandomBatchAugment(dict(type=kind, alpha=1.0))
    label = torch.tensor([[1, 0, -1], [0, 1, 0], [1, -1, 0], [0, 0, 1]])
    for _ in range(20):
        _, mixed = augment(torch.randn(4, 3, 16, 16), label)
        known = mixed >= 0
        assert (mixed[~known] == -1).all() and not known[0, 2] and not known[2, 1]
        assert ((mixed <= 1) | ~known).all()
    _, alone = RandomBatchAugment(dict(type=kind, alpha=1.0), probs=0.0)(
        torch.randn(4, 3, 16, 16), label
    )
    assert torch.equal(alone, label.float())


OWN = 'frlr_mm::glyphs/resnet18_b128-hslr_glyphs.py'


def test_own_recipes_have_a_name(tmp_path, monkeypatch):
    """In `_base_` and in mmengine's hub, from a clone and from a wheel."""
    expected = Config.fromfile(ROOT / 'configs/glyphs/resnet18_b128-hslr_glyphs.py').to_dict()
    config = tmp_path / 'mine.py'
    config.write_text(f'_base_ = {OWN!r}\n')
    wheel = tmp_path / 'frlr_mm/.mim'
    for folder in (ROOT, wheel):
        if folder == wheel:
            shutil.copytree(ROOT / 'configs', wheel / 'configs')
        monkeypatch.setattr(compat, 'shipped_folder', lambda folder=folder: folder)
        assert Config.fromfile(config).to_dict() == expected
        assert get_config(OWN).to_dict() == expected
        assert Path(get_config(OWN).filename).is_relative_to(folder)


def test_own_recipe_that_is_not_there(tmp_path):
    config = tmp_path / 'mine.py'
    config.write_text("_base_ = 'frlr_mm::glyphs/nothing.py'\n")
    with pytest.raises(FileNotFoundError, match='config not found: frlr_mm::glyphs/nothing.py'):
        Config.fromfile(config)


def test_visualizer_with_the_scope_of_its_config():
    config = dict(type='UniversalVisualizer', vis_backends=[], _scope_='mmpretrain')
    config.pop('type')  # as browse_dataset of mmpretrain does
    assert UniversalVisualizer(**config, name='scoped').instance_name == 'scoped'


def test_renamed_argument():
    class Old:
        def __init__(self, x, iterations=1):
            self.x, self.iterations = x, iterations

    tools._rename_argument(Old, 'n', 'iterations')
    tools._rename_argument(Old, 'n', 'iterations')  # once is enough
    assert Old(3, n=5).iterations == 5 and Old(3).iterations == 1 and Old(x=4, n=None).x == 4
    with pytest.raises(TypeError, match='other'):
        Old(3, other=5)
