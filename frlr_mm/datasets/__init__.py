"""Data sets that mmpretrain lacks."""

from .glyphs import GlyphDataset
from .reid import CUHK03NP, MSMT17, DukeMTMCreID, Market1501

__all__ = ['CUHK03NP', 'DukeMTMCreID', 'GlyphDataset', 'MSMT17', 'Market1501']
