"""Write docs/stock_recipes.md: which recipes of the installed mmpretrain --loss turns FRLR."""

import argparse
import functools
from collections.abc import Iterator
from pathlib import Path

import mmengine.config.utils
import mmpretrain
from mmengine.config import Config
from mmengine.config.utils import ConfigParsingError

from frlr_mm.engine.convert import convert
from frlr_mm.engine.files import replacing
from frlr_mm.engine.launch import one_line_errors

ROOT = Path(mmpretrain.__file__).parent / '.mim' / 'configs'
# What reading a broken recipe, or one of a package that is not installed, raises.
UNREADABLE = (ImportError, KeyError, RuntimeError, OSError, ConfigParsingError)
PAGE = """# Stock recipes

<!-- Written by tools/analysis/stock_recipes.py, and compared with the installed mmpretrain. -->

`frlr train mmpretrain::FOLDER/NAME.py --loss hslr` turns a recipe of mmpretrain FRLR
([what it changes](your_data.md#any-recipe-of-mmpretrain)). Of the {total} recipes of mmpretrain
{version}, {num_converted} are converted; the other {num_others} are listed with the reason.
Conversion is not a result: of most recipes, no more than the head has been run, for one step.

## Converted

| folder | recipes |
| --- | --- |
{converted}

## Not converted

| reason | recipes |
| --- | --- |
{others}
"""


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--out', type=Path, default=Path('docs/stock_recipes.md'))
    return parser.parse_args()


def recipes() -> list[str]:
    """Return the names of all recipes, such as 'resnet/resnet50_8xb32_in1k.py'."""
    paths = (path.relative_to(ROOT) for path in ROOT.rglob('*.py'))
    return sorted(path.as_posix() for path in paths if '_base_' not in path.parts)


@functools.cache
def read(name: str) -> Config:
    """Read a recipe."""
    return Config.fromfile(ROOT / name)


def why_not(name: str) -> str | None:
    """Return why a recipe is not converted, None where it is."""
    try:
        cfg = read(name)
    except UNREADABLE as error:
        text = ' '.join(str(error.args[0]).split()) if error.args else ''
        return f'mmengine cannot read it: {type(error).__name__}: {text[:80].rstrip()}'
    try:
        convert(cfg, 'hslr')
    except ValueError as error:
        return str(error).rpartition(', but ')[2]
    return None


def fill_page(reasons: dict[str, str | None]) -> str:
    """Return the page for the reasons of all recipes."""
    converted = _group((name, name.rpartition('/')[0]) for name in reasons if not reasons[name])
    others = _group((name, reason) for name, reason in reasons.items() if reason)
    return PAGE.format(
        total=len(reasons),
        version=mmpretrain.__version__,
        num_converted=sum(map(len, converted.values())),
        num_others=sum(map(len, others.values())),
        converted='\n'.join(
            f'| {folder} | {", ".join(Path(name).stem for name in names)} |'
            for folder, names in converted.items()
        ),
        others='\n'.join(
            f'| {reason} | {", ".join(name.removesuffix(".py") for name in names)} |'
            for reason, names in sorted(others.items())
        ),
    )


def _group(pairs: Iterator[tuple[str, str]]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name, key in pairs:
        groups.setdefault(key, []).append(name)
    return groups


def main() -> None:
    """Convert each recipe and write the page."""
    args = parse_args()
    # A recipe of `mmpretrain::` bases reads a hundred metafiles, which do not change.
    utils = mmengine.config.utils
    utils._get_cfg_metainfo = functools.cache(utils._get_cfg_metainfo)
    with one_line_errors():
        page = fill_page({name: why_not(name) for name in recipes()})
        with replacing(args.out) as partial:
            partial.write_text(page)
    print(f'page: {args.out}')


if __name__ == '__main__':
    main()
