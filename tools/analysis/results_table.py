"""Write the results of metafiles into the tables of Markdown files.

A table stands between ``<!-- results: PATH OF A METAFILE -->`` and
``<!-- end of results -->``; the path is relative to the Markdown file. Numbers live in metafiles
alone.
"""

import argparse
import re
import sys
from pathlib import Path

import yaml

BLOCK = re.compile(r'(<!-- results: (\S+) -->\n).*?(<!-- end of results -->)', re.DOTALL)


def table(metafile: Path, up: str) -> str:
    """Return the Markdown table of the models of a metafile that have results.

    Args:
        metafile (Path): Its models have `Seed`, `Commit`, `Machine`, `Command` and `Log` in their
            metadata.
        up (str): The way from the Markdown file to the root of the project, as '../'.

    Returns:
        str: A row for each model, then how they were measured.
    """
    models = yaml.safe_load(metafile.read_text())['Models']
    rows = [(model, result) for model in models for result in model.get('Results') or ()]
    if not rows:
        return 'Nothing has been measured yet.\n'
    metrics = list(dict.fromkeys(name for _, result in rows for name in result['Metrics']))
    columns = ('recipe', *metrics, 'seed', 'commit', 'log')
    lines = [f'| {" | ".join(columns)} |', '|' + ' --- |' * len(columns)]
    sources = []
    for model, result in rows:
        metadata = model['Metadata']
        cells = [
            f'[{Path(model["Config"]).stem}]({up}{model["Config"]})',
            *(str(result['Metrics'].get(name, '')) for name in metrics),
            str(metadata['Seed']),
            str(metadata['Commit']),
            f'[log]({up}{metadata["Log"]})',
        ]
        lines.append(f'| {" | ".join(cells)} |')
        command = metadata['Command'].replace(model['Config'], 'CONFIG')
        sources.append(f'Measured on {metadata["Machine"]}: `{command}`.')
    return '\n'.join([*lines, '', *dict.fromkeys(sources), ''])


def update(path: Path) -> str:
    """Return the text of a Markdown file with its tables made anew."""

    def replace(match: re.Match) -> str:
        metafile = path.parent / match[2]
        if not metafile.is_file():
            raise FileNotFoundError(f'{path} wants the results of {metafile}, which is missing')
        root = Path(__file__).resolve().parents[2]
        up = '../' * len(path.resolve().parent.relative_to(root).parts)
        return match[1] + table(metafile, up) + match[3]

    return BLOCK.sub(replace, path.read_text())


def main() -> None:
    """Rewrite the files, or only check that there is nothing to rewrite."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('files', nargs='+', type=Path, help='Markdown files')
    parser.add_argument('--check', action='store_true', help='change nothing, fail on old tables')
    args = parser.parse_args()
    for path in args.files:
        text = update(path)
        if text == path.read_text():
            continue
        if args.check:
            sys.exit(f'{path}: a table is not that of its metafile; run {Path(__file__).name}')
        partial = path.with_name(path.name + '.partial')
        partial.write_text(text)
        partial.replace(path)


if __name__ == '__main__':
    main()
