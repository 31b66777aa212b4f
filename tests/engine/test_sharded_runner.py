"""Runs of one, two and four processes, each going on from the checkpoints of another number."""

import contextlib
import os
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from mmengine.hooks import Hook
from mmengine.optim import AmpOptimWrapper
from mmengine.registry import RUNNERS
from mmpretrain.models import LinearClsHead
from torch import nn
from torch.distributed.fsdp.sharded_grad_scaler import ShardedGradScaler

from frlr_mm.engine.safe_load import load
from frlr_mm.engine.sharded_runner import ShardedRunner, _ShardsHook, clip_grad_norm
from frlr_mm.models import ShardedLinearClsHead
from tests.support.processes import TIMEOUT, run_ranks
from tests.support.recipes import load as load_recipe
from tests.support.sharded_runs import (
    CHANNELS,
    NUM_CLASSES,
    NUM_IMAGES,
    WRAPPER,
    build,
    train,
)
from tests.support.small_recipes import shrink

STOCK = {
    'model.head.type': 'LinearClsHead',
    'runner_type': 'Runner',
    'val_evaluator': dict(type='Accuracy', topk=(1, 3)),
}
ACCUMULATE = {'optim_wrapper.accumulative_counts': 3}


def run_one():
    """Run one process, before the others."""
    rest = dict(resume=True, load_from='one/epoch_1.pth')
    return {
        'first': train('one', 1, **{'train_cfg.max_epochs': 1}),
        'rest': train('one', 1, **rest),
        'stock': train('stock', 1, **rest, **STOCK),
        'accumulate': train('one-accumulate', 1, **ACCUMULATE, load_from='one/epoch_1.pth'),
    }


def run_one_again():
    """Go on from the checkpoints of four processes, with the stock head and runner, too."""
    rest = dict(resume=True, load_from='four/epoch_2.pth')
    return {
        'rest': train('four-one', 1, **rest),
        'stock': train('four-stock', 1, **rest, **STOCK),
    }


def run_several(name, world_size):
    """Go on from the checkpoints of one process, predict, and start afresh."""
    start = 'one/epoch_1.pth'
    results = {'rest': train(name, world_size, resume=True, load_from=start)}
    runner = build(f'{name}-test', world_size, load_from=f'{name}/epoch_3.pth', custom_hooks=[])
    results['test'] = runner.test()
    head = runner.model.module.head
    assert isinstance(head, ShardedLinearClsHead)
    head.load_state_dict(head.state_dict())  # its own share, too
    sample = head.predict((torch.ones(1, CHANNELS),))[0]
    results['prediction'] = sample.pred_label, sample.pred_topk_label, sample.pred_topk_score
    try:
        head((torch.ones(1, CHANNELS),))
    except ValueError as error:
        results['logits'] = str(error)
    fresh = build(
        f'{name}-fresh', world_size, **{'train_cfg.max_epochs': 1, 'train_cfg.val_interval': 1}
    )
    watch = Watch()
    fresh.register_hook(watch)
    fresh.train()
    results['start'] = watch.state
    return results


class Watch(Hook):
    """Keep what the first step finds."""

    priority = 'LOWEST'

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == 0:
            state = runner.model.module.state_dict()
            self.state = {key: value.clone() for key, value in state.items()}


def train_recipe():
    """Train the recipe of the built-in data for an epoch; return what was logged."""
    cfg = shrink(load_recipe('resnet18_2xb64-hslr-sharded_glyphs'), Path.cwd())
    cfg.update(work_dir='recipe', experiment_name='recipe', launcher='pytorch')
    cfg.update(model_wrapper_cfg=dict(WRAPPER), log_level='ERROR')
    cfg.train_cfg.max_epochs = 1
    cfg.param_scheduler = None
    runner = RUNNERS.build(cfg)
    runner.train()
    logged = runner.message_hub.log_scalars
    return {name: torch.tensor(values.data[0]) for name, values in logged.items()}


