"""NegativeClassDistractionHook: its values by a naive computation, and that it only watches."""

import json
import re
import uuid
from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from mmpretrain.registry import MODELS
from torch import nn

from tests.support.cases import make_label, make_logits
from tests.support.references_distraction import distraction_naive

NUM_IMAGES, NUM_CLASSES, BATCH_SIZE = 12, 7, 4
HOOK = dict(type='NegativeClassDistractionHook', interval=1)
BCE = dict(type='CrossEntropyLoss', use_sigmoid=True)
POS_WEIGHT = [1.0, 2.0, 3.0, 1.0, 0.5, 1.0, 1.5]
# config, kind and options of the oracle
LOSSES = {
    'hs_lr': (dict(type='HSLRLoss', ratio=0.45), dict(ratio=0.45, alpha='sum')),
    'hs_lr_all': (dict(type='HSLRLoss', ratio=1.0, alpha=3.0), dict(ratio=1.0, alpha=3.0)),
    'ss_lr': (
        dict(type='SSLRLoss', alpha=5.0, gamma=0.7, loss_weight=0.5, pos_weight=POS_WEIGHT),
        dict(alpha=5.0, gamma=0.7, loss_weight=0.5, pos_weight=POS_WEIGHT),
    ),
    'bce': (BCE | dict(pos_weight=POS_WEIGHT), dict(pos_weight=POS_WEIGHT)),
    'focal': (dict(type='FocalLoss', gamma=1.5), dict(gamma=1.5)),
    'asymmetric': (dict(type='AsymmetricLoss', gamma_pos=1.0), dict(gamma_pos=1.0)),
}


class Model(BaseModel):
    """A linear classifier with dropout, which draws random numbers."""

    def __init__(self, loss, logits=None, num_classes=NUM_CLASSES):
        super().__init__()
        self.linear = nn.Linear(5, num_classes)
        self.dropout = nn.Dropout(0.3)
        self.loss = MODELS.build(loss)
        self.logits = logits

    def forward(self, inputs, label, mode='loss', weight=None):
        score = self.linear(self.dropout(inputs))
        if self.logits is not None:  # the same at every step, with a gradient for the layer
            score = self.logits + 0 * score.double()
        return dict(loss=self.loss(score, label, weight=weight, avg_factor=len(label)))


def make_runner(work_dir, model, hooks, dataset=None, max_epochs=1, batch_size=BATCH_SIZE, **cfg):
    if dataset is None:
        generator = torch.Generator().manual_seed(0)
        labels = make_label('index', NUM_IMAGES, NUM_CLASSES)
        dataset = [
            dict(inputs=torch.randn(5, generator=generator), label=label) for label in labels
        ]
    torch.manual_seed(0)
    return Runner(
        model=model,
        work_dir=str(work_dir),
        train_dataloader=dict(
            batch_size=batch_size,
            dataset=dataset,
            collate_fn=dict(type='default_collate'),
            sampler=dict(type='DefaultSampler', shuffle=False),
        ),
        train_cfg=dict(by_epoch=True, max_epochs=max_epochs),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9)) | cfg,
        default_hooks=dict(logger=dict(type='LoggerHook', interval=1)),
        visualizer=dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend')]),
        custom_hooks=list(hooks),
        randomness=dict(seed=0),
        default_scope='mmpretrain',
        experiment_name=uuid.uuid4().hex,
    )


def train(*args, **kwargs):
    runner = make_runner(*args, **kwargs)
    runner.train()
    return runner


def history(runner):
    """Return the values in the message hub, a list each."""
    return {
        key.removeprefix('train/distraction/'): buffer.data[0].tolist()
        for key, buffer in runner.message_hub.log_scalars.items()
        if key.startswith('train/distraction/')
    }


