"""Metrics that mmpretrain lacks."""

from .. import registration  # noqa: F401 (first: it mends what is imported here)
from .attribute_metric import AttributeMetric
from .calibration_metric import CalibrationMetric
from .open_set_metric import OpenSetMetric
from .reid_metric import ReIDMetric
from .topk_accuracy import TopKAccuracy

__all__ = [
    'AttributeMetric',
    'CalibrationMetric',
    'OpenSetMetric',
    'ReIDMetric',
    'TopKAccuracy',
]
