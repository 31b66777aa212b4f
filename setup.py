"""Build the package, whose metadata are in pyproject.toml; a wheel carries configs and tools, too.

OpenMMLab's ``mim`` looks for ``configs``, ``tools`` and ``model-index.yml`` in ``frlr_mm/.mim``.
``build_mim`` puts them there while it builds, so that the source tree holds them once.
"""

import shutil
from pathlib import Path
from typing import ClassVar

from setuptools import Command, setup
from setuptools.command.build import build

# Relative, as setuptools wants the paths of sources to be; it runs in the project's folder.
ROOT = Path('.')
MIM_SOURCES = ('configs', 'tools', 'model-index.yml')


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


setup(cmdclass={'build': Build, 'build_mim': BuildMim})
