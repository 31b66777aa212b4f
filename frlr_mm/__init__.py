"""Focus rectified logistic regression for mmpretrain.

Importing the package registers its losses, heads, data sets, hooks and metrics with mmengine,
where mmpretrain is installed: ``custom_imports = dict(imports=['frlr_mm'])`` in a config is all
that it takes. Importing ``frlr_mm.functional`` by itself registers nothing, loads torch and NumPy
alone, and patches nothing; ``import frlr_mm.registration`` makes up for it later in the process.
"""

import importlib.util
import sys

__version__ = '0.1.0'

__all__ = ['__version__']

# What serves any code on torch.
_STANDS_ALONE = ('functional', 'reporting', '_checks')


def _is_imported_for(names: tuple[str, ...]) -> bool:
    """Tell whether an import of one of the modules in ``names`` is what imports this package.

    Python imports a package before its modules and does not say for which: only the frames of the
    import itself know.
    """
    frame = sys._getframe(2)
    while frame.f_code.co_filename.startswith('<frozen importlib'):
        package, _, module = str(frame.f_locals.get('name')).partition('.')
        if package == __name__ and module.partition('.')[0] in names:
            return True
        if frame.f_back is None:
            break
        frame = frame.f_back
    return False


if importlib.util.find_spec('mmpretrain') is not None and not _is_imported_for(_STANDS_ALONE):
    from . import registration  # noqa: F401
