"""Measure time and peak memory of the losses beside others, all in one process, taking turns.

Rows are appended to bench_losses.csv in the folder of --out; bench_losses.md, .png and .svg there
are written anew from the newest run. Time is the CPU time of the thread where one thread computes,
else wall time. Ratios are taken within a round, in which each function runs once. Peak memory
counts what torch allocates during one forward and backward pass; a CUDA graph has its memory from
the capture on, which is not counted.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from unittest import mock


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--device', default='cpu', choices=['cpu', 'cuda'], help='default: cpu')
    parser.add_argument('--threads', type=int, default=1, help='threads of the CPU (default: 1)')
    parser.add_argument('--rounds', type=int, default=60, help='default: 60')
    parser.add_argument('--compiled', action='store_true', help='torch.compile the losses as well')
    parser.add_argument(
        '--graphs', action='store_true', help='replay the losses as CUDA graphs as well'
    )
    parser.add_argument(
        '--fused',
        action='store_true',
        help='also with the classifier, up to 1,000,000 classes: takes 10 GB and minutes',
    )
    parser.add_argument('--quick', action='store_true', help='tiny sizes, to see that it runs')
    parser.add_argument(
        '--out',
        type=Path,
        default=Path('work_dirs/bench'),
        help='the folder to write to (default: work_dirs/bench)',
    )
    args = parser.parse_args()
    for name in ('threads', 'rounds'):
        if getattr(args, name) < 1:
            parser.error(f'expected --{name} to be at least 1, but got {getattr(args, name)}')
    if args.graphs and args.device != 'cuda':
        parser.error(f'expected --device to be cuda with --graphs, but got {args.device}')
    return args


if __name__ == '__main__':
    ARGS = parse_args()  # before the imports, which take seconds: --help answers at once

import torch
import torch.nn.functional as F
from mmpretrain.models import AsymmetricLoss
from report_losses import write_report
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from frlr_mm.functional import (
    _linear_once,
    _rows,
    fused_linear_hs_lr_loss,
    fused_linear_ss_lr_loss,
    hs_lr_loss,
    ss_lr_loss,
)
from frlr_mm.functional.fused_linear import CHUNK_BUDGET
from frlr_mm.reporting.machine import describe, peak_memory
from frlr_mm.reporting.tables import append_rows
from frlr_mm.reporting.timing import clock, columns, take_turns

SIZES = {
    'cpu': [(256, 10), (256, 1000), (128, 21841), (32, 250000)],
    'cuda': [(256, 1000), (4096, 21841)],
}
# With the classifier and its channels, in one dtype: what is trained in on the device.
FUSED_SIZES = {
    'cpu': [(256, 100000, 256), (256, 1000000, 512)],
    'cuda': [(4096, 128256, 4096), (256, 1000000, 512)],
}
FUSED_DTYPES = {'cpu': 'float32', 'cuda': 'bfloat16'}
QUICK_SIZES, QUICK_FUSED_SIZES = [(4, 10), (4, 100)], [(4, 1000, 8)]
PARTS = ('forward', 'backward', 'full')


def one_hot(score: Tensor, label: Tensor) -> Tensor:
    return F.one_hot(label, score.shape[1]).to(score.dtype)


def as_published(
    score: Tensor, label: Tensor, alpha: float, gamma: float = 0.0, ratio: float | None = None
) -> Tensor:
    """Return HS-LR (with a ratio) or SS-LR as the paper's authors wrote them."""
    eps = 1e-7
    target = one_hot(score, label)
    p = torch.sigmoid(score)
    positive = -(target * torch.log(p + eps)).sum() / target.sum()
    if ratio is None:
        negative = -(1 - target) * p**gamma * torch.log(1 - p + eps)
        return positive + alpha * negative.sum() / (1 - target).sum()
    negative = -(1 - target) * torch.log(1 - p + eps)
    return positive + alpha * negative.topk(int(p.shape[1] * ratio), dim=1).values.mean()


