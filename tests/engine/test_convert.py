import copy

import pytest
from mmengine.config import Config

from frlr_mm.engine.convert import convert, converted_name, default_ratio
from tests.support.recipes import flatten, load

PER_IMAGE = dict(type='PosWeightHook', exponent=0.0, per_image=True)
PRIOR = dict(type='PriorBiasHook')
HSLR = dict(type='HSLRLoss', alpha='sum', ratio=0.3)


def annealing(end_value):
    focus = dict(type='FocusAnnealingHook', param='ratio', start_value=1.0)
    return dict(focus, end_value=end_value, end=0.8)


def make(loss=None, head=None, **fields):
    """Return a small config; ``head`` replaces all of the head."""
    if head is None:
        head = dict(type='LinearClsHead', num_classes=10, in_channels=8, topk=(1, 5))
        head |= {} if loss is None else dict(loss=loss)
    model = dict(type='ImageClassifier', backbone=dict(type='ResNet', depth=18), head=head)
    return Config(dict(model=model) | fields, filename=None)


def head_after(cfg, loss='hslr'):
    return convert(cfg, loss)[0].to_dict()['model']['head']


@pytest.mark.parametrize(
    ('loss', 'expected', 'num_hooks'),
    [
        ('hslr', HSLR, 2),
        ('sslr', dict(type='SSLRLoss', alpha='sum', gamma=0.25), 1),
        ('lr', dict(type='SSLRLoss', alpha='sum', gamma=0.0), 1),
    ],
)
def test_loss_prior_and_schedule(loss, expected, num_hooks):
    cfg = make(dict(type='CrossEntropyLoss', loss_weight=1.0), custom_hooks=[dict(type='EMAHook')])
    before = copy.deepcopy(cfg.to_dict())
    converted, _ = convert(cfg, loss)
    assert converted.model.head.loss == expected
    hooks = [dict(type='EMAHook'), PRIOR, annealing(0.3)]
    assert converted.custom_hooks == hooks[: 1 + num_hooks]
    assert converted.custom_imports == dict(imports=['frlr_mm'])
    assert cfg.to_dict() == before  # the recipe stays as it is
    rest = converted.to_dict()
    for key in ('custom_hooks', 'custom_imports'):
        rest.pop(key)
    rest['model']['head'].pop('loss')
    before.pop('custom_hooks')
    before['model']['head'].pop('loss')
    before['model']['type'] = 'LogisticClassifier'
    assert rest == before


def test_the_lines_that_changed():
    cfg = make(dict(type='CrossEntropyLoss', loss_weight=1.0), custom_hooks=[dict(type='EMAHook')])
    assert convert(cfg, 'hslr')[1] == [
        "- model.type = 'ImageClassifier'",
        "+ model.type = 'LogisticClassifier'",
        "- model.head.loss = dict(type='CrossEntropyLoss', loss_weight=1.0)",
        "+ model.head.loss = dict(type='HSLRLoss', alpha='sum', ratio=0.3)",
        "+ custom_hooks: dict(type='PriorBiasHook')",
        "+ custom_hooks: dict(type='FocusAnnealingHook', param='ratio', start_value=1.0, "
        'end_value=0.3, end=0.8)',
        "+ custom_imports.imports: 'frlr_mm'",
    ]


