"""Measure time and peak memory of the losses beside others, all in one process, taking turns.

Rows are appended to docs/results/bench_losses.csv; bench_losses.md and .png there are written anew
from the newest run. Time is the CPU time of the thread where one thread computes, else wall time:
so a busy machine disturbs less. Ratios are taken within a round, in which each function has run
once. Peak memory counts what torch allocates during one forward and backward pass.
"""

import argparse
import csv
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from machine import describe, peak_memory
from mmpretrain.models import AsymmetricLoss
from report_losses import write_report
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from frlr_mm.functional import (  # noqa: E402
    fused_linear_hs_lr_loss,
    fused_linear_ss_lr_loss,
    hs_lr_loss,
    ss_lr_loss,
)
from tests.support.references import hs_lr_loss_as_published, ss_lr_loss_as_published  # noqa: E402

SIZES = [(256, 10), (256, 1000), (128, 21841), (32, 250000)]
FUSED_SIZES = [(256, 1000000, 512)]
QUICK_SIZES, QUICK_FUSED_SIZES = [(4, 10), (4, 100)], [(4, 1000, 8)]
PARTS = ('forward', 'backward', 'full')


def one_hot(score: Tensor, label: Tensor) -> Tensor:
    return F.one_hot(label, score.shape[1]).to(score.dtype)


def plain_losses(num_classes: int, compiled: bool) -> dict[str, Callable]:
    """Return functions of logits and labels; the first is what ratios refer to."""
    asymmetric_loss = AsymmetricLoss()
    losses = {
        'cross_entropy': F.cross_entropy,
        'ss_lr': ss_lr_loss,
        'hs_lr': hs_lr_loss,
        'hs_lr ratio 0.01': partial(hs_lr_loss, ratio=0.01),
        'ss_lr naive': partial(ss_lr_loss_as_published, alpha=num_classes - 1, gamma=0.25),
        'hs_lr naive': partial(hs_lr_loss_as_published, alpha=100, ratio=0.1),
        'bce_with_logits': lambda x, y: F.binary_cross_entropy_with_logits(x, one_hot(x, y)),
        'sigmoid_focal_loss': lambda x, y: sigmoid_focal_loss(x, one_hot(x, y), reduction='mean'),
        'AsymmetricLoss': lambda x, y: asymmetric_loss(x, y),
    }
    if compiled:
        torch.compiler.reset()  # else a second size is compiled for any size
        losses['ss_lr compiled'] = torch.compile(ss_lr_loss, fullgraph=True)
        losses['hs_lr compiled'] = torch.compile(hs_lr_loss, fullgraph=True)
    return losses