def observe(loss, logits, label, weight=None):
    """Return the values of one call of a loss, without a training."""

    model = nn.Module()
    model.loss = MODELS.build(loss)
    hook, values = HOOKS.build(HOOK), {}
    runner = SimpleNamespace(
        iter=0, model=model, message_hub=SimpleNamespace(update_scalar=values.__setitem__)
    )
    hook.before_train(runner)
    hook.before_train_iter(runner, 0)
    logits = logits.clone().requires_grad_()
    kwargs = {} if weight is None else dict(weight=weight)
    output = model.loss(logits, label, avg_factor=len(logits), **kwargs)
    hook.after_train_iter(runner, 0)
    assert not model.loss._forward_hooks
    return {key.removeprefix('train/distraction/'): values[key] for key in values}, output


@pytest.mark.parametrize(
    'label_kind', ['index', 'index_column', 'soft', 'multi_label', 'unknown', 'unknown_soft']
)
@pytest.mark.parametrize('name', LOSSES)
def test_values(name, label_kind):
    config, options = LOSSES[name]
    logits = make_logits(NUM_IMAGES, NUM_CLASSES)
    label = make_label(label_kind, NUM_IMAGES, NUM_CLASSES)
    label = label.double() if label.is_floating_point() else label
    given = label
    if name == 'bce' and label_kind.startswith('index'):  # it takes dense targets alone
        given = nn.functional.one_hot(label.flatten(), NUM_CLASSES).double()
    values, output = observe(config, logits, given)
    expected = distraction_naive(name.removesuffix('_all'), logits, label, **options)
    assert values == pytest.approx(expected, rel=1e-7)
    assert len(values) == 5 if name.startswith('hs_lr') else 4
    if (label >= 0).all() and (label_kind != 'soft' or name not in ('focal', 'asymmetric')):
        # Together they are the loss that is trained.
        assert values['positive_term'] + values['negative_term'] == pytest.approx(output.item())


@pytest.mark.parametrize('name', LOSSES)
def test_weight_of_images(name):
    config, options = LOSSES[name]
    logits = make_logits(3, NUM_CLASSES)
    label = make_label('multi_label', 3, NUM_CLASSES).double()
    weight = torch.tensor([1.0, 0.0, 2.0], dtype=torch.float64)
    values, _ = observe(config, logits, label, weight)
    expected = distraction_naive(name.removesuffix('_all'), logits, label, weight, **options)
    assert values == pytest.approx(expected, rel=1e-7)


def test_prior_gives_each_side_about_half():
    """At p = 1 / C one positive pulls with 1 - 1 / C, C - 1 negatives push with 1 / C each."""
    logits = torch.full((2, 100), -torch.log(torch.tensor(99.0)).item()).double()
    values, _ = observe(dict(type='SSLRLoss', gamma=0.0), logits, torch.tensor([0, 99]))
    assert values['negative_share'] == pytest.approx(0.5)
    assert values['effective_negatives'] == pytest.approx(99)


def test_no_negative_gradient_is_left_out():
    config = dict(type='HSLRLoss', alpha=0.0)
    values, _ = observe(config, make_logits(2, NUM_CLASSES), torch.tensor([0, 1]))
    assert set(values) == {'positive_term', 'negative_term', 'negative_share'}
    assert values['negative_share'] == values['negative_term'] == 0


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_is_measured_in_float32(dtype):
    logits = make_logits(4, NUM_CLASSES).to(dtype)
    label = torch.tensor([0, 1, 2, 3])
    for config in (dict(type='SSLRLoss'), dict(type='FocalLoss')):
        with torch.autocast('cpu', dtype=torch.bfloat16):
            values, _ = observe(config, logits, label)
        expected, _ = observe(config, logits.float(), label)
        assert values == expected


