"""Command lines that are part of the package; each module has a ``main``."""