@pytest.mark.parametrize(
    'name',
    [
        'resnet50_8xb32-{}_in1k',
        'vit-base-p16_32xb128-mae-{}_in1k',
        'resnet18_8xb16-{}_cifar10',
        'resnet18_8xb16-{}_tiny-imagenet',
        'resnet50_8xb128-{}_coslr-90e_in21k',
        'resnet18_b128-{}_glyphs',
    ],
)
@pytest.mark.parametrize('loss', ['hslr', 'sslr'])
def test_flag_gives_the_recipe_of_the_repository(name, loss):
    """Written by hand from the same stock recipe; label smoothing, which those drop, stays.

    The flag anneals HS-LR's ratio along a cosine, that recipe for glyphs exponentially.
    """
    ours = load(name.format(loss))
    stock = {
        'in1k': 'mmpretrain::{}/' + name.replace('-{}', ''),
        'cifar10': 'mmpretrain::resnet/' + name.replace('-{}', ''),
        'in21k': 'mmpretrain::resnet/' + name.replace('-{}', ''),
    }.get(name.rpartition('_')[2], name.format('sr'))
    folder = 'vision_transformer' if name.startswith('vit') else 'resnet'
    base = load(stock.format(folder) + ('.py' if '::' in stock else ''))
    converted, _ = convert(base, loss)
    assert converted.filename == f'{name.format(loss)}.py'
    found, smoothing = converted.model.head.loss, {}
    if found.type == 'LabelSmoothFRLRLoss':
        smoothing, found = found, found.loss
    assert found == ours.model.head.loss
    for hook in ours.get('custom_hooks', ()):
        if hook.type == 'FocusAnnealingHook' and 'glyphs' in name:
            assert hook.pop('schedule') == 'exponential'
    ours, converted = flatten(ours.to_dict()), flatten(converted.to_dict())
    assert bool(smoothing) == ('smooth' in str(base.model.head.loss).lower())
    changed = {key for key in ours.keys() | converted if ours.get(key) != converted.get(key)}
    assert {key for key in changed if not key.startswith(('loss', 'model.head.loss'))} == set()


def test_attributes_keep_unknown_labels():
    base = load('resnet50_8xb32-lr_deepfashion-coarse')
    assert base.train_dataloader.dataset.unknown == 'negative'
    for loss in ('hslr', 'sslr', 'lr'):
        converted, lines = convert(base, loss)
        assert converted.train_dataloader.dataset.unknown == 'keep'
        assert "+ train_dataloader.dataset.unknown = 'keep'" in lines
        assert 'unknown' not in converted.val_dataloader.dataset
        assert converted.custom_hooks.count(PRIOR) == 1
        assert converted.custom_hooks.count(PER_IMAGE) == 1
    assert convert(base, 'hslr')[0].model.head.loss.ratio == 0.6
    assert convert(base, 'sslr')[0].model.head.loss.gamma == 0.1


def test_weights_of_positives_come_once():
    """The flag adds them where positives were summed, not to losses of ours."""
    ours = load('resnet50_8xb32-hslr_deepfashion-coarse')
    converted, _ = convert(ours, 'sslr')
    assert converted.model.head.loss.pos_weight == 5.0 and PER_IMAGE not in converted.custom_hooks
    once, _ = convert(load('resnet50_8xb32-lr_deepfashion-coarse'), 'hslr')
    twice, _ = convert(once, 'sslr')
    assert twice.custom_hooks.count(PER_IMAGE) == 1
    own = dict(type='PosWeightHook', exponent=0.5)
    cfg = load('resnet50_8xb32-lr_deepfashion-coarse')
    cfg.custom_hooks = [PRIOR, own]
    assert convert(cfg, 'lr')[0].custom_hooks == [PRIOR, own]
    assert PER_IMAGE not in convert(make(), 'lr')[0].custom_hooks


def test_wrapped_training_set():
    dataset = dict(type='RepeatDataset', times=2, dataset=dict(type='X', unknown='negative'))
    cfg = make(train_dataloader=dict(dataset=dataset))
    assert convert(cfg, 'lr')[0].train_dataloader.dataset.dataset.unknown == 'keep'


@pytest.mark.parametrize(
    ('old', 'smoothing'),
    [
        (dict(label_smooth_val=0.1, mode='original'), dict(label_smooth_val=0.1, mode='original')),
        (
            dict(label_smooth_val=0.2, num_classes=10, mode='classy_vision', use_sigmoid=True),
            dict(label_smooth_val=0.2, num_classes=10, mode='classy_vision'),
        ),
    ],
)
def test_label_smoothing_stays(old, smoothing):
    loss = head_after(make(dict(type='LabelSmoothLoss', loss_weight=2.0, **old)))['loss']
    inner = dict(HSLR, loss_weight=2.0)
    assert loss == dict(type='LabelSmoothFRLRLoss', **smoothing, loss=inner)
    # and once more, with another loss
    again = head_after(make(loss), 'sslr')['loss']
    assert again == loss | dict(loss=dict(type='SSLRLoss', alpha='sum', gamma=0.25, loss_weight=2))


