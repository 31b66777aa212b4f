"""Labels and checkpoints against the model; tests/tools has the mistakes as a user sees them."""

import json
from types import SimpleNamespace

import pytest
import torch
from mmpretrain.models import AverageClsScoreTTA
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from torch import nn

from frlr_mm.engine import launch
from frlr_mm.engine.hooks import FocusAnnealingHook
from frlr_mm.engine.run_checks import (
    CheckpointFitHook,
    CheckpointMisfitError,
    LabelRangeError,
    TrainingChecksHook,
    find_num_outputs,
)
from tests.models.heads.test_sharded_linear_cls_head import as_rank

HEAD = dict(type='LinearClsHead', num_classes=5)


class Data:
    """A data set; only its name counts."""


def make_model(**head):
    model = nn.Module()
    model.backbone = nn.Linear(3, 8)
    model.head = MODELS.build(dict(in_channels=8) | head)
    return model


def sample(**fields):
    made = DataSample(metainfo=dict(img_path='a/3.jpg'))
    if 'label' in fields:
        made.set_gt_label(fields['label'])
    if 'score' in fields:
        made.set_gt_score(torch.tensor(fields['score']))
    return made


def look_at(samples, num_outputs=3):
    hook = TrainingChecksHook()
    hook.num_outputs, hook.dataset = num_outputs, Data()
    hook.before_train_iter(None, 0, dict(inputs=None, data_samples=samples))


@pytest.mark.parametrize(
    'samples',
    [
        [sample(label=0), sample(label=2)],
        [sample(label=[0, 2]), sample(label=[])],
        [sample(score=[0.0, 1.0, -1.0])],
        [sample(label=[1], score=[0.0, 1.0, 0.0])],
        [sample()],
        [],
    ],
)
def test_labels_that_fit(samples):
    look_at(samples)
    look_at([sample(label=9)], num_outputs=None)  # a model that does not classify
    hook = TrainingChecksHook()
    hook.num_outputs, hook.dataset = 3, Data()
    hook.before_train_iter(None, 0, [torch.zeros(1)])  # a batch of one's own form


@pytest.mark.parametrize(
    ('bad', 'message'),
    [
        (sample(label=3), r'`gt_label` of a/3.jpg of Data to be in \[0, 3\), .*, but got 3$'),
        (sample(label=-1), r'`gt_label` of a/3.jpg of Data to be in \[0, 3\), .*, but got -1$'),
        (sample(label=[0, 5]), r'to be in \[0, 3\), `num_classes` of .*, but got \[0, 5\]$'),
        (sample(score=[0.0, 1.0]), r'`gt_score` of a/3.jpg of Data .*\(3,\), .* but got \(2,\)$'),
    ],
)
def test_labels_that_do_not_fit(bad, message):
    good = sample(score=[0.0, 1, 0]) if 'gt_score' in bad else sample(label=1)
    with pytest.raises(LabelRangeError, match=message):
        look_at([good, bad, good])


@pytest.mark.parametrize(
    ('head', 'number'),
    [
        (HEAD, 5),
        (dict(type='VigClsHead', num_classes=6), 6),  # which keeps no `num_classes`
        (dict(type='CSRAClsHead', num_classes=4, num_heads=1, lam=0.1), 4),  # nor a bias
        (dict(type='MultiTaskHead', task_heads=dict(a=HEAD)), None),
    ],
)
def test_number_of_outputs(head, number):
    assert find_num_outputs(make_model(**head)) == number


def test_no_outputs_without_a_classifier():
    assert find_num_outputs(nn.Linear(3, 4)) is None


def state_of(model, **changes):
    state = model.state_dict() | changes
    return {key: value for key, value in state.items() if value is not None}


@pytest.mark.parametrize(
    ('changes', 'prefix'),
    [
        ({}, ''),
        ({}, 'module.'),  # saved by DataParallel
        ({'backbone.bias': None}, ''),  # one of four is missing: mmengine warns of it
        ({'further': torch.zeros(2)}, ''),
    ],
)
def test_checkpoints_that_fit(changes, prefix):
    model = make_model(**HEAD)
    state = {prefix + key: value for key, value in state_of(model, **changes).items()}
    runner = SimpleNamespace(model=model)
    for checkpoint in (state, dict(state_dict=state, meta={})):
        CheckpointFitHook().after_load_checkpoint(runner, checkpoint)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (
            {'head.fc.weight': torch.zeros(9, 8)},
            r'1 of its 4 .*: head.fc.weight has shape \(9, 8\) in the .* and \(5, 8\) in the',
        ),
        (
            {'head.fc.bias': None},
            r'1 of its 4 parameters .*: head.fc.bias is missing',
        ),
        (
            {'backbone.weight': None, 'backbone.bias': torch.zeros(9)},
            r'2 of its 4 .*: backbone.weight is missing in the checkpoint and \(8, 3\)',
        ),
    ],
)
def test_checkpoints_of_another_model(changes, message):
    model = make_model(**HEAD)
    state = state_of(model, **changes)
    with pytest.raises(CheckpointMisfitError, match=message):
        CheckpointFitHook().after_load_checkpoint(SimpleNamespace(model=model), state)


