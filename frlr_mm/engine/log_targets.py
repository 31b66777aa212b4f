"""Where the log of a run goes besides its files: TensorBoard, Weights & Biases."""

import importlib.util
from collections.abc import Sequence

from mmengine.config import Config

# The backend of mmengine's visualizer, by the name of the package and of the extra.
LOG_TARGETS = {'tensorboard': 'TensorboardVisBackend', 'wandb': 'WandbVisBackend'}


def add_log_targets(cfg: Config, names: Sequence[str]) -> None:
    """Let a run log to further targets.

    Args:
        cfg (Config): The config of a run; its ``visualizer`` gets the backends that it lacks.
        names (Sequence[str]): Of 'tensorboard' and 'wandb'.

    Raises:
        ModuleNotFoundError: If the package of a target is not installed.
    """
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise ModuleNotFoundError(
                f"--log-to {name}: {name} is not installed: pip install 'frlr_mm[{name}]'"
            )
        visualizer = cfg.get('visualizer') or dict(type='UniversalVisualizer')
        backends = list(visualizer.get('vis_backends') or [])
        if not any(backend['type'] == LOG_TARGETS[name] for backend in backends):
            backends.append(dict(type=LOG_TARGETS[name]))
        cfg.visualizer = dict(visualizer) | dict(vis_backends=backends)
