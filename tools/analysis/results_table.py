"""Write the results of metafiles into the tables of Markdown files.

A table stands between ``<!-- results: PATH OF A METAFILE -->`` and
``<!-- end of results -->``; the path is relative to the Markdown file. Numbers live in metafiles
alone.
"""

import argparse
import sys
from pathlib import Path

import yaml

from frlr_mm.engine.launch import one_line_errors
from frlr_mm.reporting.tables import fill_files, markdown_table

# Of a checkout or of an installed package: what metafiles name stands beside tools.
ROOT = Path(__file__).resolve().parents[2]


def table(metafile: Path, up: str) -> str:
    """Return the Markdown table of the models of a metafile that have results.

    Args:
        metafile (Path): Its models have `Seed`, `Commit`, `Machine`, `Command` and `Log` in their
            metadata.
        up (str): The way from the Markdown file to the root of the project, such as '../'.

    Returns:
        str: A row for each model, then how they were measured.
    """
    models = yaml.safe_load(metafile.read_text())['Models']
    found = [(model, result) for model in models for result in model.get('Results') or ()]
    if not found:
        return 'Nothing has been measured yet.\n'
    metrics = list(dict.fromkeys(name for _, result in found for name in result['Metrics']))
    rows, sources = [], []
    for model, result in found:
        metadata = model['Metadata']
        rows.append(
            (
                f'[{Path(model["Config"]).stem}]({up}{model["Config"]})',
                *(result['Metrics'].get(name, '') for name in metrics),
                metadata['Seed'],
                metadata['Commit'],
                f'[log]({up}{metadata["Log"]})',
            )
        )
        command = metadata['Command'].replace(model['Config'], 'CONFIG')
        sources.append(f'Measured on {metadata["Machine"]}: `{command}`.\n')
    header = ('recipe', *metrics, 'seed', 'commit', 'log')
    return markdown_table(header, rows) + '\n' + ''.join(dict.fromkeys(sources))


def content(path: Path, name: str) -> str:
    """Return the table of a metafile for a Markdown file.

    Raises:
        FileNotFoundError: If there is no such metafile.
    """
    metafile = path.parent / name
    if not metafile.is_file():
        raise FileNotFoundError(f'{path} wants the results of {metafile}, which is missing')
    return table(metafile, '../' * len(path.resolve().parent.relative_to(ROOT).parts))


def main() -> None:
    """Rewrite the files, or only check that there is nothing to rewrite."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('files', nargs='+', type=Path, help='Markdown files')
    parser.add_argument(
        '--check', action='store_true', help='write nothing, fail where a table is old'
    )
    args = parser.parse_args()
    with one_line_errors():
        changed = fill_files(args.files, 'results', content, check=args.check)
    if args.check and changed:
        names = ', '.join(map(str, changed))
        sys.exit(f'{names}: a table is not that of its metafile; run {Path(__file__).name}')


if __name__ == '__main__':
    main()
