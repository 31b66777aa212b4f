"""Build the package; besides the modules, a wheel carries configs and tools for ``mim``.

OpenMMLab's ``mim`` looks for ``configs``, ``tools`` and ``model-index.yml`` in ``frlr_mm/.mim``.
``build_mim`` puts them there while it builds, so that the source tree holds them once.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

from setuptools import Command, find_packages, setup
from setuptools.command.build import build

# Relative, as setuptools wants the paths of sources to be; it runs in the project's folder.
ROOT = Path('.')
MIM_SOURCES = ('configs', 'tools', 'model-index.yml')

# Distributions that own the same module as one of our requirements. Two of them in one environment
# overwrite each other's files, so the one that is there already is required in place of ours.
REPLACEMENTS = {
    'mmcv-lite': ('mmcv', 'onedl-mmcv'),
    'mmengine': ('onedl-mmengine',),
    'mmpretrain': ('onedl-mmpretrain',),
}


class BuildMim(Command):
    """Copy configs, tools and the model index to ``frlr_mm/.mim`` of what is built."""

    description = 'copy configs, tools and the model index to frlr_mm/.mim'
    user_options: ClassVar = []
    editable_mode = False

    def initialize_options(self):
        self.build_lib = None

    def finalize_options(self):
        self.set_undefined_options('build_py', ('build_lib', 'build_lib'))

    def run(self):
        # An editable install takes the modules from the source tree and throws `build_lib` away;
        # what is to be installed has to go to the wheel itself.
        root = self.build_lib
        if self.editable_mode:
            root = self.get_finalized_command('install').install_lib
        for target, source in self._files(root).items():
            self.mkpath(str(Path(target).parent))
            self.copy_file(source, target)

    def get_source_files(self):
        paths = [path for name in MIM_SOURCES for path in (ROOT / name, *(ROOT / name).rglob('*'))]
        return [str(p) for p in sorted(paths) if p.is_file() and '__pycache__' not in p.parts]

    def get_outputs(self):
        return list(self.get_output_mapping())

    def get_output_mapping(self):
        return self._files(self.build_lib)

    def _files(self, root):
        return {str(Path(root, 'frlr_mm', '.mim', path)): path for path in self.get_source_files()}


class Build(build):
    """Build as usual, and ``build_mim``, from scratch: a file that is gone must not be built."""

    sub_commands: ClassVar = [*build.sub_commands, ('build_mim', None)]

    def run(self):
        if Path(self.build_lib).is_dir():
            shutil.rmtree(self.build_lib)
        super().run()


def read_version():
    text = (ROOT / 'frlr_mm' / '__init__.py').read_text(encoding='utf-8')
    return re.search(r"^__version__ = '(.+)'$", text, re.MULTILINE).group(1)


def read_readme():
    path = ROOT / 'README.md'
    return path.read_text(encoding='utf-8') if path.is_file() else ''


def read_requirements(name):
    lines = (ROOT / 'requirements' / f'{name}.txt').read_text(encoding='utf-8').splitlines()
    return [line for line in lines if line and not line.startswith('#')]


def installed_distributions():
    """Return the names of what is installed for this interpreter.

    pip hides it from a build: it runs this very interpreter, but with a PYTHONPATH that cuts the
    environment off. ``-E`` ignores that variable. Build tools that make an interpreter of their
    own (``uv``, ``build``) hide it for good.
    """
    code = 'from importlib.metadata import distributions as d; print(*{x.name for x in d()})'
    output = subprocess.run(
        [sys.executable, '-E', '-c', code],
        cwd=sys.prefix,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return {re.sub('[-_.]+', '-', name).lower() for name in output.split()}


def runtime_requirements():
    """Return requirements/runtime.txt with the replacements that are installed."""
    installed = installed_distributions()
    requirements = []
    for requirement in read_requirements('runtime'):
        name = re.match('[-a-z]+', requirement).group()
        found = [other for other in REPLACEMENTS.get(name, ()) if other in installed]
        requirements.append(found[0] + requirement[len(name) :] if found else requirement)
    return requirements


setup(
    name='frlr_mm',
    version=read_version(),
    description='Focus rectified logistic regression (HS-LR and SS-LR losses) for mmpretrain',
    long_description=read_readme(),
    long_description_content_type='text/markdown',
    author='the frlr_mm authors',
    license='MIT',
    keywords='computer vision, image classification, loss function, logistic regression',
    classifiers=[
        'Development Status :: 3 - Alpha',
        'Intended Audience :: Science/Research',
        'Operating System :: OS Independent',
        'Programming Language :: Python :: 3',
        'Programming Language :: Python :: 3.10',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Programming Language :: Python :: 3.13',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ],
    packages=find_packages(include=['frlr_mm', 'frlr_mm.*']),
    # Explicit, so that an editable install is a path in a .pth file: a regular package on a path
    # goes together with site-packages/frlr_mm/.mim, where setuptools' import hook does not.
    package_dir={'': '.'},
    python_requires='>=3.10,<3.14',
    install_requires=runtime_requirements(),
    extras_require={'tests': read_requirements('tests'), 'all': read_requirements('tests')},
    cmdclass={'build': Build, 'build_mim': BuildMim},
)
