_base_ = [
    '../_base_/models/resnet18_glyphs.py',
    '../_base_/datasets/fashion-products_bs128.py',
    '../_base_/schedules/fashion_bs128.py',
    'mmpretrain::_base_/default_runtime.py',
]
custom_imports = dict(imports=['frlr_mm'])

# Plain logistic regression: the stock binary cross-entropy, summed over the attributes.
model = dict(
    head=dict(
        _delete_=True,
        type='MultiLabelLinearClsHead',
        num_classes=175,
        in_channels=128,
        loss=dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0),
        init_cfg=dict(type='Normal', layer='Linear', std=0.01),
    )
)

# The stock losses know no unknown labels.
train_dataloader = dict(dataset=dict(unknown='negative'))

# The bias starts at the prior, the label frequencies of the training data.
custom_hooks = [dict(type='PriorBiasHook')]
