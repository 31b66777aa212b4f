"""Training loops that a resumed run repeats to the bit, and that go on under another set-up."""

import copy
import logging
import random
import signal
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.optim import OptimWrapperDict
from mmengine.registry import FUNCTIONS, LOOPS
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from torch.utils.data import DataLoader

# What the message hub, and with it each checkpoint, keeps of the set-up of a run.
_BATCHES, _IMAGES = 'batches_per_epoch', 'images_per_batch'
# How many more batches of the data are gone than iterations, of a run by iterations.
_AHEAD = 'batches_ahead'


def seed_generators(*entropy: int) -> None:
    """Seed the global generators of Python, NumPy and torch from integers >= 0."""
    seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 (the generator that transforms draw from)
    torch.manual_seed(seed)


class _SeededBatches:
    """Batches, each loaded and trained on with random numbers of its own.

    Seeded before each batch, random numbers depend on the seed and the iteration alone: a run that
    starts in the middle draws what one from the beginning would. The first ``num_empty`` batches
    are not loaded.
    """

    def __init__(
        self, batches: Iterator, runner: Runner, begin: int = 0, num_empty: int = 0
    ) -> None:
        self.batches = batches
        self.runner = runner
        self.iter = begin
        self.num_empty = num_empty

    def __iter__(self) -> Iterator:
        return self

    def __next__(self) -> Any:
        seed_generators(self.runner.seed, self.iter)
        self.iter += 1
        if self.num_empty:
            self.num_empty -= 1
            return None
        return next(self.batches)

    def skip_iter(self, num_iters: int) -> None:
        """Drop batches, as onedl-mmengine asks to; mmengine reads them."""
        for _ in range(num_iters):
            next(self)


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


class _Schedules(Hook):
    """The parameter schedules as the config builds them, before a checkpoint is resumed."""

    def before_run(self, runner: Runner) -> None:
        self.states = [copy.deepcopy(each.state_dict()) for each in self._find(runner)]
        self.groups = [
            {key: value for key, value in group.items() if key != 'params'}
            for group in self._groups(runner)
        ]

    def replay(self, runner: Runner, epochs: int, length: int, rest: int) -> None:
        """Bring the schedules to where ``epochs`` of ``length`` iterations, and a rest, end."""
        # One that follows a metric has its own history.
        pairs = [
            (schedule, state)
            for schedule, state in zip(self._find(runner), self.states, strict=True)
            if not getattr(schedule, 'need_val_args', False)
        ]
        if not pairs:
            return
        for group, values in zip(self._groups(runner), self.groups, strict=True):
            group.update(copy.deepcopy(values))
        for schedule, state in pairs:
            schedule.load_state_dict(copy.deepcopy(state))
        with warnings.catch_warnings():
            # Of a step of the schedule before one of the optimizer.
            warnings.filterwarnings('ignore', message='.*scheduler.step.*')
            for epoch in range(epochs + 1):
                for _ in range(length if epoch < epochs else rest):
                    for schedule, _state in pairs:
                        if not schedule.by_epoch:
                            schedule.step()
                for schedule, _state in pairs if epoch < epochs else ():
                    if schedule.by_epoch:
                        schedule.step()

    @staticmethod
    def _find(runner: Runner) -> list:
        schedules: Any = runner.param_schedulers or []
        if isinstance(schedules, dict):
            return [each for mine in schedules.values() for each in mine]
        return list(schedules)

    @staticmethod
    def _groups(runner: Runner) -> list[dict]:
        wrapper: Any = runner.optim_wrapper
        wrappers = wrapper.values() if isinstance(wrapper, OptimWrapperDict) else [wrapper]
        return [group for each in wrappers for group in each.optimizer.param_groups]


def _images_per_batch(dataloader: DataLoader) -> int:
    # A loader with a batch sampler does not know the size itself, the list that vis_scheduler puts
    # in a loader's place knows neither.
    batch_sampler: Any = getattr(dataloader, 'batch_sampler', None)
    size = getattr(dataloader, 'batch_size', None) or getattr(batch_sampler, 'batch_size', None)
    size = size or 1
    return size * get_world_size()


