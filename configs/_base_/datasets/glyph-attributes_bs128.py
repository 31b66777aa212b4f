# Built-in data: 35 attributes of characters in twelve faces; test characters are never trained on.
dataset_type = 'GlyphDataset'
data_root = 'data/glyphs'
data_preprocessor = dict(
    num_classes=35,
    mean=[15.0, 15.0, 15.0],
    std=[55.0, 55.0, 55.0],
    # the three channels are the same
    to_rgb=False,
)

train_pipeline = [
    dict(type='RandomCrop', crop_size=32, padding=2),
    dict(type='PackInputs'),
]

test_pipeline = [
    dict(type='PackInputs'),
]

train_dataloader = dict(
    batch_size=128,
    num_workers=1,
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        task='attributes',
        split='train',
        samples_per_face=1,
        pipeline=train_pipeline,
    ),
    sampler=dict(type='DefaultSampler', shuffle=True),
)

val_dataloader = dict(
    batch_size=500,
    num_workers=1,
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        task='attributes',
        split='val',
        samples_per_face=1,
        pipeline=test_pipeline,
    ),
    sampler=dict(type='DefaultSampler', shuffle=False),
)
val_evaluator = dict(type='AttributeMetric', topk=(1, 3, 5))

test_dataloader = dict(
    batch_size=500,
    num_workers=1,
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        task='attributes',
        split='test',
        samples_per_face=1,
        pipeline=test_pipeline,
    ),
    sampler=dict(type='DefaultSampler', shuffle=False),
)
test_evaluator = val_evaluator
