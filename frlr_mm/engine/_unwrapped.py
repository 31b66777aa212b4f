"""The model of a runner, out of its wrapper."""

from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn


def unwrapped(runner: Runner) -> nn.Module:
    """Return the model that a runner trains, which DistributedDataParallel may wrap."""
    return runner.model.module if is_model_wrapper(runner.model) else runner.model
