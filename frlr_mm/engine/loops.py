"""Training loops that a resumed run repeats to the bit."""

import random
import signal
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.registry import FUNCTIONS, LOOPS
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner


def seed_generators(*entropy: int) -> None:
    """Seed the global generators of Python, NumPy and torch from integers >= 0."""
    seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 (the generator that transforms draw from)
    torch.manual_seed(seed)


class _SeededBatches:
    """Batches, each loaded and trained on with random numbers of its own.

    Seeded before each batch, random numbers depend on the seed and the iteration alone: a run that
    starts in the middle draws what one from the beginning would.
    """

    def __init__(self, batches: Iterator, runner: Runner, begin: int = 0) -> None:
        self.batches = batches
        self.runner = runner
        self.iter = begin

    def __iter__(self) -> Iterator:
        return self

    def __next__(self) -> Any:
        seed_generators(self.runner.seed, self.iter)
        self.iter += 1
        return next(self.batches)


@FUNCTIONS.register_module()
def init_worker(worker_id: int) -> None:
    """Seed a worker of a data loader and let it outlive signals.

    Its seed depends on that of the process and on the rank. A launcher or a terminal sends SIGTERM
    and SIGINT to workers too; the process they load for decides when they end.

    Args:
        worker_id (int): The number of the worker.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    # The sum of the worker's number and of what the process drew as it started the workers.
    seed_generators(torch.initial_seed(), get_rank())


@LOOPS.register_module()
class SeededEpochTrainLoop(EpochBasedTrainLoop):
    """EpochBasedTrainLoop that goes on exactly, also from the middle of an epoch.

    mmengine repeats an epoch whose checkpoint was written in its middle and counts its iterations
    twice. This loop reads the batches that were trained on and drops them. Random numbers of the
    model, and of data loaded in this process, depend on the seed and the iteration; those of
    workers on the seed, the epoch and the worker, except with ``persistent_workers``, which draw
    on from where they were.
    """

    def run_epoch(self) -> None:
        """Train on what is left of the epoch."""
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        begin = self._epoch * len(self.dataloader)
        if self._iter < begin + len(self.dataloader):
            for idx, data_batch in enumerate(self._batches(begin)):
                if begin + idx >= self._iter:
                    self.run_iter(idx, data_batch)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1

    def _batches(self, begin: int) -> Iterable:
        # Starting the workers draws the base of their seeds.
        seed_generators(self.runner.seed, begin)
        return _SeededBatches(iter(self.dataloader), self.runner, begin)


@LOOPS.register_module()
class SeededIterTrainLoop(IterBasedTrainLoop):
    """IterBasedTrainLoop whose random numbers depend on the seed and the iteration alone."""

    def __init__(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        seed_generators(runner.seed)  # the workers start here
        super().__init__(runner, *args, **kwargs)

    def run(self) -> Any:
        """Train."""
        batches: Any = self.dataloader_iterator  # type: ignore[has-type]
        self.dataloader_iterator = _SeededBatches(batches, self.runner)
        return super().run()
