"""A linear layer whose classes are spread over processes, and what that asks of a model."""

import os
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ..functional import ClassShard

# What the state dict of a share says which it is by.
TAG = 'class_shard'


class ShardedLinear(nn.Linear):
    """The linear layer of the classes of this process.

    ``out_features`` is the number of all classes. It loads the weights of all classes, of which it
    takes its own, and the state dict of a layer with the same share.

    Args:
        in_features (int): D.
        num_classes (int): C, the number of all classes.

    Raises:
        ValueError: If there are fewer classes than processes, or the processes that an environment
            of several announces do not know each other yet.
    """

    def __init__(self, in_features: int, num_classes: int) -> None:
        announced = os.environ.get('WORLD_SIZE', '1')
        if announced != '1' and not dist.is_initialized():
            raise ValueError(
                'Expected torch.distributed to be initialised before ShardedLinearClsHead is '
                f'built, since WORLD_SIZE is {announced}, but it is not: pass --launcher pytorch, '
                'or call torch.distributed.init_process_group'
            )
        shard = ClassShard.of_this_process(num_classes)
        super().__init__(in_features, shard.size)
        self.shard = shard
        self.out_features = num_classes
        # Set by keep_shards_from_ddp.
        self.is_kept_from_ddp = shard.world_size == 1

    @property
    def rows(self) -> slice:
        """Which of all classes are here."""
        return slice(self.shard.start, self.shard.stop)

    def extra_repr(self) -> str:
        """Return what ``print(model)`` shows."""
        return f'{super().extra_repr()}, classes={self.shard.start}:{self.shard.stop}'

    def _tag(self) -> list[int]:
        return [self.shard.start, self.shard.stop, self.shard.num_classes]

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.shard.world_size > 1:
            # By this the same layer knows its own state from that of so many classes in all.
            destination._metadata[prefix[:-1]][TAG] = self._tag()

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        if self.shard.world_size > 1 and local_metadata.get(TAG) != self._tag():
            state_dict = dict(state_dict)
            for name, own in (('weight', self.weight), ('bias', self.bias)):
                key = f'{prefix}{name}'
                whole = torch.Size((self.out_features, *own.shape[1:]))
                value = state_dict.get(key)
                if value is None:
                    continue
                if value.shape == whole:
                    state_dict[key] = value[self.rows]
                else:
                    error_msgs.append(
                        f'size mismatch for {key}: copying a param with shape {value.shape} from '
                        f'checkpoint, the shape of all classes in current model is {whole}.'
                    )
                    state_dict[key] = own
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )


def find_shards(model: nn.Module) -> dict[str, ShardedLinear]:
    """Find the layers whose classes are spread over several processes.

    Args:
        model (nn.Module): The model, not wrapped.

    Returns:
        dict[str, ShardedLinear]: Each by its name; none where one process has all classes.
    """
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, ShardedLinear) and module.shard.world_size > 1
    }


def keep_shards_from_ddp(model: nn.Module) -> None:
    """Let DistributedDataParallel leave out what is another parameter on each process.

    :class:`~frlr_mm.engine.sharded_runner.ShardedRunner` calls it. Without mmengine, call it
    before the model is wrapped.

    Args:
        model (nn.Module): The model that is to be wrapped.
    """
    shards = find_shards(model)
    names = [
        f'{name}.{each}' for name, shard in shards.items() for each, _ in shard.named_parameters()
    ]
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, names)
    for shard in shards.values():
        shard.is_kept_from_ddp = True
