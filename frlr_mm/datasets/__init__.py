"""Data sets that mmpretrain lacks."""

from .deepfashion import DeepFashionAttribute
from .glyphs import GlyphDataset
from .tiny_imagenet import TinyImageNet
from .transforms import CropBBox

__all__ = ['CropBBox', 'DeepFashionAttribute', 'GlyphDataset', 'TinyImageNet']
