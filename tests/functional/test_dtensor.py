"""Logits that are DTensors: right where replicated or sharded over images, refused else."""

import pytest
import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

from tests.support.cases import LOSSES, loss_and_grad, make_label, make_logits
from tests.support.processes import run_ranks

KINDS = ('index', 'soft', 'unknown')


def on_two_ranks(rank, world_size):
    mesh = init_device_mesh('cpu', (world_size,))
    results = {}
    for name, (loss, _, kwargs) in LOSSES.items():
        for kind in KINDS:
            x, label = make_logits(5, 30), make_label(kind, 5, 30)  # three rows and two
            for placement in (Replicate(), Shard(0)):
                for spread in (True, False):
                    score = distribute_tensor(x.clone(), mesh, [placement]).requires_grad_()
                    before = score.to_local().clone()
                    target = distribute_tensor(label, mesh, [placement]) if spread else label
                    value = loss(score, target, **kwargs)
                    assert isinstance(value, DTensor)
                    value.backward()
                    assert torch.equal(score.to_local(), before)
                    key = name, kind, str(placement), spread
                    results[key] = value.full_tensor().detach(), score.grad.full_tensor()
        score = distribute_tensor(x.clone(), mesh, [Shard(1)])
        try:
            loss(score, label, **kwargs)
        except ValueError as error:
            results[name] = str(error)
    return results


@pytest.fixture(scope='module')
def results(tmp_path_factory):
    return run_ranks(on_two_ranks, 2, tmp_path_factory.mktemp('ranks'))


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('name', LOSSES)
def test_equals_plain_tensors(results, name, kind):
    loss, _, kwargs = LOSSES[name]
    expected = loss_and_grad(loss, make_logits(5, 30), make_label(kind, 5, 30), **kwargs)
    for rank in results:
        for (other, its_kind, *key), actual in (
            (k, v) for k, v in rank.items() if isinstance(k, tuple)
        ):
            if (other, its_kind) == (name, kind):
                for a, e in zip(actual, expected):
                    torch.testing.assert_close(a, e, msg=str(key))


@pytest.mark.parametrize('name', LOSSES)
def test_shards_of_classes_are_refused(results, name):
    for rank in results:
        assert 'to be replicated or sharded over images, but got placements' in rank[name]
