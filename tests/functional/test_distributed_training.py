"""Ten steps on two and four processes: the weights of one process on the joined batches."""

import functools

import pytest
import torch
from mmengine.dataset import DefaultSampler
from mmengine.optim import OptimWrapper
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from tests.support.cases import LOSSES, make_label, make_logits
from tests.support.processes import run_ranks

CHANNELS, CLASSES, BATCH_SIZE, NUM_STEPS = 5, 6, 2, 10
KINDS = ('index', 'one_hot_float', 'multi_label', 'unknown')
# 'stock': the sampler of mmengine, whose last batch is a smaller one, the same on every rank.
# 'accumulate': the same with an update every third step, the last one after a single step.
# 'uneven': the last batch is larger on the first rank.
MODES = ('stock', 'accumulate', 'uneven')
SCENARIOS = [(name, kind, mode) for name in LOSSES for kind in KINDS for mode in MODES]


def make_data(kind, world_size):
    """Return images and labels; the number of images does not divide by that of the ranks."""
    num_images = 9 * world_size - 1
    label = make_label(kind, num_images, CLASSES)
    return make_logits(num_images, CHANNELS, seed=3).float(), label


def make_model():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(CHANNELS, 8), torch.nn.Tanh(), torch.nn.Linear(8, CLASSES)
    )


def batches_of_rank(num_images, rank, mode):
    """Return the indices of each step's images."""
    loader = DataLoader(
        range(num_images), BATCH_SIZE, sampler=DefaultSampler(range(num_images), seed=0)
    )
    batches = []
    for epoch in range(NUM_STEPS):
        loader.sampler.set_epoch(epoch)
        batches += list(loader)
        if mode == 'uneven' and rank == 0:
            batches[-1] = torch.cat([batches[-1], torch.tensor([0, 1])])
    return batches[:NUM_STEPS]


def train(model, losses, mode):
    """Train by one loss a step; return the first gradient and the final weights."""
    wrapper = OptimWrapper(
        torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9),
        accumulative_counts=3 if mode == 'accumulate' else 1,
    )
    wrapper.initialize_count_status(model, 0, NUM_STEPS)
    first_gradient = None
    for loss in losses:
        with wrapper.optim_context(model):
            value = wrapper.scale_loss(loss(model))
        wrapper.backward(value)
        if wrapper.should_update():
            if first_gradient is None:
                first_gradient = [p.grad.clone() for p in model.parameters()]
            wrapper.step()
            wrapper.zero_grad()
    return first_gradient, [p.detach() for p in model.parameters()]


def call(model, images, label, name):
    """Call the loss as a stock head does."""
    loss, _, kwargs = LOSSES[name]
    return loss(model(images), label, **kwargs, avg_factor=len(images))


def run_rank(rank, world_size):
    """Return the batches, the first gradient and the final weights of each scenario."""
    results = {}
    for name, kind, mode in SCENARIOS:
        images, label = make_data(kind, world_size)
        batches = batches_of_rank(len(images), rank, mode)
        losses = [
            functools.partial(call, images=images[batch], label=label[batch], name=name)
            for batch in batches
        ]
        model = DistributedDataParallel(make_model())
        results[name, kind, mode] = (batches, *train(model, losses, mode))
    return results


@pytest.fixture(scope='module', params=[2, 4])
def results(request, tmp_path_factory):
    """Return the results of each rank."""
    return run_ranks(run_rank, request.param, tmp_path_factory.mktemp('distributed'))


def mean_of_means(model, images, label, name, batches):
    """What DistributedDataParallel makes of a mean over the images of each rank."""
    losses = [call(model, images[batch], label[batch], name) for batch in batches]
    return sum(losses) / len(losses)


@pytest.mark.parametrize('scenario', SCENARIOS, ids=str)
def test_equals_one_process_on_the_joined_batches(results, scenario):
    name, kind, mode = scenario
    images, label = make_data(kind, len(results))
    steps = list(zip(*(rank_results[scenario][0] for rank_results in results)))
    sizes = [{len(batch) for batch in step} for step in steps]
    assert sizes == [{2}, {2}, {2}, {2}, {1, 3} if mode == 'uneven' else {1}] * 2

    joined = [
        functools.partial(
            call, images=images[torch.cat(step)], label=label[torch.cat(step)], name=name
        )
        for step in steps
    ]
    expected = train(make_model(), joined, mode)
    if kind == 'index' and mode == 'uneven':
        # Documented: class indices take no part in any exchange, as with the stock losses.
        averaged = [
            functools.partial(mean_of_means, images=images, label=label, name=name, batches=step)
            for step in steps
        ]
        one_process, expected = expected, train(make_model(), averaged, mode)
        assert max((a - b).abs().max() for a, b in zip(one_process[1], expected[1])) > 1e-3
    for rank_results in results:
        for actual, right in zip(rank_results[scenario][1:], expected):
            for a, b in zip(actual, right):
                torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