def with_views(num_classes):
    model = make_model(**HEAD | dict(num_classes=num_classes))
    model.neck = nn.Linear(8, 8)  # so that the classifier is less than half of the keys
    model.test_step = None  # which BaseTTAModel asks for
    return AverageClsScoreTTA(module=model)


def test_checkpoint_of_another_classifier_with_views():
    hook, tta = CheckpointFitHook(), with_views(num_classes=5)
    state = tta.module.state_dict()
    hook.after_load_checkpoint(SimpleNamespace(model=tta), state)
    runner = SimpleNamespace(model=with_views(num_classes=6))
    with pytest.raises(CheckpointMisfitError, match=r'2 of its 6 .*: head.fc.weight has shape'):
        hook.after_load_checkpoint(runner, state)


@pytest.mark.parametrize('rank', [0, 1])
def test_checkpoint_of_a_sharded_classifier_has_all_classes(rank):
    hook, runner = CheckpointFitHook(), SimpleNamespace(model=nn.Module())
    runner.model.head = nn.Module()
    runner.model.head.fc = as_rank(rank, 2, num_classes=7)
    whole, share = (
        {'head.fc.weight': torch.zeros(n, 3), 'head.fc.bias': torch.zeros(n)} for n in (7, 4)
    )
    hook.after_load_checkpoint(runner, whole)
    with pytest.raises(CheckpointMisfitError, match=r'2 of its 2 .* \(4, 3\) .* and \(7, 3\)'):
        hook.after_load_checkpoint(runner, share)


def with_classes(*classes):
    dataset = SimpleNamespace(metainfo=dict(classes=classes))
    return SimpleNamespace(dataset=dataset)


@pytest.mark.parametrize(
    ('classes', 'told'),
    [
        ('abcde', None),
        ('abc', None),  # the last have no images
        ('abcdefg', None),  # unknown ones come last
        ('', None),
        ('acde', "Class 1 of the SimpleNamespace to evaluate on is 'c', but 'b' in "),
        ('Aabcde', "Class 0 of the SimpleNamespace to evaluate on is 'A', but 'a' in "),
    ],
)
@pytest.mark.parametrize('head', ['LinearClsHead', 'BNNeckHead'])
def test_classes_to_evaluate_on(classes, told, head):
    """By the training data before training, by the checkpoint before a test; re-ID has others."""
    backbone = dict(type='mmpretrain.LeNet5')
    config = dict(type=head, num_classes=5, in_channels=8)
    model = MODELS.build(dict(type='ImageClassifier', backbone=backbone, head=config))
    lines = []
    runner = SimpleNamespace(
        model=model,
        hooks=[],
        _resume=True,
        logger=SimpleNamespace(warning=lines.append),
        train_dataloader=with_classes(*'abcde'),
        val_loop=SimpleNamespace(dataloader=with_classes(*classes)),
        test_loop=SimpleNamespace(dataloader=with_classes(*classes)),
    )
    TrainingChecksHook().before_train(runner)
    checkpoint = dict(state_dict=model.state_dict(), meta=dict(dataset_meta=dict(classes='abcde')))
    CheckpointFitHook().after_load_checkpoint(runner, checkpoint)
    if told is None or head == 'BNNeckHead':
        assert lines == []
    else:
        end = ': labels that are numbered otherwise count as wrong'
        assert lines == [told + place + end for place in ('training', 'the checkpoint')]


@pytest.mark.parametrize(('ratio', 'is_told'), [(0.3, False), (0.5, True)])
def test_ratio_that_the_hook_replaces(ratio, is_told):
    loss = dict(type='HSLRLoss', ratio=ratio)
    lines = []
    runner = SimpleNamespace(
        model=make_model(**HEAD, loss=loss),
        hooks=[FocusAnnealingHook('ratio', 1.0, 0.3)],
        _resume=True,
        logger=SimpleNamespace(warning=lines.append),
        train_dataloader=with_classes(*'abcde'),
        val_loop=None,
    )
    TrainingChecksHook().before_train(runner)
    told = [line for line in lines if 'has ratio 0.5, but FocusAnnealingHook ends at 0.3' in line]
    assert len(told) == is_told


def test_error_is_left_for_the_launcher(tmp_path, monkeypatch):
    """torchrun prints what is in its file; tools/dist_train.sh what is in the other, last."""
    for variable in ('TORCHELASTIC_ERROR_FILE', 'FRLR_ERROR_FILE'):
        monkeypatch.setenv(variable, str(tmp_path / variable))
    monkeypatch.setattr('sys.argv', ['tools/train.py'])
    with pytest.raises(SystemExit) as error, launch.one_line_errors():
        raise ValueError('Expected `x` to be 1')
    line = error.value.code
    assert line.startswith('train.py: error: Expected `x` to be 1')
    assert (tmp_path / 'FRLR_ERROR_FILE').read_text() == line + '\n'
    left = json.loads((tmp_path / 'TORCHELASTIC_ERROR_FILE').read_text())
    assert left['message'] == line and left['timestamp'] > 0
