"""What pip makes of the source tree, without a network."""

import email
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from email.message import Message
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import frlr_mm

ROOT = Path(__file__).parents[1]
# The parts of a working copy that are sources; training and tools leave other things beside them.
SOURCES = (
    'CHANGELOG.md',
    'LICENSE',
    'MANIFEST.in',
    'README.md',
    'configs',
    'constraints.txt',
    'frlr_mm',
    'model-index.yml',
    'pyproject.toml',
    'setup.py',
    'tests',
    'tools',
)
MIM = 'frlr_mm/.mim/'


def run(*command, cwd):
    result = subprocess.run([sys.executable, *command], cwd=cwd, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def files_below(root):
    return {path.relative_to(root).as_posix() for path in root.rglob('*') if path.is_file()}


def mim_files(root):
    """Return what ``mim`` has to find."""
    files = files_below(root)
    return {file for file in files if re.match('configs/|tools/|model-index.yml$', file)}


@pytest.fixture(scope='module')
def source_tree(tmp_path_factory):
    """A fresh copy of the sources."""
    tree = tmp_path_factory.mktemp('source')
    for path in (ROOT / name for name in SOURCES):
        if path.is_dir():
            ignored = shutil.ignore_patterns('__pycache__', '.mim')
            shutil.copytree(path, tree / path.name, ignore=ignored)
        elif path.is_file():
            shutil.copy(path, tree)
    return tree


@pytest.fixture(scope='module')
def unpacked_sdist(source_tree, tmp_path_factory):
    """The source distribution of the tree, unpacked."""
    folder = tmp_path_factory.mktemp('sdist')
    code = f'from setuptools import build_meta; build_meta.build_sdist({str(folder)!r})'
    run('-c', code, cwd=source_tree)
    with tarfile.open(folder / f'frlr_mm-{frlr_mm.__version__}.tar.gz') as archive:
        archive.extractall(folder, filter='data')
    return folder / f'frlr_mm-{frlr_mm.__version__}'


@pytest.fixture(scope='module')
def wheel(unpacked_sdist, tmp_path_factory):
    """The wheel of the source distribution, and what building it left in its folder."""
    folder = tmp_path_factory.mktemp('wheel')
    before = files_below(unpacked_sdist)
    run(
        '-m',
        'pip',
        'wheel',
        '--no-deps',
        '--no-build-isolation',
        '--no-index',
        '--wheel-dir',
        str(folder),
        '.',
        cwd=unpacked_sdist,
    )
    (path,) = folder.iterdir()
    return path, files_below(unpacked_sdist) - before


def metadata_of(path: Path) -> Message:
    with zipfile.ZipFile(path) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith('.dist-info/METADATA'))
        return email.message_from_bytes(archive.read(name))


def test_sdist_holds_the_sources(source_tree, unpacked_sdist):
    missing = files_below(source_tree) - files_below(unpacked_sdist)
    assert not missing


def test_wheel_holds_package_configs_and_tools(source_tree, wheel):
    modules = {f'frlr_mm/{file}' for file in files_below(source_tree / 'frlr_mm')}
    with zipfile.ZipFile(wheel[0]) as archive:
        names = {name for name in archive.namelist() if '.dist-info/' not in name}
    assert {
        f'{MIM}configs/glyphs/resnet18_b128-hslr_glyphs.py',
        f'{MIM}tools/train.py',
        f'{MIM}model-index.yml',
    } <= names
    assert names == modules | {MIM + file for file in mim_files(source_tree)}


def test_building_leaves_the_sources_alone(wheel):
    assert {file for file in wheel[1] if not re.match(r'build/|frlr_mm\.egg-info/', file)} == set()


def test_wheel_leaves_out_what_is_gone(source_tree, tmp_path):
    """A second build does not take files from the first one's left-overs."""
    tree = tmp_path / 'source'
    shutil.copytree(source_tree, tree)
    for stale in ('build/lib/frlr_mm/gone.py', 'build/lib/frlr_mm/.mim/configs/gone.py'):
        (tree / stale).parent.mkdir(parents=True, exist_ok=True)
        (tree / stale).touch()
    run('setup.py', '-q', 'build', cwd=tree)
    assert files_below(tree / 'build' / 'lib') >= {MIM + file for file in mim_files(tree)}
    assert not [file for file in files_below(tree) if file.endswith('gone.py')]


def requirements_of(wheel, extra=''):
    """Return what the wheel requires by itself, or for an extra."""
    required = [Requirement(line) for line in metadata_of(wheel).get_all('Requires-Dist')]
    mine = [r for r in required if (r.marker is None) == (not extra)]
    return [r for r in mine if r.marker is None or r.marker.evaluate({'extra': extra})]


def test_metadata(wheel):
    metadata = metadata_of(wheel[0])
    assert metadata['Name'] == 'frlr_mm'
    assert metadata['Version'] == frlr_mm.__version__
    assert metadata['Requires-Python'] in ('<3.14,>=3.10', '>=3.10,<3.14')
    assert metadata['License-Expression'] == 'MIT' and metadata.get_all('Project-URL')
    assert 'Typing :: Typed' in metadata.get_all('Classifier')


@pytest.mark.parametrize(
    ('extra', 'expected'),
    [
        ('', {'numpy', 'torch'}),
        ('mmpretrain', {'mmengine', 'mmpretrain', 'mmcv-lite', 'torchvision'}),
        ('onedl', {'onedl-mmengine', 'onedl-mmpretrain', 'onedl-mmcv', 'torchvision'}),
    ],
)
def test_requirements(wheel, extra, expected):
    """Whoever has an mmcv or forks of their own keeps them: no two extras share a module."""
    names = {r.name for r in requirements_of(wheel[0], extra)}
    assert expected <= names
    stack = {name for name in names if re.search('mmcv|mmengine|mmpretrain|torch|numpy', name)}
    assert stack == expected


def test_editable_install_goes_together_with_mim(source_tree, tmp_path):
    """Modules come from the source tree, configs and tools from site-packages."""
    code = f'from setuptools import build_meta; build_meta.build_editable({str(tmp_path)!r})'
    run('-c', code, cwd=source_tree)
    python, site_packages = make_environment(tmp_path / 'env')
    with zipfile.ZipFile(next(tmp_path.glob('*.whl'))) as archive:
        archive.extractall(site_packages)
    installed = files_below(site_packages / 'frlr_mm')
    assert installed == {'.mim/' + file for file in mim_files(source_tree)}
    code = 'from importlib.util import find_spec; print(find_spec("frlr_mm").origin)'
    # -I: neither PYTHONPATH nor the current folder may stand in for the installation.
    found = subprocess.run([python, '-I', '-c', code], capture_output=True, text=True, check=True)
    assert Path(found.stdout.strip()) == source_tree / 'frlr_mm' / '__init__.py'


def make_environment(path):
    """Return the interpreter and site-packages of a new, empty virtual environment."""
    venv.create(path, symlinks=True)
    (python,) = path.glob('bin/python')
    (site_packages,) = path.glob('lib/python*/site-packages')
    return str(python), site_packages


def test_constraints_pin_every_requirement(wheel):
    pins = {}
    for line in (ROOT / 'constraints.txt').read_text().splitlines():
        if line and not line.startswith('#'):
            pin = Requirement(line)
            pins[canonicalize_name(pin.name)] = re.fullmatch('==(.+)', str(pin.specifier))[1]
    for extra in ('', 'mmpretrain', 'keras', 'export', 'tests', 'fuzz'):
        for requirement in requirements_of(wheel[0], extra):
            assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)])
