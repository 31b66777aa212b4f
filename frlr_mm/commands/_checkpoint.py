"""What command lines that take a config, and most of them a checkpoint, share."""

import argparse

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmpretrain import get_model
from torch import nn
from torch.utils.data import DataLoader

from ..engine.command_line import (
    CheckedDictAction,
    check_cfg_options,
    check_checkpoint,
    read_config,
)


def add_arguments(parser: argparse.ArgumentParser, config: str = 'a config') -> None:
    """Add the config, with its help, the checkpoint and ``--cfg-options``."""
    add_config(parser, config)
    parser.add_argument('checkpoint', help='a checkpoint of it')


def add_config(parser: argparse.ArgumentParser, config: str = 'a config') -> None:
    """Add the config, with its help, and ``--cfg-options``."""
    parser.add_argument('config', help=config)
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=CheckedDictAction,
        default={},
        help='KEY=VALUE, to override settings of the config',
    )


def add_split(parser: argparse.ArgumentParser) -> None:
    """Add ``--split``, whose images are looked at."""
    parser.add_argument(
        '--split',
        choices=('val', 'test'),
        default='val',
        help='the data loader of the config whose images are taken (default: val); where a '
        "recipe's two are one, set another by --cfg-options, or the test images are seen",
    )


def load(args: argparse.Namespace, device: str | None = None) -> tuple[Config, nn.Module]:
    """Return the config, with its options, and the model with the weights of the checkpoint."""
    cfg = load_config(args)
    return cfg, load_model(cfg, args.checkpoint, device)


def load_config(args: argparse.Namespace) -> Config:
    """Return the config, with its options."""
    cfg = read_config(args.config)
    check_cfg_options(cfg, args.cfg_options)
    cfg.merge_from_dict(args.cfg_options)
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    return cfg


def load_model(cfg: Config, checkpoint: str, device: str | None = None) -> nn.Module:
    """Return the model of a config with the weights of a checkpoint."""
    check_checkpoint(checkpoint)
    return get_model(cfg, pretrained=checkpoint, device=device or get_device()).eval()


def build_loader(cfg: Config, split: str) -> DataLoader:
    """Return the data loader of a split."""
    loader = cfg.get(f'{split}_dataloader')
    if not loader:
        raise ValueError(f'Expected the config to have a {split}_dataloader, but it has none')
    return Runner.build_dataloader(loader)
