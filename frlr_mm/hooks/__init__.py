"""mmengine hooks of the losses."""

from .focus_annealing_hook import FocusAnnealingHook

__all__ = ['FocusAnnealingHook']
