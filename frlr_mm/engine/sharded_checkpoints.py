"""Checkpoints of models whose classes are spread over processes: whole in the file, shared in use.

A checkpoint holds the parameters of a sharded layer as often as it is asked to: as weights, as
averaged weights and in the state of the optimizer. :class:`ShardedEntries` finds them all, joins
them where a checkpoint is written and takes a process's share where one is read.
"""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from mmengine.dist import get_comm_device, is_main_process
from mmengine.runner import CheckpointLoader
from torch import Tensor, nn
from torch.optim import Optimizer

from ..functional import ClassShard
from ..models.sharded_linear import TAG, ShardedLinear, find_shards
from .files import replacing
from .safe_load import load

# How many bytes of each process are on their way, and on the first process's device, at once.
_CHUNK = 16 * 2**20
# Of a checkpoint of EMAHook, whose keys have another prefix.
_STATE_DICTS = (('state_dict', ''), ('ema_state_dict', 'module.'))
_MAPPED = 'mapped:'


@CheckpointLoader.register_scheme(prefixes=_MAPPED, force=True)
def load_from_mapped(filename: str, map_location: Any = None) -> Any:
    """Load what :func:`mapped` named: tensors are read as they are used.

    Args:
        filename (str): The name.
        map_location (Any): Not looked at: the tensors are on the CPU. Defaults to None.

    Returns:
        Any: The checkpoint.
    """
    # (mmengine's log says the name of this function from its tenth letter on.)
    return load(os.path.expanduser(filename.removeprefix(_MAPPED)), 'cpu', mmap=True)


def mapped(filename: str) -> str:
    """Return the name by which mmengine maps a local checkpoint in place of reading all of it.

    Args:
        filename (str): The checkpoint.

    Returns:
        str: ``filename`` itself where it is no file, or none that torch can map.
    """
    path = os.path.expanduser(filename)
    if not os.path.isfile(path):
        return filename
    with open(path, 'rb') as file:
        return _MAPPED + filename if file.read(4) == b'PK\x03\x04' else filename


class ShardedEntries:
    """The entries of checkpoints that belong to sharded layers.

    Args:
        model (nn.Module): The model, not wrapped.
        optimizer (Optimizer, optional): What updates it. Defaults to None.
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer | None = None) -> None:
        self.layers = find_shards(model)
        owners = {id(p): layer for layer in self.layers.values() for p in layer.parameters()}
        parameters = (
            [p for group in optimizer.param_groups for p in group['params']] if optimizer else []
        )
        # torch numbers the states of an optimizer by the order of its parameters.
        self.states = {i: (owners[id(p)], p) for i, p in enumerate(parameters) if id(p) in owners}

    def _weights(self, checkpoint: dict) -> Iterator[tuple[dict, str, ShardedLinear]]:
        for field, prefix in _STATE_DICTS:
            if field not in checkpoint:
                continue
            state_dict = checkpoint[field]
            for name, layer in self.layers.items():
                for parameter, _ in layer.named_parameters():
                    yield state_dict, f'{prefix}{name}.{parameter}', layer

    def _optimizer_states(
        self, checkpoint: dict, is_whole: bool
    ) -> Iterator[tuple[dict, str, ShardedLinear]]:
        """Yield what has one number for each of the parameter's."""
        states = checkpoint.get('optimizer', {}).get('state', {})
        for i, (layer, parameter) in self.states.items():
            rows = layer.out_features if is_whole else layer.shard.size
            shape = (rows, *parameter.shape[1:])
            for name, value in states.get(i, {}).items():
                if not isinstance(value, Tensor) or value.ndim == 0:
                    continue
                if value.shape != shape:
                    raise ValueError(
                        f'Expected `{name}` in the state of the optimizer to have shape {shape}, '
                        f'one number for each of the classifier, but got {tuple(value.shape)}'
                    )
                yield states[i], name, layer

    def join(self, checkpoint: dict, folder: Path) -> None:
        """Put the parameters and states of all classes in the place of this process's.

        Every process has to call it with a checkpoint of the same entries; the first one gets the
        whole ones, on disk until they are read. What is sent is a chunk at a time, so that no
        process has more of it in memory.

        Args:
            checkpoint (dict): What mmengine saves; changed in place.
            folder (Path): Where the first process has room for them.
        """
        entries = [*self._weights(checkpoint), *self._optimizer_states(checkpoint, is_whole=False)]
        for container, key, layer in entries:
            container[key] = _join_rows(container[key], layer.shard, folder)
        for field, prefix in _STATE_DICTS:
            metadata = getattr(checkpoint.get(field), '_metadata', {})
            for name in self.layers:
                metadata.get(f'{prefix}{name}', {}).pop(TAG, None)

    def take_own_states(self, checkpoint: dict) -> None:
        """Put this process's share of the states of the optimizer in the place of the whole ones.

        The layers take their own weights as they are loaded.

        Args:
            checkpoint (dict): What mmengine loaded; changed in place.

        Raises:
            ValueError: If the states are of another number of classes.
        """
        for state, name, layer in list(self._optimizer_states(checkpoint, is_whole=True)):
            # A copy, which lets go of the file.
            state[name] = state[name][layer.rows].clone()


