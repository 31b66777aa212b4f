"""mmengine hooks of the losses."""

from .focus_annealing_hook import FocusAnnealingHook
from .prior_bias_hook import PriorBiasHook

__all__ = ['FocusAnnealingHook', 'PriorBiasHook']
