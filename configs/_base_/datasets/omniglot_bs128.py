# Handwritten characters as categories, 1,623 classes: drawers 1 to 14 to train, 15 to 20 to test.
dataset_type = 'Omniglot'
data_root = 'data/omniglot'
data_preprocessor = dict(
    num_classes=1623,
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
    dict(type='PackInputs'),
]

train_dataloader = dict(
    batch_size=128,
    num_workers=1,
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        drawers=[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14],
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
        drawers=[15, 16, 17, 18, 19, 20],
        pipeline=test_pipeline,
    ),
    sampler=dict(type='DefaultSampler', shuffle=False),
)
val_evaluator = dict(type='Accuracy', topk=(1, 5))

test_dataloader = val_dataloader
test_evaluator = val_evaluator
