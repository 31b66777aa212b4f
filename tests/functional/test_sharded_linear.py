"""Classes spread over processes: the loss and the gradients of one process on the joined batch."""

import itertools

import pytest
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.utils._python_dispatch import TorchDispatchMode

from frlr_mm.functional import (
    ClassShard,
    fused_linear_hs_lr_loss,
    fused_linear_ss_lr_loss,
    hs_lr_loss,
    sharded_linear_hs_lr_loss,
    sharded_linear_ss_lr_loss,
    sharded_linear_topk,
)
from tests.support.processes import run_ranks
from tests.support.sharded_cases import CHANNELS, Case, make

TOLERANCE = {'float64': 1e-6, 'float32': 1e-5, 'bfloat16': 2e-2}


def of_loss(num_classes, **kwargs):
    """Yield soft and hard selection, k from 1 to C."""
    for gamma in (0.25, 0.0):
        yield Case(num_classes, gamma=gamma, **kwargs)
    for k in sorted({1, num_classes // 3, num_classes // 2 + 1, num_classes - 1, num_classes}):
        yield Case(num_classes, k, **kwargs)


CASES = [
    *itertools.chain.from_iterable(of_loss(c) for c in (3, 7, 50, 10007)),
    *itertools.chain.from_iterable(of_loss(c, dtype='float32') for c in (5, 10007)),
    *of_loss(11, dtype='bfloat16', ties=True),
    *of_loss(10, ties=True),
    *of_loss(101, ties=True, dtype='float32'),
    # Unlike many images, none at all on a process, one alone.
    *(case for n in ((3, 1, 2, 4), (0, 3, 1, 0), (1, 0, 0, 0)) for case in of_loss(9, sizes=n)),
    # All images of the first class and of the last one: their owners alone have positives, and
    # owners of other classes, images without any of theirs.
    *(case for which in ('first', 'last') for case in of_loss(9, labels=which)),
    *(
        Case(23, k, options=options)
        for k in (None, 6)
        for options in (
            dict(alpha=2.0),
            dict(bias=False),
            dict(class_weight=True),
            dict(pos_weight=True),
            dict(sample_weight=True),
            dict(reduction='sum'),
            dict(reduction='none'),
            dict(avg_factor=5.0),
            # Several tiles of rows and of classes.
            dict(chunk_budget=300),
            dict(class_weight=True, pos_weight=True, alpha=0.5, chunk_budget=500, ties=True),
        )
    ),
]


def cases_of(world_size):
    """Return what so many processes compute; with four, what the number of them may matter to."""
    if world_size == 2:
        return CASES
    is_odd = [case.ties or case.labels != 'any' or len(set(case.sizes)) > 1 for case in CASES]
    many = [case.num_classes == 10007 and case.dtype == 'float64' for case in CASES]
    return [case for case, *takes in zip(CASES, is_odd, many) if any(takes)]


def leaves(*tensors):
    return [None if each is None else each.clone().requires_grad_() for each in tensors]


def on_this_rank(case, group):
    """Return the loss of this process and the gradients."""
    shard = ClassShard.of_this_process(case.num_classes, group)
    rank, world_size = shard.rank, shard.world_size
    x, w, b, label, options = make(case, world_size)
    begin = sum(case.sizes[:rank])
    mine, own = slice(begin, begin + case.sizes[rank]), slice(shard.start, shard.stop)
    x, w, b = leaves(x[mine], w[own], None if b is None else b[own])
    if 'sample_weight' in options:
        options['sample_weight'] = options['sample_weight'][mine]
    loss = sharded_linear_ss_lr_loss if case.k is None else sharded_linear_hs_lr_loss
    value = loss(x, w, b, label[mine], shard, **options)
    value.sum().backward()
    grads = [None if leaf is None else leaf.grad for leaf in (x, w, b)]
    return value.detach(), *grads


def on_one_process(case, world_size):
    x, w, b, label, options = make(case, world_size)
    x, w, b = leaves(x, w, b)
    loss = fused_linear_ss_lr_loss if case.k is None else fused_linear_hs_lr_loss
    value = loss(x, w, b, label, **options)
    value.sum().backward()
    return value.detach(), x.grad, w.grad, None if b is None else b.grad


STEPS = 10
TRAINED = [
    ('hs', 'float64', 'sgd'),
    ('ss', 'float64', 'adamw'),
    ('hs', 'float32', 'adamw'),
    ('ss', 'float32', 'accumulate'),
]


def make_body(dtype):
    torch.manual_seed(0)
    body = torch.nn.Sequential(torch.nn.Linear(5, CHANNELS), torch.nn.Tanh())
    return body.to(getattr(torch, dtype))


def train(name, dtype, optimizer, group=None, alone=False):
    """Train ten steps, in a group or alone on the joined batches."""
    case = Case(31, dtype=dtype)
    generator = torch.Generator().manual_seed(5)
    images = torch.randn(12, 5, generator=generator, dtype=torch.float64).to(getattr(torch, dtype))
    label = torch.randint(31, (12,), generator=generator)
    _, w, b, _, _ = make(case, 2)
    body = make_body(dtype)
    model = body
    if not alone:
        shard = ClassShard.of_this_process(31, group)
        own = slice(shard.start, shard.stop)
        mine = slice(*(each * 12 // shard.world_size for each in (shard.rank, shard.rank + 1)))
        images, label, w, b = images[mine], label[mine], w[own], b[own]
        model = DistributedDataParallel(body, process_group=group)
    w, b = leaves(0.3 * w, b)
    parameters = [*body.parameters(), w, b]
    if optimizer == 'adamw':
        step = torch.optim.AdamW(parameters, lr=0.01, weight_decay=0.1)
    else:
        step = torch.optim.SGD(parameters, lr=0.2, momentum=0.9, weight_decay=0.01)
    options = dict(gamma=0.5) if name == 'ss' else dict(ratio=0.3)
    for i in range(STEPS):
        features = model(images.roll(i, 1))
        if not alone:
            loss = sharded_linear_ss_lr_loss if name == 'ss' else sharded_linear_hs_lr_loss
            value = loss(features, w, b, label, shard, **options)
        else:
            loss = fused_linear_ss_lr_loss if name == 'ss' else fused_linear_hs_lr_loss
            value = loss(features, w, b, label, **options)
        value.backward()
        if optimizer != 'accumulate' or i % 3 == 2:
            step.step()
            step.zero_grad()
    return [parameter.detach() for parameter in parameters]


TOPK = [(c, k) for c in (4, 9, 10007) for k in (1, 3, c) if k < 5 or c < 10]


def topk_inputs(num_classes):
    x, w, b, _, _ = make(Case(num_classes, sizes=(3, 1, 0, 2)), 4)
    return x, w, b


def topk_of(num_classes, k, group):
    x, w, b = topk_inputs(num_classes)
    begin, shard = [0, 3, 4, 4, 6], ClassShard.of_this_process(num_classes, group)
    is_last = shard.rank + 1 == shard.world_size
    mine = slice(begin[shard.rank], None if is_last else begin[shard.rank + 1])
    own = slice(shard.start, shard.stop)
    return sharded_linear_topk(x[mine], w[own], b[own], shard, k, chunk_budget=1000)


class CountNumbers(TorchDispatchMode):
    """Count the numbers that collectives join or add up."""

    def __init__(self):
        super().__init__()
        self.numbers = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace == 'c10d':
            tensors = [t for arg in args for t in (arg if isinstance(arg, list) else [arg])]
            number = max(t.numel() for t in tensors if isinstance(t, torch.Tensor))
            self.numbers.setdefault(func.__name__.split('.')[0], []).append(number)
        return func(*args, **(kwargs or {}))


# Dispatch modes of torch 2.1 do not get through each operation: tests/stacks/run.py leaves that
# test out there.
CAN_COUNT = hasattr(dist, 'all_gather_single')
TRAFFIC = [Case(50), Case(10007), *(Case(c, k) for c in (50, 10007) for k in (1, c // 2))]


def traffic_of(case, group):
    with CountNumbers() as counted:
        on_this_rank(case, group)
    return counted.numbers


def run_group(group):
    """Return what this process got as one of a group."""
    world_size = dist.get_world_size(group)
    results = {str(case): on_this_rank(case, group) for case in cases_of(world_size)}
    for trained in TRAINED:
        results[trained] = train(*trained, group)
    for num_classes, k in TOPK:
        results['topk', num_classes, k] = topk_of(num_classes, k, group)
    if CAN_COUNT:
        results['traffic'] = {str(case): traffic_of(case, group) for case in TRAFFIC}
    results['autocast'] = autocast_of(group)
    try:
        ClassShard.of_this_process(world_size - 1, group)
    except ValueError as error:
        results['few classes'] = str(error)
    return results


def run_rank(rank, world_size):
    """Return what this process got as one of two, and as one of four."""
    two = dist.new_group([0, 1])
    return {2: run_group(two) if rank < 2 else None, 4: run_group(None)}


@pytest.fixture(scope='module')
def results_of_all(tmp_path_factory):
    return run_ranks(run_rank, 4, tmp_path_factory.mktemp('sharded'))


@pytest.fixture(params=[2, 4])
def results(request, results_of_all):
    """Return what each process of a group got; all groups are made of the same four processes."""
    return [result[request.param] for result in results_of_all[: request.param]]


@pytest.mark.parametrize(
    ('case', 'results'),
    [(case, world_size) for world_size in (2, 4) for case in cases_of(world_size)],
    ids=str,
    indirect=['results'],
)
def test_equals_one_process_on_the_joined_batch(case, results):
    tolerance = dict(rtol=TOLERANCE[case.dtype], atol=TOLERANCE[case.dtype])
    value, *grads = zip(*(result[str(case)] for result in results))
    joined_value, x_grad, w_grad, b_grad = on_one_process(case, len(results))
    # DistributedDataParallel averages over the processes what hangs on the features.
    factor = len(results) if case.options.keys() & {'avg_factor', 'reduction'} else 1
    if joined_value.ndim:
        torch.testing.assert_close(torch.cat(value), joined_value, **tolerance)
    else:
        value = sum(value) / len(results) * factor
        torch.testing.assert_close(value, joined_value, **tolerance)
    torch.testing.assert_close(torch.cat(grads[0]) / len(results) * factor, x_grad, **tolerance)
    torch.testing.assert_close(torch.cat(grads[1]) * factor, w_grad, **tolerance)
    if b_grad is not None:
        torch.testing.assert_close(torch.cat(grads[2]) * factor, b_grad, **tolerance)
    if case.ties and case.dtype == 'float64':
        # Every product is exact: what is selected is the same class by class.
        assert torch.equal(torch.cat(grads[1]) != 0, w_grad != 0)


def test_ties_across_shards_go_to_the_first_classes(results):
    """The reference of these cases is the plain loss, whose rule for ties is tested elsewhere."""
    case = Case(10, 6, ties=True)
    x, w, b, label, _ = make(case, len(results))
    score = (x @ w.t() + b).requires_grad_()
    hs_lr_loss(score, label, ratio=0.6).backward()
    values = score.detach().scatter(1, label[:, None], -torch.inf)
    least = values.topk(6).values[:, -1:]
    assert ((values == least).sum(1) > (6 - (values > least).sum(1))).any()  # some are left out
    b_grad = torch.cat([result[str(case)][3] for result in results])
    torch.testing.assert_close(b_grad, score.grad.sum(0))


@pytest.mark.parametrize('trained', TRAINED, ids=str)
def test_ten_steps_end_at_the_weights_of_one_process(results, trained):
    expected = train(*trained, alone=True)
    tolerance = TOLERANCE[trained[1]]
    for result in results:
        for a, e in zip(result[trained][:-2], expected[:-2], strict=True):
            torch.testing.assert_close(a, e, rtol=tolerance, atol=tolerance)
    for i in (-2, -1):
        joined = torch.cat([result[trained][i] for result in results])
        torch.testing.assert_close(joined, expected[i], rtol=tolerance, atol=tolerance)
    # What they start from: the bias has been trained.
    assert (expected[-1] - make(Case(31, dtype=trained[1]), 2)[2]).abs().max() > 0.01


def test_traffic_is_that_of_the_features_whatever_k_and_the_number_of_classes(results):
    num_ranks, num_images = len(results), 2 * len(results)
    features = num_images * CHANNELS
    for result in results:
        for is_soft in (True, False):
            counted = [result['traffic'][str(c)] for c in TRAFFIC if (c.k is None) == is_soft]
            assert len(counted) > 1 and all(each == counted[0] for each in counted)
        for case in TRAFFIC:
            counted = result['traffic'][str(case)]
            # Sizes and labels, the features; the factors of the losses on the way back.
            gathers = [num_ranks, features, num_images, num_images]
            if case.k is None:
                assert counted.keys() == {'_allgather_base_', '_reduce_scatter_base_'}
            else:
                # 16 rounds settle 64 bits: how many values each process has from 15 candidates
                # on; then how many are equal to the one that is found.
                assert counted['allreduce_'] == [15 * num_images] * 16
                gathers.insert(3, num_ranks * num_images)
            assert counted['_allgather_base_'] == gathers
            assert counted['_reduce_scatter_base_'] == [num_images, features]


@pytest.mark.parametrize(('num_classes', 'k'), TOPK)
def test_topk_is_that_of_all_logits(results, num_classes, k):
    x, w, b = topk_inputs(num_classes)
    score, label = (torch.cat(each) for each in zip(*(r['topk', num_classes, k] for r in results)))
    expected = (x @ w.t() + b).softmax(1).topk(k)
    torch.testing.assert_close(score, expected.values, rtol=1e-9, atol=1e-12)
    assert torch.equal(label, expected.indices)


def autocast_of(group):
    """Return the dtype of the loss and the gradients where autocast computes in bfloat16."""
    shard = ClassShard.of_this_process(8, group)
    x, w, b, label, _ = make(Case(8, 3, dtype='float32', ties=True), shard.world_size)
    mine, own = slice(2 * shard.rank, 2 * shard.rank + 2), slice(shard.start, shard.stop)
    x, w, b = leaves(x[mine], w[own], b[own])
    with torch.autocast('cpu', torch.bfloat16):
        loss = sharded_linear_hs_lr_loss(x, w, b, label[mine], shard, ratio=3 / 8)
    loss.backward()
    return loss.dtype, x.grad, w.grad


def test_autocast(results):
    case = Case(8, 3, dtype='float32', ties=True)
    x, w, b, label, _ = make(case, len(results))
    x, w, b = leaves(x, w, b)
    with torch.autocast('cpu', torch.bfloat16):
        fused_linear_hs_lr_loss(x, w, b, label, ratio=3 / 8).backward()
    dtypes, x_grads, w_grads = zip(*(result['autocast'] for result in results))
    assert set(dtypes) == {torch.float32}
    assert x_grads[0].dtype == w_grads[0].dtype == torch.float32
    torch.testing.assert_close(torch.cat(x_grads) / len(results), x.grad, rtol=2e-2, atol=2e-2)
    torch.testing.assert_close(torch.cat(w_grads), w.grad, rtol=2e-2, atol=2e-2)


def test_fewer_classes_than_processes_are_refused(results):
    for result in results:
        w = len(results)
        assert result['few classes'] == (
            f'Expected `num_classes` to be at least {w}, one for each process, but got {w - 1}'
        )