def _join_rows(own: Tensor, shard: ClassShard, folder: Path) -> Tensor:
    """Return the rows of all processes on the first one, and what there is on the others."""
    whole = own
    if is_main_process():
        whole = _tensor_on_disk((shard.num_classes, *own.shape[1:]), own.dtype, folder)
    device = get_comm_device()
    step = max(1, _CHUNK // max(1, own[:1].nbytes))
    for begin in range(0, shard.max_size, step):
        rows = min(step, shard.max_size - begin)
        # The process with the fewest classes pads the last chunk. Bytes are a dtype that every
        # backend sends.
        chunk = own.new_zeros(rows, *own.shape[1:])
        part = own[begin : begin + rows]
        chunk[: len(part)] = part
        sent = chunk.to(device).view(torch.uint8)
        received = None
        if is_main_process():
            received = [torch.empty_like(sent) for _ in range(shard.world_size)]
        dist.gather(sent, received)
        for rank, each in enumerate(received or ()):
            start = shard.start_of(rank) + begin
            stop = min(start + rows, shard.start_of(rank + 1))
            whole[start:stop] = each.view(own.dtype)[: stop - start]
    return whole


def _tensor_on_disk(shape: tuple[int, ...], dtype: torch.dtype, folder: Path) -> Tensor:
    """Return a tensor in a file without a name, which goes with the tensor."""
    number = torch.Size(shape).numel()
    descriptor, path = tempfile.mkstemp(dir=folder, prefix='.checkpoint-')
    try:
        try:
            # A full disk is an error here; where it is met in a mapped file, the process dies.
            os.posix_fallocate(descriptor, 0, number * torch.empty((), dtype=dtype).nbytes)
        finally:
            os.close(descriptor)
        return torch.from_file(path, shared=True, size=number, dtype=dtype).view(shape)
    finally:
        os.unlink(path)


def write_checkpoint(checkpoint: dict, path: Path) -> None:
    """Write a checkpoint to a local file, piece by piece, aside and then in the place of an old.

    Args:
        checkpoint (dict): What mmengine saves.
        path (Path): The file.

    Raises:
        OSError: If the disk does not take it.
    """
    with replacing(os.path.realpath(path), writer='0') as partial:
        try:
            with open(partial, 'wb') as file:
                torch.save(checkpoint, file)
        except (OSError, RuntimeError) as error:
            # torch closes its archive and fails once more, at what is missing in it.
            cause = error if isinstance(error, OSError) else error.__context__
            if not isinstance(cause, OSError):
                raise
            raise OSError(cause.errno, cause.strerror, str(path)) from error
