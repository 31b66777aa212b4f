_base_ = [
    '../_base_/models/resnet50_bnneck.py',
    '../_base_/datasets/msmt17_bs64.py',
    '../_base_/schedules/reid_bs64.py',
    'mmpretrain::_base_/default_runtime.py',
]
custom_imports = dict(imports=['frlr_mm'])

model = dict(head=dict(num_classes=1041))

default_hooks = dict(checkpoint=dict(interval=20, max_keep_ckpts=1))
