"""Train a model: mmpretrain's options, on today's stack and on machines without a GPU too.

With --loss, any recipe that classifies is turned FRLR first.
"""

from frlr_mm.engine.command_line import check_checkpoint, load_stock_tool
from frlr_mm.engine.convert import LOSSES
from frlr_mm.engine.launch import build_run, leave_process_group, one_line_errors
from frlr_mm.engine.log_targets import LOG_TARGETS

OPTIONS = {
    '--loss': dict(
        choices=list(LOSSES),
        help='replace the classification losses of the recipe, set the prior, and for hslr anneal '
        'the ratio; the config that results is left in the work directory',
    ),
    '--log-to': dict(
        nargs='+', choices=list(LOG_TARGETS), help='log there, too; the extras are named alike'
    ),
}


def main() -> None:
    """Read the command line, build the run, train."""
    with one_line_errors():
        stock = load_stock_tool('train', OPTIONS)
        args = stock.parse_args()
        if args.resume not in (None, 'auto'):
            check_checkpoint(args.resume)
        runner = build_run(stock, args, training=True)
    with one_line_errors(runner.work_dir):
        runner.train()
    del runner
    leave_process_group()


if __name__ == '__main__':
    main()
