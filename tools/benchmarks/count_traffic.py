"""Count the bytes that the losses read, write and hold, on tensors without values: no GPU needed.

The code path is that of a GPU without Triton kernels, forward and backward. The unit is the
logits' matrix, N x C numbers of its dtype: "passes" are all bytes read and written, "peak" is what
is held at once beyond the inputs. Operations are counted one by one, each reading and writing its
tensors once; with --compiled also as torch.compile fuses them, which takes minutes; nothing is
compiled for it.
The table is written to traffic.md in the folder of --out.
"""

import argparse
from pathlib import Path


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--operations', metavar='FUNCTION', help='print each operation of one function as well'
    )
    parser.add_argument(
        '--compiled', action='store_true', help='count what inductor makes of them as well'
    )
    parser.add_argument('--quick', action='store_true', help='tiny sizes, to see that it runs')
    parser.add_argument(
        '--out',
        type=Path,
        default=Path('work_dirs/bench'),
        help='the folder to write to (default: work_dirs/bench)',
    )
    return parser.parse_args()


if __name__ == '__main__':
    ARGS = parse_args()  # before the imports, which take seconds: --help answers at once

from collections.abc import Callable

import torch
from bench_losses import fused_losses, plain_losses
from torch import Tensor

from frlr_mm.engine.files import replacing
from frlr_mm.reporting.compiled_traffic import count_compiled_traffic
from frlr_mm.reporting.tables import markdown_table
from frlr_mm.reporting.traffic import TrafficMode, count_traffic

SIZES = [(256, 1000), (4096, 21841)]
FUSED_SIZES = [(256, 1_000_000, 512)]
QUICK_SIZES, QUICK_FUSED_SIZES = [(4, 100)], [(4, 1000, 8)]
HEADER = ('N x C', 'dtype', 'label', 'function', 'passes', 'read', 'written', 'peak')
COMPILED_HEADER = ('compiled: passes', 'compiled: peak')
# Our losses take dense labels as well; so does cross-entropy.
DENSE = ('cross_entropy', 'ss_lr', 'hs_lr', 'hs_lr ratio 0.01')


def count(function: Callable, inputs: list[Tensor]) -> TrafficMode:
    """Count one forward and one backward pass."""
    for tensor in inputs:
        tensor.grad = None
    return count_traffic(lambda: function(*inputs).backward())


def line(size: tuple, label: str, name: str, inputs: list[Tensor], mode: TrafficMode) -> tuple:
    """Return a line of the table."""
    unit = size[0] * size[1] * inputs[0].element_size()
    shape = f'{size[0]:,} x {size[1]:,}' + (f', D {size[2]}' if len(size) > 2 else '')
    dtype = str(inputs[0].dtype).removeprefix('torch.')
    numbers = (mode.read + mode.written, mode.read, mode.written, mode.peak)
    return shape, dtype, label, name, *(f'{number / unit:.2f}' for number in numbers)


def compiled_cells(function: Callable, inputs: list[Tensor], is_loss: bool) -> tuple[str, str]:
    """Return the cells of what is left when the function is compiled.

    (Those with the classifier are not: their loop over chunks would be unrolled.)
    """
    if not is_loss:
        return '', ''
    shapes = [(tuple(tensor.shape), tensor.dtype) for tensor in inputs]
    traffic = count_compiled_traffic(function, shapes)
    unit = inputs[0].numel() * inputs[0].element_size()
    return f'{traffic.moved / unit:.2f}', f'{traffic.peak / unit:.2f}'


def count_all(args: argparse.Namespace) -> list[tuple]:
    """Return the lines of all sizes."""
    lines = []

    def add(size: tuple, label: str, functions: dict, inputs: list[Tensor]) -> None:
        for name, function in functions.items():
            mode = count(function, inputs)
            lines.append(line(size, label, name, inputs, mode))
            if args.compiled:
                lines[-1] += compiled_cells(function, inputs, len(size) == 2)
            print(*lines[-1], sep=' | ', flush=True)
            if args.operations == name:
                for operation, read, written in mode.operations:
                    print(f'    {operation}: {read:,} bytes read, {written:,} written')

    for n, c in QUICK_SIZES if args.quick else SIZES:
        for dtype in (torch.float32, torch.bfloat16):
            x = torch.empty(n, c, dtype=dtype, device='meta', requires_grad=True)
            index = torch.empty(n, dtype=torch.int64, device='meta')
            dense = torch.empty(n, c, dtype=torch.float32, device='meta')
            functions = plain_losses(c, compiled=False)
            del functions['AsymmetricLoss']  # reads a value back, and there is none
            add((n, c), 'index', functions, [x, index])
            add((n, c), 'dense', {name: functions[name] for name in DENSE}, [x, dense])
    for n, c, d in QUICK_FUSED_SIZES if args.quick else FUSED_SIZES:
        for dtype in (torch.float32, torch.bfloat16):
            inputs = [
                torch.empty(shape, dtype=dtype, device='meta', requires_grad=True)
                for shape in ((n, d), (c, d), (c,))
            ]
            index = torch.empty(n, dtype=torch.int64, device='meta')
            functions = fused_losses()
            functions.pop('linear_cross_entropy', None)  # one operation, which hides what it does
            add((n, c, d), 'index', functions, [*inputs, index])
    return lines


def main(args: argparse.Namespace) -> None:
    """Count, and write the table."""
    header = HEADER + (COMPILED_HEADER if args.compiled else ())
    table = markdown_table(header, count_all(args))
    compiled = (
        ' Compiled is what inductor makes of the same, gathering read as what it picks.'
        if args.compiled
        else ''
    )
    args.out.mkdir(parents=True, exist_ok=True)
    with replacing(args.out / 'traffic.md') as partial:
        partial.write_text(
            f'# Passes over memory\n\nForward and backward, torch {torch.__version__}, counted '
            'on tensors without values by the code path of a GPU without kernels, in units of the '
            'N x C logits in their dtype. For a classifier with D channels the gradients of its '
            'weights, D / N units, are part of it. Dense labels are float32.'
            f'{compiled}\n\n{table}',
            encoding='utf-8',
        )


if __name__ == '__main__':
    main(ARGS)
