"""Configs for machines without an accelerator."""

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from torch import nn

from frlr_mm.engine import cpu


def test_cpu_amp_runs_in_bfloat16():
    model = nn.Linear(4, 2)
    wrapper = OPTIM_WRAPPERS.build(
        dict(type='CPUAmpOptimWrapper', optimizer=torch.optim.SGD(model.parameters(), lr=0.1))
    )
    assert isinstance(wrapper, OptimWrapper)
    before = model.weight.detach().clone()
    with wrapper.optim_context(model):
        output = model(torch.ones(3, 4))
    assert output.dtype == torch.bfloat16
    wrapper.update_params(output.float().square().sum())
    assert model.weight.dtype == torch.float32
    assert not torch.equal(model.weight, before)


@pytest.fixture
def on_cpu(monkeypatch):
    monkeypatch.setattr(cpu, 'get_device', lambda: 'cpu')


@pytest.mark.usefixtures('on_cpu')
def test_config_on_one_cpu_process():
    cfg = Config(
        dict(
            launcher='none',
            model=dict(type='ImageClassifier'),
            train_dataloader=dict(pin_memory=True),
            val_dataloader=None,
            optim_wrapper=dict(
                type='AmpOptimWrapper', loss_scale='dynamic', accumulative_counts=2
            ),
        )
    )
    cpu.adapt_config_to_cpu(cfg)
    assert cfg.train_dataloader.pin_memory is False
    assert cfg.optim_wrapper == dict(type='CPUAmpOptimWrapper', accumulative_counts=2)
    assert 'model_wrapper_cfg' not in cfg


@pytest.mark.usefixtures('on_cpu')
@pytest.mark.parametrize(
    'options',
    [
        dict(sync_bn='torch'),
        dict(model=dict(backbone=dict(norm_cfg=dict(type='SyncBN')))),
    ],
)
def test_sync_bn_on_cpu_processes_is_an_error(options):
    cfg = Config(dict(launcher='pytorch', model=dict(type='ImageClassifier')))
    cfg.merge_from_dict(options)
    with pytest.raises(ValueError, match='SyncBN does not exist on the CPU'):
        cpu.adapt_config_to_cpu(cfg)


def test_config_on_a_gpu_is_left_alone(monkeypatch):
    monkeypatch.setattr(cpu, 'get_device', lambda: 'cuda')
    cfg = Config(
        dict(
            launcher='pytorch',
            optim_wrapper=dict(type='AmpOptimWrapper'),
            train_dataloader=dict(pin_memory=True),
            model=dict(),
        )
    )
    expected = cfg.to_dict()
    cpu.adapt_config_to_cpu(cfg)
    assert cfg.to_dict() == expected
