_base_ = [
    '../_base_/models/resnet18_glyphs.py',
    '../_base_/datasets/omniglot-id_bs128.py',
    '../_base_/schedules/omniglot_bs128.py',
    'mmpretrain::_base_/default_runtime.py',
]
custom_imports = dict(imports=['frlr_mm'])

model = dict(head=dict(type='BNNeckHead', num_classes=964))

optim_wrapper = dict(
    optimizer=dict(weight_decay=0.001),
    # Weight decay would pull the bias of a logistic loss from the prior's log-odds to 0.
    paramwise_cfg=dict(custom_keys={'head.fc.bias': dict(decay_mult=0.0)}),
)

train_cfg = dict(val_interval=4)
