"""Bytes that a function moves and holds as torch.compile fuses it, counted without running it.

The kernels are those that inductor schedules for a CPU, since for a GPU it asks a GPU; what is
elementwise or a reduction is fused alike. It looks into inductor, of torch 2.14.
"""

import math
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, NamedTuple
from unittest import mock

import torch
from torch import Tensor
from torch._guards import detect_fake_mode
from torch._subclasses.fake_tensor import FakeTensorMode

from frlr_mm.functional import _count, _rows, _select


class CompiledTraffic(NamedTuple):
    """What forward and backward read, write and hold, in bytes.

    Args:
        moved (int): Read and written. Each kernel reads each tensor once and writes each once;
            gathering reads what it picks.
        peak (int): The most that is held at once beyond the inputs.
    """

    moved: int
    peak: int


def count_compiled_traffic(
    function: Callable[..., Tensor], shapes: list[tuple[tuple[int, ...], torch.dtype]]
) -> CompiledTraffic:
    """Count one forward and one backward pass, compiled.

    Where the losses go by the device, they do what they do on a GPU.

    Args:
        function (Callable[..., Tensor]): A function of tensors that returns a scalar.
        shapes (list[tuple[tuple[int, ...], torch.dtype]]): Shape and dtype of each tensor. The
            first takes a gradient.

    Returns:
        CompiledTraffic: The bytes.
    """
    from torch._dynamo.backends.common import aot_autograd
    from torch._functorch._aot_autograd.utils import make_boxed_func
    from torch._functorch.partitioners import min_cut_rematerialization_partition
    from torch._inductor.decomposition import select_decomp_table

    graphs: list[CompiledTraffic] = []

    def compiler(module: torch.fx.GraphModule, inputs: list) -> Callable:
        graphs.append(_count_graph(module, inputs))
        return make_boxed_func(module.forward)

    backend = aot_autograd(
        fw_compiler=compiler,
        bw_compiler=compiler,
        decompositions=select_decomp_table(),
        partition_fn=min_cut_rematerialization_partition,
    )
    torch.compiler.reset()
    with ExitStack() as stack:
        # What inductor fuses for a CPU depends on how many threads there are.
        stack.callback(torch.set_num_threads, torch.get_num_threads())
        torch.set_num_threads(1)
        stack.enter_context(FakeTensorMode())
        for module in (_count, _rows, _select):
            stack.enter_context(mock.patch.object(module, 'counts_ties', _always))
        stack.enter_context(mock.patch.object(_rows, 'gradient_dtype', _gradient_dtype))
        inputs = [torch.empty(shape, dtype=dtype) for shape, dtype in shapes]
        inputs[0].requires_grad_()
        torch.compile(function, backend=backend, fullgraph=True)(*inputs).backward()
    return CompiledTraffic(sum(each.moved for each in graphs), max(each.peak for each in graphs))


def _always(value: Tensor) -> bool:
    return True


def _gradient_dtype(score: Tensor) -> torch.dtype:
    return torch.bfloat16 if score.dtype == torch.bfloat16 else torch.float32


def _count_graph(module: torch.fx.GraphModule, inputs: list) -> CompiledTraffic:
    from torch._inductor.debug import DebugContext
    from torch._inductor.graph import GraphLowering
    from torch._inductor.virtualized import V

    mode = detect_fake_mode(inputs)
    assert mode is not None
    graph = GraphLowering(module, shape_env=mode.shape_env)
    with DebugContext(), V.set_fake_mode(mode), V.set_graph_handler(graph):
        graph.run(*inputs)
        graph._update_scheduler()
        moved = sum(_bytes_of_kernel(node, graph) for node in graph.scheduler.nodes)
        return CompiledTraffic(moved, _peak_of_graph(graph))


def _bytes_of_kernel(kernel: Any, graph: Any) -> int:
    """Return what one kernel reads and writes."""
    accesses = kernel.get_read_write_buffer_accesses(include_reads=True, include_writes=True)
    total = 0
    for name, size in accesses.items():
        # Of a fused kernel, inductor counts a buffer as a whole even where little is picked of it.
        picked = [
            math.prod(int(n) for part in node.get_ranges() for n in part)
            for node in getattr(kernel, 'snodes', ())
            if name in {dep.name for dep in node.read_writes.reads_and_writes()}
        ]
        most = sum(picked) * graph.get_dtype(name).itemsize if picked else size
        total += min(size, most)
    return total


def _peak_of_graph(graph: Any) -> int:
    """Return the most that is held at once, nothing being reused before it is free.

    What forward keeps is an input of backward, and held from its start.
    """
    kernels = graph.scheduler.nodes
    step_of = {node.get_name(): i for i, each in enumerate(kernels) for node in each.get_nodes()}
    events = []  # sizes, with the steps in which they are held
    for name in graph.graph_inputs:
        reads = [
            i
            for i, kernel in enumerate(kernels)
            if name in {dep.name for dep in kernel.read_writes.reads}
        ]
        if reads and not name.startswith(('primals', 'tangents')):
            events.append((_size(name, graph), 0, max(reads)))
    for i, kernel in enumerate(kernels):
        for buffer in kernel.get_outputs():
            names = {use.node.get_name() for use in buffer.users}
            # (What is returned is used by a node that is no kernel.)
            steps = [step_of.get(name, len(kernels)) for name in names]
            if any(step != i for step in steps):  # else it never leaves the kernel
                events.append((_size(buffer.get_name(), graph), i, max(steps)))
    held = [
        sum(size for size, start, end in events if start <= step <= end)
        for step in range(len(kernels))
    ]
    return max(held, default=0)


def _size(name: str, graph: Any) -> int:
    try:
        return int(graph.get_numel(name)) * graph.get_dtype(name).itemsize
    except (AttributeError, NotImplementedError):  # several results in one, which count themselves
        return 0
