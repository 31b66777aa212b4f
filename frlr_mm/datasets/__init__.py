"""Data sets that mmpretrain lacks."""

from .deepfashion import DeepFashionAttribute
from .glyphs import GlyphDataset
from .transforms import CropBBox

__all__ = ['CropBBox', 'DeepFashionAttribute', 'GlyphDataset']
