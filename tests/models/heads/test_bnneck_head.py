import pytest
import torch
from mmengine.registry import MODELS
from mmpretrain.structures import DataSample
from torch.testing import assert_close

from frlr_mm.models import BNNeckHead


@pytest.fixture
def head():
    torch.manual_seed(0)
    head = BNNeckHead(num_classes=7, in_channels=16)
    head.init_weights()
    return head


def test_feature_is_the_one_after_normalisation(head):
    feats = (torch.randn(64, 16) * 3 + 2,)
    head(feats)  # running statistics
    head.eval()
    expected = (feats[-1] - head.bn.running_mean) / (head.bn.running_var + head.bn.eps).sqrt()
    samples = head.predict(feats)
    assert_close(torch.stack([sample.feature for sample in samples]), expected)
    assert_close(head(feats), head.fc(expected))
    assert_close(head.pre_logits(feats), expected)


def test_predict_keeps_the_samples(head):
    head.eval()
    given = [DataSample(metainfo=dict(camera_id=i)).set_gt_label(i) for i in range(3)]
    samples = head.predict((torch.randn(3, 16),), given)
    assert all(sample is other for sample, other in zip(samples, given, strict=True))
    assert [sample.camera_id for sample in samples] == [0, 1, 2]
    assert samples[0].to_dict()['feature'].shape == (16,)


@pytest.mark.parametrize(
    'loss',
    [
        dict(type='mmpretrain.CrossEntropyLoss'),
        dict(type='HSLRLoss'),
        dict(type='SSLRLoss'),
    ],
)
def test_trains_all_but_the_bias_of_the_normalisation(loss):
    head = MODELS.build(dict(type='BNNeckHead', num_classes=7, in_channels=16, loss=loss))
    samples = [DataSample().set_gt_label(i % 7) for i in range(32)]
    head.loss((torch.randn(32, 16),), samples)['loss'].backward()
    assert head.bn.bias.grad is None
    assert not head.bn.bias.any()
    for parameter in (head.bn.weight, head.fc.weight, head.fc.bias):
        assert parameter.grad.abs().sum() > 0


def test_batch_of_one_image_is_refused_in_training_alone(head):
    with pytest.raises(
        ValueError, match='but got 1: set .* `drop_last=True` in `train_dataloader`'
    ):
        head.loss((torch.randn(1, 16),), [DataSample().set_gt_label(0)])
    assert not head.bn.running_mean.any() and not head.bn.num_batches_tracked
    head.bn.eval()  # frozen statistics need no batch
    assert head.loss((torch.randn(1, 16),), [DataSample().set_gt_label(0)])['loss'] > 0
    head.eval()
    assert head.predict((torch.randn(1, 16),))[0].feature.shape == (16,)


def test_normalisation_over_processes_may_get_one_image():
    head = BNNeckHead(num_classes=7, in_channels=16)
    head.bn = torch.nn.SyncBatchNorm.convert_sync_batchnorm(head.bn)
    # Its own refusal, as there is one process here, and not that of a batch on a CPU.
    with pytest.raises(ValueError, match='more than 1 value per channel|SyncBatchNorm expected'):
        head((torch.randn(1, 16),))


def test_classifier_starts_at_the_prior():
    head = BNNeckHead(
        num_classes=751,
        in_channels=16,
        init_cfg=dict(type='Normal', layer='Linear', std=0.001, bias_prob=1 / 751),
    )
    head.init_weights()
    probability = head((torch.randn(32, 16),)).sigmoid()
    assert_close(probability, torch.full_like(probability, 1 / 751), rtol=0.05, atol=0)
    assert_close(head.bn.weight, torch.ones(16))