def test_weights_stay():
    kept = dict(loss_weight=0.5, class_weight=[1.0] * 10, reduction='sum', pos_weight=2.0)
    for kind in ('CrossEntropyLoss', 'FocalLoss', 'AsymmetricLoss', 'SeesawLoss'):
        old = dict(type=kind, use_sigmoid=True, gamma=2.0, alpha=0.25, **kept)
        expected = dict(type='SSLRLoss', alpha='sum', gamma=0.25, **kept)
        if kind == 'CrossEntropyLoss':  # which has neither: an option of the command line
            expected |= dict(gamma=2.0, alpha=0.25)
        assert head_after(make(old), 'sslr')['loss'] == expected


def test_options_for_the_new_loss_that_were_set_on_the_old_one():
    cfg = make(dict(type='CrossEntropyLoss', ratio=0.5))
    converted, _ = convert(cfg, 'hslr')
    assert converted.model.head.loss == dict(HSLR, ratio=0.5)
    assert converted.custom_hooks[-1] == annealing(0.5)


def test_from_one_of_ours_to_another():
    cfg = load('resnet18_b128-hslr_glyphs')
    converted, _ = convert(cfg, 'sslr')
    assert converted.model.head.loss == dict(type='SSLRLoss', alpha='sum', gamma=0.25)
    assert converted.custom_hooks == [PRIOR]
    same, lines = convert(cfg, 'hslr')
    assert same.to_dict() == cfg.to_dict() and lines == []


def test_heads_of_several_tasks():
    head = dict(
        type='MultiTaskHead',
        in_channels=8,
        loss=dict(type='FocalLoss', loss_weight=2.0),
        task_heads=dict(
            kind=dict(type='LinearClsHead', num_classes=1000),
            tags=dict(
                type='MultiLabelLinearClsHead',
                num_classes=20,
                loss=dict(type='CrossEntropyLoss', use_sigmoid=True),
            ),
        ),
    )
    converted, _ = convert(make(head=head), 'hslr')
    heads = converted.to_dict()['model']['head']['task_heads']
    # One hook anneals both, so that both end at the ratio of the smaller one.
    assert heads['kind']['loss'] == dict(HSLR, ratio=0.6, loss_weight=2.0)
    assert heads['tags']['loss'] == dict(HSLR, ratio=0.6)
    assert 'loss' not in converted.model.head
    assert converted.custom_hooks == [PRIOR, PER_IMAGE, annealing(0.6)]


def test_loss_that_a_hook_switches_to():
    schedule = [
        dict(action_epoch=3, loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1)),
        dict(action_epoch=5, batch_augments=None),
    ]
    cfg = make(custom_hooks=[dict(type='SwitchRecipeHook', schedule=schedule)])
    found = convert(cfg, 'hslr')[0].custom_hooks[0].schedule
    assert found[0].loss == dict(type='LabelSmoothFRLRLoss', label_smooth_val=0.1, loss=HSLR)
    assert found[1] == schedule[1]


def test_default_loss_of_a_head_and_accuracy_on_logits():
    head = dict(type='StackedLinearClsHead', num_classes=10, in_channels=8, mid_channels=[4])
    assert head_after(make(head=head | dict(cal_acc=True))) == head | dict(
        cal_acc=False, loss=HSLR
    )


PURE_PYTHON = """
from mmpretrain.models import CrossEntropyLoss, ImageClassifier, LinearClsHead, ResNet
head = dict(type=LinearClsHead, num_classes=10, in_channels=512, loss=dict(type=CrossEntropyLoss))
model = dict(type=ImageClassifier, backbone=dict(type=ResNet, depth=18), head=head)
"""