@pytest.mark.parametrize('name', LOSSES)
def test_training_is_the_same_with_and_without(tmp_path, name):
    """Weights, momentum and random numbers, bit for bit."""
    labels = make_label('multi_label', NUM_IMAGES, NUM_CLASSES)
    inputs = torch.randn(NUM_IMAGES, 5, generator=torch.Generator().manual_seed(0))
    dataset = [dict(inputs=x, label=t) for x, t in zip(inputs, labels, strict=True)]
    states = []
    for hooks in ([], [HOOK]):
        torch.manual_seed(0)
        model = Model(LOSSES[name][0])
        runner = train(tmp_path / str(len(hooks)), model, hooks, dataset, max_epochs=2)
        assert len(history(runner).get('negative_share', [])) == 6 * len(hooks)
        momentum = runner.optim_wrapper.optimizer.state_dict()['state'].values()
        states.append(
            [
                *model.state_dict().values(),
                *(state['momentum_buffer'] for state in momentum),
                torch.get_rng_state(),
            ]
        )
    assert len(states[0]) == 5
    assert all(torch.equal(a, b) for a, b in zip(*states, strict=True))


@pytest.mark.parametrize('wrapper', ['OptimWrapper', 'CPUAmpOptimWrapper'])
def test_training_by_the_runner(tmp_path, wrapper):
    """The first and every second iteration, by the real logits; where mmengine shows them."""
    logits = make_logits(BATCH_SIZE, NUM_CLASSES)
    model, hook = Model(LOSSES['hs_lr'][0], logits), HOOK | dict(interval=2)
    runner = train(tmp_path, model, [hook], max_epochs=2, type=wrapper)
    labels = make_label('index', NUM_IMAGES, NUM_CLASSES).view(3, BATCH_SIZE)
    found = history(runner)
    assert len(found) == 5
    for i, batch in enumerate((0, 1, 0, 2)):  # of iterations 0, 1, 3 and 5
        expected = distraction_naive('hs_lr', logits, labels[batch], **LOSSES['hs_lr'][1])
        assert {name: values[i] for name, values in found.items()} == pytest.approx(expected)
    assert all(len(values) == 4 for values in found.values())

    logs = next(tmp_path.glob('*/*.log')).read_text()
    shown = re.findall(r'Epoch\(train\).* distraction/negative_share: (\d\.\d+)', logs)
    share = found['negative_share']
    assert shown == [f'{share[i]:.4f}' for i in (0, 1, 1, 2, 2, 3)]  # the newest, not a mean
    lines = next(tmp_path.glob('*/vis_data/scalars.json')).read_text().splitlines()
    effective = json.loads(lines[3])['distraction/effective_negatives']
    assert effective == found['effective_negatives'][2]


