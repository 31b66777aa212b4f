"""Data sets that mmpretrain lacks."""

from .glyphs import GlyphDataset

__all__ = ['GlyphDataset']
