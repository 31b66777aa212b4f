"""Data sets that mmpretrain lacks."""

from .glyphs import GlyphDataset
from .reid import CUHK03NP, MSMT17, DukeMTMCreID, Market1501

__all__ = ['CUHK03NP', 'MSMT17', 'DukeMTMCreID', 'GlyphDataset', 'Market1501']
