"""mmengine hooks of the losses."""

from .focus_annealing_hook import FocusAnnealingHook
from .negative_class_distraction_hook import NegativeClassDistractionHook
from .prior_bias_hook import PriorBiasHook

__all__ = ['FocusAnnealingHook', 'NegativeClassDistractionHook', 'PriorBiasHook']
