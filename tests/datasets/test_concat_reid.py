"""Several re-ID data sets as one: their persons stay apart, or it is refused."""

import copy

import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope
from mmengine.runner import Runner

from frlr_mm.datasets import ConcatReID
from tests.support import reid_layouts


@pytest.fixture
def configs(tmp_path):
    """Two data sets with one set of ids, and one of another class."""
    init_default_scope('mmpretrain')
    for name in ('here', 'there'):
        reid_layouts.WRITERS['market1501'](tmp_path / name)
    reid_layouts.WRITERS['dukemtmc'](tmp_path / 'duke')

    def build(split, **kwargs):
        return [
            dict(type=kind, data_root=str(tmp_path / name), split=split, pipeline=[], **kwargs)
            for kind, name in (
                ('Market1501', 'here'),
                ('Market1501', 'there'),
                ('DukeMTMCreID', 'duke'),
            )
        ]

    return build


def build(**config):
    return DATASETS.build(copy.deepcopy(config))


@pytest.mark.parametrize('split', ['train', 'query', 'gallery', 'test'])
@pytest.mark.parametrize('lazy_init', [False, True])
@pytest.mark.parametrize('others', [(1,), (2,), (1, 2)])
def test_concat_dataset_refuses_them(configs, split, lazy_init, others):
    chosen = [configs(split, lazy_init=lazy_init)[i] for i in (0, *others)]
    with pytest.raises(ValueError, match='persons in common, but got .*: use ConcatReID'):
        build(type='ConcatDataset', datasets=chosen, lazy_init=lazy_init)
    # Who drops the classes alone does not merge persons either.
    with pytest.raises(ValueError, match='use ConcatReID'):
        build(type='ConcatDataset', datasets=chosen, ignore_keys='classes')


def test_concat_dataset_takes_what_is_of_the_same_persons(configs):
    query, gallery = configs('query')[0], configs('gallery')[0]
    whole = build(**configs('test')[0])
    parts = build(type='ConcatDataset', datasets=[query, gallery])
    for i in range(len(whole)):
        assert parts[i] | dict(sample_idx=i) == whole[i]
    # On demand: ids of which the user knows that they are the same.
    merged = build(type='ConcatDataset', datasets=configs('train')[:2], ignore_keys=['persons'])
    assert merged[0]['gt_label'] == merged[len(merged) // 2]['gt_label']
    with pytest.raises(ValueError, match='does not match meta information'):
        build(
            type='ConcatDataset',
            datasets=[configs('train', metainfo=dict(a=a))[0] for a in (1, 2)],
        )


@pytest.mark.parametrize('split', ['train', 'test'])
@pytest.mark.parametrize('lazy_init', [False, True])
def test_persons_stay_apart(configs, split, lazy_init):
    parts = [build(**config) for config in configs(split)]
    joint = build(
        type='ConcatReID', datasets=configs(split, lazy_init=lazy_init), lazy_init=lazy_init
    )
    persons = [
        (number, info['gt_label'])
        for number, part in enumerate(parts)
        for info in map(part.get_data_info, range(len(part)))
    ]
    labels = [joint.get_data_info(i)['gt_label'] for i in range(len(joint))]
    assert len(labels) == len(persons)
    # One label per person, and one person per label.
    assert len(set(zip(persons, labels, strict=True))) == len(set(persons)) == len(set(labels))
    assert [joint[i] for i in range(len(joint))] == [
        joint.get_data_info(i) for i in range(len(joint))
    ]
    assert joint.get_cat_ids(len(joint) - 1) == [labels[-1]]
    if split == 'train':
        classes = joint.metainfo['classes']
        assert sorted(set(labels)) == list(range(len(classes)))
        assert classes[0] == f'Market1501/{parts[0].metainfo["classes"][0]}'
        assert classes[labels[-1]].split('/') == [
            'DukeMTMCreID',
            parts[2].metainfo['classes'][persons[-1][1]],
        ]
    else:
        assert 'classes' not in joint.metainfo


def test_labels_of_packed_samples_and_balanced_ones(configs):
    packed = configs('train')
    for config in packed:
        config['pipeline'] = [
            dict(type='LoadImageFromFile'),
            dict(type='PackInputs', meta_keys=('camera_id',)),
        ]
    joint = build(type='ConcatReID', datasets=packed)
    infos = [joint.get_data_info(i) for i in range(len(joint))]
    for _ in range(2):  # the labels do not move on
        found = [int(joint[i]['data_samples'].gt_label) for i in range(len(joint))]
        assert found == [info['gt_label'] for info in infos]
    balanced = build(
        type='ClassBalancedDataset',
        dataset=dict(type='ConcatReID', datasets=packed),
        oversample_thr=1.0,
    )
    assert isinstance(balanced.dataset, ConcatReID) and len(balanced) > len(joint)


def test_trains_and_evaluates(configs, tmp_path, request):
    recipe = request.config.rootpath / 'configs/reid/resnet50_b64-hslr_market1501.py'
    cfg = Config.fromfile(recipe)
    cfg.work_dir, cfg.log_level = str(tmp_path / 'run'), 'ERROR'
    cfg.train_cfg = dict(by_epoch=True, max_epochs=1, val_interval=1)
    cfg.default_hooks.checkpoint = None
    cfg.model.backbone.update(init_cfg=None, base_channels=8, stem_channels=8)
    num_classes = len(build(type='ConcatReID', datasets=configs('train')).metainfo['classes'])
    cfg.model.head.update(in_channels=8 * 32, num_classes=num_classes)
    for name, split in (('train', 'train'), ('val', 'test')):
        loader = cfg[f'{name}_dataloader']
        loader.num_workers = 0
        pipeline = loader.dataset.pipeline
        datasets = [config | dict(pipeline=pipeline) for config in configs(split)]
        loader['dataset'] = dict(type='ConcatReID', datasets=datasets)
    cfg.test_cfg = cfg.test_dataloader = cfg.test_evaluator = None
    runner = Runner.from_cfg(cfg)
    runner.train()
    history = runner.message_hub.log_scalars
    assert history['train/loss'].current() > 0
    # Queries without a match are those of the parts: no other set adds one.
    alone = sum(_count_left_out(build(**config | dict(pipeline=[]))) for config in configs('test'))
    assert history['val/reid/queries_left_out'].current() == alone


def _count_left_out(dataset):
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    return sum(
        not any(
            other['gt_label'] == info['gt_label'] and other['camera_id'] != info['camera_id']
            for other in infos
            if not other['is_query']
        )
        for info in infos
        if info['is_query']
    )
