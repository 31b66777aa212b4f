"""FocusAnnealingHook: its schedules by hand, and in small trainings by mmengine's Runner."""

import math
import re
import uuid

import pytest
import torch
import torch.distributed as dist
from mmengine.hooks import Hook
from mmengine.model import BaseModel, MMDistributedDataParallel
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from mmpretrain.registry import MODELS
from torch import nn

from frlr_mm.engine.hooks import FocusAnnealingHook

NUM_IMAGES, BATCH_SIZE = 12, 4
ITERS_PER_EPOCH = NUM_IMAGES // BATCH_SIZE
FROM_1_TO_0_01 = dict(type='FocusAnnealingHook', param='ratio', start_value=1.0, end_value=0.01)


class TinyModel(BaseModel):
    """A linear classifier that remembers the values it was trained with."""

    def __init__(self, loss):
        super().__init__()
        self.linear = nn.Linear(5, 10)
        self.loss_module = MODELS.build(loss)
        self.seen = []

    def forward(self, inputs, label, mode='loss'):
        self.seen.append(getattr(self.loss_module, self.loss_module.focus_params[1]))
        return dict(loss=self.loss_module(self.linear(inputs), label))


class Interruption(Exception):
    pass


class Interrupt(Hook):
    """Stop training as a crash would."""

    def __init__(self, iteration):
        self.iteration = iteration

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.iteration:
            raise Interruption


def make_runner(
    work_dir, hooks, loss=dict(type='HSLRLoss'), max_epochs=4, max_iters=None, resume=False
):
    """Return a Runner, by iterations where ``max_iters`` is given."""
    generator = torch.Generator().manual_seed(0)
    dataset = [
        dict(inputs=torch.randn(5, generator=generator), label=i % 10) for i in range(NUM_IMAGES)
    ]
    if max_iters is None:
        train_cfg = dict(by_epoch=True, max_epochs=max_epochs)
        checkpoint = dict(type='CheckpointHook', interval=1)
    else:
        train_cfg = dict(by_epoch=False, max_iters=max_iters)
        checkpoint = dict(type='CheckpointHook', interval=1, by_epoch=False)
    torch.manual_seed(0)
    return Runner(
        model=TinyModel(loss),
        work_dir=str(work_dir),
        train_dataloader=dict(
            batch_size=BATCH_SIZE,
            dataset=dataset,
            collate_fn=dict(type='default_collate'),
            sampler=dict(
                type='DefaultSampler' if max_iters is None else 'InfiniteSampler',
                shuffle=True,
                seed=0,
            ),
        ),
        train_cfg=train_cfg,
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9)),
        default_hooks=dict(checkpoint=checkpoint, logger=dict(type='LoggerHook', interval=1)),
        log_processor=dict(by_epoch=max_iters is None),
        custom_hooks=list(hooks),
        default_scope='mmpretrain',
        resume=resume,
        experiment_name=uuid.uuid4().hex,
    )


def train(*args, **kwargs):
    runner = make_runner(*args, **kwargs)
    runner.train()
    return runner


@pytest.mark.parametrize(
    ('schedule', 'start', 'end', 'values'),
    [
        ('linear', 1.0, 0.2, [1.0, 0.8, 0.6, 0.4, 0.2]),
        ('linear', 0.0, 2.0, [0.0, 0.5, 1.0, 1.5, 2.0]),
        ('cosine', 1.0, 0.0, [1.0, 0.8535533905932737, 0.5, 0.1464466094067263, 0.0]),
        ('cosine', 0.0, 2.0, [0.0, 0.2928932188134525, 1.0, 1.7071067811865475, 2.0]),
        ('exponential', 1.0, 0.0001, [1.0, 0.1, 0.01, 0.001, 0.0001]),
        ('exponential', 1.0, 16.0, [1.0, 2.0, 4.0, 8.0, 16.0]),
    ],
)
def test_schedules(schedule, start, end, values):
    param = 'gamma' if start == 0 or end == 0 else 'alpha'
    hook = FocusAnnealingHook(param, start, end, schedule)
    assert [hook.get_value(s / 4) for s in range(5)] == pytest.approx(values)
    assert hook.get_value(-0.5) == start and hook.get_value(1.5) == end


def cosine(progress):
    return 0.01 + 0.99 * (1 + math.cos(math.pi * min(max(progress, 0), 1))) / 2