class ExchangeLoss(Hook):
    """Put another loss in place of the first, as SwitchRecipeHook does."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == 2:
            runner.model.loss = MODELS.build(dict(type='SSLRLoss', gamma=3.0))


def test_loss_that_is_exchanged_while_training(tmp_path):
    values = []
    for i, hooks in enumerate([[HOOK], [ExchangeLoss(), HOOK]]):
        torch.manual_seed(0)
        values.append(history(train(tmp_path / str(i), Model(dict(type='HSLRLoss')), hooks)))
    first, exchanged = (each['negative_term'] for each in values)
    assert exchanged[:2] == first[:2] and exchanged[2] != first[2]
    assert len(values[1]['selection_threshold']) == 2  # SS-LR has none


SWITCH = dict(
    type='SwitchRecipeHook',
    schedule=[
        dict(action_epoch=2, loss=dict(type='CrossEntropyLoss')),
        dict(
            action_epoch=3,
            loss=dict(
                type='LabelSmoothFRLRLoss', loss=dict(type='HSLRLoss'), label_smooth_val=0.1
            ),
        ),
        dict(action_epoch=4, loss=dict(type='SSLRLoss')),
    ],
)


class SwitchedModel(Model):
    """A model whose loss SwitchRecipeHook finds."""

    def __init__(self):
        super().__init__(dict(type='HSLRLoss'))
        self.loss_module = self.loss
        del self.loss

    @property
    def loss(self):
        return self.loss_module


def test_loss_that_cannot_be_split_is_told_once(tmp_path):
    """Its iterations have no values in the log; those of the loss after it have some again."""
    runner = train(tmp_path, SwitchedModel(), [SWITCH, HOOK], max_epochs=4)
    assert len(history(runner)['negative_term']) == 3
    log = next(tmp_path.glob('*/*.log')).read_text()
    for name in (r'CrossEntropyLoss \(softmax\)', 'LabelSmoothFRLRLoss'):
        assert len(re.findall(f'WARNING.*({name}).*nothing is logged', log)) == 1
    shown = ['distraction/' in line for line in log.splitlines() if 'Epoch(train)' in line]
    assert shown == [True] * 3 + [False] * 6 + [True] * 3


def test_training_is_resumed_with_such_a_loss(tmp_path):
    whole = train(tmp_path, SwitchedModel(), [SWITCH, HOOK], max_epochs=2)
    hooks = [SWITCH, HOOK]
    runner = make_runner(tmp_path, SwitchedModel(), hooks, max_epochs=4)
    runner._resume, runner._load_from = True, str(tmp_path / 'epoch_2.pth')
    runner.train()
    assert whole.iter == 6 and runner.iter == 12
    assert len(history(runner)['negative_term']) == 3


def test_default_interval(tmp_path):
    hook = dict(type='NegativeClassDistractionHook')
    runner = train(tmp_path, Model(dict(type='SSLRLoss')), [hook], max_epochs=20)
    assert len(history(runner)['negative_share']) == 2  # iterations 0 and 49 of 60


def test_loss_that_is_not_called_is_told_once(tmp_path):
    model = Model(dict(type='SSLRLoss'))
    model.forward = lambda inputs, label, mode='loss': dict(loss=model.linear(inputs).mean())
    runner = train(tmp_path, model, [HOOK])
    assert not history(runner)
    log = next(tmp_path.glob('*/*.log')).read_text()
    assert log.count('NegativeClassDistractionHook saw no logits') == 1
    assert not model.loss._forward_hooks


@pytest.mark.parametrize(
    ('losses', 'message'),
    [
        ([dict(type='CrossEntropyLoss')], r'use_sigmoid=True.*got CrossEntropyLoss \(softmax\)'),
        ([dict(type='CrossEntropyLoss', use_soft=True)], r'got CrossEntropyLoss \(softmax\)'),
        ([dict(type='AsymmetricLoss', use_sigmoid=False)], r'got AsymmetricLoss \(softmax\)'),
        ([dict(type='SSLRLoss'), BCE], 'expected one loss.*got SSLRLoss, CrossEntropyLoss$'),
        ([], 'got none'),
        ([dict(type='LabelSmoothLoss', label_smooth_val=0.1, use_sigmoid=True)], 'its own'),
        (
            [
                dict(
                    type='FusedLinearClsHead',
                    num_classes=NUM_CLASSES,
                    in_channels=5,
                    loss=dict(type='SSLRLoss'),
                )
            ],
            'FusedLinearClsHead, which makes none: use LinearClsHead',
        ),
    ],
)
def test_refused_models(tmp_path, losses, message):
    model = Model(dict(type='SSLRLoss'))
    model.loss = nn.ModuleList(MODELS.build(loss) for loss in losses)
    with pytest.raises(ValueError, match=message):
        train(tmp_path, model, [HOOK])


def test_other_losses_beside_it(tmp_path):
    model = Model(dict(type='SSLRLoss'))
    model.auxiliary = MODELS.build(dict(type='CrossEntropyLoss'))
    assert len(history(train(tmp_path, model, [HOOK]))['negative_share']) == 3


@pytest.mark.parametrize('interval', [0, -1, 1.5, True, '50', None])
def test_bad_interval(interval):
    with pytest.raises(ValueError, match=rf'`interval` to be an int in \[1, inf\].*{interval!r}'):
        HOOKS.build(HOOK | dict(interval=interval))
