"""Checkpoints that try to run code."""

import os
from pathlib import Path


class Evil:
    """A pickle that leaves a folder where it is loaded."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def code_that_creates(path: Path) -> str:
    """Return the text of a config that leaves a folder where it is run."""
    return f"__import__('os').mkdir({str(path)!r})\ngpu_ids = [0]\n"
