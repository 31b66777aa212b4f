_base_ = [
    '../_base_/models/resnet18_glyphs.py',
    '../_base_/datasets/glyphs_id_bs128.py',
    '../_base_/schedules/glyphs_bs128.py',
    'mmpretrain::_base_/default_runtime.py',
]
custom_imports = dict(imports=['frlr_mm'])

model = dict(head=dict(type='BNNeckHead'))

optim_wrapper = dict(
    # Weight decay would pull the bias of a logistic loss from the prior's log-odds to 0.
    paramwise_cfg=dict(custom_keys={'head.fc.bias': dict(decay_mult=0.0)}),
)

train_cfg = dict(val_interval=5)
