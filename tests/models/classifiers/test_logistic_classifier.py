"""Sigmoid scores of every stock head, rejection, and what shows predictions."""

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmpretrain import ImageClassificationInferencer
from mmpretrain.evaluation import Accuracy, ConfusionMatrix, SingleLabelMetric
from mmpretrain.models import AverageClsScoreTTA
from mmpretrain.structures import DataSample
from mmpretrain.visualization import UniversalVisualizer
from torch import nn

from frlr_mm.functional import ClassShard
from frlr_mm.models import LogisticClassifier
from frlr_mm.models.classifiers.logistic_classifier import predicts_by_softmax

C, D = 7, 8
LINEAR = dict(in_channels=D, num_classes=C)
OURS = dict(loss=dict(type='SSLRLoss'))
# A head, the shape of the features it takes, and how many of these in what.
HEADS = {
    'linear': (dict(type='LinearClsHead', **LINEAR), lambda x: (x,)),
    'stacked': (dict(type='StackedLinearClsHead', mid_channels=[6], **LINEAR), lambda x: (x,)),
    'vit': (dict(type='VisionTransformerClsHead', hidden_dim=6, **LINEAR), lambda x: (x,)),
    'deit': (dict(type='DeiTClsHead', **LINEAR), lambda x: ((x, 2 * x),)),
    'conformer': (
        dict(type='ConformerHead', num_classes=C, in_channels=[D, D]),
        lambda x: ((x, 2 * x),),
    ),
    'vig': (dict(type='VigClsHead', hidden_dim=6, **LINEAR), lambda x: (x,)),
    'efficientformer': (
        dict(type='EfficientFormerClsHead', distillation=True, **LINEAR),
        lambda x: (x,),
    ),
    'levit': (dict(type='LeViTClsHead', distillation=True, **LINEAR), lambda x: (x,)),
    'fused': (dict(type='FusedLinearClsHead', **LINEAR, **OURS), lambda x: (x,)),
    # On one process.
    'sharded': (dict(type='ShardedLinearClsHead', **LINEAR, **OURS), lambda x: (x,)),
}


class Backbone(nn.Module):
    """Hand the images, which are features here, to the head in the form that it takes."""

    def __init__(self, form):
        super().__init__()
        self.form = form

    def forward(self, x):
        return self.form(x)


def build(head, form=lambda x: (x,), kind='LogisticClassifier', **kwargs):
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(dict(type=kind, backbone=Backbone(form), head=head, **kwargs))
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    return model.eval()


@pytest.mark.parametrize('name', HEADS)
def test_scores_are_sigmoids_and_the_rest_is_that_of_the_stock_classifier(name):
    ours, stock = (build(*HEADS[name], kind=k) for k in ('LogisticClassifier', 'ImageClassifier'))
    stock.load_state_dict(ours.state_dict())  # checkpoints serve both
    x = torch.randn(5, D)
    predictions, expected = ours(x, mode='predict'), stock(x, mode='predict')
    logits = stock(x, mode='tensor')
    logits = sum(logits) if isinstance(logits, tuple) else logits
    for sample, other, row in zip(predictions, expected, logits, strict=True):
        torch.testing.assert_close(sample.pred_score, 1 / (1 + torch.exp(-row)))
        torch.testing.assert_close(other.pred_score, row.softmax(0))  # by these very logits
        assert torch.equal(sample.pred_label, other.pred_label)
        assert torch.equal(sample.pred_score.argsort(), other.pred_score.argsort())
    assert type(ours(x, mode='tensor')) is type(stock(x, mode='tensor'))


def test_head_of_several_processes_predicts_by_itself():
    """None of them has the logits of all classes; tests/engine tests what it predicts."""
    head = build(HEADS['sharded'][0], reject_below=0.5).head
    assert predicts_by_softmax(head)
    head.fc.shard = ClassShard(C, 0, 2)
    assert not predicts_by_softmax(head)


def test_predicts_into_the_samples_it_gets():
    model = build(HEADS['linear'][0])
    samples = [DataSample().set_gt_label(3), None]
    first, second = model(torch.randn(2, D), samples, mode='predict')
    assert first is samples[0] and first.gt_label.tolist() == [3] and 'pred_score' in second


def test_rejects_below_the_threshold_and_not_at_it():
    model = build(HEADS['linear'][0])
    x = torch.randn(50, D)
    free = model(x, mode='predict')
    best = torch.stack([sample.pred_score.max() for sample in free])
    threshold = best.median().item()  # the score of one of them
    model.reject_below = threshold
    labels = [sample.pred_label.item() for sample in model(x, mode='predict')]
    expected = [s.pred_label.item() if s.pred_score.max() >= threshold else -1 for s in free]
    assert labels == expected and 0 < labels.count(-1) < 50
    for sample, other in zip(model(x, mode='predict'), free, strict=True):
        assert torch.equal(sample.pred_score, other.pred_score)


def test_half_precision_gives_float32_scores():
    """Under autocast the logits are bfloat16, which has no number between 0.996 and 1."""
    model = build(HEADS['linear'][0])
    with torch.autocast('cpu', torch.bfloat16):
        (sample,) = model(torch.randn(1, D), mode='predict')
    assert sample.pred_score.dtype == torch.float32


@pytest.mark.parametrize(
    ('head', 'field'),
    [
        (dict(type='MultiLabelLinearClsHead', **LINEAR), 'pred_score'),
        (dict(type='BNNeckHead', **LINEAR), 'feature'),
    ],
)
def test_other_heads_predict_as_ever(head, field):
    x = torch.randn(4, D)
    ours, stock = build(head), build(head, kind='ImageClassifier')
    for sample, other in zip(ours(x, mode='predict'), stock(x, mode='predict'), strict=True):
        assert torch.equal(sample.get(field), other.get(field))
    with pytest.raises(ValueError, match=f'`reject_below` to be None .* {head["type"]}, but got'):
        build(head, reject_below=0.5)


