"""mmengine hooks: of the losses, for the prior and the scores, and against faults in training."""

from ... import registration  # noqa: F401 (first: it mends what is imported here)
from .dry_run_hook import DryRunHook
from .finite_loss_hook import FiniteLossHook
from .focus_annealing_hook import FocusAnnealingHook
from .logit_scores_hook import LogitScoresHook
from .negative_class_distraction_hook import NegativeClassDistractionHook
from .pos_weight_hook import PosWeightHook
from .preemption_hook import PreemptionHook
from .prior_bias_hook import PriorBiasHook
from .unreadable_images_hook import UnreadableImagesHook

__all__ = [
    'DryRunHook',
    'FiniteLossHook',
    'FocusAnnealingHook',
    'LogitScoresHook',
    'NegativeClassDistractionHook',
    'PosWeightHook',
    'PreemptionHook',
    'PriorBiasHook',
    'UnreadableImagesHook',
]
