"""No loader of mmengine runs what a pickle says, on any stack."""

import http.server
import io
import json
import os
import pickle
import sys
import tarfile
import threading
import types

import mmengine.runner.checkpoint
import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.optim.scheduler.param_scheduler import (
    MultiStepParamScheduler,
    OneCycleParamScheduler,
)
from mmengine.runner import CheckpointLoader
from torch import nn

from frlr_mm.engine import safe_load
from tests.support.hostile import Evil


class ReadsAttribute:
    def __init__(self, owner, name):
        self.owner, self.name = owner, name

    def __reduce__(self):
        return getattr, (self.owner, self.name)


def checkpoint_of_a_training():
    """What mmengine stores beside tensors: log history and schedulers' states."""
    history = HistoryBuffer()
    for value in (1.0, 2.0, 4.0):
        history.update(value)
    optimizer = torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1)
    schedulers = [
        OneCycleParamScheduler(optimizer, 'lr', eta_max=1.0, total_steps=10),
        MultiStepParamScheduler(optimizer, 'lr', milestones=[1, 2]),
    ]
    return dict(
        state_dict={'backbone.weight': torch.ones(2)},
        message_hub=dict(
            log_scalars={'train/loss': history},
            runtime_info=dict(loss=np.float64(0.5), epoch=np.int64(3), seed=np.zeros(2, np.int64)),
        ),
        param_schedulers=[scheduler.state_dict() for scheduler in schedulers],
    )


@pytest.fixture
def forbid():
    """Take a name off the list; what it takes to do so depends on torch."""
    every = dict(safe_load.CHECKPOINT_TYPES)

    def forbid(name):
        del safe_load.CHECKPOINT_TYPES[name]
        if safe_load.TORCH_RESTRICTS:
            taken = (every[name], name)
            rest = [each for each in torch.serialization.get_safe_globals() if each != taken]
            torch.serialization.clear_safe_globals()
            torch.serialization.add_safe_globals(rest)

    yield forbid
    safe_load.CHECKPOINT_TYPES.update(every)
    if safe_load.TORCH_RESTRICTS:
        torch.serialization.add_safe_globals([(each, name) for name, each in every.items()])


def test_checkpoint_of_a_training(tmp_path):
    path = tmp_path / 'checkpoint.pth'
    torch.save(checkpoint_of_a_training(), path)
    loaded = safe_load.load(path)
    assert loaded['message_hub']['log_scalars']['train/loss'].mean() == pytest.approx(7 / 3)
    one_cycle, multi_step = loaded['param_schedulers']
    assert one_cycle['anneal_func'](0.0, 1.0, 0.5) == pytest.approx(0.5)
    assert multi_step['milestones'] == {1: 1, 2: 1}
    assert loaded['message_hub']['runtime_info']['seed'].tolist() == [0, 0]


@pytest.mark.parametrize(
    'name',
    [
        'builtins.getattr',
        'mmengine.logging.history_buffer.HistoryBuffer',
        'mmengine.optim.scheduler.param_scheduler.OneCycleParamScheduler',
        f'{np.empty(0).__reduce__()[0].__module__}._reconstruct',
        f'{np.empty(0).__reduce__()[0].__module__}.scalar',
        'numpy.dtype',
        'numpy.ndarray',
    ],
)
def test_name_is_needed(tmp_path, forbid, name):
    path = tmp_path / 'checkpoint.pth'
    torch.save(checkpoint_of_a_training(), path)
    forbid(name)
    with pytest.raises(pickle.UnpicklingError):
        safe_load.load(path)


@pytest.fixture
def schemes(tmp_path, monkeypatch):
    """Return a function that serves a file in every way that mmengine knows."""
    module = mmengine.runner.checkpoint
    (tmp_path / 'home').mkdir()
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
    monkeypatch.setenv('MMENGINE_HOME', str(tmp_path / 'home'))

    def handler(*args):
        return http.server.SimpleHTTPRequestHandler(*args, directory=str(tmp_path))

    def serve(path):
        data = path.read_bytes()
        (tmp_path / 'home/open_mmlab.json').write_text(json.dumps(dict(own=path.name)))
        (tmp_path / 'home' / path.name).write_bytes(data)
        model = types.SimpleNamespace(
            name=path.name, download=lambda file: path.__class__(file).write_bytes(data)
        )
        cloud = types.SimpleNamespace(get=lambda name: model)
        monkeypatch.setitem(sys.modules, 'pavi', types.SimpleNamespace(modelcloud=cloud))
        for models in ('get_mmcls_models', 'get_torchvision_models'):
            monkeypatch.setattr(module, models, lambda: dict(own=path.as_uri()))
        backend = types.SimpleNamespace(get=lambda name: data)
        monkeypatch.setattr(module, 'get_file_backend', lambda *args, **kwargs: backend)
        prefixes = ('pavi://', 's3://', 'modelzoo://', 'torchvision://', 'open-mmlab://')
        return [
            str(path),
            f'mapped:{path}',  # ours, of sharded classifiers
            f'http://127.0.0.1:{server.server_port}/{path.name}',
            *(f'{prefix}own' for prefix in (*prefixes, 'openmmlab://', 'mmcls://')),
        ]

    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield serve
        server.shutdown()