def plain_losses(num_classes: int, compiled: bool) -> dict[str, Callable]:
    """Return functions of logits and labels; ratios refer to the first."""
    asymmetric_loss = AsymmetricLoss()
    losses = {
        'cross_entropy': F.cross_entropy,
        'ss_lr': ss_lr_loss,
        'hs_lr': hs_lr_loss,
        'hs_lr ratio 0.01': partial(hs_lr_loss, ratio=0.01),
        'ss_lr naive': partial(as_published, alpha=num_classes - 1, gamma=0.25),
        'hs_lr naive': partial(as_published, alpha=100, ratio=0.1),
        'bce_with_logits': lambda x, y: F.binary_cross_entropy_with_logits(x, one_hot(x, y)),
        'sigmoid_focal_loss': lambda x, y: sigmoid_focal_loss(x, one_hot(x, y), reduction='mean'),
        'AsymmetricLoss': lambda x, y: asymmetric_loss(x, y),
    }
    if compiled:
        torch.compiler.reset()  # else a second size is compiled for any size
        losses['ss_lr compiled'] = torch.compile(ss_lr_loss, fullgraph=True)
        losses['hs_lr compiled'] = torch.compile(hs_lr_loss, fullgraph=True)
    return losses


def without_kernels(functions: dict[str, Callable], *names: str) -> dict[str, Callable]:
    """Return our losses as they are where there are no Triton kernels."""

    def eager(loss: Callable, *args: Tensor) -> Tensor:
        with (
            mock.patch.object(_rows, 'has_kernel', return_value=False),
            mock.patch.object(_linear_once, 'has_kernel', return_value=False),
        ):
            return loss(*args)

    return {f'{name} eager': partial(eager, functions[name]) for name in names}


def graphed(losses: dict[str, Callable], inputs: list[Tensor]) -> dict[str, Callable]:
    """Return our losses captured as CUDA graphs, forward and backward."""
    return {
        f'{name} graph': torch.cuda.make_graphed_callables(losses[name], tuple(inputs))
        for name in ('ss_lr', 'hs_lr')
    }


