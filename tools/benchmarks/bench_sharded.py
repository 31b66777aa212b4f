"""Count what a classifier sends whose classes are spread over processes, and what it holds.

For each number of classes and processes, one step (forward and backward) of SS-LR, of HS-LR and of
softmax, which needs three sums over the processes for each image. Bytes are counted as torch calls
its collectives, on rank 0: `bytes` is the size of what is joined or added up, all ranks' parts of
it. Peak memory is what torch allocates on rank 0 beyond the features, the weights and the bias.
With --rounds, steps are timed as well, and on one process those of the losses that hold all
classes; without, the columns of time stay empty.

Rows are appended to bench_sharded.csv in the folder of --out.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--classes',
        type=int,
        nargs='+',
        default=[10**4, 10**5, 10**6, 10**7],
        help='default: 10000 100000 1000000 10000000 (takes 8 GB)',
    )
    parser.add_argument(
        '--processes', type=int, nargs='+', default=[2, 4, 8], help='default: 2 4 8'
    )
    parser.add_argument('--images', type=int, default=16, help='per process (default: 16)')
    parser.add_argument('--channels', type=int, default=64, help='default: 64')
    parser.add_argument('--rounds', type=int, default=0, help='timed steps (default: 0)')
    parser.add_argument(
        '--out',
        type=Path,
        default=Path('work_dirs/bench'),
        help='the folder to write to (default: work_dirs/bench)',
    )
    args = parser.parse_args()
    for name in ('images', 'channels'):
        if getattr(args, name) < 1:
            parser.error(f'expected --{name} to be at least 1, but got {getattr(args, name)}')
    if args.rounds < 0:
        parser.error(f'expected --rounds to be at least 0, but got {args.rounds}')
    if min(args.processes) < 2:
        parser.error(f'expected --processes to be at least 2, but got {min(args.processes)}')
    if min(args.classes) < max(args.processes):
        parser.error(
            f'expected --classes to be at least {max(args.processes)}, one for each process, but '
            f'got {min(args.classes)}'
        )
    return args


if __name__ == '__main__':
    ARGS = parse_args()  # before the imports, which take seconds: --help answers at once

import os
import tempfile
import time

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from frlr_mm.functional import (
    ClassShard,
    fused_linear_hs_lr_loss,
    fused_linear_ss_lr_loss,
    sharded_linear_hs_lr_loss,
    sharded_linear_ss_lr_loss,
)
from frlr_mm.functional._collectives import GatherFeatures, gather_rows, gather_sizes
from frlr_mm.reporting.machine import describe, peak_memory
from frlr_mm.reporting.tables import append_rows
from frlr_mm.reporting.timing import columns, take_turns

# The collectives of c10d, by what they do.
OPS = {
    'allreduce_': 'all_reduce',
    '_allgather_base_': 'all_gather',
    '_reduce_scatter_base_': 'reduce_scatter',
}


class CountBytes(TorchDispatchMode):
    """Count the calls of collectives and the bytes that they join or add up."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: dict[str, int] = {}
        self.bytes: dict[str, int] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace == 'c10d':
            name = OPS[func.__name__.split('.')[0]]  # a KeyError is one that nobody knew of
            sizes = [each.nbytes for arg in args for each in _tensors(arg)]
            self.calls[name] = self.calls.get(name, 0) + 1
            # The larger of the two is that of all ranks.
            self.bytes[name] = self.bytes.get(name, 0) + max(sizes)
        return func(*args, **(kwargs or {}))

    def watch(self, function: Callable) -> None:
        """Call a function and count what it calls."""
        with self:
            function()


def _tensors(arg: object) -> list[Tensor]:
    if isinstance(arg, Tensor):
        return [arg]
    return [each for each in arg if isinstance(each, Tensor)] if isinstance(arg, list) else []


