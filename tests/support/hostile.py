"""Checkpoints that try to run code."""

import os
from contextlib import contextmanager
from pathlib import Path

import torch

from frlr_mm.engine import safe_load


class Evil:
    """A pickle that leaves a folder where it is loaded."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def code_that_creates(path: Path) -> str:
    """Return the text of a config that leaves a folder where it is run."""
    return f"__import__('os').mkdir({str(path)!r})\ngpu_ids = [0]\n"


@contextmanager
def allowed(*types):
    """Allow checkpoints to hold these types, by what the error advises to."""
    before = dict(safe_load.CHECKPOINT_TYPES)
    if safe_load.TORCH_RESTRICTS:
        names = torch.serialization.get_safe_globals()
        torch.serialization.add_safe_globals(list(types))
        try:
            yield
        finally:  # of what others have added meanwhile, too
            torch.serialization.clear_safe_globals()
            torch.serialization.add_safe_globals(names)
        return
    safe_load.CHECKPOINT_TYPES.update({f'{t.__module__}.{t.__qualname__}': t for t in types})
    try:
        yield
    finally:
        safe_load.CHECKPOINT_TYPES.clear()
        safe_load.CHECKPOINT_TYPES.update(before)
