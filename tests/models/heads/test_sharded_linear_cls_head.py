"""ShardedLinearClsHead on one process; several are in tests/engine/test_sharded_runner.py."""

import pytest
import torch
from mmengine.registry import MODELS
from mmpretrain.structures import DataSample

from frlr_mm.functional import ClassShard
from frlr_mm.models.sharded_linear import ShardedLinear, find_shards

LOSS = dict(type='HSLRLoss', ratio=0.3)


def build(kind='ShardedLinearClsHead', **changes):
    torch.manual_seed(0)
    head = MODELS.build(dict(type=kind, num_classes=20, in_channels=6, loss=LOSS) | changes)
    head.init_weights()
    return head


@pytest.fixture
def batch():
    feats = (torch.randn(4, 6, generator=torch.Generator().manual_seed(1)),)
    return feats, [DataSample().set_gt_label(i) for i in (3, 0, 19, 3)]


def test_one_process_has_the_fused_head(batch):
    sharded, fused = build(), build('FusedLinearClsHead')
    for key, value in fused.state_dict().items():
        assert sharded.state_dict()[key].shape == value.shape
    sharded.load_state_dict(fused.state_dict())
    assert sharded.state_dict()._metadata == fused.state_dict()._metadata
    for head in (sharded, fused):
        head.loss(*batch)['loss'].backward()
    for a, b in zip(sharded.parameters(), fused.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad)
    for a, b in zip(sharded.predict(batch[0]), fused.predict(batch[0]), strict=True):
        assert torch.equal(a.pred_score, b.pred_score)
    assert find_shards(sharded) == {}


def test_initial_weights_are_those_of_the_stock_head():
    head = build()
    assert head.fc.weight.shape == (20, 6) and not head.fc.bias.any()
    assert 0.005 < head.fc.weight.std() < 0.02


def as_rank(rank, world_size, num_classes=7):
    """Return a layer as the process of a rank has it, without the others."""
    layer = ShardedLinear(3, num_classes)
    shard = ClassShard(num_classes, rank, world_size)
    layer.shard = shard
    layer.weight = torch.nn.Parameter(layer.weight[layer.rows].detach())
    layer.bias = torch.nn.Parameter(layer.bias[layer.rows].detach())
    return layer


def test_each_process_loads_its_classes_of_all():
    whole = torch.nn.Linear(3, 7)
    layers = [as_rank(rank, 3) for rank in range(3)]
    for layer in layers:
        layer.load_state_dict(whole.state_dict())
        assert layer.out_features == 7
    assert torch.equal(torch.cat([layer.weight for layer in layers]), whole.weight)
    assert torch.equal(torch.cat([layer.bias for layer in layers]), whole.bias)
    # A share knows its own state, and no other.
    layers[1].load_state_dict(layers[1].state_dict())
    with pytest.raises(RuntimeError, match='size mismatch for weight: .* shape of all classes'):
        layers[0].load_state_dict(layers[1].state_dict())


def test_as_many_classes_as_a_share_has_are_not_taken_for_it():
    layer = as_rank(0, 2, num_classes=8)
    before = layer.weight.clone()
    with pytest.raises(RuntimeError, match=r'torch.Size\(\[4, 3\]\) from checkpoint'):
        layer.load_state_dict(torch.nn.Linear(3, 4).state_dict())
    assert torch.equal(layer.weight, before)


def test_layer_says_its_classes():
    assert 'out_features=7, bias=True, classes=2:4' in repr(as_rank(1, 3))


def test_launched_processes_without_a_group_are_refused(monkeypatch):
    monkeypatch.setenv('WORLD_SIZE', '4')
    with pytest.raises(ValueError, match='before ShardedLinearClsHead is built, since WORLD_SIZE'):
        build()


def test_soft_labels_are_refused(batch):
    feats, samples = batch
    for sample in samples:
        sample.set_gt_score(torch.full((20,), 0.05))
    with pytest.raises(ValueError, match='got `gt_score`'):
        build().loss(feats, samples)


@pytest.mark.parametrize(
    ('changes', 'error', 'match'),
    [
        (dict(loss=dict(type='mmpretrain.CrossEntropyLoss')), TypeError, 'an HSLRLoss or an SSL'),
        (dict(cal_acc=True), ValueError, 'Expected `cal_acc` to be False'),
        (dict(num_classes=0), ValueError, 'Expected `num_classes` to be an int'),
    ],
)
def test_wrong_arguments_are_refused(changes, error, match):
    with pytest.raises(error, match=match):
        build(**changes)
