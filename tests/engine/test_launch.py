"""What is refused before a run on several processes starts."""

from types import SimpleNamespace

import pytest
from mmpretrain.registry import MODELS
from torch import nn

from frlr_mm.engine import launch


def make_runner(world_size, head):
    task_heads = dict(
        tags=head | dict(num_classes=3), kind=dict(type='LinearClsHead', num_classes=4)
    )
    model = MODELS.build(dict(type='MultiTaskHead', task_heads=task_heads, in_channels=8))
    return SimpleNamespace(world_size=world_size, model=nn.ModuleList([model]))


DENSE = dict(type='MultiLabelLinearClsHead', loss=dict(type='HSLRLoss'))


def test_tasks_that_a_rank_may_lack():
    with pytest.raises(ValueError, match="multi-label task 'tags' with HSLRLoss.*but got 2"):
        launch._refuse_tasks_without_labels(make_runner(2, DENSE))


@pytest.mark.parametrize(
    ('world_size', 'head'),
    [
        (1, DENSE),
        (2, dict(type='LinearClsHead', loss=dict(type='HSLRLoss'))),
        (
            2,
            dict(
                type='MultiLabelLinearClsHead',
                loss=dict(type='CrossEntropyLoss', use_sigmoid=True),
            ),
        ),
    ],
    ids=['one process', 'class indices', 'stock loss'],
)
def test_what_trains_rightly_is_let_through(world_size, head):
    launch._refuse_tasks_without_labels(make_runner(world_size, head))
