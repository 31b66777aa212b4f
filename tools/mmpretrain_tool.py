"""Run a tool of mmpretrain, such as publish_model or vis_cam, with the plugin imported."""

import argparse
import runpy
import sys

from frlr_mm.compat.tools import mend_tool
from frlr_mm.engine.command_line import find_stock_tool
from frlr_mm.engine.launch import one_line_errors


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('tool', help='the name of its file, without folder and suffix')
    parser.add_argument('args', nargs=argparse.REMAINDER, help='handed to the tool')
    return parser.parse_args()


def main() -> None:
    """Find the tool, mend what it needs, run it as Python would."""
    args = parse_args()
    with one_line_errors():
        path = find_stock_tool(args.tool)
    mend_tool(args.tool)
    sys.argv = [str(path), *args.args]
    sys.path.insert(0, str(path.parent))  # where some of them import from
    runpy.run_path(str(path), run_name='__main__')


if __name__ == '__main__':
    main()
