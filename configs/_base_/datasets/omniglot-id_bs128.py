# Handwritten characters for re-identification: 964 characters of 30 alphabets to train on, 659 of
# 20 others to find. A drawer is a camera.
dataset_type = 'OmniglotReID'
data_root = 'data/omniglot'
data_preprocessor = dict(
    num_classes=964,
    # dark strokes on white; the three channels are the same
    mean=[234.5, 234.5, 234.5],
    std=[60.9, 60.9, 60.9],
    to_rgb=False,
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(32, 32), interpolation='area'),
    dict(type='RandomCrop', crop_size=32, padding=2, pad_val=255),
    dict(type='PackInputs'),
]

test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(32, 32), interpolation='area'),
    dict(type='PackInputs', meta_keys=('camera_id', 'is_query')),
]

train_dataloader = dict(
    batch_size=128,
    num_workers=1,
    dataset=dict(type=dataset_type, data_root=data_root, split='train', pipeline=train_pipeline),
    sampler=dict(type='DefaultSampler', shuffle=True),
    # BNNeckHead cannot train on a last batch of a single image
    batch_sampler=dict(type='NoLoneImageBatchSampler'),
)

val_dataloader = dict(
    batch_size=500,
    num_workers=1,
    dataset=dict(type=dataset_type, data_root=data_root, split='test', pipeline=test_pipeline),
    sampler=dict(type='DefaultSampler', shuffle=False),
)
val_evaluator = dict(type='ReIDMetric')

test_dataloader = val_dataloader
test_evaluator = val_evaluator
