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


def table(metafile: Path, base: Path) -> str:
    """Return the Markdown table of the models of a metafile that have results."""
    models = [
        model for model in yaml.safe_load(metafile.read_text())['Models'] if model.get('Results')
    ]
    if not models:
        return 'Nothing has been measured yet.\n'
    metrics = list(
        dict.fromkeys(
            name for model in models for result in model['Results'] for name in result['Metrics']
        )
    )
    lines = [
        '| recipe | ' + ' | '.join(metrics) + ' | seed |',
        '| --- |' + ' --- |' * len(metrics) + ' --- |',
    ]
    notes = []
    for model in models:
        config = Path(model['Config'])
        link = '../' * len(base.parts) + model['Config']
        for result in model['Results']:
            cells = [str(result['Metrics'].get(name, '')) for name in metrics]
            lines.append(
                f'| [{config.stem}]({link}) | {" | ".join(cells)} | {model["Metadata"]["Seed"]} |'
            )
        notes.append(model['Metadata'])
    sources = dict.fromkeys(
        f'`{note["Command"]}`, commit {note["Commit"]}, {note["Machine"]}' for note in notes
    )
    return '\n'.join(lines) + '\n\n' + '\n'.join(f'Measured by {text}.' for text in sources) + '\n'


def update(path: Path) -> str:
    """Return the text of a Markdown file with its tables made anew."""

    def replace(match: re.Match) -> str:
        metafile = path.parent / match[2]
        if not metafile.is_file():
            raise FileNotFoundError(f'{path} wants the results of {metafile}, which is missing')
        root = Path(__file__).resolve().parents[2]
        return match[1] + table(metafile, path.resolve().parent.relative_to(root)) + match[3]

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
