"""Dense labels on two processes: the gradient of one process on the joined batch."""

import pytest
import torch
from torch.nn.parallel import DistributedDataParallel

from tests.support.cases import LOSSES, make_label, make_logits
from tests.support.processes import run_ranks

KINDS = ('multi_label', 'unknown', 'soft')
# Images of each rank: alike, unlike, and none at all on one.
SPLITS = ((4, 4), (5, 2), (3, 0))
ALPHAS = ('sum', 2.0)
SCENARIOS = [
    (name, kind, split, alpha)
    for name in LOSSES
    for kind in KINDS
    for split in SPLITS
    for alpha in ALPHAS
]


def make_batch(kind, split):
    """Return images and labels whose positives lie unevenly on the ranks."""
    num_images = sum(split)
    label = make_label(kind, num_images, 6).float()
    if kind != 'soft':
        label[: split[0], 1:] = label[: split[0], 1:].clamp(max=0)
    return make_logits(num_images, 5, seed=3).float(), label


def make_model():
    torch.manual_seed(0)
    return torch.nn.Linear(5, 6)


def backward(model, images, label, name, alpha):
    """Call the loss as a stock head does, and backward."""
    loss, _, kwargs = LOSSES[name]
    value = loss(model(images), label, **(kwargs | dict(alpha=alpha)), avg_factor=len(images))
    value.backward()
    return value.detach()


def run_rank(rank, world_size):
    """Return what this rank got in each scenario."""
    results = {}
    for scenario in SCENARIOS:
        name, kind, split, alpha = scenario
        images, label = make_batch(kind, split)
        own = slice(0, split[0]) if rank == 0 else slice(split[0], None)
        model = DistributedDataParallel(make_model())
        value = backward(model, images[own], label[own], name, alpha)
        results[scenario] = (value, model.module.weight.grad, model.module.bias.grad)

    images, label = make_batch('multi_label', (4, 4))
    if rank == 0:  # alone: a collective would wait for the other rank until the timeout
        for name, (loss, _, kwargs) in LOSSES.items():
            with torch.no_grad():
                results[name, 'no_grad'] = loss(make_model()(images), label, **kwargs)
            results[name, 'detached'] = loss(make_model()(images).detach(), label, **kwargs)
    return results


@pytest.fixture(scope='module')
def results(tmp_path_factory):
    """Return the results of each rank; all scenarios run in one pair of processes."""
    return run_ranks(run_rank, 2, tmp_path_factory.mktemp('distributed'))


@pytest.mark.parametrize('scenario', SCENARIOS, ids=str)
def test_equals_one_process_on_the_joined_batch(results, scenario):
    name, kind, split, alpha = scenario
    model = make_model()
    images, label = make_batch(kind, split)
    joined = backward(model, images, label, name, alpha)
    for rank_results in results:
        _, weight_grad, bias_grad = rank_results[scenario]
        torch.testing.assert_close(weight_grad, model.weight.grad)
        torch.testing.assert_close(bias_grad, model.bias.grad)
    # The logged loss is the mean over ranks.
    values = torch.stack([rank_results[scenario][0] for rank_results in results])
    torch.testing.assert_close(values.mean(), joined)


@pytest.mark.parametrize('kind', ['multi_label', 'unknown'])
@pytest.mark.parametrize('name', LOSSES)
def test_mean_of_local_losses_would_be_another_gradient(name, kind):
    """The scenarios can tell the ratio of the joined batch from a mean of ratios."""
    images, label = make_batch(kind, (4, 4))
    joined, local = make_model(), make_model()
    backward(joined, images, label, name, 2.0)
    for own in (slice(0, 4), slice(4, None)):
        backward(local, images[own], label[own], name, 2.0)
    difference = local.weight.grad / 2 - joined.weight.grad
    assert difference.abs().max() > 0.05 * joined.weight.grad.abs().max()


@pytest.mark.parametrize('mode', ['no_grad', 'detached'])
@pytest.mark.parametrize('name', LOSSES)
def test_one_rank_evaluates_alone(results, name, mode):
    loss, _, kwargs = LOSSES[name]
    images, label = make_batch('multi_label', (4, 4))
    torch.testing.assert_close(
        results[0][name, mode], loss(make_model()(images).detach(), label, **kwargs)
    )