def torch_fused(x: Tensor, w: Tensor, b: Tensor, y: Tensor) -> Tensor:
    """Return torch's own fused cross-entropy, with as many logits at once as ours."""
    # (Ours keep two matrices of float32 in the budget; by itself torch takes single rows here.)
    size = min(x.shape[0], max(1, CHUNK_BUDGET // (8 * w.shape[0])))
    options = torch.nn.LinearCrossEntropyOptions(batch_chunk_size=size)
    return F.linear_cross_entropy(x, w, y, linear_bias=b, options=options)


def fused_losses() -> dict[str, Callable]:
    """Return functions of features, weights, bias and labels; ratios refer to the first."""
    losses = {'linear + cross_entropy': lambda x, w, b, y: F.cross_entropy(F.linear(x, w, b), y)}
    if hasattr(torch.nn, 'LinearCrossEntropyOptions'):  # older versions of torch have none
        losses['linear_cross_entropy'] = torch_fused
    return losses | {
        'linear + ss_lr': lambda x, w, b, y: ss_lr_loss(F.linear(x, w, b), y),
        'fused_linear_ss_lr': fused_linear_ss_lr_loss,
        'linear + hs_lr ratio 0.01': lambda x, w, b, y: hs_lr_loss(
            F.linear(x, w, b), y, ratio=0.01
        ),
        'fused_linear_hs_lr ratio 0.01': partial(fused_linear_hs_lr_loss, ratio=0.01),
        'linear + hs_lr': lambda x, w, b, y: hs_lr_loss(F.linear(x, w, b), y),
        'fused_linear_hs_lr': fused_linear_hs_lr_loss,
    }


def run_once(function: Callable, inputs: list[Tensor], now: Callable) -> tuple[float, ...]:
    """Return the times of forward, of backward and of both."""
    for tensor in inputs:
        tensor.grad = None
    start = now()
    loss = function(*inputs)
    middle = now()
    loss.backward()
    end = now()
    return middle - start, end - middle, end - start


def measure(
    functions: dict[str, Callable],
    inputs: list[Tensor],
    rounds: int,
    baselines: dict[str, str],
    now: Callable,
) -> list[dict]:
    """Return a row for each function and part."""
    peaks = {}
    for name, function in functions.items():
        for tensor in inputs:
            tensor.grad = None
        peaks[name] = peak_memory(
            lambda function=function: function(*inputs).backward(), inputs[0].device.type
        )
    times = take_turns(
        {name: partial(run_once, each, inputs, now) for name, each in functions.items()}, rounds
    )
    return [
        dict(
            function=name,
            part=part,
            rounds=rounds,
            baseline=baselines[name],
            peak_bytes=peaks[name],
            **columns(values[:, i], times[baselines[name]][:, i]),
        )
        for name, values in times.items()
        for i, part in enumerate(PARTS)
    ]


def measure_all(args: argparse.Namespace) -> list[dict]:
    """Return the rows of all sizes; print those of whole passes."""
    now, what = clock(args.device, args.threads)
    about = describe(args.device) | dict(clock=what)
    generator = torch.Generator().manual_seed(0)
    rows = []

    def add(size: dict, functions: dict, inputs: list, rounds: int, baselines: dict) -> None:
        for row in measure(functions, inputs, rounds, baselines, now):
            rows.append(about | size | row)
            if row['part'] == 'full':
                print(
                    f'{size["N"]} x {size["C"]} {size["dtype"]} {row["function"]}: '
                    f'{row["p50_ms"]} ms, {row["ratio_p50"]} x {row["baseline"]}, '
                    f'{row["peak_bytes"]} bytes',
                    flush=True,
                )

    for n, c in QUICK_SIZES if args.quick else SIZES[args.device]:
        score = 3 * torch.randn(n, c, generator=generator)
        label = torch.randint(c, (n,), generator=generator)
        for dtype in ('float32', 'bfloat16'):
            x = score.to(args.device, getattr(torch, dtype), copy=True).requires_grad_()
            functions = plain_losses(c, args.compiled)
            inputs = [x, label.to(args.device)]
            if args.device == 'cuda':
                functions |= without_kernels(functions, 'ss_lr', 'hs_lr')
            if args.graphs:
                functions |= graphed(functions, inputs)
            add(
                dict(dtype=dtype, N=n, C=c, D=''),
                functions,
                inputs,
                args.rounds if c < 10**5 else max(1, args.rounds // 4),
                dict.fromkeys(functions, 'cross_entropy'),
            )

    fused_sizes = QUICK_FUSED_SIZES if args.quick else FUSED_SIZES[args.device] * args.fused
    for n, c, d in fused_sizes:
        dtype = FUSED_DTYPES[args.device]
        inputs = []
        for shape in ((n, d), (c, d), (c,)):
            values = torch.randn(shape, generator=generator).mul_(0.05)
            inputs.append(values.to(args.device, getattr(torch, dtype)).requires_grad_())
        inputs.append(torch.randint(c, (n,), generator=generator).to(args.device))
        functions = fused_losses()
        if args.device == 'cuda':
            functions |= without_kernels(functions, 'fused_linear_ss_lr', 'fused_linear_hs_lr')
        add(
            dict(dtype=dtype, N=n, C=c, D=d),
            functions,
            inputs,
            max(1, args.rounds // 15),
            dict.fromkeys(functions, 'linear + cross_entropy'),
        )
    return rows


def main(args: argparse.Namespace) -> None:
    """Measure, append the rows, write the report."""
    torch.set_num_threads(args.threads)
    path = args.out / 'bench_losses.csv'
    append_rows(path, measure_all(args))
    write_report(path)


if __name__ == '__main__':
    main(ARGS)