@pytest.mark.parametrize(
    ('value', 'error'),
    [(1.5, ValueError), (-0.1, ValueError), ('0.5', TypeError), (float('nan'), ValueError)],
)
def test_threshold_out_of_range(value, error):
    with pytest.raises(error, match='Expected `reject_below` to be'):
        build(HEADS['linear'][0], reject_below=value)


def test_several_tasks_are_refused():
    head = dict(type='MultiTaskHead', task_heads=dict(a=HEADS['linear'][0]), in_channels=D)
    with pytest.raises(ValueError, match='of one task'):
        build(head)


def test_metrics_of_mmpretrain_rank_by_the_scores():
    """Also those of rejected images, whose label is -1."""
    model = build(HEADS['linear'][0], reject_below=0.9)
    x = torch.randn(40, D)
    truth = model(x, mode='tensor').argmax(1)
    samples = [DataSample().set_gt_label(label) for label in truth]
    samples = model(x, samples, mode='predict')
    assert any(sample.pred_label == -1 for sample in samples)
    metrics = {}
    for metric in (Accuracy(topk=1), SingleLabelMetric(), ConfusionMatrix()):
        metric.process(None, [sample.to_dict() for sample in samples])
        metrics |= metric.evaluate(len(samples))
    assert metrics['accuracy/top1'] == 100
    assert metrics['confusion_matrix/result'].diag().sum() == 40


def merge(model, views):
    tta = AverageClsScoreTTA(module=model)
    return tta.merge_preds([[DataSample().set_pred_score(s).set_pred_label(9) for s in views]])[0]


def test_views_of_an_image_are_averaged_before_the_decision():
    views = torch.tensor([[0.9, 0.2, 0.1], [0.1, 0.8, 0.3]])
    model = build(HEADS['linear'][0], reject_below=0.5)
    merged = merge(model, views)
    torch.testing.assert_close(merged.pred_score, torch.tensor([0.5, 0.5, 0.2]))
    assert merged.pred_label.tolist() == [0]
    model.reject_below = 0.6
    assert merge(model, views).pred_label.tolist() == [-1]
    model.reject_below = None
    assert merge(model, views.flip(1)).pred_label.tolist() == [1]


class Spy(UniversalVisualizer):
    """A visualizer that keeps what it writes into the image."""

    def set_image(self, image):
        super().set_image(image)
        self.ax_save.text, self.texts = self._keep, []

    def _keep(self, x, y, text, **style):
        self.texts.append(text)


@pytest.mark.parametrize('classes', [['cat', 'dog', 'owl'], None])
def test_drawing_says_none_of_these(classes):
    sample = DataSample().set_gt_label(-1).set_pred_label(-1).set_pred_score([0.1, 0.3, 0.2])
    visualizer = Spy()
    visualizer.dataset_meta = dict(classes=classes) if classes else None
    name = ' (none of these)' if classes else ''
    visualizer.visualize_cls(np.zeros((32, 32, 3), np.uint8), sample)
    assert visualizer.texts == [f'Ground truth: -1{name}\nPrediction: -1, 0.30{name}']
    assert sample.pred_score.shape == (3,)  # what is drawn is a copy
    sample.set_gt_label(0).set_pred_label(2)
    visualizer.visualize_cls(np.zeros((32, 32, 3), np.uint8), sample)
    names = (' (cat)', ' (owl)') if classes else ('', '')
    assert visualizer.texts == [f'Ground truth: 0{names[0]}\nPrediction: 2, 0.20{names[1]}']


@pytest.mark.parametrize('threshold', [0.0, 1.0])
def test_inferencer(threshold, tmp_path):
    model = MODELS.build(
        dict(
            type='LogisticClassifier',
            backbone=dict(
                type='mmpretrain.ResNet_CIFAR', depth=18, base_channels=4, stem_channels=4
            ),
            neck=dict(type='mmpretrain.GlobalAveragePooling'),
            head=dict(type='mmpretrain.LinearClsHead', num_classes=3, in_channels=32),
            reject_below=threshold,
        )
    )
    dataset = dict(pipeline=[dict(type='LoadImageFromFile'), dict(type='PackInputs')])
    model._config = Config(dict(test_dataloader=dict(dataset=dataset)))
    model._dataset_meta = dict(classes=('cat', 'dog', 'owl'))
    inferencer = ImageClassificationInferencer(model)
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    (result,) = inferencer(image, show_dir=str(tmp_path))
    best = int(result['pred_scores'].argmax())
    assert result['pred_score'] == result['pred_scores'].max() < 1
    if threshold:
        assert (result['pred_label'], result['pred_class']) == (-1, 'none of these')
    else:
        assert (result['pred_label'], result['pred_class']) == (best, ('cat', 'dog', 'owl')[best])
    assert (tmp_path / '0.png').stat().st_size > 0
    (sample,) = inferencer(image, return_datasamples=True)
    assert sample.pred_label.item() == result['pred_label']


def test_trains_as_the_stock_classifier():
    ours, stock = (
        build(HEADS['linear'][0], kind=k) for k in ('LogisticClassifier', 'ImageClassifier')
    )
    x = torch.randn(4, D)
    samples = [DataSample().set_gt_label(i) for i in range(4)]
    assert isinstance(ours, LogisticClassifier)
    assert torch.equal(
        ours(x, samples, mode='loss')['loss'], stock(x, samples, mode='loss')['loss']
    )
