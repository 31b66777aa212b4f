"""Focus rectified logistic regression for mmpretrain.

Importing the package registers its losses, data sets and hooks with mmengine:
``custom_imports = dict(imports=['frlr_mm'])`` in a config is all that it takes.
"""

from . import compat

compat.apply()

from . import datasets, evaluation, models  # noqa: E402 (mmpretrain imports only once it is mended)
from .engine import hooks, loops  # noqa: E402

__version__ = '0.1.0'

__all__ = ['__version__', 'compat', 'datasets', 'evaluation', 'hooks', 'loops', 'models']
