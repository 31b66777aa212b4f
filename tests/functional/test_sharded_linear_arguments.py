"""A classifier on one process, and what is refused."""

import pytest
import torch

from frlr_mm.functional import (
    ClassShard,
    fused_linear_hs_lr_loss,
    fused_linear_ss_lr_loss,
    sharded_linear_hs_lr_loss,
    sharded_linear_ss_lr_loss,
    sharded_linear_topk,
)
from tests.support.sharded_cases import CHANNELS, Case, make


def test_one_process_is_the_fused_loss():
    x, w, b, label, _ = make(Case(7), 2)
    shard = ClassShard.of_this_process(7)
    assert (shard.start, shard.stop, shard.world_size) == (0, 7, 1)
    for sharded, fused in (
        (sharded_linear_ss_lr_loss, fused_linear_ss_lr_loss),
        (sharded_linear_hs_lr_loss, fused_linear_hs_lr_loss),
    ):
        for options in (dict(), dict(reduction='sum'), dict(avg_factor=3)):
            actual = sharded(x, w, b, label, shard, **options)
            assert torch.equal(actual, fused(x, w, b, label, **options))
    score, index = sharded_linear_topk(x, w, b, shard, k=2)
    expected = (x @ w.t() + b).softmax(1).topk(2)
    torch.testing.assert_close(score, expected.values)
    assert torch.equal(index, expected.indices)


@pytest.mark.parametrize('num_classes', [4, 7, 10007])
@pytest.mark.parametrize('world_size', [1, 2, 3, 4])
def test_shards_cover_the_classes_in_order(num_classes, world_size):
    shards = [ClassShard(num_classes, rank, world_size) for rank in range(world_size)]
    assert [i for s in shards for i in range(s.start, s.stop)] == list(range(num_classes))
    assert max(s.size for s in shards) - min(s.size for s in shards) <= 1
    assert max(s.size for s in shards) == shards[0].max_size


@pytest.mark.parametrize(
    ('change', 'error', 'match'),
    [
        (dict(shard=7), TypeError, 'Expected `shard` to be a ClassShard, but got 7'),
        (
            dict(weight=torch.zeros(6, CHANNELS)),
            ValueError,
            r'Expected `weight` to have shape \(7, 6\), the classes of rank 0 of 1, but got',
        ),
        (dict(bias=torch.zeros(6)), ValueError, r'Expected `bias` to have shape \(7,\)'),
        (
            dict(features=torch.zeros(CHANNELS)),
            ValueError,
            r'Expected `features` and `weight` to have shapes .*, but got \(6,\) and \(7, 6\)',
        ),
        (
            dict(features=torch.zeros(4, CHANNELS, dtype=torch.int64)),
            TypeError,
            'Expected `features` to have a floating-point dtype',
        ),
        (
            dict(label=torch.zeros(4, 7)),
            ValueError,
            'Expected `label` to hold class indices .*: a sharded classifier does not take dense',
        ),
        (dict(label=torch.full((4,), 7)), ValueError, r'class indices in \[0, 7\), but got 7'),
        (dict(sample_weight=torch.ones(3)), ValueError, 'Expected `sample_weight` to have shape'),
        (dict(class_weight=torch.ones(6)), ValueError, r'`class_weight` to have shape \(7,\)'),
        (dict(gamma=-1.0), ValueError, 'Expected `gamma` to be in'),
        (dict(chunk_budget=0), ValueError, 'Expected `chunk_budget` to be in'),
        (dict(reduction='max'), ValueError, 'Expected `reduction` to be one of'),
    ],
)
def test_wrong_arguments_are_refused(change, error, match):
    x, w, b, label, _ = make(Case(7, dtype='float32'), 2)
    arguments = dict(features=x, weight=w, bias=b, label=label, shard=ClassShard(7))
    with pytest.raises(error, match=match):
        sharded_linear_ss_lr_loss(**arguments | change)


@pytest.mark.parametrize(
    ('arguments', 'match'),
    [
        (dict(num_classes=0), 'Expected `num_classes` to be an int'),
        (dict(num_classes=3, rank=2, world_size=2), r'Expected `rank` to be an int in \[0, 1\]'),
        (dict(num_classes=3, world_size=0), 'Expected `world_size` to be an int'),
        (dict(num_classes=3, world_size=4), 'Expected `num_classes` to be at least 4'),
    ],
)
def test_wrong_shards_are_refused(arguments, match):
    with pytest.raises(ValueError, match=match):
        ClassShard(**arguments)


@pytest.mark.parametrize('k', [0, 8])
def test_topk_out_of_range_is_refused(k):
    x, w, b, _, _ = make(Case(7), 2)
    with pytest.raises(ValueError, match=r'Expected `k` to be an int in \[1, 7\]'):
        sharded_linear_topk(x, w, b, ClassShard(7), k)


def test_hs_ratio_is_checked():
    x, w, b, label, _ = make(Case(7), 2)
    with pytest.raises(ValueError, match=r'Expected `ratio` to be in \(0, 1\], but got 1.5'):
        sharded_linear_hs_lr_loss(x, w, b, label, ClassShard(7), ratio=1.5)
