# What the person re-identification sets share; they differ in `dataset`.
data_preprocessor = dict(
    # RGB format normalization parameters
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    # convert image from BGR to RGB
    to_rgb=True,
)

# the mean; images are BGR until the preprocessor
bgr_mean = data_preprocessor['mean'][::-1]

train_pipeline = [
    dict(type='LoadImageFromFile'),
    # width, height
    dict(type='Resize', scale=(128, 256)),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    # height, width
    dict(type='RandomCrop', crop_size=(256, 128), padding=10),
    dict(
        type='RandomErasing',
        erase_prob=0.5,
        mode='const',
        min_area_ratio=0.02,
        max_area_ratio=0.4,
        aspect_range=(0.3, 1 / 0.3),
        fill_color=bgr_mean,
    ),
    dict(type='PackInputs'),
]

test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(128, 256)),
    dict(type='PackInputs', meta_keys=('camera_id', 'is_query')),
]

train_dataloader = dict(
    batch_size=64,
    num_workers=4,
    dataset=dict(split='train', pipeline=train_pipeline),
    sampler=dict(type='DefaultSampler', shuffle=True),
    # BNNeckHead cannot train on a last batch of a single image
    batch_sampler=dict(type='NoLoneImageBatchSampler'),
)

val_dataloader = dict(
    batch_size=128,
    num_workers=4,
    dataset=dict(split='test', pipeline=test_pipeline),
    sampler=dict(type='DefaultSampler', shuffle=False),
)
val_evaluator = dict(type='ReIDMetric')

test_dataloader = val_dataloader
test_evaluator = val_evaluator
