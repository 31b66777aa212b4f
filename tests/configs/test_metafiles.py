"""The metafiles and README tables agree with the recipes they list."""

import re
from pathlib import Path

import modelindex
import pytest

from tests.support.recipes import CONFIG_ROOT, ROOT, load

ENTRY_FOLDER = CONFIG_ROOT / 'imagenet'  # which lists the entry recipes, too

# Neither what others inherit nor what a user copies is a recipe.
FOLDERS = sorted(
    path
    for path in CONFIG_ROOT.iterdir()
    if path.is_dir() and path.name not in ('_base_', 'custom')
)
INDEX = modelindex.load(str(ROOT / 'model-index.yml'))
MODELS = {model.name: model for model in INDEX.models}


def recipes_of(folder: Path) -> set[str]:
    """Return the recipes that a folder's README and metafile list, as paths from the root."""
    paths = list(folder.glob('*.py'))
    if folder == ENTRY_FOLDER:
        paths += CONFIG_ROOT.glob('*.py')
    return {path.relative_to(ROOT).as_posix() for path in paths}


def read_rows(readme: Path) -> list[dict[str, str]]:
    """Read the rows of the tables of recipes, by the names of their columns."""
    rows, header = [], None
    for line in readme.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip('|').split('|')]
        if line.startswith('| Recipe |'):
            header = cells
        elif header and line.startswith('| ['):
            rows.append(dict(zip(header, cells, strict=True)))
        elif not line.startswith('|'):
            header = None
    return rows


def test_index_imports_every_metafile_and_is_valid():
    metafiles = {model.filepath for model in INDEX.models}
    assert {Path(path) for path in metafiles} == {f / 'metafile.yml' for f in FOLDERS}
    assert INDEX.check(silent=True) == []
    assert len(MODELS) == len(list(INDEX.models))
    assert len({c.name for c in INDEX.collections}) == len(list(INDEX.collections))


@pytest.mark.parametrize('folder', FOLDERS, ids=lambda folder: folder.name)
def test_metafile_lists_every_recipe(folder):
    listed = [m for m in MODELS.values() if Path(m.filepath).parent == folder]
    assert {m.config for m in listed} == recipes_of(folder)
    assert all(m.name == Path(m.config).stem for m in listed)


@pytest.mark.parametrize('folder', FOLDERS, ids=lambda folder: folder.name)
def test_readme_lists_every_recipe(folder):
    rows = read_rows(folder / 'README.md')
    links = [re.fullmatch(r'\[(.+)\]\((.+)\)', row['Recipe']).groups() for row in rows]
    paths = [(folder / link).resolve().relative_to(ROOT).as_posix() for _, link in links]
    assert sorted(paths) == sorted(recipes_of(folder))
    assert [name for name, _ in links] == [Path(path).stem for path in paths]
    assert [row['Command'] for row in rows] == [f'`{command(path)}`' for path in paths]


def command(path: str) -> str:
    """Return how a recipe is trained."""
    if 'sharded' in path:  # which is of no use on one process
        return f'bash tools/dist_train.sh {path} 2'
    return f'python tools/train.py {path}'


ROWS = {
    row['Recipe'].split(']')[0].strip('['): row
    for folder in FOLDERS
    for row in read_rows(folder / 'README.md')
}


def loss_name(loss: dict) -> str:
    """Return what the tables call a loss."""
    if loss.type == 'SSLRLoss':
        return 'LR' if loss.gamma == 0 else 'SS-LR'
    if loss.type == 'CrossEntropyLoss':  # over sigmoids it is plain logistic regression
        return 'LR' if loss.get('use_sigmoid') else 'SR'
    return {'HSLRLoss': 'HS-LR', 'FocalLoss': 'Focal', 'AsymmetricLoss': 'ASL'}[loss.type]


@pytest.mark.parametrize('name', ROWS)
def test_numbers_are_those_of_the_recipe(name):
    row, model = ROWS[name], MODELS[name]
    cfg = load(name)
    learning_rate = cfg.optim_wrapper.optimizer.lr
    assert model.metadata.epochs == cfg.train_cfg.max_epochs
    assert int(row.get('Epochs', model.metadata.epochs)) == model.metadata.epochs
    assert float(row.get('Learning rate', learning_rate)) == pytest.approx(learning_rate)
    assert model.metadata.data['Batch Size'] == cfg.auto_scale_lr.base_batch_size
    assert row['Loss'] == model.metadata.data['Loss'] == loss_name(cfg.model.head.loss)
