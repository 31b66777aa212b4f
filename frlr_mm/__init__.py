"""Focus rectified logistic regression for mmpretrain.

Importing the package registers its losses, heads, data sets, hooks and metrics with mmengine,
where mmpretrain is installed: ``custom_imports = dict(imports=['frlr_mm'])`` in a config is all
that it takes. ``import frlr_mm.functional`` loads torch and NumPy alone, and patches nothing: in a
process that imports mmpretrain, before or after, the plugin registers; in others it does not.
"""

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType

__version__ = '0.1.0'

__all__ = ['__version__']

# What serves any code on torch or Keras, and the console command: its commands register.
_STANDS_ALONE = ('functional', 'keras', 'reporting', '_checks', 'cli')


def _is_imported_for(names: tuple[str, ...]) -> bool:
    """Tell whether an import of one of the modules in ``names`` is what imports this package.

    Python imports a package before its modules and does not say for which: only the frames of the
    import itself know. ``python -m`` imports it for its command line.
    """
    frame = sys._getframe(2)
    while frame.f_code.co_filename.startswith('<frozen importlib'):
        package, _, module = str(frame.f_locals.get('name')).partition('.')
        if package == __name__ and module.partition('.')[0] in names:
            return True
        if frame.f_back is None:
            break
        frame = frame.f_back
    started = str(frame.f_locals.get('mod_name')).partition('.')[0]
    return frame.f_globals.get('__name__') == 'runpy' and started == __name__


class _RegisterWithMMPretrain(importlib.abc.MetaPathFinder):
    """Registers the plugin once mmpretrain is imported; up to then it does nothing."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != 'mmpretrain':
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_register(module: ModuleType) -> None:
                execute(module)
                importlib.import_module('frlr_mm.registration')

            spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec


if importlib.util.find_spec('mmpretrain') is not None:
    if 'mmpretrain' in sys.modules or not _is_imported_for(_STANDS_ALONE):
        from . import registration  # noqa: F401
    else:
        sys.meta_path.insert(0, _RegisterWithMMPretrain())
