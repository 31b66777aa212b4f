"""Test a checkpoint: mmpretrain's options, on today's stack and on machines without a GPU too."""

import mmengine
from mmengine.dist import is_main_process
from mmengine.evaluator import DumpResults

from frlr_mm.engine.launch import (
    build_run,
    check_checkpoint,
    leave_process_group,
    one_line_errors,
)
from frlr_mm.engine.stock_tools import load_stock_tool

# What mmengine can write.
SUFFIXES = {
    'pred': ('.pkl', '.pickle'),
    'metrics': ('.json', '.yaml', '.yml', '.pkl', '.pickle'),
}


def check_suffix(path: str, item: str) -> None:
    """Raise a ValueError where ``--out`` has a suffix that its item cannot be written as."""
    if not path.endswith(SUFFIXES[item]):
        hint = '; metrics may be JSON: --out-item metrics' if item == 'pred' else ''
        raise ValueError(
            f'Expected --out to end in one of {SUFFIXES[item]} for '
            f'{"predictions" if item == "pred" else item}, but got {path!r}{hint}'
        )


def main() -> None:
    """Read the command line, build the run, test, write what was asked for."""
    with one_line_errors():
        stock = load_stock_tool('test')
        args = stock.parse_args()
        if args.out is None and args.out_item is not None:
            raise ValueError('--out-item needs --out, the file to write')
        if args.out is not None:
            check_suffix(args.out, args.out_item or 'pred')
        check_checkpoint(args.checkpoint)
        runner = build_run(stock, args, training=False)

    if args.out and args.out_item in ('pred', None):
        runner.test_evaluator.metrics.append(DumpResults(out_file_path=args.out))
    with one_line_errors(runner.work_dir):
        metrics = runner.test()
        if args.out and args.out_item == 'metrics' and is_main_process():
            mmengine.dump(metrics, args.out)
    leave_process_group()


if __name__ == '__main__':
    main()
