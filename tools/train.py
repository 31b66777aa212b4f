"""Train a model: mmpretrain's options, on today's stack and on machines without a GPU too."""

from frlr_mm.engine.launch import (
    build_run,
    check_checkpoint,
    leave_process_group,
    one_line_errors,
)
from frlr_mm.engine.stock_tools import load_stock_tool


def main() -> None:
    """Read the command line, build the run, train."""
    with one_line_errors():
        stock = load_stock_tool('train')
        args = stock.parse_args()
        if args.resume not in (None, 'auto'):
            check_checkpoint(args.resume)
        runner = build_run(stock, args, training=True)
    with one_line_errors(runner.work_dir):
        runner.train()
    leave_process_group()


if __name__ == '__main__':
    main()