@LOOPS.register_module()
class SeededEpochTrainLoop(EpochBasedTrainLoop):
    """EpochBasedTrainLoop that goes on exactly, also from the middle of an epoch.

    mmengine repeats an epoch whose checkpoint was written in its middle and counts its iterations
    twice. This loop reads the batches that were trained on and drops them. Random numbers of the
    model, and of data loaded in this process, depend on the seed and the iteration; those of
    workers on the seed, the epoch and the worker, except with ``persistent_workers``, which draw
    on from where they were.

    A run may be resumed with another batch size, number of processes or number of images. It goes
    on in the epoch of the checkpoint, after the same share of its images, and the schedules of the
    config, its (scaled) learning rate among them, are where they would be at that point.
    """

    def __init__(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        super().__init__(runner, *args, **kwargs)
        self._schedules = _Schedules()
        runner.register_hook(self._schedules)

    def run(self) -> torch.nn.Module:
        """Train."""
        hub, length = self.runner.message_hub, len(self.dataloader)
        if self._iter:
            before = self._length_before()
            if before != length:
                self._go_on(before, length)
        hub.update_info(_BATCHES, length)
        hub.update_info(_IMAGES, _images_per_batch(self.dataloader))
        return super().run()

    def _length_before(self) -> int:
        """Return how many batches an epoch of the checkpoint had."""
        hub = self.runner.message_hub
        if _BATCHES in hub.runtime_info:
            return hub.get_info(_BATCHES)
        # Of a checkpoint of mmengine's loop, which is written where an epoch ends.
        return self._iter // self._epoch if self._epoch else len(self.dataloader)

    def _go_on(self, before: int, length: int) -> None:
        done = min(max(self._iter - self._epoch * before, 0), before) / before
        rest = round(done * length)
        self._iter: int = self._epoch * length + rest
        self._schedules.replay(self.runner, self._epoch, length, rest)
        self.runner.optim_wrapper.initialize_count_status(
            self.runner.model, self._iter, self._max_iters
        )
        print_log(
            f'The checkpoint is of epochs of {before} iterations, now they have {length}: '
            f'training goes on in epoch {self._epoch + 1}, after {done:.0%} of its images, with '
            'the learning rate of the config at that point',
            'current',
            logging.WARNING,
        )

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
    """IterBasedTrainLoop whose random numbers depend on the seed and the iteration alone.

    A run that is resumed with another batch size or number of processes goes on after as many
    images as the checkpoint has seen. Schedules count iterations, which go on as they are.
    """

    def __init__(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        seed_generators(runner.seed)  # the workers start here
        super().__init__(runner, *args, **kwargs)

    def run(self) -> Any:
        """Train."""
        hub, images = self.runner.message_hub, _images_per_batch(self.dataloader)
        before = hub.get_info(_IMAGES) if _IMAGES in hub.runtime_info else images
        batches: Any = self.dataloader_iterator  # type: ignore[has-type]
        # A checkpoint of a version that did not keep it has none.
        ahead = hub.get_info(_AHEAD) if self._iter and _AHEAD in hub.runtime_info else 0
        if self._iter and before != images:
            seen = round((self._iter + ahead) * before / images)
            ahead = seen - self._iter
            print_log(
                f'The checkpoint is of {before} images per iteration, now it is {images}: '
                f'iteration {self._iter + 1} goes on after {seen} batches of the data',
                'current',
                logging.WARNING,
            )
        num_empty = 0
        if ahead:
            for i in range(self._iter + ahead):
                # As each was when it was trained on: data that begin anew draw seeds of workers.
                seed_generators(self.runner.seed, max(i - ahead, 0))
                next(batches)
            num_empty = self._iter  # mmengine skips as many batches as iterations
        hub.update_info(_IMAGES, images)
        hub.update_info(_AHEAD, ahead)
        self.dataloader_iterator = _SeededBatches(batches, self.runner, num_empty=num_empty)
        return super().run()
