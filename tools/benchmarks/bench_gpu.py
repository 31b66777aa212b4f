"""Test and measure the GPU path with one command: `make bench-gpu`, under ten minutes.

It runs the tests of frlr_mm.functional on the device; the losses beside others, as they are,
compiled, as CUDA graphs, and with a classifier beside torch's own fused cross-entropy; training
steps of ResNet-50 and ViT-B/16 in bfloat16. Rows are appended to bench_losses.csv and
bench_training.csv in the folder of --out, with the name of the device, and the tables are printed.
`make bench-gpu DEVICE=cpu` does the same at tiny sizes, to see that it runs.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--device', default='cuda', choices=['cpu', 'cuda'], help='default: cuda')
    parser.add_argument(
        '--minutes', type=float, default=10, help='when to stop what still runs (default: 10)'
    )
    parser.add_argument(
        '--out',
        type=Path,
        default=Path('work_dirs/bench'),
        help='the folder to write to (default: work_dirs/bench)',
    )
    args = parser.parse_args()
    if not args.minutes > 0:
        parser.error(f'expected --minutes to be above 0, but got {args.minutes:g}')
    return args


if __name__ == '__main__':
    ARGS = parse_args()  # before the imports, which take seconds: --help answers at once

import torch

from frlr_mm.reporting.tables import Row, markdown_table, read_rows

TOOLS = Path(__file__).resolve().parent
ROOT = TOOLS.parents[1]
# A recipe, its stock twin, images per step and their side.
TINY_RECIPE = (
    'configs/cifar/resnet18_8xb16-hslr_cifar10.py',
    'mmpretrain::resnet/resnet18_8xb16_cifar10.py',
    '4',
    '32',
)
# What is printed of a row of training.
COLUMNS = ('recipe', 'batch_size', 'side', 'dtype', 'p50_ms', 'ratio_p50', 'peak_bytes')


def parts(device: str, out: Path) -> dict[str, list[str]]:
    """Return the command of each part."""
    where = ['--device', device, '--out', str(out)]
    losses = ['--compiled', '--fused', '--graphs', '--rounds', '30']
    training = []
    if device == 'cpu':
        losses = ['--compiled', '--quick', '--rounds', '2']
        training = ['--rounds', '1', '--steps', '1', '--recipe', *TINY_RECIPE]
    return {
        # The device is part of the name of a test that has one.
        'tests': ['-m', 'pytest', '--quiet', f'{ROOT}/tests/functional', '-k', device],
        'losses': [f'{TOOLS}/bench_losses.py', *where, *losses],
        'training': [f'{TOOLS}/bench_training.py', *where, '--dtype', 'bfloat16', *training],
    }


def run(command: list[str], seconds: float) -> str:
    """Run a Python command; return what is wrong with it, if anything is."""
    if seconds <= 0:
        return 'did not start in time'
    try:
        status = subprocess.run([sys.executable, *command], timeout=seconds).returncode
    except subprocess.TimeoutExpired:
        return 'did not end in time'
    return f'failed with status {status}' if status else ''


def training_table(rows: list[Row]) -> str:
    """Return a table of training steps."""
    return markdown_table(COLUMNS, ([row[name] for name in COLUMNS] for row in rows))


def main(args: argparse.Namespace) -> None:
    """Run the parts, each in a process of its own, and print the tables of what came out."""
    if args.device == 'cuda' and not torch.cuda.is_available():
        sys.exit(
            'bench_gpu.py: expected a CUDA device, but torch finds none here; '
            'to try the command without one: make bench-gpu DEVICE=cpu'
        )
    end = time.monotonic() + 60 * args.minutes
    training = args.out / 'bench_training.csv'
    num_old = len(read_rows(training))
    troubles = {}
    for name, command in parts(args.device, args.out).items():
        print(f'== {name}', flush=True)
        troubles[name] = run(command, end - time.monotonic())
    print()
    if not troubles['losses']:
        print((args.out / 'bench_losses.md').read_text(encoding='utf-8'))
    print(training_table(read_rows(training)[num_old:]))
    wrong = [f'{name} {trouble}' for name, trouble in troubles.items() if trouble]
    if wrong:
        sys.exit(f'bench_gpu.py: {"; ".join(wrong)}')


if __name__ == '__main__':
    main(ARGS)