def test_every_scheme(tmp_path, schemes):
    path = tmp_path / 'good.pth'
    torch.save(checkpoint_of_a_training(), path)
    used = set()
    for filename in schemes(path):
        used.add(CheckpointLoader._get_checkpoint_loader(filename))
        loaded = CheckpointLoader.load_checkpoint(filename, 'cpu')
        (weight,) = loaded['state_dict'].values()
        assert weight.tolist() == [1, 1], filename
    assert used == set(CheckpointLoader._schemes.values())  # none is left out


@pytest.mark.parametrize(
    'content', [Evil, lambda path: dict(state_dict={}, extra=[Evil(path)])], ids=['bare', 'inside']
)
def test_every_scheme_refuses(tmp_path, schemes, content):
    path = tmp_path / 'evil.pth'
    torch.save(content(tmp_path / 'made'), path)
    for filename in schemes(path):
        with pytest.raises(pickle.UnpicklingError, match='Refused'):
            CheckpointLoader.load_checkpoint(filename, 'cpu')
        assert not (tmp_path / 'made').exists(), filename


def test_asking_for_no_restriction_is_in_vain(tmp_path, monkeypatch):
    """As onedl-mmengine does once torch has refused, and as torch's own variable says."""
    path = tmp_path / 'evil.pth'
    torch.save(Evil(tmp_path / 'made'), path)
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    for options in ({}, dict(weights_only=False), dict(pickle_module=pickle)):
        with pytest.raises(pickle.UnpicklingError, match='mkdir'):
            mmengine.runner.checkpoint.torch.load(path, **options)
    with pytest.raises(pickle.UnpicklingError, match='mkdir'):
        mmengine.runner.checkpoint.torch.load(path, None, pickle)
    assert not (tmp_path / 'made').exists()


def old_file(evil, path):
    torch.save(evil, path, _use_new_zipfile_serialization=False)


def bare_pickle(evil, path):
    path.write_bytes(pickle.dumps(evil))


def tar_file(evil, path):
    """Write the format of torch before 0.1.10, whose first pickle is the evil one."""
    with tarfile.open(path, 'w') as archive:
        for name in ('storages', 'tensors', 'pickle'):
            data = pickle.dumps(evil, protocol=2)
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))


def program(evil, path):
    """Write a TorchScript program: torch.load would hand it to torch.jit.load."""
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), path)


@pytest.mark.filterwarnings('ignore:`torch.jit:DeprecationWarning')
@pytest.mark.filterwarnings("ignore:'torch.load' received a zip file")
@pytest.mark.filterwarnings('ignore:Detected pickle protocol')
@pytest.mark.parametrize('write', [old_file, bare_pickle, tar_file, program])
def test_other_formats_are_refused(tmp_path, write):
    path = tmp_path / 'evil.pth'
    write(Evil(tmp_path / 'made'), path)
    with pytest.raises(pickle.UnpicklingError, match=r'Refused the checkpoint .*evil\.pth'):
        CheckpointLoader.load_checkpoint(str(path))
    with open(path, 'rb') as file, pytest.raises(pickle.UnpicklingError):
        safe_load.load(file)
    assert not (tmp_path / 'made').exists()


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
    for load in (safe_load.load, CheckpointLoader.load_checkpoint):
        with pytest.raises(pickle.UnpicklingError, match=name):
            load(str(path))


if safe_load.TORCH_RESTRICTS:  # before, there is one list, and it is ours

    def test_builtin_getattr_is_taken_off_the_list(monkeypatch):
        """Where both are on it, chance decides between the builtin and ours."""
        seen = []
        list_types = torch.serialization.get_safe_globals
        monkeypatch.setattr(torch, 'load', lambda *args, **options: seen.append(list_types()))
        with torch.serialization.safe_globals([getattr, slice]):  # as onedl-mmengine does
            safe_load.load('file')
            assert getattr in list_types()
        assert getattr not in seen[0] and slice in seen[0]


def test_download_is_kept(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    source = tmp_path / 'weights.pth'
    torch.save(dict(weight=torch.ones(2)), source)
    for folder in (None, str(tmp_path / 'own')):
        safe_load.load_url(source.as_uri(), folder, progress=False)
    source.unlink()
    for folder, kept in ((None, tmp_path / 'hub/checkpoints'), (str(tmp_path / 'own'), None)):
        loaded = safe_load.load_url(source.as_uri(), folder, progress=False)
        assert loaded['weight'].tolist() == [1, 1]
        assert os.listdir(folder or kept) == ['weights.pth']
