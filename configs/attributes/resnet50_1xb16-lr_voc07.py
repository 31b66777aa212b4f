_base_ = [
    '../_base_/models/resnet50_attributes.py',
    'mmpretrain::_base_/datasets/voc_bs16.py',
    'mmpretrain::_base_/default_runtime.py',
]
custom_imports = dict(imports=['frlr_mm'])

model = dict(head=dict(num_classes=20))

# The bias starts at the prior, the label frequencies of the training data.
custom_hooks = [dict(type='PriorBiasHook')]

# The schedule of the stock CSRA recipe. The learning rate of the head is ten times the base one.
optim_wrapper = dict(
    optimizer=dict(type='SGD', lr=0.0002, momentum=0.9, weight_decay=0.0001),
    paramwise_cfg=dict(custom_keys={'head': dict(lr_mult=10)}),
)

param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-7,
        by_epoch=True,
        begin=0,
        end=1,
        convert_to_iter_based=True,
    ),
    dict(type='StepLR', by_epoch=True, step_size=6, gamma=0.1),
]

train_cfg = dict(by_epoch=True, max_epochs=20, val_interval=1)
val_cfg = dict()
test_cfg = dict()

# base_batch_size = (1 process) x (16 images)
auto_scale_lr = dict(base_batch_size=16)