REFUSALS = {
    'optimizer': {
        'optim_wrapper.optimizer': dict(_delete_=True, type='LARS', lr=0.1, weight_decay=0.1)
    },
    'sampler': {'train_dataloader.sampler.round_up': False},
    'monitor': {'custom_hooks': [dict(type='NegativeClassDistractionHook')]},
    'runner': {'runner_type': 'Runner', 'model.head.num_classes': 12},
    'wrapper': {'model_wrapper_cfg': dict(type='MMSeparateDistributedDataParallel')},
    'states': {
        'custom_hooks': [],
        'model.head.num_classes': 13,
        'resume': True,
        'load_from': 'one/epoch_1.pth',
    },
}


def refusal_of(changes):
    try:
        train('refused', 2, **changes)
    except (ValueError, TypeError, RuntimeError) as error:
        return f'{type(error).__name__}: {error}'
    return None


@contextlib.contextmanager
def group_of(rank, world_size):
    dist.init_process_group(
        'gloo',
        init_method=f'file://{Path.cwd()}/rendezvous-{world_size}',
        rank=rank,
        world_size=world_size,
        timeout=timedelta(seconds=TIMEOUT),
    )
    yield
    dist.destroy_process_group()


def run_rank(rank, world_size):
    """Be one of one, of four and of two processes in turn."""
    results = {}
    os.environ['LOCAL_RANK'] = str(rank)  # as launchers do
    dist.barrier()  # one that leaves early breaks the connections of others
    dist.destroy_process_group()
    if rank == 0:
        results[1] = run_one()
    with group_of(rank, 4):
        results[4] = run_several('four', 4)
        results['norms'] = norms_of(rank)
    if rank < 2:
        with group_of(rank, 2):
            results[2] = run_several('two', 2)
            rest = dict(resume=True, load_from='four/epoch_2.pth')
            train('four-two', 2, **rest)
            train('two-accumulate', 2, **ACCUMULATE, load_from='one/epoch_1.pth')
            results['recipe'] = train_recipe()
            results['refusals'] = {name: refusal_of(changes) for name, changes in REFUSALS.items()}
    if rank == 0:
        results['again'] = run_one_again()
    # For the one that started this process.
    dist.init_process_group(
        'gloo', init_method=f'file://{Path.cwd()}/rendezvous-end', rank=rank, world_size=4
    )
    return results


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('runs')


@pytest.fixture(scope='module')
def results(folder):
    """Return what each process got: all runs are of the same four processes."""
    return run_ranks(run_rank, 4, folder)


def assert_same_checkpoint(path, expected):
    """Weights, averaged weights and the state of the optimizer, whole in both."""
    mine, other = load(path), load(expected)
    assert mine['meta']['iter'] == other['meta']['iter']
    for part in ('state_dict', 'ema_state_dict'):
        assert list(mine[part]) == list(other[part])
        assert mine[part]._metadata == other[part]._metadata
        for name, value in other[part].items():
            torch.testing.assert_close(mine[part][name], value, rtol=1e-5, atol=1e-5, msg=name)
    states = [each['optimizer']['state'] for each in (mine, other)]
    assert list(states[0]) == list(states[1])
    for i, state in states[1].items():
        for name, value in state.items():
            torch.testing.assert_close(states[0][i][name], value, rtol=1e-5, atol=1e-5, msg=name)


@pytest.mark.parametrize('name', ['stock', 'two', 'four', 'four-two', 'four-one', 'four-stock'])
@pytest.mark.usefixtures('results')
def test_runs_end_where_that_of_one_process_does(folder, name):
    """Resumed from one process's first epoch, or from the second one of four processes."""
    assert_same_checkpoint(folder / name / 'epoch_3.pth', folder / 'one/epoch_3.pth')
    whole = load(folder / name / 'epoch_3.pth')['state_dict']
    start = load(folder / 'one/epoch_1.pth')['state_dict']
    assert whole['head.fc.weight'].shape == (NUM_CLASSES, CHANNELS)
    for key in ('head.fc.weight', 'head.fc.bias', 'backbone.0.weight'):
        assert (whole[key] - start[key]).abs().max() > 0.01


