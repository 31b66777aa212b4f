"""Metrics that mmpretrain lacks."""

from .reid_metric import ReIDMetric

__all__ = ['ReIDMetric']
