"""Classes that are spread over processes: which are whose."""

from dataclasses import dataclass
from typing import Any

import torch.distributed as dist

from .._checks import check_int


@dataclass(frozen=True)
class ClassShard:
    """The classes of one process: ``start`` to ``stop`` of ``num_classes``.

    Each process holds as many as any other, or one more; the first classes are those of rank 0.

    Args:
        num_classes (int): C, the number of all classes.
        rank (int): The process, in [0, world_size). Defaults to 0.
        world_size (int): The number of processes, in [1, C]. Defaults to 1.
        group (ProcessGroup, optional): The processes; None is the default group. Defaults to None.

    Raises:
        ValueError: If a number is out of range.
    """

    num_classes: int
    rank: int = 0
    world_size: int = 1
    group: Any = None

    def __post_init__(self) -> None:
        check_int('num_classes', self.num_classes, 1)
        check_int('world_size', self.world_size, 1)
        check_int('rank', self.rank, 0, self.world_size - 1)
        if self.num_classes < self.world_size:
            raise ValueError(
                f'Expected `num_classes` to be at least {self.world_size}, one for each process, '
                f'but got {self.num_classes}'
            )

    @classmethod
    def of_this_process(cls, num_classes: int, group: Any = None) -> 'ClassShard':
        """Return the share of the process that calls it: all classes where there is no group.

        Args:
            num_classes (int): C, the number of all classes.
            group (ProcessGroup, optional): The processes; None is the default group. Defaults to
                None.

        Returns:
            ClassShard: The share.

        Raises:
            ValueError: If there are fewer classes than processes.
        """
        if not (dist.is_available() and dist.is_initialized()):
            return cls(num_classes)
        return cls(num_classes, dist.get_rank(group), dist.get_world_size(group), group)

    def start_of(self, rank: int) -> int:
        """Return the first class of a process, or C for the one behind the last."""
        return rank * self.num_classes // self.world_size

    @property
    def start(self) -> int:
        """The first class of this process."""
        return self.start_of(self.rank)

    @property
    def stop(self) -> int:
        """The class behind the last of this process."""
        return self.start_of(self.rank + 1)

    @property
    def size(self) -> int:
        """The number of classes of this process."""
        return self.stop - self.start

    @property
    def max_size(self) -> int:
        """The largest number of classes of a process."""
        return -(-self.num_classes // self.world_size)
