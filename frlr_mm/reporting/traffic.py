"""Bytes that operations read and write, and hold, counted without a device to run them on."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

aten = torch.ops.aten
# What these overwrite they do not read.
_OVERWRITING = {aten.zero_, aten.fill_, aten.copy_}
# These make a tensor and leave its memory as it is.
_EMPTY = {aten.empty, aten.empty_like, aten.empty_strided, aten.new_empty, aten.new_empty_strided}
# Of their first argument these read as many numbers as they return.
_PICKING = {aten.gather, aten.index_select, aten.index, aten.embedding, aten.take}


class TrafficMode(TorchDispatchMode):
    """Count what the operations below autograd move and hold; values are not needed.

    Each operation reads every tensor once and writes every result once: what a kernel reads more
    than once, or takes from elsewhere while it runs, is not counted. A number that is broadcast is
    read once. Gathering reads what it picks, and scattering in place writes what it places. Views
    are free.

    Attributes:
        read (int): Bytes read.
        written (int): Bytes written.
        peak (int): The most bytes held at once in tensors that were made under the mode.
        operations (list[tuple[str, int, int]]): The name of each operation that moved anything,
            the bytes that it read and those that it wrote.
    """

    def __init__(self) -> None:
        super().__init__()
        self.read = self.written = self.peak = 0
        self.operations: list[tuple[str, int, int]] = []
        self._live: dict[int, tuple[StorageWeakRef, int]] = {}
        self._seen: dict[int, StorageWeakRef] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        """Run an operation and count it."""
        arguments = func._schema.arguments
        kwargs = kwargs or {}
        given = [(argument, value) for argument, value in zip(arguments, args)]
        given += [(each, kwargs[each.name]) for each in arguments if each.name in kwargs]
        for _, value in given:
            for tensor in _tensors(value):
                self._know(tensor)
        result = func(*args, **kwargs)
        is_view = any(r.alias_info and not r.alias_info.is_write for r in func._schema.returns)
        made = [tensor for tensor in _tensors(result) if not self._knows(tensor)]
        for tensor in made:
            self._hold(tensor)
        held = 0
        for key, (reference, size) in list(self._live.items()):
            if reference.expired():
                del self._live[key]
            else:
                held += size
        self.peak = max(self.peak, held)
        if not is_view:
            self._count(func, given, made)
        return result

    def _count(self, func: Any, given: list, made: list[Tensor]) -> None:
        packet = func.overloadpacket
        read = written = 0
        picked = min((num_bytes(t) for t in made), default=0)
        for place, (argument, value) in enumerate(given):
            is_written = argument.alias_info is not None and argument.alias_info.is_write
            for tensor in _tensors(value):
                size = num_bytes(tensor)
                if is_written and packet in (aten.scatter_, aten.index_put_):
                    written += _placed(tensor, given)
                elif is_written:
                    written += size
                    # (`out` is a keyword, and never read.)
                    read += 0 if argument.kwarg_only or packet in _OVERWRITING else size
                elif place == 0 and packet in _PICKING:
                    out = [value for each, value in given if each.name == 'out']
                    read += min(size, picked if not out else num_bytes(out[0]))
                elif packet not in _EMPTY and not func.__name__.startswith(('new_', 'zeros_like')):
                    read += size
        if packet not in _EMPTY:
            written += sum(num_bytes(tensor) for tensor in made)
        if read or written:
            self.read += read
            self.written += written
            self.operations.append((str(packet).removeprefix('aten.'), read, written))

    def _knows(self, tensor: Tensor) -> bool:
        reference = StorageWeakRef(tensor.untyped_storage())
        known = self._seen.get(reference.cdata)
        return known is not None and not known.expired()

    def _know(self, tensor: Tensor) -> None:
        reference = StorageWeakRef(tensor.untyped_storage())
        self._seen[reference.cdata] = reference

    def _hold(self, tensor: Tensor) -> None:
        self._know(tensor)
        reference = StorageWeakRef(tensor.untyped_storage())
        self._live[reference.cdata] = (reference, tensor.untyped_storage().nbytes())


def _tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in tree_flatten(value)[0] if isinstance(leaf, Tensor)]


def _placed(tensor: Tensor, given: list) -> int:
    """Return the bytes that scattering writes: a number for each index."""
    for argument, value in given:
        if argument.name in ('index', 'indices'):
            return max(t.numel() for t in _tensors(value)) * tensor.element_size()
    return num_bytes(tensor)


def num_bytes(tensor: Tensor) -> int:
    """Return how many bytes a tensor covers; what it repeats counts once."""
    numel = 1
    for size, stride in zip(tensor.shape, tensor.stride()):
        numel *= size if stride or not size else 1
    return numel * tensor.element_size()


def count_traffic(function: Callable[[], object]) -> TrafficMode:
    """Return what a call reads, writes and holds; its tensors may be on ``meta``."""
    with TrafficMode() as mode:
        function()
    return mode