def test_types_that_are_classes(tmp_path):
    """As in the configs of mmengine's new style; what is written has their names."""
    (tmp_path / 'new.py').write_text(PURE_PYTHON)
    converted, _ = convert(Config.fromfile(tmp_path / 'new.py'), 'hslr')
    converted.dump(tmp_path / 'plain.py')
    written = Config.fromfile(tmp_path / 'plain.py')
    assert written.model.head.type == 'mmpretrain.models.LinearClsHead'
    assert written.model.head.loss == HSLR
    assert written.to_dict() == converted.to_dict()


def test_validation_of_which_a_part_is_missing():
    cfg = make(val_cfg=dict(), test_dataloader=dict(), test_evaluator=dict(type='Accuracy'))
    converted, lines = convert(cfg, 'lr')
    assert converted.val_cfg is None and converted.test_cfg == dict()
    assert '- val_cfg = dict()' in lines and '+ test_cfg = dict()' in lines


@pytest.mark.parametrize(
    ('cfg', 'reason'),
    [
        (Config(dict(a=1)), 'the config has no head that classifies'),
        (Config(dict(model=dict(type='BlipCaption'))), 'BlipCaption has no head that classifies'),
        (make(head=dict(type='MAEPretrainHead')), 'MAEPretrainHead does not classify'),
        (
            make(head=dict(type='ArcFaceClsHead', num_classes=9, in_channels=8)),
            'ArcFaceClsHead is a margin head, whose loss is a softmax',
        ),
        (
            make(head=dict(type='LeViTClsHead', in_channels=8)),
            'mmpretrain does not train LeViTClsHead with distillation',
        ),
        (make(dict(type='SwAVLoss')), r'model.head.loss is SwAVLoss, not one of CrossEntropyLoss'),
    ],
)
def test_recipes_without_a_loss_to_replace(cfg, reason):
    with pytest.raises(ValueError, match=f'classification loss to replace, but {reason}'):
        convert(cfg, 'hslr')


@pytest.mark.parametrize(
    ('cfg', 'message'),
    [
        (
            make(head=dict(type='LinaerClsHead')),
            '`model.head.type` to be a registered head, but go',
        ),
        (
            make(head=dict(type='ClsHead')),
            '`model.head.num_classes`, or that of the backbone',
        ),
    ],
)
def test_broken_recipes(cfg, message):
    with pytest.raises(ValueError, match=message):
        convert(cfg, 'hslr')


def test_unknown_loss():
    with pytest.raises(ValueError, match="Expected `loss` to be one of .*, but got 'softmax'"):
        convert(make(), 'softmax')


@pytest.mark.parametrize(
    ('num_classes', 'multi_label', 'ratio', 'selected'),
    [
        (1, False, 1.0, 1),
        (2, False, 1.0, 2),
        (3, False, 0.667, 2),
        (10, False, 0.3, 3),
        (100, False, 0.1, 10),
        (200, False, 0.05, 10),
        (1000, False, 0.01, 10),
        (21843, False, 0.01, 218),
        (2, True, 1.0, 2),
        (35, True, 0.6, 21),
        (1000, True, 0.6, 600),
    ],
)
def test_default_ratio(num_classes, multi_label, ratio, selected):
    found = default_ratio(num_classes, multi_label)
    assert found == ratio
    assert max(1, int(num_classes * found + 1e-9)) == selected


@pytest.mark.parametrize(
    ('path', 'name'),
    [
        ('resnet/resnet50_8xb32_in1k.py', 'resnet50_8xb32-hslr_in1k.py'),
        ('resnet18_b128-sr_glyphs-id.py', 'resnet18_b128-hslr_glyphs-id.py'),
        ('resnet18_b128-sslr_glyphs.py', 'resnet18_b128-hslr_glyphs.py'),
        ('mine.py', 'mine-hslr.py'),
        ('my_config.json', 'my_config-hslr.py'),
    ],
)
def test_names(path, name):
    assert converted_name(path, 'hslr') == name