def fused_losses() -> dict[str, Callable]:
    """Return functions of features, weights, bias and labels."""
    return {
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


def clock(device: str, threads: int) -> Callable[[], float]:
    if device == 'cuda':

        def now() -> float:
            torch.cuda.synchronize()
            return time.perf_counter()

        return now
    return time.thread_time if threads == 1 else time.perf_counter


def measure(
    functions: dict[str, Callable],
    inputs: list[Tensor],
    rounds: int,
    baselines: dict[str, str],
    now: Callable,
) -> list[dict]:
    """Return a row for each function and part, all functions in turn in each round."""
    times: dict[str, list] = {name: [] for name in functions}
    peaks = {}
    for name, function in functions.items():
        for tensor in inputs:
            tensor.grad = None
        peaks[name] = peak_memory(
            lambda function=function: function(*inputs).backward(), inputs[0].device.type
        )
    for i in range(rounds + 1):  # the first one warms up
        for name, function in functions.items():
            values = run_once(function, inputs, now)
            if i:
                times[name].append(values)
    rows = []
    for name, values in times.items():
        own = torch.tensor(values, dtype=torch.float64)
        ratio = own / torch.tensor(times[baselines[name]], dtype=torch.float64)
        low, middle, high = (torch.quantile(own, q, dim=0) * 1e3 for q in (0.2, 0.5, 0.8))
        ratios = [torch.quantile(ratio, q, dim=0) for q in (0.2, 0.5, 0.8)]
        for i, part in enumerate(PARTS):
            rows.append(
                dict(
                    function=name,
                    part=part,
                    rounds=rounds,
                    p20_ms=f'{low[i]:.4g}',
                    p50_ms=f'{middle[i]:.4g}',
                    p80_ms=f'{high[i]:.4g}',
                    baseline=baselines[name],
                    ratio_p20=f'{ratios[0][i]:.3g}',
                    ratio_p50=f'{ratios[1][i]:.3g}',
                    ratio_p80=f'{ratios[2][i]:.3g}',
                    peak_bytes=peaks[name],
                )
            )
    return rows


def measure_all(args: argparse.Namespace) -> list[dict]:
    about = describe(args.device)
    now = clock(args.device, args.threads)
    about['clock'] = 'thread CPU time' if now is time.thread_time else 'wall time'
    generator = torch.Generator().manual_seed(0)
    rows = []

    def add(size: dict, functions: dict, inputs: list, rounds: int, baselines: dict) -> None:
        rows.extend(
            about | size | row for row in measure(functions, inputs, rounds, baselines, now)
        )
        for row in rows[-len(PARTS) * len(functions) :]:
            if row['part'] == 'full':
                print(
                    row['N'],
                    row['C'],
                    row['dtype'],
                    row['function'],
                    row['p50_ms'],
                    'ms',
                    row['ratio_p50'],
                    'x',
                    row['peak_bytes'],
                    'bytes',
                    flush=True,
                )

    for n, c in QUICK_SIZES if args.quick else SIZES:
        score, label = (
            3 * torch.randn(n, c, generator=generator),
            torch.randint(c, (n,), generator=generator),
        )
        for dtype in ('float32', 'bfloat16'):
            x = score.to(args.device, getattr(torch, dtype), copy=True).requires_grad_()
            functions = plain_losses(c, args.compiled)
            if c * 0.1 < 1:
                del functions['hs_lr naive']
            add(
                dict(dtype=dtype, N=n, C=c, D=''),
                functions,
                [x, label.to(args.device)],
                args.rounds if c < 10**5 else max(1, args.rounds // 4),
                dict.fromkeys(functions, 'cross_entropy'),
            )

    for n, c, d in QUICK_FUSED_SIZES if args.quick else FUSED_SIZES if args.fused else ():
        shapes = [(n, d), (c, d), (c,)]
        inputs = [
            torch.randn(shape, generator=generator).mul_(0.05).to(args.device).requires_grad_()
            for shape in shapes
        ]
        inputs.append(torch.randint(c, (n,), generator=generator).to(args.device))
        functions = fused_losses()
        names = list(functions)
        baselines = {name: names[i - i % 2] for i, name in enumerate(names)}
        add(
            dict(dtype='float32', N=n, C=c, D=d),
            functions,
            inputs,
            max(1, args.rounds // 15),
            baselines,
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--device', default='cpu', choices=['cpu', 'cuda'])
    parser.add_argument('--threads', type=int, default=1, help='of the CPU')
    parser.add_argument('--rounds', type=int, default=60)
    parser.add_argument('--compiled', action='store_true', help='torch.compile the losses, too')
    parser.add_argument(
        '--fused', action='store_true', help='also 1,000,000 classes: takes 10 GB and minutes'
    )
    parser.add_argument('--quick', action='store_true', help='tiny sizes, to see that it runs')
    parser.add_argument('--out', type=Path, default=ROOT / 'docs/results')
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    rows = measure_all(args)
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / 'bench_losses.csv'
    is_new = not path.exists()
    with path.open('a', newline='') as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator='\n')
        if is_new:
            writer.writeheader()
        writer.writerows(rows)
    write_report(path)


if __name__ == '__main__':
    main()
