"""The runner of models whose classes are spread over the processes of a run."""

import functools
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from mmengine.dist import broadcast, is_main_process
from mmengine.fileio import LocalBackend, get_file_backend, join_path
from mmengine.hooks import Hook
from mmengine.model import MMDistributedDataParallel, is_model_wrapper
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.registry import HOOKS, MODEL_WRAPPERS, RUNNERS
from mmengine.runner import Runner, save_checkpoint
from torch import Tensor, nn
from torch.distributed.fsdp.sharded_grad_scaler import ShardedGradScaler

from ..models.sharded_linear import ShardedLinear, find_shards, keep_shards_from_ddp
from ._unwrapped import unwrapped
from .sharded_checkpoints import ShardedEntries, mapped, write_checkpoint

# Their steps look at the whole of a layer, or at the same parameters on every process.
_UNFIT_OPTIMIZERS = (
    *('LARS', 'Lamb', 'LAMB', 'NovoGrad', 'Adafactor', 'Muon', 'Shampoo', 'SOAP', 'LBFGS'),
    'ZeroRedundancyOptimizer',
)


class _CheckpointCollected(Exception):
    """What a checkpoint holds is collected: leaves mmengine's function before it writes it."""


@HOOKS.register_module()
class _ShardsHook(Hook):
    """What a sharded layer asks of a run: checks before it, global norms, whole checkpoints."""

    # Once the others have put into a checkpoint what they put there.
    priority = 'LOWEST'

    def before_run(self, runner: Runner) -> None:
        shards = find_shards(unwrapped(runner))
        if not shards:
            return
        for name in ('train', 'val', 'test'):
            loader: Any = getattr(getattr(runner, f'_{name}_loop'), 'dataloader', None)
            if getattr(getattr(loader, 'sampler', None), 'round_up', True) is False:
                raise ValueError(
                    f'Expected `round_up` of the sampler of `{name}_dataloader` to be True, since '
                    'all processes have to get as many batches with a sharded classifier, but got '
                    'False'
                )
        if isinstance(runner.optim_wrapper, OptimWrapper):
            self._prepare(runner.optim_wrapper, shards.values())
        elif runner.optim_wrapper is not None and not isinstance(runner.optim_wrapper, dict):
            raise ValueError(
                'Expected one optimizer with a sharded classifier, but got '
                f'{type(runner.optim_wrapper).__name__}'
            )

    @staticmethod
    def _prepare(wrapper: OptimWrapper, shards: Iterable[ShardedLinear]) -> None:
        kind = type(wrapper.optimizer).__name__
        if kind in _UNFIT_OPTIMIZERS:
            raise ValueError(
                'Expected an optimizer that updates each weight by its own gradient, such as SGD '
                f'or AdamW, with a sharded classifier, but got {kind}'
            )
        if isinstance(wrapper, AmpOptimWrapper) and not isinstance(
            wrapper.loss_scaler, ShardedGradScaler
        ):
            raise ValueError(
                'Expected `use_fsdp` of AmpOptimWrapper to be True with a sharded classifier, so '
                'that a step is left out on every process or on none, but got False'
            )
        if getattr(wrapper, 'grad_name', None) == 'grad_norm':
            own = {id(parameter) for shard in shards for parameter in shard.parameters()}
            wrapper.clip_func = functools.partial(clip_grad_norm, own)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        _entries(runner).take_own_states(checkpoint)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        entries = _entries(runner)
        if entries.layers:
            entries.join(checkpoint, Path(runner.work_dir))
            raise _CheckpointCollected(checkpoint)


def _entries(runner: Runner) -> ShardedEntries:
    optimizer = getattr(runner.optim_wrapper, 'optimizer', None)
    # (A config has an `optimizer` of its own, a dictionary.)
    built = optimizer if isinstance(optimizer, torch.optim.Optimizer) else None
    return ShardedEntries(unwrapped(runner), built)