@pytest.mark.parametrize(
    ('arguments', 'progress'),
    [
        (dict(), lambda i: i / 12),
        (dict(begin=1, end=3), lambda i: (i - 3) / 6),
        (dict(end=2), lambda i: i / 6),
        (dict(convert_to_iter_based=False), lambda i: i // 3 / 4),
        (dict(convert_to_iter_based=False, begin=1, end=3), lambda i: (i // 3 - 1) / 2),
        (dict(by_epoch=False), lambda i: i / 12),
        (dict(by_epoch=False, begin=2, end=7), lambda i: (i - 2) / 5),
        # shares, of 12 iterations or 4 epochs; not all are whole epochs
        (dict(end=1.0), lambda i: i / 12),
        (dict(end=1), lambda i: i / 3),
        (dict(end=0.9), lambda i: i / 10.8),
        (dict(begin=0.25, end=0.75), lambda i: (i - 3) / 6),
        (dict(begin=1, end=0.75), lambda i: (i - 3) / 6),
        (dict(begin=0.5), lambda i: (i - 6) / 6),
        (dict(convert_to_iter_based=False, begin=0.25, end=0.8), lambda i: (i // 3 - 1) / 2.2),
        (dict(by_epoch=False, begin=3, end=0.9), lambda i: (i - 3) / 7.8),
    ],
)
def test_values_of_training_by_epochs(tmp_path, arguments, progress):
    runner = train(tmp_path, [FROM_1_TO_0_01 | arguments])
    expected = [cosine(progress(i)) for i in range(4 * ITERS_PER_EPOCH)]
    assert runner.model.seen == pytest.approx(expected)


@pytest.mark.parametrize(
    ('arguments', 'progress'),
    [
        (dict(by_epoch=False), lambda i: i / 8),
        (dict(by_epoch=False, begin=2, end=6), lambda i: (i - 2) / 4),
        # without a unit
        (dict(), lambda i: i / 8),
        (dict(end=0.8), lambda i: i / 6.4),
        (dict(begin=0.25, end=0.75), lambda i: (i - 2) / 4),
    ],
)
def test_values_of_training_by_iterations(tmp_path, arguments, progress):
    runner = train(tmp_path, [FROM_1_TO_0_01 | arguments], max_iters=8)
    assert runner.model.seen == pytest.approx([cosine(progress(i)) for i in range(8)])


@pytest.mark.parametrize('max_epochs', [10, 20, 90, 100, 120, 200, 300])
def test_share_equals_the_count_bit_for_bit(tmp_path, max_epochs):
    """The values of a recipe with 0.8 are those of 8 of 10 epochs, 80 of 100 and so on."""
    share, count = (
        HOOKS.build(FROM_1_TO_0_01 | dict(end=end)) for end in (0.8, max_epochs * 8 // 10)
    )
    runner = make_runner(tmp_path, [share], max_epochs=max_epochs)
    model = runner.model
    runner._train_loop = runner.build_train_loop(runner._train_loop)
    values = {}
    for hook in (share, count):
        hook.before_train(runner)
        values[hook] = []
        for i in range(max_epochs * ITERS_PER_EPOCH):
            runner.train_loop._iter = i
            hook.before_train_iter(runner, i % ITERS_PER_EPOCH)
            values[hook].append(model.loss_module.ratio)
    assert values[share] == values[count]
    assert values[share][-1] == 0.01 < values[share][max_epochs * 8 // 10 * ITERS_PER_EPOCH - 1]


@pytest.mark.parametrize('convert_to_iter_based', [True, False])
@pytest.mark.parametrize('first', [True, False])
def test_reaches_a_loss_that_replaces_the_first(tmp_path, first, convert_to_iter_based):
    hooks = [
        FROM_1_TO_0_01 | dict(convert_to_iter_based=convert_to_iter_based),
        dict(
            type='SwitchRecipeHook',
            schedule=[dict(action_epoch=3, loss=dict(type='HSLRLoss', alpha=1.0, ratio=0.7))],
        ),
    ]
    runner = train(tmp_path, hooks if first else hooks[::-1])
    assert runner.model.loss_module.alpha == 1.0
    progress = [i / 12 if convert_to_iter_based else i // 3 / 4 for i in range(12)]
    assert runner.model.seen == pytest.approx([cosine(s) for s in progress])
    logged = runner.message_hub.get_scalar('train/ratio').data[0].tolist()
    assert logged == runner.model.seen[:: 1 if convert_to_iter_based else ITERS_PER_EPOCH]


def test_logs_nothing_once_no_loss_has_the_parameter(tmp_path):
    switch = dict(
        type='SwitchRecipeHook', schedule=[dict(action_epoch=2, loss=dict(type='SSLRLoss'))]
    )
    runner = train(tmp_path, [switch, FROM_1_TO_0_01], max_epochs=2)
    assert runner.model.seen[ITERS_PER_EPOCH:] == [0.25] * ITERS_PER_EPOCH  # gamma
    lines = next(tmp_path.glob('*/*.log')).read_text().splitlines()
    first, second = ([line for line in lines if f'Epoch(train) [{i}]' in line] for i in (1, 2))
    assert len(first) == len(second) == ITERS_PER_EPOCH
    assert all('ratio: ' in line for line in first)
    assert not any('ratio: ' in line for line in second)


@pytest.mark.parametrize(
    ('loss', 'param', 'start', 'end'),
    [
        ('SSLRLoss', 'gamma', 0.0, 2.0),
        ('SSLRLoss', 'alpha', 9, 1),
        ('HSLRLoss', 'alpha', 1.0, 100.0),
    ],
)
def test_other_parameters(tmp_path, loss, param, start, end):
    hook = FocusAnnealingHook(param, start, end, 'linear', by_epoch=False, end=2)
    runner = train(tmp_path, [hook], loss=dict(type=loss), max_epochs=1)
    assert getattr(runner.model.loss_module, param) == end
    assert runner.message_hub.get_scalar(f'train/{param}').data[0].tolist() == pytest.approx(
        [start, (start + end) / 2, end]
    )


def test_value_is_logged(tmp_path):
    runner = train(tmp_path, [FROM_1_TO_0_01], max_epochs=2)
    values, _ = runner.message_hub.get_scalar('train/ratio').data
    assert values.tolist() == runner.model.seen
    log = next(tmp_path.glob('*/*.log')).read_text()
    logged = re.findall(r'Epoch\(train\).* ratio: (\d\.\d+)\b', log)
    assert logged == [f'{value:.4f}' for value in runner.model.seen]
    assert len(logged) == 2 * ITERS_PER_EPOCH


@pytest.mark.parametrize('convert_to_iter_based', [True, False])
def test_resume_by_epochs(tmp_path, convert_to_iter_based):
    hook = FROM_1_TO_0_01 | dict(convert_to_iter_based=convert_to_iter_based)
    whole = train(tmp_path / 'whole', [hook])
    with pytest.raises(Interruption):
        train(tmp_path / 'parts', [hook, Interrupt(2 * ITERS_PER_EPOCH)])
    resumed = train(tmp_path / 'parts', [hook], resume=True)
    assert resumed.model.seen == whole.model.seen[2 * ITERS_PER_EPOCH :]
    for key, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[key], value), key
    histories = [
        runner.message_hub.get_scalar('train/ratio').data[0].tolist()
        for runner in (whole, resumed)
    ]
    assert histories[0] == histories[1]
    assert len(histories[0]) == 4 * (ITERS_PER_EPOCH if convert_to_iter_based else 1)


def test_resume_by_iterations(tmp_path):
    hook = FROM_1_TO_0_01 | dict(by_epoch=False)
    whole = train(tmp_path / 'whole', [hook], max_iters=8)
    with pytest.raises(Interruption):
        train(tmp_path / 'parts', [hook, Interrupt(5)], max_iters=8)
    resumed = train(tmp_path / 'parts', [hook], max_iters=8, resume=True)
    assert resumed.model.seen == whole.model.seen[5:]


def test_resume_with_a_later_end_of_training(tmp_path):
    """With ``end`` given, two epochs and two more are four at once."""
    hook = FROM_1_TO_0_01 | dict(end=4)
    whole = train(tmp_path / 'whole', [hook])
    first = train(tmp_path / 'parts', [hook], max_epochs=2)
    second = train(tmp_path / 'parts', [hook], max_epochs=4, resume=True)
    assert first.model.seen + second.model.seen == whole.model.seen


def test_end_after_the_training_is_told(tmp_path):
    train(tmp_path, [FROM_1_TO_0_01 | dict(end=9)], max_epochs=2)
    log = next(tmp_path.glob('*/*.log')).read_text()
    assert re.search(r'WARNING.*ratio until 9, but training ends at 2.*not reach 0\.01', log)


def test_with_ema(tmp_path):
    runner = train(tmp_path, [dict(type='EMAHook'), FROM_1_TO_0_01], max_epochs=2)
    assert runner.model.seen == pytest.approx([cosine(i / 6) for i in range(6)])


def test_wrapped_model(tmp_path):
    """One process of distributed training."""
    dist.init_process_group('gloo', init_method=f'file://{tmp_path}/store', rank=0, world_size=1)
    try:
        runner = make_runner(tmp_path, [FROM_1_TO_0_01], max_epochs=1)
        model = runner.model
        runner.model = MMDistributedDataParallel(model)
        runner.train()
    finally:
        dist.destroy_process_group()
    assert isinstance(runner.model, MMDistributedDataParallel)
    assert model.seen == pytest.approx([cosine(i / 3) for i in range(3)])


def test_all_losses_of_the_model_move(tmp_path):
    runner = make_runner(tmp_path, [FROM_1_TO_0_01], max_epochs=1)
    runner.model.others = nn.ModuleList(
        MODELS.build(dict(type=name)) for name in ('HSLRLoss', 'SSLRLoss')
    )
    runner.train()
    hs_lr, ss_lr = runner.model.others
    assert hs_lr.ratio == runner.model.loss_module.ratio == pytest.approx(cosine(2 / 3))
    assert not hasattr(ss_lr, 'ratio') and ss_lr.gamma == 0.25


def test_model_without_such_a_loss(tmp_path):
    runner = make_runner(tmp_path, [FROM_1_TO_0_01])
    runner.model.loss_module = nn.CrossEntropyLoss()
    with pytest.raises(ValueError, match='neither an HSLRLoss nor an SSLRLoss.*TinyModel'):
        runner.train()


def test_loss_without_the_parameter(tmp_path):
    with pytest.raises(ValueError, match=r"parameter 'ratio'.*SSLRLoss has \('alpha', 'gamma'\)"):
        train(tmp_path, [FROM_1_TO_0_01], loss=dict(type='SSLRLoss'))


@pytest.mark.parametrize(
    'arguments',
    [dict(end=2), dict(begin=1), dict(begin=1, end=0.8), dict(convert_to_iter_based=False)],
)
def test_epochs_in_training_by_iterations(tmp_path, arguments):
    with pytest.raises(ValueError, match='`by_epoch` of FocusAnnealingHook to be False.*True'):
        train(tmp_path, [FROM_1_TO_0_01 | arguments], max_iters=4)


def test_begin_after_the_training(tmp_path):
    with pytest.raises(ValueError, match='`begin`.*below the end of training, 4, but got 4'):
        train(tmp_path, [FROM_1_TO_0_01 | dict(begin=4)])


@pytest.mark.parametrize('arguments', [dict(begin=2, end=0.5), dict(begin=0.5, end=2)])
def test_end_before_the_begin_of_another_kind(tmp_path, arguments):
    message = '`end` of FocusAnnealingHook to be after `begin`, {begin}, but got {end}'
    with pytest.raises(ValueError, match=re.escape(message.format(**arguments))):
        train(tmp_path, [FROM_1_TO_0_01 | arguments])


@pytest.mark.parametrize(
    ('error', 'changes', 'message'),
    [
        (ValueError, dict(param='beta'), "`param`.*'beta'"),
        (ValueError, dict(schedule='step'), "`schedule`.*'step'"),
        (ValueError, dict(start_value=1.5), r'`start_value`.*\(0, 1\].*1\.5'),
        (ValueError, dict(end_value=0), r'`end_value`.*\(0, 1\].*0'),
        (ValueError, dict(end_value=math.nan), '`end_value`.*nan'),
        (TypeError, dict(start_value='sum'), "`start_value`.*'sum'"),
        (ValueError, dict(param='gamma', start_value=-1.0), '`start_value`.*-1'),
        # never leaves 0 by a factor
        (
            ValueError,
            dict(param='gamma', start_value=0.0, schedule='exponential'),
            r'`start_value`.*\(0, inf\).*0',
        ),
        (
            ValueError,
            dict(param='alpha', end_value=0.0, schedule='exponential'),
            r'`end_value`.*\(0, inf\).*0',
        ),
        (ValueError, dict(begin=-1), '`begin`.*-1'),
        (TypeError, dict(begin=None), '`begin`.*None'),
        (ValueError, dict(begin=1.0), r'`begin`.*\[0, 1\).*share.*int.*got 1\.0'),
        (ValueError, dict(begin=-0.1), r'`begin`.*\[0, 1\).*-0\.1'),
        (ValueError, dict(end=4.5), r'`end`.*\(0, 1\].*share.*int.*got 4\.5'),
        (ValueError, dict(end=0.0), r'`end`.*\(0, 1\].*got 0\.0'),
        (ValueError, dict(begin=0.5, end=0.5), '`end`.*0.5.*got 0.5'),
        (TypeError, dict(begin=True), '`begin`.*True'),
        (ValueError, dict(begin=3, end=3), r'`end`.*3.*got 3'),
        (ValueError, dict(end=0), '`end`.*got 0'),
        (ValueError, dict(end=math.nan), '`end`.*nan'),
        (TypeError, dict(end='8'), "`end`.*'8'"),
    ],
)
def test_bad_argument(error, changes, message):
    with pytest.raises(error, match=message):
        HOOKS.build(FROM_1_TO_0_01 | changes)
