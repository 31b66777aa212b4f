"""Metrics that mmpretrain lacks."""

from .attribute_metric import AttributeMetric

__all__ = ['AttributeMetric']
