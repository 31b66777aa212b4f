import http.server
import importlib.metadata
import os
import pickle
import sys
import threading
from fractions import Fraction
from pathlib import PurePosixPath

import mmengine.utils.package_utils
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import HistoryBuffer
from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler
from mmengine.runner import CheckpointLoader
from mmpretrain.models import RandomBatchAugment
from torch import nn

from frlr_mm import compat
from tests.support.hostile import Evil


class ReadsAttribute:
    def __init__(self, owner, name):
        self.owner, self.name = owner, name

    def __reduce__(self):
        return getattr, (self.owner, self.name)


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


def checkpoint_of_a_training():
    """What mmengine stores beside tensors: log history and schedulers' states."""
    history = HistoryBuffer()
    for value in (1.0, 2.0, 4.0):
        history.update(value)
    optimizer = torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1)
    scheduler = OneCycleParamScheduler(optimizer, 'lr', eta_max=1.0, total_steps=10)
    return dict(
        state_dict=dict(weight=torch.ones(2)),
        message_hub=dict(
            log_scalars={'train/loss': history},
            runtime_info=dict(loss=np.float64(0.5), epoch=np.int64(3), seed=np.zeros(2, np.int64)),
        ),
        param_schedulers=[scheduler.state_dict()],
    )


def test_checkpoints_of_mmengine_load_weights_only(tmp_path):
    path = tmp_path / 'checkpoint.pth'
    torch.save(checkpoint_of_a_training(), path)
    loaded = torch.load(path, weights_only=True)
    assert loaded['message_hub']['log_scalars']['train/loss'].mean() == pytest.approx(7 / 3)
    anneal = loaded['param_schedulers'][0]['anneal_func']
    assert anneal(0.0, 1.0, 0.5) == pytest.approx(0.5)


def test_no_name_of_the_allow_list_can_go(tmp_path):
    """Every type that is allowed is needed: without it the checkpoint does not load."""
    path = tmp_path / 'checkpoint.pth'
    torch.save(checkpoint_of_a_training(), path)
    needed = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    allowed = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    try:
        assert set(torch.serialization.get_unsafe_globals_in_checkpoint(path)) == {
            'builtins.getattr',
            'mmengine.logging.history_buffer.HistoryBuffer',
            'mmengine.optim.scheduler.param_scheduler.OneCycleParamScheduler',
            'numpy._core.multiarray._reconstruct',
            'numpy._core.multiarray.scalar',
            'numpy.dtype',
            'numpy.ndarray',
        }
        with pytest.raises(pickle.UnpicklingError):
            torch.load(path, weights_only=True)
    finally:
        torch.serialization.add_safe_globals(allowed)
    assert needed == []


@pytest.mark.parametrize(
    'content',
    [
        lambda path: Evil(path),
        lambda path: dict(state_dict={}, extra=[Evil(path)]),
    ],
)
def test_malicious_checkpoint_is_refused(tmp_path, content):
    target = tmp_path / 'created'
    path = tmp_path / 'evil.pth'
    torch.save(content(target), path)
    with pytest.raises(pickle.UnpicklingError, match='mkdir'):
        CheckpointLoader.load_checkpoint(str(path), map_location='cpu')
    assert not target.exists()


@pytest.mark.parametrize(
    ('owner', 'name'),
    [
        (HistoryBuffer, '__init__'),
        (HistoryBuffer, '_statistics_methods'),
        (OneCycleParamScheduler, '__subclasses__'),
        (np.ndarray, 'tofile'),
    ],
)
def test_other_attributes_are_refused(tmp_path, owner, name):
    path = tmp_path / 'evil.pth'
    torch.save(ReadsAttribute(owner, name), path)
    with pytest.raises(pickle.UnpicklingError, match=name):
        torch.load(path, weights_only=True)


def test_malicious_checkpoint_from_http_is_refused(tmp_path, monkeypatch):
    served = tmp_path / 'served'
    served.mkdir()
    torch.save(Evil(tmp_path / 'created'), served / 'evil.pth')
    torch.save(dict(state_dict=dict(weight=torch.ones(2))), served / 'good.pth')
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'home'))

    def handler(*args):
        return http.server.SimpleHTTPRequestHandler(*args, directory=str(served))

    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f'http://127.0.0.1:{server.server_port}'
        good = CheckpointLoader.load_checkpoint(f'{url}/good.pth', map_location='cpu')
        with pytest.raises(pickle.UnpicklingError, match='mkdir'):
            CheckpointLoader.load_checkpoint(f'{url}/evil.pth', map_location='cpu')
        server.shutdown()
    assert good['state_dict']['weight'].tolist() == [1, 1]
    assert not (tmp_path / 'created').exists()


def test_refusal_names_what_is_missing_and_how_to_allow_it(tmp_path):
    path = tmp_path / 'old.pth'
    torch.save(dict(state_dict={}, meta=dict(a=PurePosixPath('x'), b=Fraction(1))), path)
    with pytest.raises(pickle.UnpicklingError) as error:
        CheckpointLoader.load_checkpoint(str(path), map_location='cpu')
    text = str(error.value)
    assert str(path) in text and 'fractions.Fraction, pathlib.PurePosixPath' in text
    assert 'add_safe_globals' in text and 'custom_imports' in text
    assert 'weights_only' not in text  # torch advises to switch it off

    with torch.serialization.safe_globals([PurePosixPath, Fraction]):
        loaded = CheckpointLoader.load_checkpoint(str(path), map_location='cpu')
    assert loaded['meta'] == dict(a=PurePosixPath('x'), b=Fraction(1))


@pytest.mark.filterwarnings('ignore:Detected pickle protocol')
def test_refusal_of_what_torch_never_wrote(tmp_path):
    old, bare = tmp_path / 'old.pth', tmp_path / 'bare.pth'
    torch.save(Evil(tmp_path / 'made'), old, _use_new_zipfile_serialization=False)
    with pytest.raises(pickle.UnpicklingError, match=r'can run code: it holds posix\.mkdir'):
        CheckpointLoader.load_checkpoint(str(old))
    bare.write_bytes(pickle.dumps(Evil(tmp_path / 'made')))
    with pytest.raises(pickle.UnpicklingError, match='Refused the checkpoint .* holds more'):
        CheckpointLoader.load_checkpoint(str(bare))
    assert not (tmp_path / 'made').exists()


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
