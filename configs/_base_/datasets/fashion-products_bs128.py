# Pictures of products, 36 x 48 of their 60 x 80 pixels; 175 labels of five types.
dataset_type = 'FashionProducts'
data_root = 'data/fashion_products'
data_preprocessor = dict(
    num_classes=175,
    # RGB format normalization parameters of this data set
    mean=[217.6, 213.2, 211.5],
    std=[65.6, 69.3, 70.1],
    # convert image from BGR to RGB
    to_rgb=True,
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    # width, height
    dict(type='Resize', scale=(36, 48), interpolation='area'),
    # height, width
    dict(type='RandomCrop', crop_size=(48, 36), padding=2, pad_val=255),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]

test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(36, 48), interpolation='area'),
    dict(type='PackInputs'),
]

train_dataloader = dict(
    batch_size=128,
    num_workers=1,
    dataset=dict(type=dataset_type, data_root=data_root, split='train', pipeline=train_pipeline),
    sampler=dict(type='DefaultSampler', shuffle=True),
)

val_dataloader = dict(
    batch_size=500,
    num_workers=1,
    dataset=dict(type=dataset_type, data_root=data_root, split='val', pipeline=test_pipeline),
    sampler=dict(type='DefaultSampler', shuffle=False),
)
val_evaluator = dict(type='AttributeMetric', topk=(1, 3, 5))

test_dataloader = dict(
    batch_size=500,
    num_workers=1,
    dataset=dict(type=dataset_type, data_root=data_root, split='test', pipeline=test_pipeline),
    sampler=dict(type='DefaultSampler', shuffle=False),
)
test_evaluator = val_evaluator
