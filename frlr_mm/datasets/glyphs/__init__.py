"""The built-in data: the characters of the DejaVu fonts that matplotlib carries."""

from .dataset import GlyphDataset

__all__ = ['GlyphDataset']