def clip_grad_norm(
    own: set[int],
    parameters: Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """Clip gradients by the norm of those of all processes; all have to call it.

    Args:
        own (set[int]): The ``id`` of the parameters that are others on every process; of the
            others, all processes have the same gradients.
        parameters (Iterable[Tensor]): The parameters, with gradients.
        max_norm (float): As for ``torch.nn.utils.clip_grad_norm_``.
        norm_type (float): As for ``torch.nn.utils.clip_grad_norm_``. Defaults to 2.0.
        error_if_nonfinite (bool): As for ``torch.nn.utils.clip_grad_norm_``. Defaults to False.
        foreach (bool, optional): Not looked at. Defaults to None.

    Returns:
        Tensor: The norm before it is clipped, the same on every process.

    Raises:
        RuntimeError: If the norm is not finite and ``error_if_nonfinite`` is set.
    """
    norm_type = float(norm_type)
    parameters = list(parameters)
    gradients = [parameter.grad for parameter in parameters]
    norms: dict[bool, Tensor] = {}
    for is_own in (True, False):
        each = [
            torch.linalg.vector_norm(gradient, norm_type).float()
            for parameter, gradient in zip(parameters, gradients, strict=True)
            if gradient is not None and (id(parameter) in own) == is_own
        ]
        device = each[0].device if each else parameters[0].device
        norms[is_own] = (
            torch.linalg.vector_norm(torch.stack(each), norm_type)
            if each
            else torch.zeros((), device=device)
        )
    if norm_type == math.inf:
        dist.all_reduce(norms[True], dist.ReduceOp.MAX)
        total = torch.maximum(norms[True], norms[False])
    else:
        power = norms[True] ** norm_type
        dist.all_reduce(power)
        total = (power + norms[False] ** norm_type) ** (1 / norm_type)
    if error_if_nonfinite and not total.isfinite():
        raise RuntimeError(f'Expected the norm of the gradients to be finite, but got {total}')
    factor = (max_norm / (total + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        if gradient is not None:
            gradient.mul_(factor.to(gradient))
    return total


@RUNNERS.register_module()
class ShardedRunner(Runner):
    """mmengine's runner for models with ``ShardedLinearClsHead``.

    DistributedDataParallel and the broadcast of initial weights leave the shares of the classifier
    alone; clipping takes the norm of all gradients; a checkpoint holds the whole classifier, with
    the state of its optimizer and its average, as of one process, and each process takes its share
    of it, whatever number of processes wrote it. On one process, and with other heads, it is
    mmengine's runner.

    Args:
        *args: As for ``Runner``.
        **kwargs: As for ``Runner``.

    Raises:
        ValueError: If the model is not to be wrapped by MMDistributedDataParallel; before
            training, if the optimizer, its wrapper or a sampler does not go with classes that are
            spread over processes.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.register_hook(_ShardsHook())

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """Wrap the model, the shares of the classifier left out.

        Args:
            model_wrapper_cfg (dict, optional): As for ``Runner``.
            model (nn.Module): The model.

        Returns:
            nn.Module: The wrapped model.
        """
        if not is_model_wrapper(model) and find_shards(model):
            kind = (model_wrapper_cfg or {}).get('type', 'MMDistributedDataParallel')
            wrapper = MODEL_WRAPPERS.get(kind)
            if wrapper is None or not issubclass(wrapper, MMDistributedDataParallel):
                raise ValueError(
                    'Expected `model_wrapper_cfg` to be of type MMDistributedDataParallel with a '
                    f'sharded classifier, but got {kind}'
                )
            keep_shards_from_ddp(model)
        return super().wrap_model(model_wrapper_cfg, model)

    def _init_model_weights(self) -> None:
        model: Any = unwrapped(self)
        shards = find_shards(model)
        if not shards:
            super()._init_model_weights()
            return
        model.init_weights()
        own = {
            f'{name}.{key}'
            for name, shard in shards.items()
            for key, _ in shard.named_parameters()
        }
        for name, value in model.state_dict().items():
            if name not in own:
                broadcast(value)

    def resume(self, filename: str, *args: Any, **kwargs: Any) -> None:
        """Resume training; the checkpoint is not loaded onto the accelerator as a whole.

        Args:
            filename (str): As for ``Runner``.
            *args: As for ``Runner``.
            **kwargs: As for ``Runner``; ``map_location`` is 'cpu' where it is not given.
        """
        kwargs.setdefault('map_location', 'cpu')
        super().resume(filename, *args, **kwargs)

    def load_checkpoint(self, filename: str, *args: Any, **kwargs: Any) -> dict:
        """Load a checkpoint; a process reads of a local one what it takes from it.

        Args:
            filename (str): As for ``Runner``.
            *args: As for ``Runner``.
            **kwargs: As for ``Runner``.

        Returns:
            dict: The checkpoint.
        """
        name = mapped(filename) if find_shards(unwrapped(self)) else filename
        return super().load_checkpoint(name, *args, **kwargs)

    def save_checkpoint(
        self,
        out_dir: str,
        filename: str,
        file_client_args: dict | None = None,
        *args: Any,
        backend_args: dict | None = None,
        **kwargs: Any,
    ) -> None:
        """Save a checkpoint; all processes have to call it.

        Args:
            out_dir (str): As for ``Runner``.
            filename (str): As for ``Runner``.
            file_client_args (dict, optional): As for ``Runner``. Defaults to None.
            *args: As for ``Runner``.
            backend_args (dict, optional): As for ``Runner``. Defaults to None.
            **kwargs: As for ``Runner``.
        """
        arguments = (out_dir, filename, file_client_args, *args)
        kwargs['backend_args'] = backend_args
        if not find_shards(unwrapped(self)):
            super().save_checkpoint(*arguments, **kwargs)
            return
        try:
            # What it does on the first process alone is done on all, which have a share each.
            Runner.save_checkpoint.__wrapped__(self, *arguments, **kwargs)
        except _CheckpointCollected as collected:
            (checkpoint,) = collected.args
        if not is_main_process():
            return
        path = join_path(out_dir, filename, backend_args=backend_args)
        is_local = isinstance(get_file_backend(path, backend_args=backend_args), LocalBackend)
        if is_local and file_client_args is None:
            write_checkpoint(checkpoint, Path(path))
        else:
            save_checkpoint(checkpoint, path, file_client_args, backend_args)
