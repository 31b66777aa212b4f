"""Data sets that mmpretrain lacks."""

from .. import registration  # noqa: F401 (first: it mends what is imported here)
from .class_subset import ClassSubset
from .concat_reid import ConcatReID
from .deepfashion import DeepFashionAttribute
from .fashion_products import FashionProducts
from .glyphs import (
    BaseGlyphDataset,
    GlyphAttributes,
    GlyphCategories,
    GlyphDataset,
    GlyphReID,
)
from .omniglot import Omniglot, OmniglotReID
from .reid import CUHK03NP, MSMT17, DukeMTMCreID, Market1501
from .samplers import NoLoneImageBatchSampler
from .tiny_imagenet import TinyImageNet
from .transforms import CropBBox, LoadCheckedImage

__all__ = [
    'CUHK03NP',
    'MSMT17',
    'BaseGlyphDataset',
    'ClassSubset',
    'ConcatReID',
    'CropBBox',
    'DeepFashionAttribute',
    'DukeMTMCreID',
    'FashionProducts',
    'GlyphAttributes',
    'GlyphCategories',
    'GlyphDataset',
    'GlyphReID',
    'LoadCheckedImage',
    'Market1501',
    'NoLoneImageBatchSampler',
    'Omniglot',
    'OmniglotReID',
    'TinyImageNet',
]
