"""Train a model: mmpretrain's options, on today's stack and on machines without a GPU too."""

import pickle

from frlr_mm.engine.launch import (
    build_runner,
    check_checkpoint,
    leave_process_group,
    load_stock_tool,
    one_line_errors,
    one_line_faults,
    read_config,
)


def main() -> None:
    """Read the command line, build the run, train."""
    with one_line_errors():
        stock = load_stock_tool('train')
        args = stock.parse_args()
        if args.resume not in (None, 'auto'):
            check_checkpoint(args.resume)
        cfg = read_config(stock, args)
        runner = build_runner(cfg)
        # Built here rather than in `train`, so that missing data is one line as well.
        _ = runner.train_loop, runner.val_loop
    # A checkpoint may be refused, a disk may be full.
    with one_line_errors((pickle.UnpicklingError,)), one_line_faults(runner.work_dir):
        runner.train()
    leave_process_group()


if __name__ == '__main__':
    main()
