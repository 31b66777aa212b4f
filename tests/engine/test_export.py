"""Exported files give what PyTorch gives, for every kind of network and of head."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from mmengine.registry import MODELS, DefaultScope

from frlr_mm.engine.export import (
    OPSET,
    ExportedClassifier,
    describe_model,
    largest_difference,
    write_onnx,
)
from tests.support.recipes import load
from tests.support.small_recipes import shrink

C, SIZE = 5, 32
POOL = dict(type='GlobalAveragePooling')
PREPROCESSOR = dict(mean=[100.0, 110.0, 120.0], std=[50.0, 60.0, 70.0])
# One stage each: what is exported of every kind is all there.
NETS = {
    'resnet': (
        dict(
            type='ResNet',
            depth=18,
            num_stages=1,
            out_indices=(0,),
            strides=(1,),
            dilations=(1,),
            base_channels=8,
            stem_channels=8,
        ),
        POOL,
        8,
    ),
    'vit': (
        dict(
            type='VisionTransformer',
            arch=dict(embed_dims=8, num_layers=1, num_heads=2, feedforward_channels=16),
            img_size=SIZE,
            patch_size=16,
        ),
        None,
        8,
    ),
    # Two blocks, the second with shifted windows.
    'swin': (
        dict(
            type='SwinTransformer',
            arch=dict(embed_dims=8, depths=[2], num_heads=[2]),
            img_size=SIZE,
            window_size=4,
            out_indices=(0,),
        ),
        POOL,
        8,
    ),
    'convnext': (
        dict(type='ConvNeXt', arch=dict(depths=[1], channels=[8]), out_indices=(0,)),
        None,
        8,
    ),
}


def build(net, head, kind='LogisticClassifier', to_rgb=True, **kwargs):
    torch.manual_seed(0)
    backbone, neck, channels = NETS[net]
    cfg = dict(
        type=kind,
        backbone=backbone,
        neck=neck,
        head=dict(num_classes=C, in_channels=channels) | head,
        data_preprocessor=dict(PREPROCESSOR, to_rgb=to_rgb),
    )
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(cfg | kwargs)
    for parameter in model.head.parameters():
        torch.nn.init.normal_(parameter)
    model._dataset_meta = dict(classes=tuple('abcde'))
    return model.eval()


def predict(model, image):
    """Return what the model predicts for an RGB image (H, W, 3), loaded as mmcv does: BGR."""
    bgr = torch.from_numpy(np.ascontiguousarray(image[..., ::-1].transpose(2, 0, 1)))
    data = model.data_preprocessor(dict(inputs=[bgr]))
    with torch.no_grad():
        (sample,) = model(data['inputs'], mode='predict')
    return sample.get('pred_score', sample.get('feature')).numpy()


LINEAR, SSLR = dict(type='LinearClsHead'), dict(loss=dict(type='SSLRLoss'))
CASES = {
    'fused head, threshold': ('resnet', dict(type='FusedLinearClsHead', **SSLR), 0.25, 'SSLRLoss'),
    'softmax': ('vit', dict(type='VisionTransformerClsHead'), None, 'CrossEntropyLoss'),
    'several labels': ('swin', dict(type='MultiLabelLinearClsHead', thr=0.4), 0.4, ''),
    're-ID': ('convnext', dict(type='BNNeckHead', **SSLR), None, 'SSLRLoss'),
}


@pytest.mark.usefixtures('quiet_tracing')
@pytest.mark.parametrize('name', CASES)
def test_file_gives_what_the_model_predicts(name, tmp_path):
    net, head, threshold, loss = CASES[name]
    model = build(
        net,
        head,
        kind='ImageClassifier' if name == 'softmax' else 'LogisticClassifier',
        to_rgb=net != 'resnet',  # a network of BGR images as well
        **(dict(reject_below=threshold) if 'threshold' in name else {}),
    )
    exported, path = ExportedClassifier(model), tmp_path / 'new/model.onnx'
    metadata = describe_model(model, exported.output)
    write_onnx(exported, (SIZE, SIZE), path, metadata)
    output = 'feature' if name == 're-ID' else 'scores'

    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    assert [each.name for each in session.get_inputs()] == ['image']
    assert [each.name for each in session.get_outputs()] == [output]
    rng = np.random.default_rng(0)
    for num in (1, 3):
        images = rng.integers(0, 256, (num, SIZE, SIZE, 3), np.uint8)
        (found,) = session.run(None, dict(image=images))
        expected = np.stack([predict(model, image) for image in images])
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
        assert largest_difference(exported, path, [images]) < 1e-5

    stored = session.get_modelmeta().custom_metadata_map
    assert {key: stored[key] for key in metadata} == metadata
    assert stored['output'] == output and stored['loss'] == (loss or 'CrossEntropyLoss')
    assert json.loads(stored['threshold']) == threshold
    assert json.loads(stored['classes']) == (None if name == 're-ID' else list('abcde'))
    assert {each.domain: each.version for each in onnx.load(path).opset_import}[''] == OPSET


@pytest.mark.slow
@pytest.mark.usefixtures('quiet_tracing')
@pytest.mark.parametrize(
    'recipe',
    [
        'resnet50_8xb32-hslr_in1k',
        'vit-base-p16_64xb64-sslr_in1k',
        'swin-tiny_16xb64-hslr_in1k',
        'convnext-tiny_32xb128-sslr_in1k',
        'resnet50_b64-hslr_market1501',
        'resnet50_8xb32-sslr_deepfashion-fine',
    ],
)
def test_recipes_as_they_are(recipe, tmp_path):
    cfg = load(recipe)
    cfg.model.backbone.init_cfg = None
    cfg.model.data_preprocessor = cfg.data_preprocessor
    cfg.model.pop('train_cfg', None)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        exported = ExportedClassifier(MODELS.build(cfg.model))
    shape = (256, 128) if 'market' in recipe else (224, 224)
    write_onnx(exported, shape, tmp_path / 'model.onnx', {})
    rng = np.random.default_rng(0)
    batches = [rng.integers(0, 256, (num, *shape, 3), np.uint8) for num in (1, 3)]
    assert largest_difference(exported, tmp_path / 'model.onnx', batches) < 1e-4


def test_features_are_compared_in_their_own_units(tmp_path, monkeypatch):
    """Of a feature of 1,000, a difference of 0.01 is rounding."""

    class Session:
        def __init__(self, *args, **kwargs):
            pass

        def run(self, names, inputs):
            return [np.float32([[1000.01, 1]])]

    monkeypatch.setattr(onnxruntime, 'InferenceSession', Session)

    class Exported:
        output = 'feature'

        def __call__(self, image):
            return torch.tensor([[1000.0, 1.0]])

    image = [np.zeros((1, 2, 2, 3), np.uint8)]
    assert largest_difference(Exported(), tmp_path, image) == pytest.approx(1e-5, rel=0.05)
    Exported.output = 'scores'
    assert largest_difference(Exported(), tmp_path, image) == pytest.approx(1e-2, rel=0.05)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(data_preprocessor=dict(pad_size_divisor=32)), 'does not pad'),
        (
            dict(
                type='ImageClassifier',
                head=dict(type='MultiTaskHead', task_heads=dict(a=LINEAR), in_channels=8),
            ),
            'but got MultiTaskHead',
        ),
    ],
)
def test_models_that_cannot_be_exported(changes, message):
    head = changes.pop('head', LINEAR)
    if head['type'] == 'MultiTaskHead':
        head['task_heads'] = dict(a=dict(LINEAR, num_classes=C))
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            model = MODELS.build(
                dict(type='ImageClassifier', backbone=NETS['resnet'][0], neck=POOL, head=head)
            )
    else:
        model = build('resnet', head, **changes)
    with pytest.raises(ValueError, match=message):
        ExportedClassifier(model)


def test_other_preprocessors_are_refused():
    model = build('resnet', LINEAR)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model.data_preprocessor = MODELS.build(dict(type='SelfSupDataPreprocessor'))
    with pytest.raises(ValueError, match='SelfSupDataPreprocessor'):
        ExportedClassifier(model)


def test_shrunk_recipes_stay_what_they_are(tmp_path):
    """The preprocessor of a config reaches the exported model."""
    cfg = shrink(load('resnet18_b128-hslr_glyphs'), tmp_path)
    cfg.model.data_preprocessor = cfg.data_preprocessor
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        exported = ExportedClassifier(MODELS.build(cfg.model))
    assert exported.takes_bgr and exported.mean.flatten().tolist() == [15.0] * 3
