from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
from mmengine.dataset import BaseDataset, Compose, RepeatDataset
from mmengine.registry import DATASETS
from mmpretrain.engine.hooks import SwitchRecipeHook

from frlr_mm.datasets import ClassSubset
from frlr_mm.datasets.label_counts import count_labels
from tests.support.glyph_cases import load

NAMES = ('ant', 'bee', 'cat', 'dog')
LABELS = (3, 0, 2, 1, 0, 3)
PACK = [dict(type='mmpretrain.PackInputs')]


@DATASETS.register_module()
class FourClasses(BaseDataset):
    METAINFO: ClassVar = dict(classes=NAMES, more='kept')

    def load_data_list(self):
        return [dict(img=np.full((2, 2, 3), i), gt_label=y) for i, y in enumerate(LABELS)]


def read(dataset):
    """Return the number and the label of each image, as the model and as a count sees them."""
    packed = [dataset[i] for i in range(len(dataset))]
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    seen = [(int(p['inputs'][0, 0, 0]), p['data_samples'].gt_label.item()) for p in packed]
    assert seen == [(int(info['img'][0, 0, 0]), info['gt_label']) for info in infos]
    return seen


@pytest.mark.parametrize('serialize_data', [True, False])
@pytest.mark.parametrize(
    ('classes', 'known', 'unknown'),
    [
        (2, [(1, 0), (3, 1), (4, 0)], [(0, -1), (2, -1), (5, -1)]),
        (('dog', 'ant'), [(0, 0), (1, 1), (4, 1), (5, 0)], [(2, -1), (3, -1)]),
        (4, [(i, y) for i, y in enumerate(LABELS)], []),
    ],
)
def test_keeps_some_classes(classes, known, unknown, serialize_data):
    cfg = dict(type='FourClasses', pipeline=PACK, serialize_data=serialize_data)
    subset = ClassSubset(cfg, classes)
    names = NAMES[:classes] if isinstance(classes, int) else classes
    assert subset.metainfo == dict(classes=names, more='kept') and names == subset.CLASSES
    assert read(subset) == known
    assert read(ClassSubset(cfg, classes, others='unknown')) == known + unknown
    counts = count_labels(subset, len(names))
    assert counts.positive.tolist() == [[y for _, y in known].count(i) for i in range(len(names))]
    assert subset.get_cat_ids(0) == [known[0][1]]


def test_pipeline_stands_where_inferencers_look_for_it():
    cfg = dict(type='ClassSubset', dataset=dict(type='FourClasses'), classes=2, pipeline=PACK)
    assert read(DATASETS.build(cfg)) == [(1, 0), (3, 1), (4, 0)]
    with pytest.raises(ValueError, match='`pipeline` to be None'):
        ClassSubset(FourClasses(pipeline=PACK), 2, pipeline=PACK)


@pytest.mark.parametrize('serialize_data', [True, False])
def test_leaves_the_data_set_as_it_is(serialize_data):
    dataset = FourClasses(pipeline=PACK, serialize_data=serialize_data)
    before = read(dataset)
    for _ in range(2):
        assert read(ClassSubset(dataset, 2)) == [(1, 0), (3, 1), (4, 0)]
        assert read(ClassSubset(dataset, ['cat'])) == [(2, 0)]
    assert read(dataset) == before and dataset.metainfo['classes'] == NAMES


def test_refuses_to_be_empty():
    dataset = FourClasses(pipeline=PACK, metainfo=dict(classes=(*NAMES, 'eel')))
    with pytest.raises(ValueError, match=r"FourClasses, but got \['eel'\], .* 6 images"):
        ClassSubset(dataset, ['eel'])
    assert len(ClassSubset(dataset, ['eel'], others='unknown')) == 6


@pytest.mark.parametrize('is_wrapped', [False, True])
def test_labels_stay_new_when_the_pipeline_is_switched(is_wrapped):
    cfg = dict(
        type='ClassSubset', dataset=dict(type='FourClasses', pipeline=PACK), classes=('dog', 'ant')
    )
    dataset = RepeatDataset(cfg, 1) if is_wrapped else DATASETS.build(cfg)
    subset = dataset.dataset if is_wrapped else dataset
    before = read(subset)
    loop = SimpleNamespace(dataloader=SimpleNamespace(dataset=dataset, _iterator=None))
    for _ in range(2):
        pipeline = Compose(PACK)
        SwitchRecipeHook._switch_train_pipeline(SimpleNamespace(train_loop=loop), pipeline)
        assert subset.pipeline is pipeline
        assert read(subset) == before
    # As mmpretrain's browse_dataset.py does.
    subset.pipeline = Compose(subset.pipeline.transforms)
    assert read(subset) == before


def test_glyphs_beyond_the_known_ones_are_unknown(tmp_path):
    """The images of the known ones are those of a data set of them alone."""
    known = load(tmp_path, 'test', num_classes=4)
    subset = ClassSubset(load(tmp_path, 'test', num_classes=6), 4, others='unknown')
    assert subset.metainfo['classes'] == known.metainfo['classes']
    assert len(subset) == len(known) * 6 // 4
    for i in range(len(subset)):
        info = subset.get_data_info(i)
        if i < len(known):
            other = known.get_data_info(i)
            assert np.array_equal(info['img'], other['img'])
            assert info['gt_label'] == other['gt_label']
        else:
            assert info['gt_label'] == -1


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(classes=5), r'`classes` to be an int in \[1, 4\], but got 5'),
        (dict(classes=0), '`classes` to be an int'),
        (dict(classes=['cow']), "of FourClasses, but it has no 'cow'"),
        (dict(classes=['cat', 'cat']), 'names, each once'),
        (dict(classes='cat'), 'names, each once'),
        (dict(classes=[]), 'names, each once'),
        (dict(classes=2, others='keep'), "`others` to be one of .* but got 'keep'"),
        (dict(classes=2, dataset=dict(type='FourClasses', metainfo=dict(classes=()))), 'to name'),
    ],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        ClassSubset(**dict(dataset=dict(type='FourClasses')) | kwargs)


def test_data_sets_that_do_not_fit(tmp_path):
    with pytest.raises(ValueError, match='one `gt_label`, an int, but image 0 of'):
        ClassSubset(load(tmp_path, 'val', num_classes=None, task='attributes'), 2)
    with pytest.raises(TypeError, match='a data set or its config, but got 3'):
        ClassSubset(3, 2)
