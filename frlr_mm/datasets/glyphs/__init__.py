"""Characters in several faces: the built-in data, or that of any fonts."""

from .base import BaseGlyphDataset
from .dataset import GlyphAttributes, GlyphCategories, GlyphDataset, GlyphReID

__all__ = [
    'BaseGlyphDataset',
    'GlyphAttributes',
    'GlyphCategories',
    'GlyphDataset',
    'GlyphReID',
]
