# Built-in data for identification: 1,000 characters to train on, 1,000 others to find again in
# three faces that were not trained on. A face is a camera.
dataset_type = 'GlyphDataset'
data_root = 'data/glyphs'
data_preprocessor = dict(
    num_classes=1000,
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
    dict(type='PackInputs', meta_keys=('camera_id', 'is_query')),
]

train_dataloader = dict(
    batch_size=128,
    num_workers=1,
    dataset=dict(
        type=dataset_type,
        task='identification',
        data_root=data_root,
        split='train',
        pipeline=train_pipeline,
    ),
    sampler=dict(type='DefaultSampler', shuffle=True),
    # BNNeckHead cannot train on a last batch of a single image
    batch_sampler=dict(type='NoLoneImageBatchSampler'),
)

val_dataloader = dict(
    batch_size=500,
    num_workers=1,
    dataset=dict(
        type=dataset_type,
        task='identification',
        data_root=data_root,
        split='test',
        pipeline=test_pipeline,
    ),
    sampler=dict(type='DefaultSampler', shuffle=False),
)
val_evaluator = dict(type='ReIDMetric')

test_dataloader = val_dataloader
test_evaluator = val_evaluator
