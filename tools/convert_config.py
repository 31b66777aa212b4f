"""Write the config of a recipe turned FRLR, which tools/train.py --loss would train."""

import argparse
import os

from frlr_mm.engine.command_line import CheckedDictAction, check_cfg_options, read_config
from frlr_mm.engine.convert import LOSSES, convert
from frlr_mm.engine.files import replacing
from frlr_mm.engine.launch import one_line_errors


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='a file, or such as mmpretrain::resnet/x.py')
    parser.add_argument('--loss', choices=list(LOSSES), required=True, help='the new loss')
    parser.add_argument('--out', help='the file to write (default: NAME-LOSS.py, in this folder)')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=CheckedDictAction,
        default={},
        help='KEY=VALUE pairs that change the recipe first',
    )
    return parser.parse_args()


def main() -> None:
    """Convert, write, and print what changed."""
    args = parse_args()
    with one_line_errors():
        cfg = read_config(args.config)
        check_cfg_options(cfg, args.cfg_options)
        cfg.merge_from_dict(args.cfg_options)
        converted, lines = convert(cfg, args.loss)
        out = args.out or converted.filename
        if os.path.realpath(out) == os.path.realpath(cfg.filename):
            raise ValueError(f'Expected `--out` to be another file than the recipe, but got {out}')
        with replacing(out) as partial:
            converted.dump(str(partial))
    print(*lines, f'config: {out}', sep='\n')


if __name__ == '__main__':
    main()
