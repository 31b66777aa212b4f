# Several labels per image: data/my_labels/{train,val}.json, which name images in it.
_base_ = 'mmpretrain::resnet/resnet18_8xb32_in1k.py'
custom_imports = dict(imports=['frlr_mm'])

num_classes = 12
gamma = 0.1  # with 0.0 it is plain logistic regression
loss = dict(type='SSLRLoss', alpha='sum', gamma=gamma)
head = dict(type='MultiLabelLinearClsHead', num_classes=num_classes, in_channels=512, loss=loss)
model = dict(head=dict(_delete_=True, **head))
data_preprocessor = dict(num_classes=num_classes)

dataset = dict(_delete_=True, type='MultiLabelDataset', data_root='data/my_labels')
train = dict(dataset, ann_file='train.json', pipeline=_base_.train_pipeline)
val = dict(dataset, ann_file='val.json', pipeline=_base_.test_pipeline)
train_dataloader = dict(batch_size=32, dataset=train)
val_dataloader = dict(batch_size=32, dataset=val)
test_dataloader = val_dataloader
val_evaluator = dict(_delete_=True, type='AttributeMetric', topk=3)
test_evaluator = val_evaluator

# Of 0.1 for 256 images per step, the part for 32.
optim_wrapper = dict(optimizer=dict(lr=0.0125))
param_scheduler = dict(_delete_=True, type='CosineAnnealingLR', T_max=30, end=30)
train_cfg = dict(max_epochs=30)

custom_hooks = [
    dict(type='PriorBiasHook'),
    # Each of several labels of an image counts as much as a negative.
    dict(type='PosWeightHook', exponent=0.0, per_image=True),
]
