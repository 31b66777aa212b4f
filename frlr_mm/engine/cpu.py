"""Runs on machines without an accelerator: a config for the CPU, mixed precision on it."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.logging import print_log
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from mmengine.runner.amp import autocast


@OPTIM_WRAPPERS.register_module()
class CPUAmpOptimWrapper(OptimWrapper):
    """Mixed precision on the CPU: bfloat16 autocast, which needs no loss scale.

    mmengine's AmpOptimWrapper refuses the CPU. Can go when it does not.
    """

    @contextmanager
    def optim_context(self, model: torch.nn.Module) -> Iterator[None]:
        """Run the forward pass under autocast."""
        with super().optim_context(model), autocast(device_type='cpu', dtype=torch.bfloat16):
            yield


def adapt_config_to_cpu(cfg: Config) -> None:
    """Change a config where there is no accelerator, so that it trains and tests on the CPU.

    - Several processes: gloo in place of NCCL, and DistributedDataParallel without a device; with
      the stock ones mmengine asks for a CUDA device. Can go when mmengine asks for the device.
    - AmpOptimWrapper: :class:`CPUAmpOptimWrapper` in its place.
    - ``pin_memory``: off, it would only warn.

    Args:
        cfg (Config): The config of a run, ``launcher`` included; changed in place.

    Raises:
        ValueError: If the config wants SyncBN, which torch does not have on the CPU.
    """
    if get_device() != 'cpu':
        return
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        if cfg.get(name) is not None:
            cfg[name].pin_memory = False

    optim_wrapper = cfg.get('optim_wrapper')
    if optim_wrapper is not None and optim_wrapper.get('type') == 'AmpOptimWrapper':
        optim_wrapper.type = 'CPUAmpOptimWrapper'
        for name in ('loss_scale', 'dtype', 'use_fsdp'):
            optim_wrapper.pop(name, None)
        print_log('Mixed precision on the CPU: bfloat16', 'current', logging.INFO)

    if cfg.get('launcher', 'none') == 'none':
        return
    if cfg.get('sync_bn') or "'SyncBN'" in str(cfg.model):
        raise ValueError(
            'SyncBN does not exist on the CPU: set norm_cfg of the model to '
            "dict(type='BN') or train on GPUs"
        )
    if cfg.launcher == 'pytorch' and not dist.is_initialized():
        dist.init_process_group('gloo')
    wrapper = dict(
        type='MMDistributedDataParallel',
        device_ids=None,
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False),
    )
    cfg.model_wrapper_cfg = wrapper | (cfg.get('model_wrapper_cfg') or {})