class _AddLogits(torch.autograd.Function):
    """One sum over the ranks; the gradient of each is that of the sum."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        return grad


def sharded_softmax(
    features: Tensor, weight: Tensor, bias: Tensor, label: Tensor, shard: ClassShard
) -> Tensor:
    """Compute the softmax cross-entropy of the joined batch: a maximum and two sums over ranks."""
    sizes = gather_sizes(len(features), shard, features.device)
    every = GatherFeatures.apply(features, sizes, shard)
    index = gather_rows(label, sizes, shard) - shard.start
    x = F.linear(every, weight, bias)
    largest = x.detach().amax(1)
    dist.all_reduce(largest, dist.ReduceOp.MAX)
    x = x - largest[:, None]
    total = _AddLogits.apply(x.exp().sum(1))
    is_here = (index >= 0) & (index < shard.size)
    target = x.gather(1, index.clamp(0, shard.size - 1)[:, None]).squeeze(1) * is_here
    return (total.log() - _AddLogits.apply(target)).mean()


FUNCTIONS: dict[str, Callable] = {
    'ss_lr': sharded_linear_ss_lr_loss,
    'hs_lr ratio 0.01': partial(sharded_linear_hs_lr_loss, ratio=0.01),
    'softmax': sharded_softmax,
}
ON_ONE: dict[str, Callable] = {
    'ss_lr': fused_linear_ss_lr_loss,
    'hs_lr ratio 0.01': partial(fused_linear_hs_lr_loss, ratio=0.01),
    'softmax': lambda x, w, b, y: F.cross_entropy(F.linear(x, w, b), y),
}


def make_inputs(num_images: int, num_classes: int, num_channels: int, seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = [(num_images, num_channels), (num_classes, num_channels), (num_classes,)]
    return [
        torch.randn(shape, generator=generator).mul_(0.05).requires_grad_() for shape in shapes
    ]


def step(function: Callable, tensors: list[Tensor], *args: object) -> tuple[float]:
    """Run forward and backward; return the time."""
    for tensor in tensors:
        tensor.grad = None
    start = time.perf_counter()
    function(*tensors, *args).backward()
    return (time.perf_counter() - start,)


def times_of(runs: dict[str, Callable], rounds: int) -> dict[str, dict]:
    """Return the columns of time of each function; ratios refer to the first."""
    if not rounds:
        names = [
            f'{kind}p{q}{unit}'
            for kind, unit in (('', '_ms'), ('ratio_', ''))
            for q in (20, 50, 80)
        ]
        return {name: dict.fromkeys(names, '') for name in runs}
    times = take_turns(runs, rounds)
    baseline = times[next(iter(times))][:, 0]
    return {name: columns(values[:, 0], baseline) for name, values in times.items()}


def rows_of(
    runs: dict[str, Callable], tensors: list[Tensor], size: dict, rounds: int
) -> list[dict]:
    """Return a row for each function: what it sends, what it holds, how long it takes."""
    counted = {}
    for name, run in runs.items():
        counter = CountBytes()
        for tensor in tensors:
            tensor.grad = None
        counted[name] = counter, peak_memory(partial(counter.watch, run), 'cpu')
    times = times_of(runs, rounds)
    return [
        dict(function=name)
        | size
        | {
            f'{op}_{what}': getattr(counter, what).get(op, 0)
            for op in OPS.values()
            for what in ('calls', 'bytes')
        }
        | dict(shard_bytes=sum(tensor.nbytes for tensor in tensors[1:]), peak_bytes=peak)
        | times[name]
        for name, (counter, peak) in counted.items()
    ]


def measure_rank(rank: int, world_size: int, args: argparse.Namespace, folder: str) -> None:
    """Measure all numbers of classes as one of the processes; the first one saves the rows."""
    torch.set_num_threads(1)
    dist.init_process_group(
        'gloo',
        init_method=f'file://{folder}/rendezvous{world_size}',
        rank=rank,
        world_size=world_size,
    )
    rows = []
    for num_classes in args.classes:
        shard = ClassShard.of_this_process(num_classes)
        tensors = make_inputs(args.images, shard.size, args.channels, rank)
        label = torch.randint(num_classes, (args.images,))
        runs = {
            name: partial(step, function, tensors, label, shard)
            for name, function in FUNCTIONS.items()
        }
        size = dict(W=world_size, C=num_classes, N=args.images, D=args.channels)
        rows += rows_of(runs, tensors, size, args.rounds)
    if rank == 0:
        torch.save(rows, f'{folder}/rows.pt')
    dist.destroy_process_group()


def measure_one(args: argparse.Namespace) -> list[dict]:
    """Return the rows of one process that holds all classes and the images of two."""
    rows = []
    for num_classes in args.classes:
        tensors = make_inputs(2 * args.images, num_classes, args.channels, 0)
        label = torch.randint(num_classes, (2 * args.images,))
        runs = {name: partial(step, function, tensors, label) for name, function in ON_ONE.items()}
        size = dict(W=1, C=num_classes, N=2 * args.images, D=args.channels)
        rows += rows_of(runs, tensors, size, args.rounds)
    return rows


def main(args: argparse.Namespace) -> None:
    """Measure, append the rows."""
    torch.set_num_threads(1)
    about = describe('cpu') | dict(clock='wall time' if args.rounds else '', rounds=args.rounds)
    path = args.out / 'bench_sharded.csv'
    append_rows(path, [about | row for row in measure_one(args)])
    for world_size in args.processes:
        with tempfile.TemporaryDirectory() as folder:
            mp.start_processes(
                measure_rank, (world_size, args, folder), nprocs=world_size, start_method='spawn'
            )
            rows = torch.load(os.path.join(folder, 'rows.pt'))
        append_rows(path, [about | row for row in rows])
        for row in rows:
            sent = sum(row[f'{op}_bytes'] for op in OPS.values())
            print(
                f'{row["function"]}, {row["C"]} classes, {world_size} processes: {sent} bytes '
                f'sent, {row["peak_bytes"]} held',
                flush=True,
            )


if __name__ == '__main__':
    main(ARGS)