@pytest.mark.usefixtures('results')
def test_accumulated_gradients(folder):
    path = 'accumulate/epoch_3.pth'
    assert_same_checkpoint(folder / f'two-{path}', folder / f'one-{path}')


@pytest.mark.parametrize('name', ['two', 'four'])
@pytest.mark.usefixtures('results')
def test_best_checkpoint_is_whole_and_that_of_the_stock_head(folder, name):
    (path,) = (folder / f'{name}-fresh').glob('best_*.pth')
    state = load(path)['state_dict']
    head = LinearClsHead(NUM_CLASSES, CHANNELS)
    head.load_state_dict({k.removeprefix('head.'): v for k, v in state.items() if 'head' in k})
    assert not list((folder / name).glob('.checkpoint-*'))


@pytest.mark.parametrize('world_size', [2, 4])
def test_norms_and_accuracies_are_those_of_one_process(results, world_size):
    expected = results[0][1]['rest']
    for result in results[:world_size]:
        actual = result[world_size]['rest']
        # The first epoch of both is the one that they resume from.
        for name, values in expected.items():
            torch.testing.assert_close(actual[name], values, rtol=1e-5, atol=1e-5, msg=name)
    norms = expected['train/grad_norm']
    assert (norms > 0.5).any()  # clipped
    accuracies = results[0][1]['stock']
    torch.testing.assert_close(accuracies['val/accuracy/top3'], expected['val/accuracy/top3'])


@pytest.mark.parametrize('world_size', [2, 4])
def test_test_and_predictions(results, folder, world_size):
    state = load(folder / 'one/epoch_3.pth')['state_dict']
    scores = (state['head.fc.weight'].sum(1) + state['head.fc.bias']).softmax(0).topk(3)
    for result in results[:world_size]:
        label, labels, values = result[world_size]['prediction']
        assert torch.equal(labels, scores.indices) and label == labels[:1]
        torch.testing.assert_close(values, scores.values, rtol=1e-4, atol=1e-5)
        top = result[world_size]['test']
        assert set(top) == {'accuracy/top1', 'accuracy/top3'}
        assert 0 < top['accuracy/top1'] <= top['accuracy/top3'] <= 100
        assert result[world_size]['logits'] == (
            'Expected one process where the logits of all classes are asked for, but got '
            f'{world_size}, each with a share of the classes'
        )


@pytest.mark.parametrize('world_size', [2, 4])
def test_fresh_start(results, world_size):
    """The prior is that of the class, initial weights are no copies, the rest is the same."""
    states = [result[world_size]['start'] for result in results[:world_size]]
    bias = torch.cat([state['head.fc.bias'] for state in states])
    counts = torch.tensor([i * i % 9 for i in range(NUM_IMAGES)]).bincount(minlength=NUM_CLASSES)
    prior = (counts + 1 / NUM_CLASSES) / (NUM_IMAGES + 1)
    torch.testing.assert_close(bias.sigmoid(), prior, rtol=1e-5, atol=0)
    rows = torch.cat([state['head.fc.weight'] for state in states])
    assert rows.shape == (NUM_CLASSES, CHANNELS) and rows.unique(dim=0).shape == rows.shape
    assert 0.005 < rows.std() < 0.02  # the stock head's is 0.01
    for state in states[1:]:
        assert torch.equal(state['backbone.0.weight'], states[0]['backbone.0.weight'])


REASONS = {
    'optimizer': 'ValueError: Expected an optimizer that updates each weight by its own gradient, '
    'such as SGD or AdamW, with a sharded classifier, but got LARS',
    'sampler': 'ValueError: Expected `round_up` of the sampler of `train_dataloader` to be True, '
    'since all processes have to get as many batches with a sharded classifier, but got False',
    'monitor': 'ValueError: NegativeClassDistractionHook expected the logits of a batch, but got '
    'a ShardedLinearClsHead, which makes none: use LinearClsHead',
    'runner': "RuntimeError: Expected `runner_type='ShardedRunner'` in the config of a run",
    'wrapper': 'ValueError: Expected `model_wrapper_cfg` to be of type MMDistributedDataParallel '
    'with a sharded classifier, but got MMSeparateDistributedDataParallel',
    'states': 'ValueError: Expected `exp_avg` in the state of the optimizer to have shape (13, 6)',
}


@pytest.mark.parametrize('name', REFUSALS)
def test_refusals_are_one_line(results, name):
    for result in results[:2]:
        reason = result['refusals'][name]
        assert reason is not None and REASONS[name] in reason and '\n' not in reason


def test_recipe_trains_on_two_processes(results):
    logged = [result['recipe'] for result in results[:2]]
    for name in ('train/loss', 'val/accuracy/top1', 'val/accuracy/top5'):
        assert len(logged[0][name]) and logged[0][name].isfinite().all()
    losses = torch.stack([each['train/loss'] for each in logged]).mean(0)
    assert losses[-1] < losses[0]
    # HS-LR starts from all classes.
    assert logged[0]['train/ratio'][0] == 1


def norms_of(rank):
    """Clip by the norms of a gradient that is the same on all ranks and of one that is not."""
    norms = {}
    for kind in (2.0, 1.0, float('inf')):
        same, own = (nn.Parameter(torch.zeros(3)) for _ in range(2))
        same.grad = torch.tensor([1.0, -2.0, 0.5])
        own.grad = torch.arange(3.0) + rank
        total = clip_grad_norm({id(own)}, [same, own], 1.5, kind)
        norms[kind] = total, same.grad, own.grad.clone()
    try:
        own.grad.fill_(float('nan') if rank == 2 else 1)
        clip_grad_norm({id(own)}, [own], 1.5, error_if_nonfinite=True)
    except RuntimeError as error:
        norms['nan'] = str(error)
    return norms


def test_norm_is_that_of_all_gradients(results):
    for kind in (2.0, 1.0, float('inf')):
        same = nn.Parameter(torch.zeros(3))
        every = nn.Parameter(torch.zeros(4, 3))
        same.grad = torch.tensor([1.0, -2.0, 0.5])
        every.grad = torch.arange(3.0) + torch.arange(4.0)[:, None]
        total = nn.utils.clip_grad_norm_([same, every], 1.5, kind)
        for rank, result in enumerate(results):
            actual = result['norms'][kind]
            for a, e in zip(actual, (total, same.grad, every.grad[rank]), strict=True):
                torch.testing.assert_close(a, e)
    for result in results:
        assert 'Expected the norm of the gradients to be finite' in result['norms']['nan']


def test_mixed_precision_leaves_out_a_step_on_every_process_or_on_none():
    """There is no AmpOptimWrapper on a CPU: one that has nothing but its scaler stands for it."""
    wrapper = object.__new__(AmpOptimWrapper)
    wrapper.optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    wrapper.loss_scaler = object()  # of one process
    with pytest.raises(ValueError, match='Expected `use_fsdp` of AmpOptimWrapper to be True'):
        _ShardsHook._prepare(wrapper, [])
    wrapper.loss_scaler = object.__new__(ShardedGradScaler)
    _ShardsHook._prepare(wrapper, [])


def test_other_heads_get_the_stock_runner(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    changes = {'model.head.type': 'LinearClsHead', 'train_cfg.max_epochs': 1}
    runner = build('linear', 1, **changes)
    assert type(runner) is ShardedRunner
    runner.train()
    state = load('linear/epoch_1.pth')['state_dict']
    assert state['head.fc.weight'].shape == (NUM_CLASSES, CHANNELS)
